/* Copying a live database: see copy.h. */
#include "sqlite/copy.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/phase.h"
#include "sqlite/sq.h"

/* In rollback mode a read transaction keeps writers out for so long at most
 * before they get a chance. */
#define SLICE_MS 20

static uint64_t chunk_pages(const struct copy *c)
{
    return OUTFILE_CHUNK / c->page_size;
}

static void init(struct copy *c, const struct copy_opts *o)
{
    memset(c, 0, sizeof *c);
    c->opts = o;
    pagehash_key_init(&c->key);
    c->sha = sha256_new();
}

void copy_fini(struct copy *c)
{
    sha256_free(c->sha);
    free(c->differs);
    free(c->chunk_sums);
    memset(c, 0, sizeof *c);
}

static bool comparing(const struct copy *c)
{
    return c->opts->backup_fd >= 0;
}

/* Room in `differs` and `chunk_sums` for a database of n pages. */
static void grow(struct copy *c, uint64_t n)
{
    uint64_t want = n > c->opts->backup_pages ? n : c->opts->backup_pages;
    uint64_t chunks = n / chunk_pages(c) + 1;

    if (!comparing(c))
        return;
    if (c->differs == NULL || want > c->max_pages) {
        size_t had = c->differs == NULL ? 0 : (size_t)(c->max_pages / 8 + 1);
        size_t now = (size_t)(want / 8 + 1);

        c->differs = xrealloc(c->differs, now);
        if (now > had)
            memset(c->differs + had, 0, now - had);
        c->max_pages = want;
    }
    if (chunks > c->n_chunks) {
        c->chunk_sums =
            xrealloc(c->chunk_sums, (size_t)chunks * sizeof *c->chunk_sums);
        memset(c->chunk_sums + c->n_chunks, 0,
               (size_t)(chunks - c->n_chunks) * sizeof *c->chunk_sums);
        c->n_chunks = chunks;
    }
}

/* The copy is a database in rollback mode; see the SQLite file format, 1.3.3.
 * Only where the page really begins with a database header. */
static void say_rollback(uint8_t *page1)
{
    if (memcmp(page1, "SQLite format 3", 16) == 0) {
        page1[18] = 1;
        page1[19] = 1;
    }
}

/* Note for each page at p (n of them from `first`) whether the backup has
 * another one; pages that the backup lacks are cut off, not written. */
static int compare_with_backup(struct copy *c, uint64_t first, uint64_t n,
                               const uint8_t *p, uint8_t *scratch,
                               struct err *e)
{
    uint64_t limit = c->opts->backup_pages;
    size_t len;

    if (first > limit)
        return 0;
    if (first + n - 1 > limit)
        n = limit - first + 1;
    len = (size_t)(n * c->page_size);
    if (file_pread_all(c->opts->backup_fd, scratch, len,
                       (first - 1) * c->page_size, e) != 0)
        return err_wrap(e, "reading the backup");
    for (uint64_t i = 0; i < n; i++) {
        size_t at = (size_t)(i * c->page_size);

        if (memcmp(p + at, scratch + at, c->page_size) != 0)
            bit_set(c->differs, first + i);
        else
            bit_clear(c->differs, first + i);
    }
    return 0;
}

static int hash_pages(struct copy *c, uint64_t first, uint64_t n,
                      const uint8_t *p, uint8_t *hashes, struct err *e)
{
    for (uint64_t i = 0; i < n; i++)
        pagehash(&c->key, p + i * c->page_size, c->page_size,
                 hashes + i * PAGEHASH_SIZE);
    return file_pwrite_all(c->opts->hash_fd, hashes,
                           (size_t)(n * PAGEHASH_SIZE),
                           (first - 1) * PAGEHASH_SIZE, e);
}

/* Buffers of one copy, besides those of the out file. */
struct scratch {
    uint8_t *pages;  /* OUTFILE_CHUNK */
    uint8_t *hashes; /* of the pages of a chunk */
};

