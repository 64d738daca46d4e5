/* SQLite in the limited child: see check_sql.h. */
#include "sqlite/check_sql.h"

#include <errno.h>
#include <string.h>

#include "sqlite/check_vfs.h"
#include "sqlite3.h"

#define BUSY_MS 5000

static int configure(struct sqlite3 *db, struct err *e)
{
    static const char settings[] = "PRAGMA cell_size_check=ON;"
                                   "PRAGMA query_only=ON;"
                                   "PRAGMA mmap_size=0;"
                                   "PRAGMA temp_store=MEMORY";
    int rc = SQLITE_OK;

    rc |= sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    rc |= sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    rc |= sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    rc |= sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (rc != SQLITE_OK)
        return err_set(e, ERR_INTERNAL, "SQLite refuses its configuration");
    rc = sqlite3_exec(db, settings, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return check_sql_fail(db, rc, e);
    return 0;
}

int check_sql_open(const char *path, enum check_sql_mode mode,
                   struct sqlite3 **out, struct err *e)
{
    const char *vfs =
        mode == CHECK_SQL_PRIVATE ? check_vfs_private() : check_vfs_live();
    struct sqlite3 *db = NULL;
    int rc;

    (void)sqlite3_hard_heap_limit64((sqlite3_int64)CHECK_SQL_HEAP_MIB << 20);
    if (vfs == NULL)
        return err_set(e, ERR_INTERNAL, "SQLite refuses our VFS");
    rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
                         vfs);
    if (rc != SQLITE_OK) {
        (void)check_sql_fail(db, rc, e);
        goto fail;
    }
    (void)sqlite3_extended_result_codes(db, 1);
    if (mode == CHECK_SQL_LIVE)
        (void)sqlite3_busy_timeout(db, BUSY_MS);
    if (configure(db, e) != 0)
        goto fail;
    *out = db;
    return 0;
fail:
    (void)sqlite3_close(db);
    return -1;
}

static int fail_io(struct sqlite3 *db, int rc, struct err *e)
{
    int sys = sqlite3_system_errno(db);

    if (rc == SQLITE_IOERR_NOMEM)
        return check_sql_fail(db, SQLITE_NOMEM, e);
    if (rc == SQLITE_IOERR_READ || rc == SQLITE_IOERR_CORRUPTFS)
        return err_set(e, ERR_DAMAGED, "the file cannot be read: %s",
                       strerror(sys));
    if (rc == SQLITE_IOERR_LOCK && sys == EBADF)
        /* A journal to roll back, for which a read-only descriptor cannot
         * take the lock. */
        return check_sql_fail(db, SQLITE_READONLY, e);
    if (sys == ENOSPC || sys == EDQUOT)
        return check_sql_fail(db, SQLITE_FULL, e);
    return err_set(e, ERR_IO, "%s (%d): %s", sqlite3_errmsg(db), rc,
                   strerror(sys));
}

int check_sql_fail(struct sqlite3 *db, int rc, struct err *e)
{
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return err_set_reason(e, ERR_LIMIT, "memory",
                              "the memory limit of %d MiB was reached",
                              CHECK_SQL_HEAP_MIB);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return err_set_reason(e, ERR_BUSY, "locked",
                              "the database stays locked");
    case SQLITE_READONLY:
        return err_set_reason(e, ERR_BUSY, "recovery",
                              "the database has to be recovered first");
    case SQLITE_CORRUPT:
        return err_set(e, ERR_DAMAGED, "%s", sqlite3_errmsg(db));
    case SQLITE_NOTADB:
        return err_set(e, ERR_NOT_DATABASE, "the file is no SQLite database");
    case SQLITE_FULL:
        return err_set(e, ERR_NO_SPACE, "the disk is full");
    case SQLITE_CANTOPEN:
        /* EACCES: put there since landlock was told what to allow. */
        if (sqlite3_system_errno(db) == ENOENT ||
            sqlite3_system_errno(db) == EACCES)
            return err_set(e, ERR_NOT_FOUND, "no such file");
        return err_set(e, ERR_IO, "cannot open the file: %s",
                       strerror(sqlite3_system_errno(db)));
    case SQLITE_IOERR:
        return fail_io(db, rc, e);
    case SQLITE_ERROR:
        if (strcmp(sqlite3_errmsg(db), "unsupported file format") == 0)
            return err_set(e, ERR_DAMAGED,
                           "the header names an unknown schema format");
        /* fall through */
    default:
        return err_set(e, ERR_INTERNAL, "SQLite: %s (%d)", sqlite3_errmsg(db),
                       rc);
    }
}
