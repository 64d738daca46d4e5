/* A pinned read transaction and its pages: see snapshot.h. */
#include "sqlite/snapshot.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

/* The WAL format: a header of 32 bytes, then frames of a 24-byte header (page
 * number, size, salts, checksum) and a page (SQLite file format, 4.1). */
#define WAL_HEADER 32
#define FRAME_HEADER 24

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static int one_row_text_is(struct sqlite3 *db, const char *sql,
                           const char *want, bool *is, struct err *e)
{
    struct sqlite3_stmt *st = NULL;
    int row;

    if (sq_prepare(db, sql, &st, e) != 0)
        return -1;
    row = sq_step(st, e);
    *is =
        row == 1 && sq_text(st, 0) != NULL && strcmp(sq_text(st, 0), want) == 0;
    sq_finalize(st);
    return row < 0 ? -1 : 0;
}

/*
 * Where the snapshot stands in the WAL.  sqlite3_snapshot is opaque; with the
 * SQLite that is pinned and linked in, it is the wal-index header: mxFrame at
 * 16, nPage at 20, the salts at 32.  nPage is compared with what SQLite says,
 * so a change of that layout cannot pass unnoticed.
 */
static int find_place(struct snapshot *s, struct err *e)
{
    sqlite3_snapshot *id = NULL;
    uint32_t n_pages;
    int rc = sqlite3_snapshot_get(s->db, "live", &id);

    s->has_id = false;
    s->n_frames = 0;
    if (rc == SQLITE_ERROR)
        return 0; /* a WAL without frames: all is in the main file */
    if (rc != SQLITE_OK)
        return sq_fail(s->db, rc, e, "cannot read the WAL's state");
    memcpy(s->id, id, SNAPSHOT_ID_SIZE);
    sqlite3_snapshot_free(id);
    memcpy(&s->n_frames, s->id + 16, 4);
    memcpy(&n_pages, s->id + 20, 4);
    memcpy(s->salt, s->id + 32, 8);
    s->has_id = true;
    /* A WAL that was reset while it was empty has an id and no frames. */
    if (s->n_frames > 0 && n_pages != s->n_pages)
        return err_set(e, ERR_INTERNAL,
                       "the linked SQLite has another snapshot layout");
    return 0;
}

/*
 * Call `visit` for each page number in the frames from+1 … to that bear
 * `salt`.  A frame with other salts belongs to a newer WAL, which can only
 * have begun after every older frame had reached the main file.
 */
static int each_frame(const struct snapshot *s, uint32_t from, uint32_t to,
                      const uint8_t salt[8], uint8_t *map, uint64_t max_page,
                      struct err *e)
{
    sqlite3_file *wal = NULL;
    uint8_t head[FRAME_HEADER];
    int rc =
        sqlite3_file_control(s->db, "live", SQLITE_FCNTL_JOURNAL_POINTER, &wal);

    if (rc != SQLITE_OK || wal == NULL || wal->pMethods == NULL)
        return sq_fail(s->db, rc, e, "cannot find the WAL");
    for (uint32_t i = from; i < to; i++) {
        sqlite3_int64 at =
            WAL_HEADER + (sqlite3_int64)i * (FRAME_HEADER + s->page_size);
        uint32_t pgno;

        rc = wal->pMethods->xRead(wal, head, FRAME_HEADER, at);
        if (rc == SQLITE_IOERR_SHORT_READ)
            return 0; /* the WAL was restarted and truncated: see above */
        if (rc != SQLITE_OK)
            return sq_fail(NULL, rc, e, "cannot read the WAL");
        pgno = be32(head);
        if (memcmp(head + 8, salt, 8) == 0 && pgno >= 1 && pgno <= max_page)
            bit_set(map, pgno);
    }
    return 0;
}

static int note_wal_pages(struct snapshot *s, struct err *e)
{
    if (!s->wal)
        return 0;
    if (find_place(s, e) != 0)
        return -1;
    if (s->n_frames == 0)
        return 0;
    s->in_wal = xcalloc(s->n_pages / 8 + 1, 1);
    return each_frame(s, 0, s->n_frames, s->salt, s->in_wal, s->n_pages, e);
}

static int begin_once(struct snapshot *s, struct err *e)
{
    int64_t v;

    if (!s->joined && sq_exec(s->db, "BEGIN", e) != 0)
        return -1;
    /* The first read takes the lock and fixes the state. */
    if (sq_int(s->db, "PRAGMA live.schema_version", &v, e) != 0 ||
        sq_int(s->db, "PRAGMA live.page_size", &v, e) != 0)
        return -1;
    s->page_size = (uint32_t)v;
    if (sq_int(s->db, "PRAGMA live.page_count", &v, e) != 0)
        return -1;
    s->n_pages = (uint64_t)v;
    if (sq_int(s->db, "PRAGMA live.data_version", &v, e) != 0)
        return -1;
    s->data_version = v;
    return one_row_text_is(s->db, "PRAGMA live.journal_mode", "wal", &s->wal,
                           e);
}

static int prepare_page(struct snapshot *s, struct err *e)
{
    return sq_prepare(s->db,
                      "SELECT data FROM sqlite_dbpage('live') WHERE pgno=?1",
                      &s->page, e);
}

int snapshot_join(struct snapshot *s, struct sqlite3 *db,
                  const struct live_opts *opts, struct err *e)
{
    memset(s, 0, sizeof *s);
    s->db = db;
    s->opts = opts;
    s->joined = true;
    if (begin_once(s, e) != 0 || prepare_page(s, e) != 0) {
        snapshot_end(s);
        return -1;
    }
    return 0;
}