static void scratch_init(struct scratch *s, uint32_t page_size)
{
    s->pages = xmalloc(OUTFILE_CHUNK);
    s->hashes = xmalloc(OUTFILE_CHUNK / page_size * PAGEHASH_SIZE);
}

static void scratch_fini(struct scratch *s)
{
    free(s->pages);
    free(s->hashes);
}

/* The copy ends after page n, or did: sums from there on are of other bytes. */
static void forget_sums(struct copy *c, uint64_t n)
{
    for (uint64_t i = n / chunk_pages(c); comparing(c) && i < c->n_chunks; i++)
        c->chunk_sums[i][0] = '\0';
}

/* Read a chunk, note what a restore wants to know, and hand it to the disk. */
static int copy_chunk(struct copy *c, struct snapshot *s, uint64_t first,
                      uint64_t n, struct scratch *tmp, struct err *e)
{
    uint8_t *buf = outfile_buffer(c->opts->out);
    size_t len = (size_t)(n * c->page_size);

    if (snapshot_read(s, first, (size_t)n, buf, e) != 0)
        return -1;
    if (comparing(c) &&
        compare_with_backup(c, first, n, buf, tmp->pages, e) != 0)
        return -1;
    if (!c->wal && hash_pages(c, first, n, buf, tmp->hashes, e) != 0)
        return -1;
    if (first == 1)
        say_rollback(buf);
    if (comparing(c))
        checksum128(buf, len, c->chunk_sums[(first - 1) / chunk_pages(c)]);
    sha256_update(c->sha, buf, len);
    if (outfile_push(c->opts->out, len, e) != 0)
        return -1;
    if (c->opts->progress != NULL)
        c->opts->progress(c->opts->progress_arg,
                          (first - 1) * c->page_size + len,
                          c->n_pages * c->page_size);
    return 0;
}

static int check_going_on(struct copy *c, const struct snapshot *s,
                          struct err *e)
{
    if (live_cancelled(c->opts->live))
        return err_set_reason(e, ERR_BUSY, "stopping",
                              "the service is stopping");
    return snapshot_check_wal(s, e);
}

/* Copy pages from *next on until the end, or until `until_ms` (0: no limit). */
static int copy_pages(struct copy *c, struct snapshot *s, uint64_t *next,
                      int64_t until_ms, struct scratch *tmp, struct err *e)
{
    const char *step_name = comparing(c) ? "restore.copy" : "create.copy";
    uint64_t step = chunk_pages(c);

    while (*next <= c->n_pages) {
        uint64_t n = c->n_pages - *next + 1;

        if (n > step)
            n = step;
        if (check_going_on(c, s, e) != 0 || phase_enter(step_name, e) != 0 ||
            copy_chunk(c, s, *next, n, tmp, e) != 0)
            return -1;
        *next += n;
        if (until_ms != 0 && clock_monotonic_ms() >= until_ms)
            return 0;
    }
    return 0;
}

static int adopt_shape(struct copy *c, const struct snapshot *s, struct err *e)
{
    c->page_size = s->page_size;
    c->n_pages = s->n_pages;
    c->wal = s->wal;
    c->data_version = s->data_version;
    if (comparing(c) && c->n_pages > 0 &&
        c->page_size != c->opts->backup_page_size)
        return err_set_reason(e, ERR_CONFLICT, "page_size",
                              "database %s has pages of %u bytes, the backup "
                              "of %u",
                              c->opts->live->label, c->page_size,
                              c->opts->backup_page_size);
    grow(c, c->n_pages);
    return 0;
}

static void finish_sha(struct copy *c)
{
    sha256_final(c->sha, c->sha256);
    c->sha_known = true;
}

static int copy_in_one_transaction(struct copy *c, struct snapshot *s,
                                   struct err *e)
{
    struct scratch tmp;
    uint64_t next = 1;
    int rc;

