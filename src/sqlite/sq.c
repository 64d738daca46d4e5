/* SQLite with our error handling: see sq.h. */
#include "sqlite/sq.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sqlite/vfs.h"
#include "sqlite3.h"

const char *sq_version(void)
{
    return sqlite3_libversion();
}

int sq_init(struct err *e)
{
    if (sqlite3_initialize() != SQLITE_OK)
        return err_set(e, ERR_INTERNAL, "SQLite cannot start");
    return vfs_register(e);
}

static enum err_code code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return ERR_BUSY;
    case SQLITE_CORRUPT:
        return ERR_DAMAGED;
    case SQLITE_NOTADB:
        return ERR_NOT_DATABASE;
    case SQLITE_FULL:
        return ERR_NO_SPACE;
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return ERR_CONFLICT;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return ERR_IO;
    case SQLITE_INTERRUPT:
        return ERR_CANCELLED;
    default:
        return ERR_INTERNAL;
    }
}

int sq_fail(struct sqlite3 *db, int rc, struct err *e, const char *fmt, ...)
{
    const char *text = db != NULL && sqlite3_errcode(db) != SQLITE_OK
                           ? sqlite3_errmsg(db)
                           : sqlite3_errstr(rc);
    char what[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    (void)err_set(e, code_of(rc), "%s: %s", what, text);
    if (e->code == ERR_CONFLICT)
        (void)snprintf(e->reason, sizeof e->reason, "read_only");
    e->sys = db != NULL ? sqlite3_system_errno(db) : 0;
    /* A full disk that SQLite met elsewhere than in a write. */
    if (e->code == ERR_IO && (e->sys == ENOSPC || e->sys == EDQUOT))
        e->code = ERR_NO_SPACE;
    if (e->code == ERR_IO && (e->sys == EMFILE || e->sys == ENFILE)) {
        errno = e->sys;
        return err_sys(e, "%s", what);
    }
    return -1;
}

int sq_open(const char *path, struct sqlite3 **out, struct err *e)
{
    struct sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);

    if (rc != SQLITE_OK) {
        (void)sq_fail(db, rc, e, "cannot open %s", path);
        (void)sqlite3_close(db);
        return -1;
    }
    (void)sqlite3_busy_timeout(db, 10000);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    *out = db;
    return 0;
}

void sq_close(struct sqlite3 *db)
{
    (void)sqlite3_close_v2(db);
}

int sq_exec(struct sqlite3 *db, const char *sql, struct err *e)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

    if (rc != SQLITE_OK)
        return sq_fail(db, rc, e, "SQLite");
    return 0;
}

int sq_int(struct sqlite3 *db, const char *sql, int64_t *out, struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int rc = -1;
    int row;

    if (sq_prepare(db, sql, &st, e) != 0)
        return -1;
    row = sq_step(st, e);
    if (row == 1) {
        *out = sqlite3_column_int64(st, 0);
        rc = 0;
    } else if (row == 0) {
        (void)err_set(e, ERR_INTERNAL, "SQLite gave no row");
    }
    sq_finalize(st);
    return rc;
}

int sq_prepare(struct sqlite3 *db, const char *sql, struct sqlite3_stmt **out,
               struct err *e)
{
    int rc = sqlite3_prepare_v2(db, sql, -1, out, NULL);

    if (rc != SQLITE_OK)
        return sq_fail(db, rc, e, "SQLite");
    return 0;
}

void sq_bind_text(struct sqlite3_stmt *st, int i, const char *s)
{
    (void)sqlite3_bind_text(st, i, s, -1, SQLITE_TRANSIENT);
}

void sq_bind_int(struct sqlite3_stmt *st, int i, int64_t v)
{
    (void)sqlite3_bind_int64(st, i, v);
}

int sq_step(struct sqlite3_stmt *st, struct err *e)
{
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    return sq_fail(sqlite3_db_handle(st), rc, e, "SQLite");
}

const char *sq_text(struct sqlite3_stmt *st, int i)
{
    return (const char *)sqlite3_column_text(st, i);
}

int64_t sq_int64(struct sqlite3_stmt *st, int i)
{
    return sqlite3_column_int64(st, i);
}

void sq_reset(struct sqlite3_stmt *st)
{
    (void)sqlite3_reset(st);
    (void)sqlite3_clear_bindings(st);
}

void sq_finalize(struct sqlite3_stmt *st)
{
    (void)sqlite3_finalize(st);
}
