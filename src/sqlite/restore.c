/* The restore transaction: see restore.h. */
#include "sqlite/restore.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/phase.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

/* One try for the exclusive lock keeps new readers out for so long, and then
 * lets those that wait have their turn. */
#define EXCLUSIVE_TRY_MS 100
#define EXCLUSIVE_PAUSE_MS 150
/* A WAL that a restore has begun, or made longer by more than this, is given
 * back. */
#define WAL_GROWTH_BYTES (1 << 20)
/* What remains fixed of a stall: syncs and the commit. */
#define STALL_BASE_MS 20

struct restore {
    const struct restore_opts *o;
    struct restore_result *r;
    struct sqlite3 *writer; /* takes the lock and writes */
    struct sqlite3 *reader; /* WAL: the pinned snapshot of the copy */
    struct snapshot then;
    struct copy copy;
    bool in_transaction;
    int64_t locked_at_ms;
    int64_t copy_ms;
    uint64_t live_pages; /* under the lock */
    int64_t cookie;
    uint8_t head[100]; /* of the live page 1 */
    uint64_t wal_before;
};

static void report(struct restore *s, uint64_t done, uint64_t total)
{
    if (s->o->progress != NULL)
        s->o->progress(s->o->progress_arg, done, total);
}

/* ---- before the lock ---- */

static int copy_before(struct restore *s, struct copy_opts *co, struct err *e)
{
    int64_t start = clock_monotonic_ms();

    *co = (struct copy_opts){
        .live = s->o->live,
        .out = s->o->safety,
        .hash_fd = s->o->hash_fd,
        .backup_fd = s->o->backup_fd,
        .backup_pages = s->o->backup_pages,
        .backup_page_size = s->o->backup_page_size,
        .progress = s->o->progress,
        .progress_arg = s->o->progress_arg,
    };
    if (phase_enter("restore.copy", e) != 0 ||
        copy_ahead(&s->copy, s->reader, co, &s->then, e) != 0)
        return -1;
    s->r->wal = s->copy.wal;
    s->copy_ms = clock_monotonic_ms() - start;
    return 0;
}

static uint64_t count_differing(const struct copy *c, uint64_t backup_pages)
{
    uint64_t n = backup_pages > c->n_pages ? backup_pages - c->n_pages : 0;

    for (uint64_t p = 1; c->differs != NULL && p <= backup_pages; p++)
        n += bit_get(c->differs, p) ? 1 : 0;
    return n;
}

/*
 * Room for the pages in the WAL or, in rollback mode, for the journal and the
 * growth; refused before anything is locked.
 */
static int check_space(struct restore *s, uint64_t n_differ, struct err *e)
{
    uint64_t need = n_differ * (s->o->backup_page_size + 24);
    struct statvfs v;

    if (!s->copy.wal && s->o->backup_pages > s->copy.n_pages)
        need += (s->o->backup_pages - s->copy.n_pages) * s->o->backup_page_size;
    need += need / 10 + (1 << 16);
    if (statvfs(s->o->live->path, &v) != 0)
        return 0;
    if ((uint64_t)v.f_bavail * v.f_frsize >= need)
        return 0;
    return err_set(e, ERR_NO_SPACE,
                   "restoring into database %s needs %llu bytes beside it, "
                   "and %llu are free; nothing was changed",
                   s->o->live->label, (unsigned long long)need,
                   (unsigned long long)v.f_bavail * v.f_frsize);
}

/*
 * How long writers would wait: the pages that differ are read and written at
 * about the pace of the copy just made, which did both for every page; in
 * rollback mode all pages are compared first.
 */
static int check_stall(const struct restore *s, uint64_t n_differ,
                       struct err *e)
{
    uint64_t all = s->copy.n_pages > 0 ? s->copy.n_pages : 1;
    uint64_t per_copy = (uint64_t)(s->copy_ms > 0 ? s->copy_ms : 1);
    uint64_t expected = STALL_BASE_MS + 4 * per_copy * n_differ / all;

    if (!s->copy.wal)
        expected += per_copy / 2;
    if (s->o->max_stall_ms == 0 || expected <= s->o->max_stall_ms)
        return 0;
    return err_set_reason(
        e, ERR_BUSY, "max_stall",
        "writers of database %s would wait about %llu ms, more than the %u ms "
        "allowed (--max-stall); nothing was changed",
        s->o->live->label, (unsigned long long)expected, s->o->max_stall_ms);
}

/* ---- the lock ---- */

static int begin(struct restore *s, const char *sql, unsigned try_ms,
                 struct err *e)
{
    struct live_wait wait;

