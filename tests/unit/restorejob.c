/* One restore, for tests: see restorejob.h. */
#include "restorejob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "dbutil.h"
#include "sqlite3.h"

static void progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct restorejob *j = arg;

    if (j->copied)
        return;
    j->n_steps++;
    if (j->at != NULL)
        j->at(j->n_steps);
    j->copied = done_bytes == total_bytes;
}

/* Every checksum that is known is that of what stands in the file. */
static void check_sums(const struct copy *c)
{
    struct bytes b = bytes_read(RESTOREJOB_SAFETY);

    for (size_t i = 0; i * OUTFILE_CHUNK < b.n; i++) {
        size_t rest = b.n - i * OUTFILE_CHUNK;
        char hex[33];

        assert_true(i < c->n_chunks);
        if (c->chunk_sums[i][0] == '\0')
            continue;
        checksum128(b.p + i * OUTFILE_CHUNK,
                    rest < OUTFILE_CHUNK ? rest : OUTFILE_CHUNK, hex);
        assert_string_equal(c->chunk_sums[i], hex);
    }
    bytes_fini(&b);
}

/* Called with the write lock held: another connection cannot write. */
static void probe_lock(struct restorejob *j)
{
    j->n_kept++;
    app_open(2, RESTOREJOB_LIVE);
    j->write_rc = app_try(2, "BEGIN IMMEDIATE");
    j->read_rc = app_try(2, "SELECT count(*) FROM sqlite_schema");
    app_close(2);
}

static int keep(void *ctx, const struct copy *c, struct err *e)
{
    struct restorejob *j = ctx;
    struct bytes b = bytes_read(RESTOREJOB_SAFETY);

    assert_int_equal(b.n, c->n_pages * c->page_size);
    if (c->sha_known) {
        struct sha256 *sha = sha256_new();
        char hex[SHA256_HEX_SIZE];

        sha256_update(sha, b.p, b.n);
        sha256_final(sha, hex);
        sha256_free(sha);
        assert_string_equal(hex, c->sha256);
    }
    bytes_fini(&b);
    check_sums(c);
    app_end_pending();
    probe_lock(j);
    return j->keep_fails ? err_set_reason(e, ERR_NO_SPACE, "test", "full") : 0;
}

int restorejob_keep_raw(void *ctx, uint64_t raw_bytes, struct err *e)
{
    struct restorejob *j = ctx;

    j->n_kept++;
    j->raw_bytes = raw_bytes;
    return j->keep_fails ? err_set_reason(e, ERR_NO_SPACE, "test", "full") : 0;
}

