/* One copy, for tests: see copyjob.h. */
#include "copyjob.h"

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

static void progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct copyjob *j = arg;

    assert_true(done_bytes > j->done_bytes || j->n_steps == 0);
    j->done_bytes = done_bytes;
    j->total_bytes = total_bytes;
    j->n_steps++;
    if (j->at != NULL)
        j->at(j->n_steps);
}

static void pinned(void *arg, const struct snapshot *s)
{
    struct copyjob *j = arg;

    assert_int_equal(j->n_steps, 0);
    assert_true(s->wal);
    j->n_pinned++;
}

static int scratch_file(const char *name)
{
    int fd = open(scratch_path("%s", name), O_RDWR | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    return fd;
}

void copyjob_init(struct copyjob *j, const char *path, copyjob_step *at)
{
    memset(j, 0, sizeof *j);
    j->live = (struct live_opts){.path = path,
                                 .label = "test",
                                 .busy_timeout_ms = 30000,
                                 .wal_limit_bytes = (uint64_t)1 << 30};
    j->fd = scratch_file("out");
    j->hash_fd = scratch_file("hashes");
    j->out = outfile_new(j->fd, true);
    j->at = at;
    j->opts = (struct copy_opts){.live = &j->live,
                                 .out = j->out,
                                 .hash_fd = j->hash_fd,
                                 .backup_fd = -1,
                                 .progress = progress,
                                 .progress_arg = j,
                                 .pinned = pinned,
                                 .pinned_arg = j};
}

void copyjob_connect(struct copyjob *j)
{
    struct err e = {0};

    if (live_connect(&j->live, &j->db, &e) != 0)
        fail_msg("%s", e.message);
}

void copyjob_fini(struct copyjob *j)
{
    live_disconnect(j->db);
    outfile_free(j->out);
    file_close(&j->fd);
    file_close(&j->hash_fd);
    copy_fini(&j->copy);
}

int copyjob_run(struct copyjob *j, struct err *e)
{
    if (live_connect(&j->live, &j->db, e) != 0)
        return -1;
    return copy_live(&j->copy, j->db, &j->opts, e);
}

/* The file that came out is the database that `image` holds, to the byte. */
void copyjob_check(const struct copyjob *j, const char *image)
{
    struct bytes got = bytes_read(scratch_path("out"));
    struct bytes want = bytes_read(image);
    struct sha256 *sha = sha256_new();
    char hex[SHA256_HEX_SIZE];

    assert_true(bytes_equal(got, want, bytes_skip_mode));
    assert_int_equal(got.p[18], 1);
    assert_int_equal(got.p[19], 1);
    assert_int_equal(j->copy.n_pages * j->copy.page_size, got.n);
    sha256_update(sha, got.p, got.n);
    sha256_final(sha, hex);
    sha256_free(sha);
    if (j->copy.sha_known)
        assert_string_equal(j->copy.sha256, hex);
    bytes_fini(&got);
    bytes_fini(&want);
}

/* Copy COPYJOB_LIVE; the result must be `image`, taken before or made by a
 * step. */
void copyjob_run_and_check(struct copyjob *j, copyjob_step *at,
                           const char *image)
{
    struct err e = {0};

    copyjob_init(j, COPYJOB_LIVE, at);
    if (copyjob_run(j, &e) != 0)
        fail_msg("%s", e.message);
    copyjob_check(j, image);
    assert_int_equal(j->done_bytes, j->n_steps == 0 ? 0 : j->total_bytes);
    assert_int_equal(j->n_pinned, j->copy.wal ? 1 : 0);
    copyjob_fini(j);
    app_check(scratch_path("out"));
}

void copyjob_expect(struct copyjob *j, enum err_code code, const char *reason)
{
    struct err e = {0};

    assert_int_equal(copyjob_run(j, &e), -1);
    if (e.code != code)
        print_message("%s\n", e.message);
    assert_int_equal(e.code, code);
    assert_string_equal(e.reason, reason);
    copyjob_fini(j);
}

/* --------------------------------------------------------- the database */

/* In slot 0, open: two tables and an index with 2 * n rows; the first has
 * free pages among its own. */
void copyjob_make_live(int page_size, int auto_vacuum, const char *mode, int n)
{
    app_open(0, COPYJOB_LIVE);
    app_sql(0,
            "PRAGMA page_size=%d; PRAGMA auto_vacuum=%d;"
            "PRAGMA journal_mode=%s; PRAGMA synchronous=OFF;"
            "PRAGMA wal_autocheckpoint=0;"
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
            "CREATE INDEX i ON t(b); CREATE TABLE u(b);",
            page_size, auto_vacuum, mode);
    app_sql(0,
            APP_ROWS
            "INSERT INTO t(b) SELECT format('%%d-%%.*c', i, i%%700, 'x')"
            " FROM n;" APP_ROWS
            "INSERT INTO u SELECT format('%%d-%%.*c', i, 300, 'y')"
            " FROM n; DELETE FROM t WHERE a%%3=0",
            n, n);
}

/* Rows that make a database of a little more than `n` chunks. */
int copyjob_rows(int chunks)
{
    return chunks * (1 << 20) / 1000;
}

void copyjob_commit(int n)
{
    app_sql(0,
            "UPDATE t SET b='changed ' || %d || b WHERE a%%5=0;"
            "DELETE FROM u WHERE rowid%%7=%d",
            n, n % 7);
}

/* All of it stands in the main file when the copy begins, so the WAL may
 * begin anew with other frames. */
void copyjob_commit_and_restart(int n)
{
    if (n == 1)
        assert_int_equal(app_int(0, "PRAGMA wal_checkpoint(RESTART)"), 0);
    copyjob_commit(n);
    (void)app_try(0, "PRAGMA wal_checkpoint(TRUNCATE)");
}
