/*
 * Who is asking: the operator's account, sessions and keys.
 *
 * Of a secret that we hand out (a session, a key) only the SHA-256 is kept:
 * with 256 random bits in it nothing slower is needed.  The password is kept
 * as Argon2id.  Checking a session or a key looks into memory only; what was
 * last used when is written once a minute, and when the service stops.  What
 * another process writes into the catalog (the command line) is taken over
 * within a second or so.
 *
 * All calls are safe from any thread.  auth_setup, auth_login and those that
 * take a password are slow on purpose (auth/password.h): call them from a
 * worker thread, and few at once.
 */
#ifndef HOLDFAST_AUTH_AUTH_H
#define HOLDFAST_AUTH_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "catalog/catalog_auth.h"

struct auth;

/* auth_open: the catalog is borrowed and must outlive it. */
int auth_open(struct catalog *c, struct auth **out, struct err *e);
void auth_close(struct auth *a); /* accepts NULL */

/* ---- what a caller may do ---- */

enum auth_scope {
    AUTH_LIST = 1 << 0,
    AUTH_CREATE = 1 << 1,
    AUTH_DOWNLOAD = 1 << 2,
    AUTH_RESTORE = 1 << 3,
    AUTH_DELETE = 1 << 4,
    AUTH_IMPORT = 1 << 5,
    AUTH_METRICS = 1 << 6,
    AUTH_ADMIN = 1 << 7, /* everything */
    AUTH_ALL_SCOPES = (1 << 8) - 1
};

/* auth_scope_name: the word of one scope. */
const char *auth_scope_name(enum auth_scope scope);

/* auth_scope_parse: 0 for a word that is no scope. */
unsigned auth_scope_parse(const char *word);

#define AUTH_DATABASES 512 /* what the names of a key's databases may take */

enum auth_kind { AUTH_NOBODY, AUTH_SESSION, AUTH_KEY };

/* Who is asking.  Plain data. */
struct auth_caller {
    enum auth_kind kind;
    unsigned scopes;                /* a session has all */
    char id[CATALOG_ID_SIZE];       /* of the session or key */
    char name[65];                  /* the username, or the name of the key */
    char databases[AUTH_DATABASES]; /* with commas between; "" is all */
};

/* auth_may_database: whether what the caller may do it may with that
 * database. */
bool auth_may_database(const struct auth_caller *who, const char *database);

/*
 * auth_identify: who bears this Authorization header, or else this Cookie
 * header (each may be NULL).  False for nobody.  A broken or expired
 * credential is nobody; a bearer token that is none of ours is not looked at
 * a second time as a cookie.
 */
bool auth_identify(struct auth *a, const char *authorization,
                   const char *cookie, struct auth_caller *out);

/* ---- the account and its sessions ---- */

#define AUTH_TOKEN_SIZE 44 /* 32 random bytes as base64url, and the NUL */
#define AUTH_SESSION_IDLE_S 1800
#define AUTH_SESSION_MAX_S 43200
#define AUTH_COOKIE "holdfast"
#define AUTH_COOKIE_TLS "__Host-holdfast"

bool auth_is_set_up(struct auth *a);

/* From where a call comes. */
struct auth_peer {
    const char *address; /* numeric */
    const char *client;  /* its User-Agent, or NULL */
};

/* auth_setup: make the account, once (ERR_CONFLICT, reason "set_up"), and
 * begin a session; `token` is what its cookie holds. */
int auth_setup(struct auth *a, const char *username, const char *password,
               const struct auth_peer *peer, char token[AUTH_TOKEN_SIZE],
               struct err *e);

/*
 * auth_admit: before auth_login and auth_change, and quick: ERR_THROTTLED with
 * *retry_after_s where there were too many failures (auth/throttle.h).
 */
int auth_admit(struct auth *a, const struct auth_peer *peer,
               unsigned *retry_after_s, struct err *e);

/* auth_login: begin a session.  ERR_UNAUTHORIZED for a wrong name or password,
 * with the same words and after the same time. */
int auth_login(struct auth *a, const char *username, const char *password,
               const struct auth_peer *peer, char token[AUTH_TOKEN_SIZE],
               struct err *e);

/* auth_logout: end every session. */
int auth_logout(struct auth *a, struct err *e);

/*
 * auth_change: another name or password (NULL: as it is) after giving the
 * present password; ends every session.  ERR_FORBIDDEN for a wrong password.
 */
int auth_change(struct auth *a, const char *password, const char *new_username,
                const char *new_password, const struct auth_peer *peer,
                struct err *e);

/* auth_reset: set name and password without knowing the present one, for the
 * command line on the machine itself; ends every session. */
int auth_reset(struct auth *a, const char *username, const char *password,
               struct err *e);

/* auth_username: the account's name, new; NULL before set-up. */
char *auth_username(struct auth *a);

/* auth_sessions: those that are valid now; free with
 * catalog_sessions_free. */
size_t auth_sessions(struct auth *a, struct catalog_session **out);

/* auth_end_session: ERR_NOT_FOUND. */
int auth_end_session(struct auth *a, const char *id, struct err *e);

/* ---- keys ---- */

#define AUTH_KEY_PREFIX "hf_live_"
#define AUTH_KEY_SIZE (8 + AUTH_TOKEN_SIZE)

/* What a new key is to be. */
struct auth_key_opts {
    const char *name;      /* 1 to 64 characters */
    unsigned scopes;       /* 0: all but admin */
    const char *databases; /* with commas between; NULL: all */
    int64_t expires_at;    /* 0: never */
};

/* auth_key_create: `key` is the key itself, which is not kept. */
int auth_key_create(struct auth *a, const struct auth_key_opts *o,
                    char key[AUTH_KEY_SIZE], char id[CATALOG_ID_SIZE],
                    int64_t *created_at, struct err *e);

/* auth_keys: all, the oldest first; free with catalog_keys_free. */
size_t auth_keys(struct auth *a, struct catalog_api_key **out);

/* auth_key_revoke: from the next request on it is nobody's.
 * ERR_NOT_FOUND. */
int auth_key_revoke(struct auth *a, const char *id, struct err *e);

#endif