    live_wait_start(s->o->live, false, &wait);
    if (try_ms > 0)
        wait.pause_ms = EXCLUSIVE_PAUSE_MS;
    (void)sqlite3_busy_timeout(s->writer, (int)try_ms);
    for (;;) {
        int rc = sqlite3_exec(s->writer, sql, NULL, NULL, NULL);

        if (rc == SQLITE_OK)
            break;
        (void)sq_fail(s->writer, rc, e, "cannot lock database %s",
                      s->o->live->label);
        if (e->code != ERR_BUSY || live_retry(s->o->live, &wait, e) != 0)
            return -1;
    }
    (void)sqlite3_busy_timeout(s->writer, 0);
    s->in_transaction = true;
    s->locked_at_ms = clock_monotonic_ms();
    return 0;
}

static int check_writable(struct restore *s, struct err *e)
{
    if (sqlite3_db_readonly(s->writer, "live") != 1)
        return 0;
    return err_set_reason(e, ERR_CONFLICT, "read_only",
                          "database %s cannot be written (read-only file or "
                          "filesystem)",
                          s->o->live->label);
}

static int take_lock(struct restore *s, struct err *e)
{
    if (check_writable(s, e) != 0)
        return -1;
    /* synchronous=EXTRA: an acknowledged restore survives a power cut in both
     * journal modes; the small cache bounds memory, dirty pages spill. */
    if (sq_exec(s->writer,
                "PRAGMA live.synchronous=EXTRA;"
                "PRAGMA live.cache_size=-8000;"
                "PRAGMA live.cache_spill=ON",
                e) != 0)
        return -1;
    if (s->copy.wal)
        return begin(s, "BEGIN IMMEDIATE", 0, e);
    /* EXCLUSIVE, so that spilling never has to wait for a reader. */
    return begin(s, "BEGIN EXCLUSIVE", EXCLUSIVE_TRY_MS, e);
}

/* WAL: a second read transaction sees the last commit before the lock. */
static int catch_up_wal(struct restore *s, struct err *e)
{
    struct sqlite3 *db = NULL;
    struct snapshot now = {0};
    int rc = -1;

    if (live_connect(s->o->live, &db, e) != 0 ||
        snapshot_begin(&now, db, s->o->live, e) != 0)
        goto done;
    if (!now.wal || now.page_size != s->copy.page_size) {
        (void)err_set_reason(e, ERR_BUSY, "changed",
                             "database %s changed its journal mode meanwhile; "
                             "try again",
                             s->o->live->label);
        goto done;
    }
    rc = copy_catch_up_wal(&s->copy, &now, &s->then, e);
done:
    snapshot_end(&now);
    live_disconnect(db);
    return rc;
}

static int catch_up_rollback(struct restore *s, struct err *e)
{
    struct snapshot now = {0};
    int rc = -1;

    if (snapshot_join(&now, s->writer, s->o->live, e) != 0)
        return -1;
    if (now.wal || (now.n_pages > 0 && now.page_size != s->copy.page_size))
        (void)err_set_reason(e, ERR_BUSY, "changed",
                             "database %s changed its page size or journal "
                             "mode meanwhile; try again",
                             s->o->live->label);
    else
        rc = copy_catch_up_hash(&s->copy, &now, e);
    snapshot_end(&now);
    return rc;
}

/* A file of 0 bytes; to its own write transaction SQLite shows one page. */
static int still_empty(const struct restore *s, bool *empty, struct err *e)
{
    struct live_file f;

    *empty = false;
    if (s->copy.n_pages > 0 || s->copy.wal)
        return 0;
    if (live_stat(s->o->live, &f, e) != 0)
        return -1;
    *empty = f.size_bytes == 0;
    return 0;
}

static int keep_safety(struct restore *s, struct err *e)
{
    bool empty;
    int rc;

    if (still_empty(s, &empty, e) != 0)
        return -1;
    if (empty)
        return 0; /* nothing to keep */
    rc = s->copy.wal ? catch_up_wal(s, e) : catch_up_rollback(s, e);
    if (rc != 0)
        return -1;
    snapshot_end(&s->then); /* the WAL may be reset again after our commit */
    s->live_pages = s->copy.n_pages;
    s->r->n_patched = s->copy.n_patched;
    if (phase_enter("restore.publish", e) != 0)
        return -1;
    /* What the copy synced before the lock stays synced: without a patch the
     * file is as it was then. */
    if (s->copy.n_patched > 0 || !s->copy.sha_known) {
        if (outfile_finish(s->o->safety, s->copy.n_pages * s->copy.page_size,
                           e) != 0)
            return err_wrap(e, "keeping the state before the restore");
    }
    return s->o->keep(s->o->ctx, &s->copy, e);
}

/* ---- writing ---- */