    scratch_init(&tmp, c->page_size);
    if (c->opts->pinned != NULL)
        c->opts->pinned(c->opts->pinned_arg, s);
    rc = copy_pages(c, s, &next, 0, &tmp, e);
    scratch_fini(&tmp);
    return rc;
}

static int shape_changed(const struct copy *c, struct err *e)
{
    return err_set_reason(e, ERR_BUSY, "changed",
                          "database %s changed its page size or journal mode "
                          "while it was copied; try again",
                          c->opts->live->label);
}

/*
 * Rollback mode, slice by slice.  The size is that of the first slice: pages
 * beyond are patched in by the comparison, missing ones are left as zeroes
 * and cut off by it.
 */
static int copy_in_slices(struct copy *c, struct sqlite3 *db, bool *changed,
                          struct err *e)
{
    struct snapshot s = {0};
    struct scratch tmp;
    uint64_t next = 1;
    uint64_t n_pages = c->n_pages;
    int rc = 0;

    scratch_init(&tmp, c->page_size);
    *changed = false;
    while (rc == 0 && next <= n_pages) {
        if (snapshot_begin(&s, db, c->opts->live, e) != 0) {
            rc = -1;
            break;
        }
        if (s.data_version != c->data_version || s.n_pages != n_pages)
            *changed = true;
        if (s.n_pages < n_pages) {
            n_pages = s.n_pages; /* what grows back is patched in */
            forget_sums(c, n_pages);
        }
        c->n_pages = n_pages;
        if (s.page_size != c->page_size || s.wal)
            rc = shape_changed(c, e);
        else
            rc = copy_pages(c, &s, &next, clock_monotonic_ms() + SLICE_MS, &tmp,
                            e);
        snapshot_end(&s);
    }
    /* What was copied beyond the present end is cut off, and must not count
     * as copied if the file grows back to the very same pages. */
    c->hashed_pages = next - 1 < n_pages ? next - 1 : n_pages;
    scratch_fini(&tmp);
    return rc;
}

/* Put one page of the present state into the copy. */
static int patch(struct copy *c, uint64_t pgno, const void *page,
                 uint8_t *scratch, struct err *e)
{
    memcpy(scratch, page, c->page_size);
    if (comparing(c)) {
        uint8_t *other = scratch + c->page_size;

        if (compare_with_backup(c, pgno, 1, page, other, e) != 0)
            return -1;
        c->chunk_sums[(pgno - 1) / chunk_pages(c)][0] = '\0';
    }
    if (pgno == 1)
        say_rollback(scratch);
    c->sha_known = false;
    c->n_patched++;
    return outfile_patch(c->opts->out, scratch, c->page_size,
                         (pgno - 1) * c->page_size, e);
}

/* The database has n pages now: later chunks' sums are those of nothing. */
static void set_size(struct copy *c, uint64_t n)
{
    if (n == c->n_pages)
        return;
    grow(c, n);
    forget_sums(c, n < c->n_pages ? n : c->n_pages);
    c->n_pages = n;
    c->sha_known = false;
}

int copy_catch_up_wal(struct copy *c, struct snapshot *now,
                      const struct snapshot *then, struct err *e)
{
    uint8_t *map = NULL;
    uint8_t *scratch = xmalloc(2 * (size_t)c->page_size);
    int rc = -1;

    set_size(c, now->n_pages);
    map = xcalloc(now->n_pages / 8 + 1, 1);
    if (snapshot_changed_since(now, then, map, e) != 0)
        goto done;
    for (uint64_t p = 1; p <= now->n_pages; p++) {
        const void *page;

        if (map[p >> 3] == 0) {
            p |= 7; /* eight pages without a change */
            continue;
        }
        if (!bit_get(map, p))
            continue;
        page = snapshot_page(now, p, e);
        if (page == NULL || patch(c, p, page, scratch, e) != 0)
            goto done;
    }
    rc = 0;
done:
    free(map);
    free(scratch);
    return rc;
}

