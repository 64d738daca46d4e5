/*
 * Restoring over a live file that SQLite cannot read: see restore.h.
 *
 * SQLITE_DBCONFIG_RESET_DATABASE lets a connection take such a file for an
 * empty database while its locks and its journal work as ever, so that this
 * too is one transaction on the same inode.  Not with a -wal beside it: there
 * the application would keep its old rows while others see restored ones.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/phase.h"
#include "base/rand.h"
#include "sqlite/restore.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

static int open_reset(const struct restore_opts *o, struct sqlite3 **out,
                      struct err *e)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW;
    struct sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    char sql[96];
    int rc = sqlite3_open_v2(":memory:", &db, flags, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_db_config(db, SQLITE_DBCONFIG_RESET_DATABASE, 1, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "ATTACH ?1 AS live", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(st, 1, o->live->path, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_DONE)
        rc = SQLITE_OK;
    (void)sqlite3_finalize(st);
    (void)sqlite3_snprintf(sizeof sql, sql,
                           "PRAGMA live.synchronous=EXTRA;"
                           "PRAGMA live.page_size=%u",
                           o->backup_page_size);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        *out = db;
        return 0;
    }
    (void)sq_fail(db, rc, e, "cannot open database %s", o->live->label);
    (void)sqlite3_close(db);
    return -1;
}

static int lock(struct sqlite3 *db, const struct restore_opts *o, struct err *e)
{
    struct live_wait wait;

    live_wait_start(o->live, false, &wait);
    (void)sqlite3_busy_timeout(db, 100);
    for (;;) {
        int rc = sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL);

        if (rc == SQLITE_OK)
            return 0;
        (void)sq_fail(db, rc, e, "cannot lock database %s", o->live->label);
        if (e->code != ERR_BUSY || live_retry(o->live, &wait, e) != 0)
            return -1;
    }
}

/* The bytes as they are, through SQLite's own handle. */
static int copy_raw(struct sqlite3 *db, const struct restore_opts *o,
                    uint64_t *n_bytes, struct err *e)
{
    sqlite3_file *f = NULL;
    sqlite3_int64 size = 0;

    if (sqlite3_file_control(db, "live", SQLITE_FCNTL_FILE_POINTER, &f) !=
            SQLITE_OK ||
        f->pMethods->xFileSize(f, &size) != SQLITE_OK)
        return err_set(e, ERR_IO, "cannot read the file of database %s",
                       o->live->label);
    for (sqlite3_int64 at = 0; at < size; at += (sqlite3_int64)OUTFILE_CHUNK) {
        sqlite3_int64 n = size - at;
        int rc;

        if (n > (sqlite3_int64)OUTFILE_CHUNK)
            n = (sqlite3_int64)OUTFILE_CHUNK;
        rc = f->pMethods->xRead(f, outfile_buffer(o->safety), (int)n, at);
        if (rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ)
            return sq_fail(NULL, rc, e, "cannot read the file of database %s",
                           o->live->label);
        if (outfile_push(o->safety, (size_t)n, e) != 0)
            return -1;
    }
    *n_bytes = (uint64_t)size;
    return outfile_finish(o->safety, (uint64_t)size, e);
}

static int put(struct sqlite3 *db, sqlite3_stmt *st, uint64_t pgno,
               const void *page, uint32_t page_size, struct err *e)
{
    int rc;

    (void)sqlite3_reset(st);
    (void)sqlite3_bind_int64(st, 1, (sqlite3_int64)pgno);
    if (page != NULL)
        (void)sqlite3_bind_blob(st, 2, page, (int)page_size, SQLITE_STATIC);
    else
        (void)sqlite3_bind_null(st, 2);
    rc = sqlite3_step(st);
    if (rc == SQLITE_DONE)
        return 0;
    return sq_fail(db, rc, e, "cannot write page %llu",
                   (unsigned long long)pgno);
}

int restore_damaged_page_size(const struct restore_opts *o, uint32_t *page_size,
                              struct err *e)
{
    struct sqlite3 *db = NULL;
    int64_t v = 0;
    int rc = open_reset(o, &db, e);

    if (rc == 0)
        rc = sq_int(db, "PRAGMA live.page_size", &v, e);
    (void)sqlite3_close(db);
    *page_size = (uint32_t)v;
    return rc;
}

/* N … 1, then cut.  The cookie is one that nobody can have cached. */
static int write_all(struct sqlite3 *db, const struct restore_opts *o,
                     struct restore_result *r, struct err *e)
{
    uint8_t *page = xmalloc(o->backup_page_size);
    sqlite3_stmt *st = NULL;
    int rc = sq_prepare(db,
                        "INSERT INTO sqlite_dbpage(pgno,data,schema) "
                        "VALUES(?1,?2,'live')",
                        &st, e);

    for (uint64_t p = o->backup_pages; rc == 0 && p >= 1; p--) {
        if (p == lock_page(o->backup_page_size))
            continue;
        rc = file_pread_all(o->backup_fd, page, o->backup_page_size,
                            (p - 1) * o->backup_page_size, e);
        if (rc == 0 && p == 1) {
            rand_bytes(page + 40, 4);
            page[40] &= 0x7f;
            put_be32(page + 28, (uint32_t)o->backup_pages);
        }
        if (rc == 0)
            rc = put(db, st, p, page, o->backup_page_size, e);
        r->n_written++;
    }
    if (rc == 0)
        rc = put(db, st, o->backup_pages + 1, NULL, 0, e);
    sq_finalize(st);
    free(page);
    return rc;
}

int restore_over_damage(const struct restore_opts *o,
                        int (*keep_raw)(void *ctx, uint64_t raw_bytes,
                                        struct err *e),
                        struct restore_result *r, struct err *e)
{
    struct sqlite3 *db = NULL;
    struct err ignored;
    uint64_t n_bytes = 0;
    int64_t locked_at;
    int rc = -1;

    memset(r, 0, sizeof *r);
    if (open_reset(o, &db, e) != 0 || lock(db, o, e) != 0)
        goto done;
    locked_at = clock_monotonic_ms();
    if (copy_raw(db, o, &n_bytes, e) != 0 || keep_raw(o->ctx, n_bytes, e) != 0)
        goto done;
    if (phase_enter("restore.write", e) != 0 || write_all(db, o, r, e) != 0 ||
        (o->confirm != NULL && o->confirm(o->ctx, e) != 0) ||
        phase_enter("restore.commit", e) != 0 || sq_exec(db, "COMMIT", e) != 0)
        goto done;
    r->locked_ms = clock_monotonic_ms() - locked_at;
    rc = 0;
done:
    if (db != NULL && sqlite3_get_autocommit(db) == 0)
        (void)sq_exec(db, "ROLLBACK", &ignored);
    (void)sqlite3_close(db);
    return rc;
}