/* Page 1 of the live database, as the writer sees it. */
static int read_head(struct restore *s, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int rc = -1;
    int row;

    memset(s->head, 0, sizeof s->head);
    if (s->live_pages == 0)
        return 0;
    if (sq_prepare(s->writer,
                   "SELECT data FROM sqlite_dbpage('live') WHERE pgno=1", &st,
                   e) != 0)
        return -1;
    row = sq_step(st, e);
    if (row == 1 && sqlite3_column_bytes(st, 0) >= 100) {
        memcpy(s->head, sqlite3_column_blob(st, 0), sizeof s->head);
        rc = 0;
    } else if (row >= 0) {
        (void)err_set(e, ERR_DAMAGED, "page 1 of database %s cannot be read",
                      s->o->live->label);
    }
    sq_finalize(st);
    return rc;
}

/*
 * What only the live side knows goes into page 1: its journal mode, and a
 * schema cookie that is newer than any that an open connection has cached
 * (with an old one it would write rows into the wrong table).  The page count
 * is the true one: a backup may have a stale one there, which SQLite overlooks
 * only until the commit makes the header look up to date.
 */
static void mend_page1(const struct restore *s, uint8_t *page)
{
    uint32_t cookie = (uint32_t)s->cookie + 1;

    if (s->live_pages > 0) {
        page[18] = s->head[18];
        page[19] = s->head[19];
    } else {
        page[18] = 1;
        page[19] = 1;
    }
    put_be32(page + 40, cookie);
    put_be32(page + 28, (uint32_t)s->o->backup_pages);
}

static bool must_write(const struct restore *s, uint64_t pgno)
{
    if (pgno == lock_page(s->o->backup_page_size))
        return false;
    return pgno == 1 || pgno > s->live_pages || bit_get(s->copy.differs, pgno);
}

static int write_page(struct restore *s, sqlite3_stmt *st, uint64_t pgno,
                      const void *page, struct err *e)
{
    int rc;

    (void)sqlite3_reset(st);
    (void)sqlite3_bind_int64(st, 1, (sqlite3_int64)pgno);
    if (page != NULL)
        (void)sqlite3_bind_blob(st, 2, page, (int)s->o->backup_page_size,
                                SQLITE_STATIC);
    else
        (void)sqlite3_bind_null(st, 2);
    rc = sqlite3_step(st);
    if (rc != SQLITE_DONE)
        return sq_fail(s->writer, rc, e, "cannot write page %llu",
                       (unsigned long long)pgno);
    return 0;
}

/* The backup is read backwards, in chunks that hold many pages. */
struct back_reader {
    uint8_t *buf;
    uint64_t first; /* page number of the first page in buf; 0: none */
};

static const uint8_t *backup_page(const struct restore *s,
                                  struct back_reader *b, uint64_t pgno,
                                  struct err *e)
{
    uint32_t ps = s->o->backup_page_size;
    uint64_t per = (64U << 10) / ps;
    uint64_t first = (pgno - 1) / per * per + 1;

    if (b->first != first) {
        uint64_t n = s->o->backup_pages - first + 1;

        if (n > per)
            n = per;
        b->first = 0;
        if (file_pread_all(s->o->backup_fd, b->buf, (size_t)(n * ps),
                           (first - 1) * ps, e) != 0) {
            (void)err_wrap(e, "reading the backup");
            return NULL;
        }
        b->first = first;
    }
    return b->buf + (pgno - first) * ps;
}

static int write_pages(struct restore *s, sqlite3_stmt *st, struct err *e)
{
    struct back_reader b = {.buf = xmalloc(64U << 10)};
    uint64_t total = s->o->backup_pages * s->o->backup_page_size;
    int rc = -1;

    /* N … 2, then page 1: no statement may run on the schema after it. */
    for (uint64_t p = s->o->backup_pages; p >= 1; p--) {
        const uint8_t *page;
        uint8_t *first;

        if (!must_write(s, p))
            continue;
        page = backup_page(s, &b, p, e);
        if (page == NULL)
            goto done;
        first = b.buf + (page - b.buf);
        if (p == 1)
            mend_page1(s, first);
        if (write_page(s, st, p, page, e) != 0)
            goto done;
        if (s->r->n_written++ % 1024 == 0) {
            if (phase_enter("restore.write", e) != 0)
                goto done;
            report(s, total - p * s->o->backup_page_size, total);
        }
    }
    rc = 0;
done:
    free(b.buf);
    return rc;
}

static int write_all(struct restore *s, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int64_t auto_vacuum = 0;
    int rc = -1;

    if (phase_enter("restore.write", e) != 0 ||
        sq_int(s->writer, "PRAGMA live.schema_version", &s->cookie, e) != 0 ||
        read_head(s, e) != 0 ||
        sq_int(s->writer, "PRAGMA live.auto_vacuum", &auto_vacuum, e) != 0)
        return -1;
    /* FULL would move pages at the commit; INCREMENTAL leaves them. */
    if (auto_vacuum == 1 &&
        sq_exec(s->writer, "PRAGMA live.auto_vacuum=2", e) != 0)
        return -1;
    if (sq_prepare(s->writer,
                   "INSERT INTO sqlite_dbpage(pgno,data,schema) "
                   "VALUES(?1,?2,'live')",
                   &st, e) != 0)
        return -1;
    if (write_pages(s, st, e) != 0)
        goto done;
    /* Last of all: any page written later would cancel it. */
    if (s->live_pages > s->o->backup_pages &&
        write_page(s, st, s->o->backup_pages + 1, NULL, e) != 0)
        goto done;
    rc = 0;
done:
    sq_finalize(st);
    return rc;
}

