/* Copying a live database, through src/sqlite/copy.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "dbutil.h"
#include "sqlite/copy.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

#define ROWS \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT %d)"
#define LIVE scratch_path("live.db")

/* ------------------------------------------------------------- one copy */

/* Called from the progress function: the n-th chunk (from 1) is copied. */
typedef void step(int n);

struct job {
    struct live_opts live;
    struct copy_opts opts;
    struct outfile *out;
    struct sqlite3 *db;
    int fd;
    int hash_fd;
    step *at;
    int n_steps;
    int n_pinned;
    uint64_t done_bytes;
    uint64_t total_bytes;
    struct copy copy;
};

static void progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct job *j = arg;

    assert_true(done_bytes > j->done_bytes || j->n_steps == 0);
    j->done_bytes = done_bytes;
    j->total_bytes = total_bytes;
    j->n_steps++;
    if (j->at != NULL)
        j->at(j->n_steps);
}

static void pinned(void *arg, const struct snapshot *s)
{
    struct job *j = arg;

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

static void job_init(struct job *j, const char *path, step *at)
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

static void job_connect(struct job *j)
{
    struct err e = {0};

    if (live_connect(&j->live, &j->db, &e) != 0)
        fail_msg("%s", e.message);
}

static void job_fini(struct job *j)
{
    live_disconnect(j->db);
    outfile_free(j->out);
    file_close(&j->fd);
    file_close(&j->hash_fd);
    copy_fini(&j->copy);
}

static int job_run(struct job *j, struct err *e)
{
    if (live_connect(&j->live, &j->db, e) != 0)
        return -1;
    return copy_live(&j->copy, j->db, &j->opts, e);
}

/* The file that came out is the database that `image` holds, to the byte. */
static void check_result(const struct job *j, const char *image)
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

static void check_integrity(void)
{
    app_open(3, scratch_path("out"));
    assert_int_equal(
        app_int(3, "SELECT integrity_check='ok' FROM pragma_integrity_check"),
        1);
    app_close(3);
    assert_false(file_exists(scratch_path("out-wal")));
}

/* Copy LIVE; the result must be `image`, taken before or made by a step. */
static void copy_and_check(struct job *j, step *at, const char *image)
{
    struct err e = {0};

    job_init(j, LIVE, at);
    if (job_run(j, &e) != 0)
        fail_msg("%s", e.message);
    check_result(j, image);
    assert_int_equal(j->done_bytes, j->n_steps == 0 ? 0 : j->total_bytes);
    assert_int_equal(j->n_pinned, j->copy.wal ? 1 : 0);
    job_fini(j);
    check_integrity();
}

static void expect_failure(struct job *j, enum err_code code,
                           const char *reason)
{
    struct err e = {0};

    assert_int_equal(job_run(j, &e), -1);
    if (e.code != code)
        print_message("%s\n", e.message);
    assert_int_equal(e.code, code);
    assert_string_equal(e.reason, reason);
    job_fini(j);
}

/* --------------------------------------------------------- the database */

/* In slot 0, open: two tables and an index with 2 * n rows; the first has
 * free pages among its own. */
static void make_live(int page_size, int auto_vacuum, const char *mode, int n)
{
    app_open(0, LIVE);
    app_sql(0,
            "PRAGMA page_size=%d; PRAGMA auto_vacuum=%d;"
            "PRAGMA journal_mode=%s; PRAGMA synchronous=OFF;"
            "PRAGMA wal_autocheckpoint=0;"
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
            "CREATE INDEX i ON t(b); CREATE TABLE u(b);",
            page_size, auto_vacuum, mode);
    app_sql(0,
            ROWS "INSERT INTO t(b) SELECT format('%%d-%%.*c', i, i%%700, 'x')"
                 " FROM n;" ROWS
                 "INSERT INTO u SELECT format('%%d-%%.*c', i, 300, 'y')"
                 " FROM n; DELETE FROM t WHERE a%%3=0",
            n, n);
}

/* Rows that make a database of a little more than `n` chunks. */
static int rows_for(int chunks)
{
    return chunks * (1 << 20) / 1000;
}

/* ------------------------------------------------------------ quiet ones */

static void quiet(void **state)
{
    static const int sizes[] = {512, 4096, 65536};
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 18; i++) {
        struct job j;
        int size = sizes[i % 3];

        make_live(size, i / 3 % 3, modes[i / 9], rows_for(2));
        app_image(LIVE, scratch_path("image"));
        copy_and_check(&j, NULL, scratch_path("image"));
        assert_true(j.n_steps >= 2);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void quiet_details(void **state)
{
    struct job j;
    struct err e = {0};

    (void)state;
    make_live(4096, 0, "delete", 3000);
    app_close(0);
    job_init(&j, LIVE, NULL);
    assert_int_equal(job_run(&j, &e), 0);
    assert_int_equal(j.copy.page_size, 4096);
    assert_false(j.copy.wal);
    assert_true(j.copy.sha_known);
    assert_int_equal(j.copy.n_patched, 0);
    assert_null(j.copy.differs);
    check_result(&j, LIVE);
    job_fini(&j);
}

/* Sizes around a multiple of a chunk. */
static void odd_last_chunk(void **state)
{
    (void)state;
    for (int n = 254; n <= 258; n++) {
        struct job j;

        app_open(0, LIVE);
        app_sql(0, "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(%d))",
                (n - 2) * 4092 + 3000);
        assert_int_equal(app_int(0, "PRAGMA page_count"), n);
        app_close(0);
        copy_and_check(&j, NULL, LIVE);
        assert_int_equal(j.n_steps, n <= 256 ? 1 : 2);
        assert_int_equal(j.total_bytes, n * 4096);
        (void)scratch_clear(NULL);
    }
}

static void reserved_bytes(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;
        struct bytes b;

        app_open(0, LIVE);
        app_reserve(0, 32);
        app_close(0);
        app_open(0, LIVE);
        app_reserve(0, 32);
        app_sql(0, "PRAGMA journal_mode=%s; CREATE TABLE t(a);", modes[i]);
        app_sql(0, ROWS "INSERT INTO t SELECT hex(randomblob(100)) FROM n",
                6000);
        app_image(LIVE, scratch_path("image"));
        copy_and_check(&j, NULL, scratch_path("image"));
        b = bytes_read(scratch_path("out"));
        assert_int_equal(b.p[20], 32);
        bytes_fini(&b);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void nothing(void **state)
{
    struct job j;
    struct bytes none = {0};
    struct err e = {0};

    (void)state;
    bytes_write(LIVE, none);
    job_init(&j, LIVE, NULL);
    assert_int_equal(job_run(&j, &e), 0);
    assert_int_equal(j.copy.n_pages, 0);
    job_fini(&j);
    none = bytes_read(scratch_path("out"));
    assert_int_equal(none.n, 0);
    bytes_fini(&none);
    assert_false(file_exists(scratch_path("live.db-journal")));
}

static void encodings(void **state)
{
    static const char *const names[] = {"UTF-16le", "UTF-16be"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        app_open(0, LIVE);
        app_sql(0, "PRAGMA encoding='%s'; CREATE TABLE t(a);", names[i]);
        app_close(0);
        copy_and_check(&j, NULL, LIVE);
        (void)scratch_clear(NULL);
    }
}

/* What a schema says is the application's affair. */
static void strange_schema(void **state)
{
    struct job j;
    struct err e = {0};

    (void)state;
    app_open(0, LIVE);
    app_sql(0, "CREATE TABLE t(a); INSERT INTO t VALUES(1);"
               "PRAGMA writable_schema=ON;"
               "INSERT INTO sqlite_schema VALUES('table','v','v',0,"
               "'CREATE VIRTUAL TABLE v USING nonesuch(a)');"
               "INSERT INTO sqlite_schema VALUES('table','w','w',2,"
               "'CREATE TABLE w(a))))) !');");
    app_close(0);
    job_init(&j, LIVE, NULL);
    if (job_run(&j, &e) != 0)
        fail_msg("%s", e.message);
    check_result(&j, LIVE);
    job_fini(&j);
}

/* -------------------------------------------------------------- WAL mode */

static void commit_rows(int n)
{
    app_sql(0,
            "UPDATE t SET b='changed ' || %d || b WHERE a%%5=0;"
            "DELETE FROM u WHERE rowid%%7=%d",
            n, n % 7);
}

static void wal_later_commits(void **state)
{
    struct job j;

    (void)state;
    make_live(4096, 0, "wal", rows_for(3));
    app_sql(0, "PRAGMA wal_checkpoint");
    commit_rows(0);
    app_image(LIVE, scratch_path("image"));
    copy_and_check(&j, commit_rows, scratch_path("image"));
    assert_true(j.n_steps >= 3);
    app_close(0);
}

/* All of it stands in the main file when the copy begins, so the WAL may
 * begin anew with other frames. */
static void commit_and_restart(int n)
{
    if (n == 1)
        assert_int_equal(app_int(0, "PRAGMA wal_checkpoint(RESTART)"), 0);
    commit_rows(n);
    (void)app_try(0, "PRAGMA wal_checkpoint(TRUNCATE)");
}

static void wal_restarted(void **state)
{
    struct job j;

    (void)state;
    make_live(4096, 0, "wal", rows_for(3));
    app_sql(0, "PRAGMA wal_checkpoint");
    app_image(LIVE, scratch_path("image"));
    copy_and_check(&j, commit_and_restart, scratch_path("image"));
    app_close(0);
}

static void commit_and_checkpoint(int n)
{
    commit_rows(n);
    (void)app_try(0, n % 2 == 0 ? "PRAGMA wal_checkpoint(TRUNCATE)"
                                : "PRAGMA wal_checkpoint(PASSIVE)");
}

static void wal_checkpointed(void **state)
{
    struct job j;

    (void)state;
    make_live(4096, 2, "wal", rows_for(3));
    app_sql(0, "PRAGMA wal_checkpoint");
    /* Some frames that a checkpoint may take over, some newer than that. */
    commit_rows(1);
    app_image(LIVE, scratch_path("image"));
    copy_and_check(&j, commit_and_checkpoint, scratch_path("image"));
    app_close(0);
}

static void shrink_and_grow(int n)
{
    if (n == 1)
        app_sql(0, "DELETE FROM t; VACUUM; PRAGMA wal_checkpoint");
    else
        app_sql(0, ROWS "INSERT INTO u SELECT hex(zeroblob(2000)) FROM n", 500);
}

static void wal_shrinks_and_grows(void **state)
{
    (void)state;
    for (int vacuum = 0; vacuum < 3; vacuum++) {
        struct job j;

        make_live(4096, vacuum, "wal", rows_for(3));
        app_image(LIVE, scratch_path("image"));
        copy_and_check(&j, shrink_and_grow, scratch_path("image"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Frames after the last commit are nobody's state. */
static void wal_uncommitted(void **state)
{
    struct job j;
    struct stat before;
    struct stat after;

    (void)state;
    make_live(4096, 0, "wal", rows_for(2));
    app_open(1, LIVE);
    app_sql(1, "PRAGMA cache_size=10; PRAGMA wal_autocheckpoint=0");
    app_image(LIVE, scratch_path("image"));
    assert_int_equal(stat(scratch_path("live.db-wal"), &before), 0);
    app_sql(1, "BEGIN; UPDATE t SET b='never' || b");
    assert_int_equal(stat(scratch_path("live.db-wal"), &after), 0);
    assert_true(after.st_size > before.st_size);
    copy_and_check(&j, NULL, scratch_path("image"));
    app_sql(1, "ROLLBACK; BEGIN; UPDATE t SET b='new' || b");
    copy_and_check(&j, NULL, scratch_path("image"));
    app_sql(1, "COMMIT");
    app_image(LIVE, scratch_path("image"));
    copy_and_check(&j, NULL, scratch_path("image"));
    app_close(1);
    app_close(0);
}

static void wal_empty(void **state)
{
    struct job j;

    (void)state;
    make_live(4096, 0, "wal", rows_for(2));
    app_close(0);
    assert_false(file_exists(scratch_path("live.db-wal")));
    copy_and_check(&j, NULL, LIVE);
    assert_true(j.copy.wal || j.n_pinned == 1);
    /* Nothing of ours remains beside it. */
    assert_false(file_exists(scratch_path("live.db-wal")));
    assert_false(file_exists(scratch_path("live.db-shm")));
    app_open(0, LIVE);
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE); SELECT * FROM t");
    copy_and_check(&j, NULL, LIVE);
    assert_true(file_exists(scratch_path("live.db-wal")));
    app_close(0);
}

/* A -wal that a killed application left behind. */
static void wal_left_behind(void **state)
{
    struct job j;
    struct bytes before;
    struct bytes after;

    (void)state;
    make_live(4096, 0, "wal", rows_for(2));
    app_sql(0, "PRAGMA wal_checkpoint");
    commit_rows(1);
    app_image(LIVE, scratch_path("image"));
    file_copy_all(LIVE, scratch_path("killed"));
    file_copy_all(scratch_path("live.db-wal"), scratch_path("killed-wal"));
    app_close(0);
    (void)rename(scratch_path("killed"), LIVE);
    (void)rename(scratch_path("killed-wal"), scratch_path("live.db-wal"));
    before = bytes_read(scratch_path("live.db-wal"));
    copy_and_check(&j, NULL, scratch_path("image"));
    after = bytes_read(scratch_path("live.db-wal"));
    assert_true(bytes_equal(before, after, NULL));
    bytes_fini(&before);
    bytes_fini(&after);
}

static void wal_limit(void **state)
{
    struct job j;

    (void)state;
    make_live(4096, 0, "wal", rows_for(3));
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE)");
    job_init(&j, LIVE, commit_rows);
    j.live.wal_limit_bytes = 100000;
    expect_failure(&j, ERR_BUSY, "wal_limit");
    /* The reader is gone: the application can reset its WAL. */
    assert_int_equal(app_int(0, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
    app_close(0);
}

/* --------------------------------------------------------- rollback mode */

static bool pending; /* a commit of app_send whose end is to be awaited */

static void end_pending(void)
{
    if (pending)
        assert_int_equal(app_result(), SQLITE_OK);
    pending = false;
}

/*
 * Commit between two slices: the application waits for our lock, which keeps
 * us from taking it again once this slice is over.
 */
static void commit_between(const char *sql)
{
    int64_t slice_over_ms = clock_monotonic_ms() + 25;

    end_pending();
    app_send(0, sql);
    pending = true;
    assert_true(app_waits());
    while (clock_monotonic_ms() < slice_over_ms)
        clock_sleep_ms(1);
}

/* The state at the end is the one that is copied. */
static void rollback_check(step *at, struct job *j)
{
    struct err e = {0};

    job_init(j, LIVE, at);
    if (job_run(j, &e) != 0)
        fail_msg("%s", e.message);
    end_pending();
    app_image(LIVE, scratch_path("image"));
    check_result(j, scratch_path("image"));
    assert_int_equal(j->n_pinned, 0);
    job_fini(j);
    check_integrity();
}

static void change_one_row(int n)
{
    (void)n;
    commit_between("UPDATE t SET b='changed' WHERE a=1");
}

static void rollback_commits(void **state)
{
    static const char *const modes[] = {"delete", "truncate", "persist"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct job j;

        make_live(4096, 0, modes[i], rows_for(4));
        rollback_check(change_one_row, &j);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static int n_patches_wanted;

static void change_last(int n)
{
    if (n == n_patches_wanted)
        commit_between("PRAGMA user_version=7");
}

/* Only what differs is written again. */
static void rollback_patches(void **state)
{
    struct job j;
    struct err e = {0};

    (void)state;
    make_live(4096, 0, "delete", rows_for(4));
    n_patches_wanted = 3;
    job_init(&j, LIVE, change_last);
    assert_int_equal(job_run(&j, &e), 0);
    end_pending();
    assert_true(j.n_steps >= 4);
    assert_false(j.copy.sha_known);
    assert_int_equal(j.copy.n_patched, 1);
    app_image(LIVE, scratch_path("image"));
    check_result(&j, scratch_path("image"));
    job_fini(&j);
    app_close(0);
}

static void grow_between(int n)
{
    if (n <= 2)
        commit_between("INSERT INTO u SELECT hex(zeroblob(1000)) FROM t");
}

static void shrink_between(int n)
{
    if (n == 2)
        commit_between("DELETE FROM t WHERE a>100; VACUUM");
}

static void shrink_then_grow_between(int n)
{
    if (n == 2)
        commit_between("DELETE FROM u; VACUUM");
    if (n == 3)
        commit_between("INSERT INTO u SELECT hex(zeroblob(1500)) FROM t");
}

static void rollback_sizes(void **state)
{
    static step *const steps[] = {grow_between, shrink_between,
                                  shrink_then_grow_between};

    (void)state;
    for (int i = 0; i < 9; i++) {
        struct job j;

        make_live(4096, i % 3, "delete", rows_for(4));
        rollback_check(steps[i / 3], &j);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void change_page_size(int n)
{
    if (n == 1)
        commit_between("PRAGMA page_size=8192; VACUUM");
}

static void change_mode(int n)
{
    if (n == 1)
        commit_between("PRAGMA journal_mode=WAL");
}

static void shape_changes(void **state)
{
    static step *const steps[] = {change_page_size, change_mode};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        make_live(4096, 0, "delete", rows_for(3));
        job_init(&j, LIVE, steps[i]);
        expect_failure(&j, ERR_BUSY, "changed");
        end_pending();
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* A journal that a killed application left behind is rolled back first. */
static void hot_journal(void **state)
{
    struct job j;
    struct err e = {0};

    (void)state;
    make_live(4096, 0, "delete", rows_for(2));
    app_sql(0, "PRAGMA synchronous=FULL; PRAGMA cache_size=5; BEGIN;"
               "UPDATE t SET b='torn' || b");
    file_copy_all(LIVE, scratch_path("killed"));
    file_copy_all(scratch_path("live.db-journal"),
                  scratch_path("killed-journal"));
    app_sql(0, "ROLLBACK");
    app_close(0);
    job_init(&j, scratch_path("killed"), NULL);
    if (job_run(&j, &e) != 0)
        fail_msg("%s", e.message);
    assert_false(file_exists(scratch_path("killed-journal")));
    app_image(scratch_path("killed"), scratch_path("image"));
    app_open(0, scratch_path("killed"));
    assert_int_equal(app_int(0, "SELECT count(*) FROM t WHERE b LIKE 'torn%'"),
                     0);
    app_close(0);
    check_result(&j, scratch_path("image"));
    job_fini(&j);
}

/* ------------------------------------------------- ahead, then catch up */

/* A backup to compare with: the live database as it is now. */
static int backup_of_now(struct job *j)
{
    int fd;

    app_image(LIVE, scratch_path("backup"));
    fd = open(scratch_path("backup"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    j->opts.backup_fd = fd;
    j->opts.backup_page_size = (uint32_t)app_int(0, "PRAGMA page_size");
    j->opts.backup_pages = (uint64_t)app_int(0, "PRAGMA page_count");
    return fd;
}

/* Every checksum that is known is that of what stands in the file. */
static void check_sums(const struct job *j)
{
    struct bytes b = bytes_read(scratch_path("out"));
    size_t n_known = 0;

    for (size_t i = 0; i * OUTFILE_CHUNK < b.n; i++) {
        size_t rest = b.n - i * OUTFILE_CHUNK;
        char hex[33];

        assert_true(i < j->copy.n_chunks);
        if (j->copy.chunk_sums[i][0] == '\0')
            continue;
        checksum128(b.p + i * OUTFILE_CHUNK,
                    rest < OUTFILE_CHUNK ? rest : OUTFILE_CHUNK, hex);
        assert_string_equal(j->copy.chunk_sums[i], hex);
        n_known++;
    }
    print_message("           (%zu checksums known)\n", n_known);
    bytes_fini(&b);
}

/* The bitmap says exactly which pages of the backup differ from the copy. */
static void check_differs(const struct job *j)
{
    struct bytes b = bytes_read(scratch_path("backup"));
    struct bytes c = bytes_read(scratch_path("image"));
    size_t size = j->copy.page_size;

    for (size_t p = 1; p * size <= b.n && p * size <= c.n; p++) {
        bool same =
            memcmp(b.p + (p - 1) * size, c.p + (p - 1) * size, size) == 0;

        if (bit_get(j->copy.differs, p) == same)
            fail_msg("page %zu: same %d", p, same);
    }
    bytes_fini(&b);
    bytes_fini(&c);
}

/* Copy ahead while `at` steps, then `later` happens, then catch up. */
static void ahead(const char *mode, step *at, const char *later)
{
    struct job j;
    struct snapshot then = {0};
    struct snapshot now = {0};
    struct sqlite3 *second = NULL;
    struct err e = {0};
    int backup_fd;
    int rc;

    job_init(&j, LIVE, at);
    backup_fd = backup_of_now(&j);
    job_connect(&j);
    if (copy_ahead(&j.copy, j.db, &j.opts, &then, &e) != 0)
        fail_msg("%s", e.message);
    end_pending();
    app_sql(0, "%s", later);
    app_image(LIVE, scratch_path("image"));
    if (strcmp(mode, "wal") == 0) {
        assert_int_equal(live_connect(&j.live, &second, &e), 0);
        assert_int_equal(snapshot_begin(&now, second, &j.live, &e), 0);
        rc = copy_catch_up_wal(&j.copy, &now, &then, &e);
    } else {
        assert_int_equal(snapshot_begin(&now, j.db, &j.live, &e), 0);
        rc = copy_catch_up_hash(&j.copy, &now, &e);
    }
    assert_int_equal(rc, 0);
    snapshot_end(&now);
    snapshot_end(&then);
    live_disconnect(second);
    assert_int_equal(
        outfile_finish(j.out, j.copy.n_pages * j.copy.page_size, &e), 0);
    check_result(&j, scratch_path("image"));
    check_differs(&j);
    check_sums(&j);
    job_fini(&j);
    file_close(&backup_fd);
}

static void ahead_quiet(void **state)
{
    (void)state;
    make_live(4096, 0, "wal", rows_for(2));
    ahead("wal", NULL, "");
    app_close(0);
    (void)scratch_clear(NULL);
    make_live(4096, 0, "delete", rows_for(2));
    ahead("delete", NULL, "");
    app_close(0);
}

static void ahead_commits(void **state)
{
    static const char *const later[] = {
        "UPDATE t SET b='later' WHERE a%50=1", "DELETE FROM t; VACUUM",
        "INSERT INTO u SELECT hex(zeroblob(1000)) FROM t",
        "DELETE FROM u; VACUUM; INSERT INTO u SELECT b FROM t"};

    (void)state;
    for (size_t i = 0; i < 16; i++) {
        bool wal = i >= 8;

        make_live(i % 2 == 0 ? 4096 : 512, (int)i % 3, wal ? "wal" : "delete",
                  rows_for(3));
        ahead(wal ? "wal" : "delete", wal ? commit_rows : change_one_row,
              later[i / 2 % 4]);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Everything stands in the main file at first; then the WAL begins anew. */
static void ahead_wal_restarted(void **state)
{
    (void)state;
    make_live(4096, 0, "wal", rows_for(3));
    app_sql(0, "PRAGMA wal_checkpoint");
    ahead("wal", commit_and_restart, "UPDATE t SET b='last' WHERE a=1");
    app_close(0);
}

static void drop_tail(int n)
{
    if (n == 3)
        commit_between("DELETE FROM tail WHERE rowid>100");
}

/* Full auto-vacuum, where the pages of `tail` are the last ones. */
static void make_with_tail(void)
{
    app_open(0, LIVE);
    app_sql(0,
            "PRAGMA auto_vacuum=1; PRAGMA synchronous=OFF;"
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE TABLE tail(b)");
    app_sql(0, ROWS "INSERT INTO t(b) SELECT hex(zeroblob(1500)) FROM n", 500);
    app_sql(0, ROWS "INSERT INTO tail SELECT hex(zeroblob(1500)) FROM n", 600);
}

/* The file is cut in the middle of what was copied already. */
static void ahead_cut(void **state)
{
    (void)state;
    make_with_tail();
    ahead("delete", drop_tail, "");
    app_close(0);
}

/* What was cut off comes back, page for page as it was. */
static void ahead_cut_and_back(void **state)
{
    (void)state;
    make_with_tail();
    ahead("delete", drop_tail,
          "WITH RECURSIVE n(i) AS (SELECT 101 UNION ALL SELECT i+1 FROM n "
          "LIMIT 500) INSERT INTO tail SELECT hex(zeroblob(1500)) FROM n");
    app_close(0);
}

static void other_page_size(void **state)
{
    struct job j;
    struct snapshot then = {0};
    struct err e = {0};
    int backup_fd;

    (void)state;
    make_live(4096, 0, "wal", 10);
    job_init(&j, LIVE, NULL);
    backup_fd = backup_of_now(&j);
    j.opts.backup_page_size = 8192;
    job_connect(&j);
    assert_int_equal(copy_ahead(&j.copy, j.db, &j.opts, &then, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, "page_size");
    job_fini(&j);
    file_close(&backup_fd);
    app_close(0);
}

/* -------------------------------------------------------------- refusals */

static void locked(void **state)
{
    struct job j;

    (void)state;
    make_live(4096, 0, "delete", 100);
    app_sql(0, "BEGIN EXCLUSIVE");
    job_init(&j, LIVE, NULL);
    j.live.busy_timeout_ms = 50;
    expect_failure(&j, ERR_BUSY, "locked");
    app_sql(0, "ROLLBACK; PRAGMA locking_mode=EXCLUSIVE;"
               "PRAGMA journal_mode=WAL; UPDATE t SET b='x' WHERE a=1");
    job_init(&j, LIVE, NULL);
    j.live.busy_timeout_ms = 50;
    expect_failure(&j, ERR_BUSY, "exclusive");
    app_close(0);
}

static bool stop;

static void stop_at_two(int n)
{
    if (n == 2)
        __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
}

static void stopping(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        stop = false;
        make_live(4096, 0, modes[i], rows_for(4));
        job_init(&j, LIVE, stop_at_two);
        j.live.cancel = &stop;
        expect_failure(&j, ERR_BUSY, "stopping");
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void no_database(void **state)
{
    char text[8192];
    struct job j;

    (void)state;
    memset(text, 'x', sizeof text);
    bytes_write(LIVE, (struct bytes){(uint8_t *)text, sizeof text});
    job_init(&j, LIVE, NULL);
    expect_failure(&j, ERR_NOT_DATABASE, "");
    assert_int_equal(unlink(LIVE), 0);
    job_init(&j, LIVE, NULL);
    expect_failure(&j, ERR_IO, "");
    assert_false(file_exists(LIVE));
}

static void full_disk(void **state)
{
    struct job j;

    (void)state;
    make_live(4096, 0, "wal", rows_for(3));
    job_init(&j, LIVE, NULL);
    outfile_free(j.out);
    file_close(&j.fd);
    j.fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(j.fd >= 0);
    j.out = outfile_new(j.fd, false);
    j.opts.out = j.out;
    expect_failure(&j, ERR_NO_SPACE, "");
    app_close(0);
}

/* Whatever way a copy ends, it leaves no lock and no descriptor. */
static void leaves_nothing(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;
        int n_fds;

        make_live(4096, 0, modes[i], rows_for(3));
        n_fds = fds_open();
        for (int k = 0; k < 2; k++) {
            struct err e = {0};

            stop = false;
            job_init(&j, LIVE, k == 0 ? NULL : stop_at_two);
            j.live.cancel = &stop;
            assert_int_equal(job_run(&j, &e), -k);
            job_fini(&j);
            assert_int_equal(fds_open(), n_fds);
            app_sql(0, "BEGIN EXCLUSIVE; ROLLBACK");
            assert_int_equal(app_int(0, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
        }
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"copy: a quiet database byte for byte, at all page sizes, "
         "auto-vacuum and journal modes",
         quiet, NULL, scratch_clear, NULL},
        {"copy: says page size, mode and SHA-256, and patches nothing when "
         "nothing was committed",
         quiet_details, NULL, scratch_clear, NULL},
        {"copy: sizes around a multiple of the buffer", odd_last_chunk, NULL,
         scratch_clear, NULL},
        {"copy: bytes reserved in each page are copied", reserved_bytes, NULL,
         scratch_clear, NULL},
        {"copy: a file of 0 bytes gives 0 pages", nothing, NULL, scratch_clear,
         NULL},
        {"copy: UTF-16 databases", encodings, NULL, scratch_clear, NULL},
        {"copy: a schema that SQLite cannot read is no obstacle",
         strange_schema, NULL, scratch_clear, NULL},
        {"copy: a page committed after the snapshot is not in the copy",
         wal_later_commits, NULL, scratch_clear, NULL},
        {"copy: a WAL that is restarted meanwhile leaves the copy alone",
         wal_restarted, NULL, scratch_clear, NULL},
        {"copy: checkpoints meanwhile leave the copy alone", wal_checkpointed,
         NULL, scratch_clear, NULL},
        {"copy: a database that shrinks and grows meanwhile (WAL) is copied "
         "as it was",
         wal_shrinks_and_grows, NULL, scratch_clear, NULL},
        {"copy: frames of a transaction that has not committed are left out",
         wal_uncommitted, NULL, scratch_clear, NULL},
        {"copy: an empty or missing WAL, and none is left behind", wal_empty,
         NULL, scratch_clear, NULL},
        {"copy: a WAL left by a killed application is read and stays",
         wal_left_behind, NULL, scratch_clear, NULL},
        {"copy: gives up when the WAL grows past its limit", wal_limit, NULL,
         scratch_clear, NULL},
        {"copy: commits between the slices of a rollback-mode copy are in it",
         rollback_commits, NULL, scratch_clear, NULL},
        {"copy: only pages that differ are patched", rollback_patches, NULL,
         scratch_clear, NULL},
        {"copy: growing and shrinking between the slices", rollback_sizes, NULL,
         scratch_clear, NULL},
        {"copy: another page size or journal mode in the middle is refused",
         shape_changes, NULL, scratch_clear, NULL},
        {"copy: a hot journal is rolled back first", hot_journal, NULL,
         scratch_clear, NULL},
        {"copy ahead: of a quiet database needs no patch", ahead_quiet, NULL,
         scratch_clear, NULL},
        {"copy ahead: commits meanwhile and afterwards are caught up with",
         ahead_commits, NULL, scratch_clear, NULL},
        {"copy ahead: catches up over a WAL that was restarted",
         ahead_wal_restarted, NULL, scratch_clear, NULL},
        {"copy ahead: a file cut short meanwhile has no checksum of what is "
         "gone",
         ahead_cut, NULL, scratch_clear, NULL},
        {"copy ahead: pages cut off meanwhile and put back are in the copy",
         ahead_cut_and_back, NULL, scratch_clear, NULL},
        {"copy ahead: a backup of another page size is a conflict",
         other_page_size, NULL, scratch_clear, NULL},
        {"copy: a locked database is busy, and says how", locked, NULL,
         scratch_clear, NULL},
        {"copy: is given up when the service stops", stopping, NULL,
         scratch_clear, NULL},
        {"copy: no database, and no file", no_database, NULL, scratch_clear,
         NULL},
        {"copy: a full disk", full_disk, NULL, scratch_clear, NULL},
        {"copy: leaves no lock and no descriptor", leaves_nothing, NULL,
         scratch_clear, NULL},
    };
    struct err e;
    int failed;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
