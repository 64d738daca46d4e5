/* Account, keys and sessions: see catalog_auth.h. */
#include "catalog/catalog_auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/phase.h"
#include "catalog/catalog_internal.h"

static char *new_text(const char *s)
{
    return s != NULL ? xstrdup(s) : NULL;
}

/* A text of a fixed length, in a column that is never NULL. */
static int take_fixed(struct sqlite3_stmt *st, int i, char *out, size_t size,
                      struct err *e)
{
    const char *s = sq_text(st, i);

    if (s == NULL || strlen(s) != size - 1)
        return catalog_damaged(e);
    memcpy(out, s, size);
    return 0;
}

static void bind_optional(struct sqlite3_stmt *st, int i, const char *s)
{
    if (s != NULL)
        sq_bind_text(st, i, s);
}

/* Run a statement that was prepared and bound; with c->lock held. */
static int finish(struct sqlite3_stmt *st, struct err *e)
{
    int rc = sq_step(st, e) < 0 ? -1 : 0;

    sq_finalize(st);
    return rc;
}

static int begin(struct catalog *c, struct err *e)
{
    if (phase_enter("catalog.write", e) != 0)
        return -1;
    (void)pthread_mutex_lock(&c->lock);
    if (sq_exec(c->db, "BEGIN IMMEDIATE", e) == 0)
        return 0;
    (void)pthread_mutex_unlock(&c->lock);
    return err_wrap(e, "the catalog");
}

/* End what begin began: commit if rc is 0, else take all back. */
static int end(struct catalog *c, int rc, struct err *e)
{
    struct err ignored;

    if (rc == 0)
        rc = sq_exec(c->db, "COMMIT", e);
    if (rc != 0) {
        (void)sq_exec(c->db, "ROLLBACK", &ignored);
        (void)err_wrap(e, "the catalog");
    }
    (void)pthread_mutex_unlock(&c->lock);
    return rc;
}

/* ---- the account ---- */

void catalog_account_fini(struct catalog_account *a)
{
    free(a->username);
    free(a->password);
    memset(a, 0, sizeof *a);
}

int catalog_get_account(struct catalog *c, struct catalog_account *out,
                        struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int row = -1;

    memset(out, 0, sizeof *out);
    (void)pthread_mutex_lock(&c->lock);
    if (sq_prepare(c->db, "SELECT username, password, changed_at FROM account",
                   &st, e) == 0)
        row = sq_step(st, e);
    if (row == 1) {
        out->username = new_text(sq_text(st, 0));
        out->password = new_text(sq_text(st, 1));
        out->changed_at = sq_int64(st, 2);
        if (out->username == NULL || out->password == NULL)
            row = catalog_damaged(e);
    }
    sq_finalize(st);
    (void)pthread_mutex_unlock(&c->lock);
    if (row >= 0)
        return 0;
    catalog_account_fini(out);
    return err_wrap(e, "the catalog");
}

static int put_account(struct catalog *c, const struct catalog_account *a,
                       struct err *e)
{
    struct sqlite3_stmt *st = NULL;

    if (sq_prepare(c->db,
                   "INSERT OR REPLACE INTO account(id, username, password, "
                   "changed_at) VALUES(1, ?1, ?2, ?3)",
                   &st, e) != 0)
        return -1;
    sq_bind_text(st, 1, a->username);
    sq_bind_text(st, 2, a->password);
    sq_bind_int(st, 3, a->changed_at);
    return finish(st, e);
}

int catalog_add_account(struct catalog *c, const struct catalog_account *a,
                        struct err *e)
{
    int64_t n = 0;
    int rc;

    if (begin(c, e) != 0)
        return -1;
    rc = sq_int(c->db, "SELECT count(*) FROM account", &n, e);
    if (rc == 0 && n > 0)
        rc = err_set_reason(e, ERR_CONFLICT, "set_up",
                            "there is an account already");
    if (rc == 0)
        rc = put_account(c, a, e);
    return end(c, rc, e);
}

int catalog_put_account(struct catalog *c, const struct catalog_account *a,
                        struct err *e)
{
    int rc;

    if (begin(c, e) != 0)
        return -1;
    rc = put_account(c, a, e);
    if (rc == 0)
        rc = sq_exec(c->db, "DELETE FROM session", e);
    return end(c, rc, e);
}

/* ---- rows of any kind ---- */

/* Read all rows of a query into an array of items, each by `take`. */
struct reading {
    const char *sql;
    size_t item_size;
    int (*take)(struct sqlite3_stmt *st, void *item, struct err *e);
};

static int read_rows(struct catalog *c, const struct reading *r, void **out,
                     size_t *n, struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    char *list = NULL;
    int row = -1;

    *n = 0;
    (void)pthread_mutex_lock(&c->lock);
    if (sq_prepare(c->db, r->sql, &st, e) == 0) {
        while ((row = sq_step(st, e)) == 1) {
            list = xrealloc(list, (*n + 1) * r->item_size);
            memset(list + *n * r->item_size, 0, r->item_size);
            (*n)++;
            if (r->take(st, list + (*n - 1) * r->item_size, e) != 0) {
                row = -1;
                break;
            }
        }
    }
    sq_finalize(st);
    (void)pthread_mutex_unlock(&c->lock);
    *out = list; /* the caller frees it also on failure */
    return row < 0 ? err_wrap(e, "the catalog") : 0;
}

/* ---- keys ---- */

void catalog_keys_free(struct catalog_api_key *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i].name);
        free(list[i].databases);
    }
    free(list);
}