/* Compare a chunk of the present state with the hashes of what was copied. */
static int reconcile_chunk(struct copy *c, struct snapshot *s, uint64_t first,
                           uint64_t n, struct scratch *tmp, uint8_t *page,
                           struct err *e)
{
    uint8_t hash[PAGEHASH_SIZE];
    uint64_t known = c->hashed_pages < first ? 0 : c->hashed_pages - first + 1;

    if (known > n)
        known = n;
    if (snapshot_read(s, first, (size_t)n, tmp->pages, e) != 0 ||
        file_pread_all(c->opts->hash_fd, tmp->hashes,
                       (size_t)(known * PAGEHASH_SIZE),
                       (first - 1) * PAGEHASH_SIZE, e) != 0)
        return -1;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *p = tmp->pages + i * c->page_size;

        pagehash(&c->key, p, c->page_size, hash);
        if (i < known &&
            memcmp(hash, tmp->hashes + i * PAGEHASH_SIZE, PAGEHASH_SIZE) == 0)
            continue;
        if (patch(c, first + i, p, page, e) != 0)
            return -1;
    }
    return 0;
}

int copy_catch_up_hash(struct copy *c, struct snapshot *now, struct err *e)
{
    struct scratch tmp;
    uint8_t *page;
    uint64_t step = chunk_pages(c);
    int rc = 0;

    if (now->data_version == c->data_version && now->n_pages == c->n_pages)
        return 0; /* nobody has committed anything meanwhile */
    scratch_init(&tmp, c->page_size);
    page = xmalloc(2 * (size_t)c->page_size);
    set_size(c, now->n_pages);
    for (uint64_t p = 1; rc == 0 && p <= now->n_pages; p += step) {
        uint64_t n = now->n_pages - p + 1;

        rc = reconcile_chunk(c, now, p, n > step ? step : n, &tmp, page, e);
    }
    scratch_fini(&tmp);
    free(page);
    return rc;
}

static int ahead_once(struct copy *c, struct sqlite3 *db,
                      struct snapshot *pinned, struct err *e)
{
    bool changed = false;
    int rc;

    if (snapshot_begin(pinned, db, c->opts->live, e) != 0)
        return -1;
    rc = adopt_shape(c, pinned, e);
    if (rc == 0 && c->wal) {
        rc = copy_in_one_transaction(c, pinned, e);
    } else if (rc == 0) {
        snapshot_end(pinned);
        rc = copy_in_slices(c, db, &changed, e);
    }
    if (rc != 0) {
        snapshot_end(pinned);
        return rc;
    }
    finish_sha(c);
    if (changed) {
        c->data_version = -1; /* never equal: compare all pages */
        c->sha_known = false;
    }
    return 0;
}

int copy_ahead(struct copy *c, struct sqlite3 *db, const struct copy_opts *o,
               struct snapshot *pinned, struct err *e)
{
    int rc;

    init(c, o);
    rc = ahead_once(c, db, pinned, e);
    if (rc == 0)
        rc = outfile_finish(o->out, c->n_pages * c->page_size, e);
    if (rc != 0)
        snapshot_end(pinned);
    return rc;
}

int copy_live(struct copy *c, struct sqlite3 *db, const struct copy_opts *o,
              struct err *e)
{
    struct snapshot s = {0};
    int rc = -1;

    init(c, o);
    if (ahead_once(c, db, &s, e) != 0)
        goto done;
    snapshot_end(&s); /* the moment the pages are read */
    if (!c->wal) {
        /* Everything is on its way to the disk before writers have to wait. */
        if (outfile_drain(o->out, e) != 0 ||
            snapshot_begin(&s, db, o->live, e) != 0)
            goto done;
        if (s.page_size != c->page_size || s.wal) {
            (void)shape_changed(c, e);
            goto done;
        }
        if (copy_catch_up_hash(c, &s, e) != 0)
            goto done;
        snapshot_end(&s);
    }
    rc = outfile_finish(o->out, c->n_pages * c->page_size, e);
done:
    snapshot_end(&s);
    return rc;
}
