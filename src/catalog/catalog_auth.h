/*
 * What the catalog keeps for authentication: the operator's account, the keys
 * and the sessions.  Of secrets it only has hashes, as src/auth makes them.
 * Times are seconds since the epoch; 0 stands for none.
 */
#ifndef HOLDFAST_CATALOG_CATALOG_AUTH_H
#define HOLDFAST_CATALOG_CATALOG_AUTH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "catalog/catalog.h"

/* ---- the account ---- */

struct catalog_account {
    char *username; /* NULL: there is no account yet */
    char *password; /* the hash, as text */
    int64_t changed_at;
};
void catalog_account_fini(struct catalog_account *a);

int catalog_get_account(struct catalog *c, struct catalog_account *out,
                        struct err *e);

/* catalog_add_account: the first one; ERR_CONFLICT where there is one. */
int catalog_add_account(struct catalog *c, const struct catalog_account *a,
                        struct err *e);

/* catalog_put_account: make or replace it, and end every session. */
int catalog_put_account(struct catalog *c, const struct catalog_account *a,
                        struct err *e);

/* ---- keys ---- */

#define CATALOG_HASH_SIZE 65 /* SHA-256 as hex, and the NUL */
#define CATALOG_ID_SIZE 17

struct catalog_api_key {
    char id[CATALOG_ID_SIZE];
    char hash[CATALOG_HASH_SIZE];
    char *name;
    unsigned scopes;
    char *databases; /* names with commas between, or NULL for all */
    int64_t created_at;
    int64_t expires_at;
    int64_t last_used_at;
};
void catalog_keys_free(struct catalog_api_key *list, size_t n);

int catalog_list_keys(struct catalog *c, struct catalog_api_key **out,
                      size_t *n, struct err *e);
int catalog_add_key(struct catalog *c, const struct catalog_api_key *k,
                    struct err *e);
/* catalog_delete_key: none by that id is success. */
int catalog_delete_key(struct catalog *c, const char *id, struct err *e);

/* ---- sessions ---- */

struct catalog_session {
    char id[CATALOG_ID_SIZE];
    char hash[CATALOG_HASH_SIZE];
    int64_t created_at;
    int64_t seen_at;
    char *address; /* from where it was begun */
    char *client;  /* the User-Agent that began it, or NULL */
};
void catalog_sessions_free(struct catalog_session *list, size_t n);

int catalog_list_sessions(struct catalog *c, struct catalog_session **out,
                          size_t *n, struct err *e);
int catalog_add_session(struct catalog *c, const struct catalog_session *s,
                        struct err *e);
/* catalog_delete_session: NULL ends all of them; none by that id is
 * success. */
int catalog_delete_session(struct catalog *c, const char *id, struct err *e);

/* ---- when they were last used ---- */

/* A key or a session, and when it was last seen. */
struct catalog_seen {
    char id[CATALOG_ID_SIZE];
    int64_t at;
    enum { CATALOG_SEEN_KEY, CATALOG_SEEN_SESSION } what;
};

/* catalog_put_seen: all of them in one transaction; those that are gone are
 * passed over. */
int catalog_put_seen(struct catalog *c, const struct catalog_seen *seen,
                     size_t n, struct err *e);

#endif
