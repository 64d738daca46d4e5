/* The catalog: see catalog.h. */
#include "catalog/catalog.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/phase.h"
#include "catalog/catalog_internal.h"

#define FORMAT 2

static const char format_1[] =
    "CREATE TABLE database(name TEXT PRIMARY KEY, path TEXT) WITHOUT ROWID;"
    "CREATE TABLE setting(key TEXT PRIMARY KEY, value TEXT NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE adopted(database TEXT, filename TEXT, size INTEGER,"
    " mtime_ns INTEGER, good INTEGER, facts TEXT NOT NULL, PRIMARY "
    "KEY(database, filename))"
    " WITHOUT ROWID;";

/* The account is one row; scopes are a set of bits (auth/auth.h). */
static const char format_2[] =
    "CREATE TABLE account(id INTEGER PRIMARY KEY CHECK(id=1),"
    " username TEXT NOT NULL, password TEXT NOT NULL,"
    " changed_at INTEGER NOT NULL);"
    "CREATE TABLE api_key(id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE,"
    " name TEXT NOT NULL, scopes INTEGER NOT NULL, databases TEXT,"
    " created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,"
    " last_used_at INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE session(id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE,"
    " created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL,"
    " address TEXT NOT NULL, client TEXT) WITHOUT ROWID;"
    "PRAGMA user_version=2;";

/* Before its format changes the catalog is copied aside, so that the older
 * holdfast can be gone back to. */
static int copy_aside(struct catalog *c, const char *data_path, int64_t format,
                      struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    char *path =
        xasprintf("%s/holdfast.db.format-%lld", data_path, (long long)format);
    int dir = file_open_dir(data_path, e);
    int fd = -1;
    int rc = -1;

    /* VACUUM INTO writes into an empty file, and so keeps its mode. */
    if (dir >= 0)
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                  0600);
    if (dir >= 0 && fd < 0)
        (void)err_sys(e, "cannot make %s", path);
    if (fd >= 0 && sq_prepare(c->db, "VACUUM INTO ?1", &st, e) == 0) {
        sq_bind_text(st, 1, path);
        if (sq_step(st, e) >= 0 && file_sync(fd, e) == 0)
            rc = file_sync(dir, e);
    }
    sq_finalize(st);
    file_close(&fd);
    file_close(&dir);
    free(path);
    return rc;
}

/* From an older format, or none, to ours: whole or not at all. */
static int migrate(struct catalog *c, const char *data_path, int64_t format,
                   struct err *e)
{
    char *sql;
    int rc;

    if (format > 0 && copy_aside(c, data_path, format, e) != 0)
        return -1;
    sql = xasprintf("BEGIN IMMEDIATE;%s%sCOMMIT", format < 1 ? format_1 : "",
                    format_2);
    rc = sq_exec(c->db, sql, e);
    free(sql);
    return rc;
}

static int set_up(struct catalog *c, const char *data_path, struct err *e)
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
    return format < FORMAT ? migrate(c, data_path, format, e) : 0;
}

int catalog_open(const char *data_path, struct catalog **out, struct err *e)
{
    struct catalog *c = xcalloc(1, sizeof *c);
    char *path = xasprintf("%s/holdfast.db", data_path);
    int rc = -1;

    (void)pthread_mutex_init(&c->lock, NULL);
    if (sq_open(path, &c->db, e) == 0 && set_up(c, data_path, e) == 0) {
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

int catalog_version(struct catalog *c, int64_t *version, struct err *e)
{
    int rc;

    (void)pthread_mutex_lock(&c->lock);
    rc = sq_int(c->db, "PRAGMA data_version", version, e);
    (void)pthread_mutex_unlock(&c->lock);
    return rc == 0 ? 0 : err_wrap(e, "the catalog");
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

int catalog_damaged(struct err *e)
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
        return catalog_damaged(e);
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
            row = catalog_damaged(e);
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