static int take_key(struct sqlite3_stmt *st, void *item, struct err *e)
{
    struct catalog_api_key *k = item;

    if (take_fixed(st, 0, k->id, sizeof k->id, e) != 0 ||
        take_fixed(st, 1, k->hash, sizeof k->hash, e) != 0)
        return -1;
    k->name = new_text(sq_text(st, 2));
    k->scopes = (unsigned)sq_int64(st, 3);
    k->databases = new_text(sq_text(st, 4));
    k->created_at = sq_int64(st, 5);
    k->expires_at = sq_int64(st, 6);
    k->last_used_at = sq_int64(st, 7);
    return k->name != NULL ? 0 : catalog_damaged(e);
}

int catalog_list_keys(struct catalog *c, struct catalog_api_key **out,
                      size_t *n, struct err *e)
{
    static const struct reading keys = {
        "SELECT id, hash, name, scopes, databases, created_at, expires_at, "
        "last_used_at FROM api_key ORDER BY created_at, id",
        sizeof(struct catalog_api_key), take_key};
    void *list = NULL;

    if (read_rows(c, &keys, &list, n, e) != 0) {
        catalog_keys_free(list, *n);
        *n = 0;
        return -1;
    }
    *out = list;
    return 0;
}

int catalog_add_key(struct catalog *c, const struct catalog_api_key *k,
                    struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int rc;

    if (begin(c, e) != 0)
        return -1;
    rc = sq_prepare(c->db,
                    "INSERT INTO api_key(id, hash, name, scopes, databases, "
                    "created_at, expires_at, last_used_at) "
                    "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    &st, e);
    if (rc == 0) {
        sq_bind_text(st, 1, k->id);
        sq_bind_text(st, 2, k->hash);
        sq_bind_text(st, 3, k->name);
        sq_bind_int(st, 4, k->scopes);
        bind_optional(st, 5, k->databases);
        sq_bind_int(st, 6, k->created_at);
        sq_bind_int(st, 7, k->expires_at);
        sq_bind_int(st, 8, k->last_used_at);
        rc = finish(st, e);
    }
    return end(c, rc, e);
}

static int delete_by_id(struct catalog *c, const char *sql, const char *id,
                        struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int rc;

    if (begin(c, e) != 0)
        return -1;
    rc = sq_prepare(c->db, sql, &st, e);
    if (rc == 0) {
        bind_optional(st, 1, id);
        rc = finish(st, e);
    }
    return end(c, rc, e);
}

int catalog_delete_key(struct catalog *c, const char *id, struct err *e)
{
    return delete_by_id(c, "DELETE FROM api_key WHERE id=?1", id, e);
}

/* ---- sessions ---- */

void catalog_sessions_free(struct catalog_session *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i].address);
        free(list[i].client);
    }
    free(list);
}

static int take_session(struct sqlite3_stmt *st, void *item, struct err *e)
{
    struct catalog_session *s = item;

    if (take_fixed(st, 0, s->id, sizeof s->id, e) != 0 ||
        take_fixed(st, 1, s->hash, sizeof s->hash, e) != 0)
        return -1;
    s->created_at = sq_int64(st, 2);
    s->seen_at = sq_int64(st, 3);
    s->address = new_text(sq_text(st, 4));
    s->client = new_text(sq_text(st, 5));
    return s->address != NULL ? 0 : catalog_damaged(e);
}

int catalog_list_sessions(struct catalog *c, struct catalog_session **out,
                          size_t *n, struct err *e)
{
    static const struct reading sessions = {
        "SELECT id, hash, created_at, seen_at, address, client FROM session "
        "ORDER BY created_at, id",
        sizeof(struct catalog_session), take_session};
    void *list = NULL;

    if (read_rows(c, &sessions, &list, n, e) != 0) {
        catalog_sessions_free(list, *n);
        *n = 0;
        return -1;
    }
    *out = list;
    return 0;
}

int catalog_add_session(struct catalog *c, const struct catalog_session *s,
                        struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int rc;

    if (begin(c, e) != 0)
        return -1;
    rc = sq_prepare(c->db,
                    "INSERT INTO session(id, hash, created_at, seen_at, "
                    "address, client) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
                    &st, e);
    if (rc == 0) {
        sq_bind_text(st, 1, s->id);
        sq_bind_text(st, 2, s->hash);
        sq_bind_int(st, 3, s->created_at);
        sq_bind_int(st, 4, s->seen_at);
        sq_bind_text(st, 5, s->address);
        bind_optional(st, 6, s->client);
        rc = finish(st, e);
    }
    return end(c, rc, e);
}

int catalog_delete_session(struct catalog *c, const char *id, struct err *e)
{
    return delete_by_id(c, "DELETE FROM session WHERE ?1 IS NULL OR id=?1", id,
                        e);
}

/* ---- when they were last used ---- */

static int put_seen(struct catalog *c, const struct catalog_seen *s,
                    struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    const char *sql = s->what == CATALOG_SEEN_KEY
                          ? "UPDATE api_key SET last_used_at=?2 WHERE id=?1"
                          : "UPDATE session SET seen_at=?2 WHERE id=?1";

    if (sq_prepare(c->db, sql, &st, e) != 0)
        return -1;
    sq_bind_text(st, 1, s->id);
    sq_bind_int(st, 2, s->at);
    return finish(st, e);
}

int catalog_put_seen(struct catalog *c, const struct catalog_seen *seen,
                     size_t n, struct err *e)
{
    int rc = 0;

    if (n == 0)
        return 0;
    if (begin(c, e) != 0)
        return -1;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = put_seen(c, &seen[i], e);
    return end(c, rc, e);
}
