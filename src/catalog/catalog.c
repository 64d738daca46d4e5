/* The catalog: see catalog.h. */
#include "catalog/catalog.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/phase.h"
#include "sqlite/sq.h"

#define FORMAT 1

struct catalog {
    pthread_mutex_t lock;
    struct sqlite3 *db;
};

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE database(name TEXT PRIMARY KEY, path TEXT) WITHOUT ROWID;"
    "CREATE TABLE setting(key TEXT PRIMARY KEY, value TEXT NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE adopted(database TEXT, filename TEXT, size INTEGER,"
    " mtime_ns INTEGER, good INTEGER, facts TEXT NOT NULL, PRIMARY "
    "KEY(database, filename))"
    " WITHOUT ROWID;"
    "PRAGMA user_version=1;"
    "COMMIT";

static int set_up(struct catalog *c, struct err *e)
{
    int64_t format;

    if (sq_exec(c->db, "PRAGMA synchronous=EXTRA", e) != 0 ||
        sq_int(c->db, "PRAGMA user_version", &format, e) != 0)
        return -1;
    if (format > FORMAT)
        return err_set(e, ERR_CONFLICT,
                       "holdfast.db has format %lld, written by a newer "
                       "holdfast; this one knows formats up to %d",
                       (long long)format, FORMAT);
    if (format == 0)
        return sq_exec(c->db, schema, e);
    return 0;
}

int catalog_open(const char *data_path, struct catalog **out, struct err *e)
{
    struct catalog *c = xcalloc(1, sizeof *c);
    char *path = xasprintf("%s/holdfast.db", data_path);
    int rc = -1;

    (void)pthread_mutex_init(&c->lock, NULL);
    if (sq_open(path, &c->db, e) == 0 && set_up(c, e) == 0) {
        *out = c;
        c = NULL;
        rc = 0;
    } else {
        (void)err_wrap(e, "the catalog");
    }
    catalog_close(c);
    free(path);
    return rc;
}

void catalog_close(struct catalog *c)
{
    if (c == NULL)
        return;
    sq_close(c->db);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Run a statement with up to two texts; NULL binds NULL. */
static int run(struct catalog *c, const char *sql, const char *a, const char *b,
               struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int rc = -1;

    if (phase_enter("catalog.write", e) != 0)
        return -1;
    (void)pthread_mutex_lock(&c->lock);
    if (sq_prepare(c->db, sql, &st, e) == 0) {
        if (a != NULL)
            sq_bind_text(st, 1, a);
        if (b != NULL)
            sq_bind_text(st, 2, b);
        rc = sq_step(st, e) < 0 ? -1 : 0;
    }
    sq_finalize(st);
    (void)pthread_mutex_unlock(&c->lock);
    return rc == 0 ? 0 : err_wrap(e, "the catalog");
}

static int damaged(struct err *e)
{
    return err_set(e, ERR_DAMAGED,
                   "holdfast.db has a row that holdfast did not write; put "
                   "back a copy of it, or move it away and register the "
                   "databases again");
}

/* One row; no constraint of the schema holds in a damaged file. */
static int take_database(struct sqlite3_stmt *st, struct catalog_database *d,
                         struct err *e)
{
    const char *name = sq_text(st, 0);
    const char *path = sq_text(st, 1);

    /* An empty path says that the database is being removed. */
    if (name == NULL || (path != NULL && path[0] != '/' && path[0] != '\0'))
        return damaged(e);
    d->name = xstrdup(name);
    d->removing = path != NULL && path[0] == '\0';
    d->path = path == NULL || d->removing ? NULL : xstrdup(path);
    return 0;
}

int catalog_list_databases(struct catalog *c, struct catalog_database **out,
                           size_t *n, struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    struct catalog_database *list = NULL;
    int row = -1;

    *n = 0;
    (void)pthread_mutex_lock(&c->lock);
    if (sq_prepare(c->db, "SELECT name, path FROM database ORDER BY name", &st,
                   e) == 0) {
        while ((row = sq_step(st, e)) == 1) {
            list = xrealloc(list, (*n + 1) * sizeof *list);
            if (take_database(st, &list[*n], e) != 0) {
                row = -1;
                break;
            }
            (*n)++;
        }
    }
    sq_finalize(st);
    (void)pthread_mutex_unlock(&c->lock);
    if (row < 0) {
        catalog_databases_free(list, *n);
        *n = 0;
        return err_wrap(e, "the catalog");
    }
    *out = list;
    return 0;
}

void catalog_databases_free(struct catalog_database *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i].name);
        free(list[i].path);
    }
    free(list);
}

int catalog_put_database(struct catalog *c, const char *name, const char *path,
                         struct err *e)
{
    return run(c, "INSERT OR REPLACE INTO database(name, path) VALUES(?1, ?2)",
               name, path, e);
}

int catalog_delete_database(struct catalog *c, const char *name, struct err *e)
{
    return run(c, "DELETE FROM database WHERE name=?1", name, NULL, e);
}

int catalog_put_removing(struct catalog *c, const char *name, struct err *e)
{
    return catalog_put_database(c, name, "", e);
}

