/*
 * Another page size for a private database file, by VACUUM INTO in a limited
 * child: see check.h.
 *
 * Functions and collations of the application are replaced by stubs.  A copy
 * during which none was used is right in spite of them (CHECK constraints,
 * for one, are not looked at); otherwise it is thrown away.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "sqlite/check.h"
#include "sqlite/check_sql.h"
#include "sqlite/check_stubs.h"
#include "sqlite3.h"

#define MIB ((uint64_t)1 << 20)
#define CHILD_MEMORY_BYTES (160 * MIB)

struct convert_request {
    uint32_t page_size;
    char from[PATH_MAX];
    char to[PATH_MAX];
};

/* ------------------------------------------------------------- the child */

/* What VACUUM needs beside what a check does.  A schema may have been made
 * when quoted words could still be strings. */
static int prepare_vacuum(sqlite3 *db, uint32_t page_size, struct err *e)
{
    char sql[128];
    int rc;

    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DDL, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DML, 1, NULL);
    (void)snprintf(sql, sizeof sql,
                   "PRAGMA query_only=OFF; PRAGMA synchronous=OFF;"
                   "PRAGMA page_size=%u",
                   (unsigned)page_size);
    rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : check_sql_fail(db, rc, e);
}

/* VACUUM INTO, as often as another missing function can be supplied. */
static int vacuum(struct stubs *stubs, const char *to)
{
    sqlite3_stmt *st = NULL;
    int rc = stubs_prepare(stubs, "VACUUM main INTO ?1", &st);

    if (rc != SQLITE_OK)
        return rc;
    (void)sqlite3_bind_text(st, 1, to, -1, SQLITE_STATIC);
    for (;;) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_DONE || !stubs_supply(stubs))
            break;
        (void)sqlite3_reset(st);
        (void)unlink(to);
    }
    (void)sqlite3_finalize(st);
    return rc;
}

static int judge(sqlite3 *db, const struct stubs *stubs, int rc, struct err *e)
{
    struct buf used = {0};

    if (stubs->n_uses > 0) {
        stubs_put_used(stubs, &used);
        (void)err_set_reason(e, ERR_CONFLICT, "schema",
                             "the schema needs the application's own %s",
                             used.data);
        buf_fini(&used);
        return -1;
    }
    if (rc == SQLITE_DONE)
        return 0;
    if ((rc & 0xff) == SQLITE_ERROR)
        return err_set_reason(e, ERR_CONFLICT, "schema",
                              "the schema cannot be copied: %s",
                              sqlite3_errmsg(db));
    if ((rc & 0xff) == SQLITE_CONSTRAINT)
        return err_set(e, ERR_DAMAGED, "%s", sqlite3_errmsg(db));
    return check_sql_fail(db, rc, e);
}

/* Whether the copy has the page size: SQLite keeps the old one silently where
 * the new one is too small for the bytes reserved on each page. */
static int confirm(const struct convert_request *rq, struct err *e)
{
    uint8_t bytes[100];
    struct db_header h;
    int fd = open(rq->to, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? err_sys(e, "cannot open the copy")
                    : file_pread_all(fd, bytes, sizeof bytes, 0, e);

    file_close(&fd);
    if (rc == 0)
        rc = db_header_parse(bytes, &h, e);
    if (rc == 0 && h.page_size != rq->page_size)
        rc = err_set_reason(e, ERR_CONFLICT, "schema",
                            "pages of %u bytes have no room for what this "
                            "database reserves on each",
                            (unsigned)rq->page_size);
    return rc;
}

static int run_convert(const void *request, size_t len, struct buf *reply,
                       struct err *e)
{
    struct convert_request *rq = xmalloc(sizeof *rq);
    struct stubs stubs = {0};
    sqlite3 *db = NULL;
    int rc = -1;

    (void)reply;
    if (len != sizeof *rq) {
        (void)err_set(e, ERR_INTERNAL, "a request of %zu bytes", len);
        goto done;
    }
    memcpy(rq, request, sizeof *rq);
    /* Not as an immutable file: SQLite takes one for a temporary database,
     * whose page size VACUUM INTO keeps. */
    if (check_sql_open(rq->from, CHECK_SQL_LIVE, &db, e) != 0)
        goto done;
    stubs_init(&stubs, db);
    stubs.stop = true;
    rc = prepare_vacuum(db, rq->page_size, e);
    if (rc == 0)
        rc = judge(db, &stubs, vacuum(&stubs, rq->to), e);
    if (rc == 0)
        rc = confirm(rq, e);
done:
    (void)sqlite3_close(db);
    stubs_fini(&stubs);
    free(rq);
    return rc;
}

const struct guard_service convert_service = {"convert", run_convert};

/* ------------------------------------------------------------ the caller */

static int make_request(const char *from, const char *to, uint32_t page_size,
                        struct convert_request *rq, struct err *e)
{
    assert(from[0] == '/' && to[0] == '/');
    if (page_size < 512 || page_size > 65536 ||
        (page_size & (page_size - 1)) != 0)
        return err_set(e, ERR_INVALID, "a page size of %u bytes",
                       (unsigned)page_size);
    if (strlen(from) >= sizeof rq->from || strlen(to) >= sizeof rq->to)
        return err_set(e, ERR_INVALID, "the path is too long");
    if (access(to, F_OK) == 0)
        return err_set_reason(e, ERR_CONFLICT, "exists",
                              "the file to convert to exists already");
    rq->page_size = page_size;
    (void)snprintf(rq->from, sizeof rq->from, "%s", from);
    (void)snprintf(rq->to, sizeof rq->to, "%s", to);
    return 0;
}

/* Remove what a failed conversion left. */
static void clear(const char *to)
{
    char *journal = xasprintf("%s-journal", to);

    (void)unlink(to);
    (void)unlink(journal);
    free(journal);
}

/*
 * More than a copy can need: twice a page for each of the smallest that the
 * file can have.  A tree with a loop in it would fill the disk.
 */
static uint64_t max_bytes(uint64_t size_bytes, uint32_t page_size)
{
    return 2 * (size_bytes / 512 + 1) * page_size + 16 * MIB;
}

int convert_run(struct guard *g, const char *from, const char *to,
                uint32_t page_size, uint64_t size_bytes, struct err *e)
{
    struct convert_request *rq = xcalloc(1, sizeof *rq);
    char *folder = xasprintf("%.*s/", (int)(strrchr(to, '/') - to), to);
    uint64_t s = 30 + size_bytes / (5 * MIB);
    struct guard_call call = {.service = convert_service.name,
                              .request = rq,
                              .request_len = sizeof *rq,
                              .paths = {{from, false}, {folder, true}},
                              .memory_bytes = CHILD_MEMORY_BYTES,
                              .file_bytes = max_bytes(size_bytes, page_size),
                              .cpu_s = (unsigned)s,
                              .wall_s = (unsigned)(4 * s)};
    struct buf reply = {0};
    int rc = make_request(from, to, page_size, rq, e);

    if (rc == 0) {
        rc = guard_call(g, &call, &reply, e);
        if (rc != 0)
            clear(to);
    }
    buf_fini(&reply);
    free(folder);
    free(rq);
    return rc;
}