void restorejob_init(struct restorejob *j, restorejob_step *at)
{
    struct bytes b = bytes_read(RESTOREJOB_BACKUP);
    uint32_t page_size = (uint32_t)(b.p[16] << 8 | b.p[17]);

    if (page_size == 1)
        page_size = 65536;
    memset(j, 0, sizeof *j);
    j->live = (struct live_opts){.path = RESTOREJOB_LIVE,
                                 .label = "test",
                                 .busy_timeout_ms = 30000,
                                 .wal_limit_bytes = (uint64_t)1 << 30};
    j->fd =
        open(RESTOREJOB_SAFETY, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    j->hash_fd = open(scratch_path("hashes"),
                      O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    j->backup_fd = open(RESTOREJOB_BACKUP, O_RDONLY | O_CLOEXEC);
    assert_true(j->fd >= 0 && j->hash_fd >= 0 && j->backup_fd >= 0);
    j->out = outfile_new(j->fd, true);
    j->at = at;
    j->opts = (struct restore_opts){.live = &j->live,
                                    .backup_fd = j->backup_fd,
                                    .backup_page_size = page_size,
                                    .backup_pages = b.n / page_size,
                                    .safety = j->out,
                                    .hash_fd = j->hash_fd,
                                    .keep = keep,
                                    .ctx = j,
                                    .progress = progress,
                                    .progress_arg = j};
    bytes_fini(&b);
}

void restorejob_fini(struct restorejob *j)
{
    outfile_free(j->out);
    file_close(&j->fd);
    file_close(&j->hash_fd);
    file_close(&j->backup_fd);
}

void restorejob_run(struct restorejob *j)
{
    struct err e = {0};

    if (restore_run(&j->opts, &j->result, &e) != 0)
        fail_msg("%s", e.message);
}

void restorejob_expect(struct restorejob *j, enum err_code code,
                       const char *reason)
{
    struct err e = {0};

    assert_int_equal(restore_run(&j->opts, &j->result, &e), -1);
    if (e.code != code || strcmp(e.reason, reason) != 0)
        print_message("%s\n", e.message);
    assert_int_equal(e.code, code);
    assert_string_equal(e.reason, reason);
}

/* ------------------------------------------------------------- databases */

/* Slot `slot` makes a database and stays open. */
void restorejob_make(int slot, const char *path, int page_size, int auto_vacuum,
                     const char *mode, int n, const char *salt)
{
    app_open(slot, path);
    app_sql(slot,
            "PRAGMA page_size=%d; PRAGMA auto_vacuum=%d;"
            "PRAGMA journal_mode=%s; PRAGMA synchronous=OFF;"
            "PRAGMA wal_autocheckpoint=0;"
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
            "CREATE INDEX i ON t(b)",
            page_size, auto_vacuum, mode);
    app_sql(slot,
            APP_ROWS "INSERT INTO t(b) SELECT format('%s-%%d-%%.*c', i, i%%700,"
                     "'x') FROM n",
            n, salt);
}

/* A backup: a database in rollback mode that nobody has open. */
void restorejob_make_backup(int page_size, int auto_vacuum, int n,
                            bool free_pages)
{
    restorejob_make(1, RESTOREJOB_BACKUP, page_size, auto_vacuum, "delete", n,
                    "backup");
    if (free_pages)
        app_sql(1, "DELETE FROM t WHERE a%%3=0");
    app_close(1);
}

/* The live database is the backup now; its safety copy is `before`. */
void restorejob_check_live(const char *backup)
{
    struct bytes want = bytes_read(backup);
    struct bytes got;

    app_image(RESTOREJOB_LIVE, scratch_path("after"));
    got = bytes_read(scratch_path("after"));
    assert_true(bytes_equal(want, got, bytes_skip_commit));
    bytes_fini(&got);
    bytes_fini(&want);
    app_open(3, RESTOREJOB_LIVE);
    assert_int_equal(app_int(3, APP_INTEGRITY), 1);
    app_close(3);
}

void restorejob_check_safety(const char *before)
{
    struct bytes want = bytes_read(before);
    struct bytes got = bytes_read(RESTOREJOB_SAFETY);

    assert_true(bytes_equal(want, got, bytes_skip_mode));
    assert_int_equal(got.p[18], 1);
    assert_int_equal(got.p[19], 1);
    bytes_fini(&got);
    bytes_fini(&want);
}

/* The live database is what it was, and free of locks. */
void restorejob_check_untouched(const char *before)
{
    struct bytes want = bytes_read(before);
    struct bytes got;

    app_image(RESTOREJOB_LIVE, scratch_path("after"));
    got = bytes_read(scratch_path("after"));
    assert_true(bytes_equal(want, got, NULL));
    bytes_fini(&got);
    bytes_fini(&want);
    app_open(3, RESTOREJOB_LIVE);
    app_sql(3, "BEGIN EXCLUSIVE; ROLLBACK");
    app_close(3);
}

/* Restore RESTOREJOB_BACKUP into RESTOREJOB_LIVE, which slot 0 has open and
 * nobody writes to. */
void restorejob_run_and_check(struct restorejob *j)
{
    app_image(RESTOREJOB_LIVE, scratch_path("before"));
    restorejob_init(j, NULL);
    restorejob_run(j);
    assert_int_equal(j->n_kept, 1);
    assert_int_equal(j->write_rc, SQLITE_BUSY);
    /* Readers of a WAL database go on. */
    assert_int_equal(j->read_rc, j->result.wal ? SQLITE_OK : SQLITE_BUSY);
    assert_int_equal(j->result.n_patched, 0);
    restorejob_fini(j);
    restorejob_check_safety(scratch_path("before"));
    restorejob_check_live(RESTOREJOB_BACKUP);
}