static int commit(struct restore *s, struct err *e)
{
    int rc;

    if ((s->o->confirm != NULL && s->o->confirm(s->o->ctx, e) != 0) ||
        phase_enter("restore.commit", e) != 0)
        return -1;
    rc = sqlite3_exec(s->writer, "COMMIT", NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        /* A sync or a lock that fails after the deciding moment is reported
         * as a failed commit too.  A full disk is met before it. */
        s->r->in_doubt = (rc & 0xff) != SQLITE_FULL;
        return sq_fail(s->writer, rc, e, "cannot commit the restore");
    }
    s->in_transaction = false;
    return 0;
}

/* ---- afterwards ---- */

/*
 * Take back the growth of the WAL that was our doing, and nothing else:
 * PASSIVE never waits; TRUNCATE only when nothing remains to copy.
 */
static void give_back_wal(struct restore *s)
{
    struct live_file f;
    struct err ignored;
    int n_log = -1;
    int n_done = -1;

    if (!s->copy.wal || live_stat(s->o->live, &f, &ignored) != 0 ||
        (s->wal_before > 0 && f.wal_bytes < s->wal_before + WAL_GROWTH_BYTES))
        return;
    if (sqlite3_wal_checkpoint_v2(s->writer, "live", SQLITE_CHECKPOINT_PASSIVE,
                                  &n_log, &n_done) == SQLITE_OK &&
        n_log >= 0 && n_log == n_done)
        (void)sqlite3_wal_checkpoint_v2(s->writer, "live",
                                        SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

static void end(struct restore *s)
{
    struct err ignored;

    if (s->in_transaction)
        (void)sq_exec(s->writer, "ROLLBACK", &ignored);
    s->in_transaction = false;
    if (s->locked_at_ms != 0)
        s->r->locked_ms = clock_monotonic_ms() - s->locked_at_ms;
    snapshot_end(&s->then);
    if (s->writer != NULL && s->r->n_written > 0)
        give_back_wal(s);
    if (s->reader != s->writer)
        live_disconnect(s->reader);
    live_disconnect(s->writer);
    copy_fini(&s->copy);
}

static int connect(struct restore *s, struct err *e)
{
    struct live_file f;
    char sql[64];

    if (live_stat(s->o->live, &f, e) != 0 ||
        live_connect(s->o->live, &s->writer, e) != 0)
        return -1;
    s->wal_before = f.wal_bytes;
    /* An empty file takes the backup's page size. */
    (void)sqlite3_snprintf(sizeof sql, sql, "PRAGMA live.page_size=%u",
                           s->o->backup_page_size);
    if (f.size_bytes == 0 && !f.wal_file && sq_exec(s->writer, sql, e) != 0)
        return -1;
    return 0;
}

/* WAL: a connection of its own pins the snapshot of the copy.  Rollback mode:
 * the writer itself copies, since under its lock nobody else can read. */
static int choose_reader(struct restore *s, struct err *e)
{
    struct snapshot probe = {0};
    bool wal;

    if (snapshot_begin(&probe, s->writer, s->o->live, e) != 0)
        return -1;
    wal = probe.wal;
    snapshot_end(&probe);
    if (!wal) {
        s->reader = s->writer;
        return 0;
    }
    return live_connect(s->o->live, &s->reader, e);
}

int restore_run(const struct restore_opts *o, struct restore_result *r,
                struct err *e)
{
    struct restore s = {.o = o, .r = r};
    struct copy_opts co;
    uint64_t n_differ;
    int rc = -1;

    memset(r, 0, sizeof *r);
    if (connect(&s, e) != 0 || choose_reader(&s, e) != 0 ||
        copy_before(&s, &co, e) != 0)
        goto done;
    n_differ = count_differing(&s.copy, o->backup_pages);
    if (check_space(&s, n_differ, e) != 0 || check_stall(&s, n_differ, e) != 0)
        goto done;
    if (take_lock(&s, e) != 0 || phase_enter("restore.locked", e) != 0 ||
        keep_safety(&s, e) != 0 || write_all(&s, e) != 0 || commit(&s, e) != 0)
        goto done;
    r->locked_ms = clock_monotonic_ms() - s.locked_at_ms;
    s.locked_at_ms = 0;
    rc = 0;
done:
    end(&s);
    return rc;
}