/* Settings: "current", and "named/DATABASE" for the marks. */
static int get_setting(struct catalog *c, const char *key, char **out,
                       struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int row = -1;

    *out = NULL;
    (void)pthread_mutex_lock(&c->lock);
    if (sq_prepare(c->db, "SELECT value FROM setting WHERE key=?1", &st, e) ==
        0) {
        sq_bind_text(st, 1, key);
        row = sq_step(st, e);
        if (row == 1 && sq_text(st, 0) != NULL)
            *out = xstrdup(sq_text(st, 0));
        else if (row == 1)
            row = damaged(e);
    }
    sq_finalize(st);
    (void)pthread_mutex_unlock(&c->lock);
    return row < 0 ? err_wrap(e, "the catalog") : 0;
}

static int put_setting(struct catalog *c, const char *key, const char *value,
                       struct err *e)
{
    return run(c, "INSERT OR REPLACE INTO setting(key, value) VALUES(?1, ?2)",
               key, value, e);
}

int catalog_get_current(struct catalog *c, char **out, struct err *e)
{
    return get_setting(c, "current", out, e);
}

int catalog_put_current(struct catalog *c, const char *name, struct err *e)
{
    return put_setting(c, "current", name, e);
}

int catalog_get_mark(struct catalog *c, const char *database, int64_t *t,
                     struct err *e)
{
    char *key = xasprintf("named/%s", database);
    char *value = NULL;
    int rc = get_setting(c, key, &value, e);

    *t = value != NULL ? strtoll(value, NULL, 10) : 0;
    free(value);
    free(key);
    return rc;
}

int catalog_put_mark(struct catalog *c, const char *database, int64_t t,
                     struct err *e)
{
    char *key = xasprintf("named/%s", database);
    char *value = xasprintf("%lld", (long long)t);
    int rc = put_setting(c, key, value, e);

    free(value);
    free(key);
    return rc;
}

int catalog_get_adopted(struct catalog *c, const struct catalog_key *k,
                        char **out, struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int row = -1;

    *out = NULL;
    (void)pthread_mutex_lock(&c->lock);
    if (sq_prepare(c->db,
                   "SELECT facts FROM adopted WHERE database=?1 AND "
                   "filename=?2 AND size=?3 AND mtime_ns=?4",
                   &st, e) == 0) {
        sq_bind_text(st, 1, k->database);
        sq_bind_text(st, 2, k->filename);
        sq_bind_int(st, 3, (int64_t)k->size_bytes);
        sq_bind_int(st, 4, k->mtime_ns);
        row = sq_step(st, e);
        /* A cache: what is not there is found out again. */
        if (row == 1 && sq_text(st, 0) != NULL)
            *out = xstrdup(sq_text(st, 0));
    }
    sq_finalize(st);
    (void)pthread_mutex_unlock(&c->lock);
    return row < 0 ? err_wrap(e, "the catalog") : 0;
}

int catalog_put_adopted(struct catalog *c, const struct catalog_key *k,
                        bool good, const char *facts, struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int rc = -1;

    (void)pthread_mutex_lock(&c->lock);
    if (sq_prepare(c->db,
                   "INSERT OR REPLACE INTO adopted(database, filename, size, "
                   "mtime_ns, good, facts) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
                   &st, e) == 0) {
        sq_bind_text(st, 1, k->database);
        sq_bind_text(st, 2, k->filename);
        sq_bind_int(st, 3, (int64_t)k->size_bytes);
        sq_bind_int(st, 4, k->mtime_ns);
        sq_bind_int(st, 5, good ? 1 : 0);
        sq_bind_text(st, 6, facts);
        rc = sq_step(st, e) < 0 ? -1 : 0;
    }
    sq_finalize(st);
    (void)pthread_mutex_unlock(&c->lock);
    return rc == 0 ? 0 : err_wrap(e, "the catalog");
}

static void take_row(struct sqlite3_stmt *st, struct catalog_adopted *a)
{
    const char *filename = sq_text(st, 0);

    (void)snprintf(a->filename, sizeof a->filename, "%s",
                   filename != NULL ? filename : "");
    a->size_bytes = (uint64_t)sq_int64(st, 1);
    a->mtime_ns = sq_int64(st, 2);
    a->good = sq_int64(st, 3) != 0;
}

int catalog_list_adopted(struct catalog *c, const char *database,
                         struct catalog_adopted **out, size_t *n, struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    struct catalog_adopted *list = NULL;
    size_t cap = 0;
    int row = -1;

    *n = 0;
    (void)pthread_mutex_lock(&c->lock);
    if (sq_prepare(c->db,
                   "SELECT filename, size, mtime_ns, good FROM adopted "
                   "WHERE database=?1 ORDER BY filename",
                   &st, e) == 0) {
        sq_bind_text(st, 1, database);
        while ((row = sq_step(st, e)) == 1) {
            if (*n == cap) {
                cap = cap == 0 ? 64 : cap * 2;
                list = xrealloc(list, cap * sizeof *list);
            }
            take_row(st, &list[(*n)++]);
        }
    }
    sq_finalize(st);
    (void)pthread_mutex_unlock(&c->lock);
    if (row < 0) {
        free(list);
        return err_wrap(e, "the catalog");
    }
    *out = list;
    return 0;
}