int snapshot_begin(struct snapshot *s, struct sqlite3 *db,
                   const struct live_opts *opts, struct err *e)
{
    struct live_wait wait;

    memset(s, 0, sizeof *s);
    s->db = db;
    s->opts = opts;
    live_wait_start(opts, true, &wait);
    while (begin_once(s, e) != 0) {
        struct err ignored;

        (void)sq_exec(db, "ROLLBACK", &ignored);
        if (e->code != ERR_BUSY || live_retry(opts, &wait, e) != 0)
            return -1;
    }
    if (note_wal_pages(s, e) != 0 || prepare_page(s, e) != 0) {
        snapshot_end(s);
        return -1;
    }
    return 0;
}

const void *snapshot_page(struct snapshot *s, uint64_t pgno, struct err *e)
{
    int rc;

    (void)sqlite3_reset(s->page);
    (void)sqlite3_bind_int64(s->page, 1, (sqlite3_int64)pgno);
    rc = sqlite3_step(s->page);
    if (rc == SQLITE_ROW &&
        sqlite3_column_bytes(s->page, 0) == (int)s->page_size)
        return sqlite3_column_blob(s->page, 0);
    (void)sq_fail(s->db, rc == SQLITE_ROW ? SQLITE_CORRUPT : rc, e,
                  "cannot read page %llu", (unsigned long long)pgno);
    return NULL;
}

int snapshot_read(struct snapshot *s, uint64_t first, size_t n, void *buf,
                  struct err *e)
{
    sqlite3_file *f = NULL;
    uint8_t *out = buf;
    int rc = sqlite3_file_control(s->db, "live", SQLITE_FCNTL_FILE_POINTER, &f);

    assert(first >= 1 && first - 1 + n <= s->n_pages);
    if (rc != SQLITE_OK)
        return sq_fail(s->db, rc, e, "cannot find the database file");
    rc = f->pMethods->xRead(f, buf, (int)(n * s->page_size),
                            (sqlite3_int64)((first - 1) * s->page_size));
    /* Pages past the end of the main file stand in the WAL, or are the
     * lock-byte page; SQLite fills the rest of a short read with zeroes. */
    if (rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ)
        return sq_fail(NULL, rc, e, "cannot read the database file");
    for (uint64_t p = first; s->in_wal != NULL && p < first + n; p++) {
        const void *page;

        if (!bit_get(s->in_wal, p))
            continue;
        page = snapshot_page(s, p, e);
        if (page == NULL)
            return -1;
        memcpy(out + (p - first) * s->page_size, page, s->page_size);
    }
    (void)sqlite3_reset(s->page);
    return 0;
}

int snapshot_check_wal(const struct snapshot *s, struct err *e)
{
    sqlite3_file *wal = NULL;
    sqlite3_int64 size = 0;

    if (!s->wal)
        return 0;
    (void)sqlite3_file_control(s->db, "live", SQLITE_FCNTL_JOURNAL_POINTER,
                               &wal);
    if (wal == NULL || wal->pMethods == NULL ||
        wal->pMethods->xFileSize(wal, &size) != SQLITE_OK)
        return 0;
    if ((uint64_t)size <= s->opts->wal_limit_bytes)
        return 0;
    return err_set_reason(
        e, ERR_BUSY, "wal_limit",
        "the WAL of database %s has grown to %lld bytes while it was copied, "
        "past the limit of %llu (--wal-limit); the copy was given up so that "
        "the application can reset it",
        s->opts->label, (long long)size,
        (unsigned long long)s->opts->wal_limit_bytes);
}

int snapshot_check_whole(const struct snapshot *s, struct err *e)
{
    sqlite3_file *f = NULL;
    sqlite3_int64 size = 0;
    int rc = sqlite3_file_control(s->db, "live", SQLITE_FCNTL_FILE_POINTER, &f);

    if (rc == SQLITE_OK)
        rc = f->pMethods->xFileSize(f, &size);
    if (rc != SQLITE_OK)
        return sq_fail(NULL, rc, e, "cannot find the database file");
    for (uint64_t p = (uint64_t)size / s->page_size + 1; p <= s->n_pages; p++) {
        if (s->in_wal == NULL || !bit_get(s->in_wal, p))
            return err_set(e, ERR_DAMAGED,
                           "the file is %lld bytes long and ends before or "
                           "within page %llu of %llu",
                           (long long)size, (unsigned long long)p,
                           (unsigned long long)s->n_pages);
    }
    return 0;
}

int snapshot_changed_since(const struct snapshot *now,
                           const struct snapshot *then, uint8_t *map,
                           struct err *e)
{
    uint32_t from = 0;

    /* The same WAL: only the frames after `then`.  Another one: while `then`
     * is open nothing newer than it can have reached the main file, so all
     * that is newer stands in the present WAL. */
    if (now->has_id && then->has_id && memcmp(now->salt, then->salt, 8) == 0)
        from = then->n_frames;
    if (!now->has_id)
        return 0;
    return each_frame(now, from, now->n_frames, now->salt, map, now->n_pages,
                      e);
}

void snapshot_end(struct snapshot *s)
{
    struct err ignored;

    sqlite3_finalize(s->page);
    s->page = NULL;
    free(s->in_wal);
    s->in_wal = NULL;
    if (s->db != NULL && !s->joined && sqlite3_get_autocommit(s->db) == 0)
        (void)sq_exec(s->db, "COMMIT", &ignored);
    s->db = NULL;
}
