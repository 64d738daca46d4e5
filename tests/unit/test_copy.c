/* Copying a live database, through src/sqlite/copy.h: quiet ones, WAL mode,
 * and refusals. */
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

#include "base/file.h"
#include "copyjob.h"
#include "dbutil.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

/* ------------------------------------------------------------ quiet ones */

static void quiet(void **state)
{
    static const int sizes[] = {512, 4096, 65536};
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 18; i++) {
        struct copyjob j;
        int size = sizes[i % 3];

        copyjob_make_live(size, i / 3 % 3, modes[i / 9], copyjob_rows(2));
        app_image(COPYJOB_LIVE, scratch_path("image"));
        copyjob_run_and_check(&j, NULL, scratch_path("image"));
        assert_true(j.n_steps >= 2);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void quiet_details(void **state)
{
    struct copyjob j;
    struct err e = {0};

    (void)state;
    copyjob_make_live(4096, 0, "delete", 3000);
    app_close(0);
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    assert_int_equal(copyjob_run(&j, &e), 0);
    assert_int_equal(j.copy.page_size, 4096);
    assert_false(j.copy.wal);
    assert_true(j.copy.sha_known);
    assert_int_equal(j.copy.n_patched, 0);
    assert_null(j.copy.differs);
    copyjob_check(&j, COPYJOB_LIVE);
    copyjob_fini(&j);
}

/* Sizes around a multiple of a chunk. */
static void odd_last_chunk(void **state)
{
    (void)state;
    for (int n = 254; n <= 258; n++) {
        struct copyjob j;

        app_open(0, COPYJOB_LIVE);
        app_sql(0, "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(%d))",
                (n - 2) * 4092 + 3000);
        assert_int_equal(app_int(0, "PRAGMA page_count"), n);
        app_close(0);
        copyjob_run_and_check(&j, NULL, COPYJOB_LIVE);
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
        struct copyjob j;
        struct bytes b;

        app_open(0, COPYJOB_LIVE);
        app_reserve(0, 32);
        app_close(0);
        app_open(0, COPYJOB_LIVE);
        app_reserve(0, 32);
        app_sql(0, "PRAGMA journal_mode=%s; CREATE TABLE t(a);", modes[i]);
        app_sql(0, APP_ROWS "INSERT INTO t SELECT hex(randomblob(100)) FROM n",
                6000);
        app_image(COPYJOB_LIVE, scratch_path("image"));
        copyjob_run_and_check(&j, NULL, scratch_path("image"));
        b = bytes_read(scratch_path("out"));
        assert_int_equal(b.p[20], 32);
        bytes_fini(&b);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void nothing(void **state)
{
    struct copyjob j;
    struct bytes none = {0};
    struct err e = {0};

    (void)state;
    bytes_write(COPYJOB_LIVE, none);
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    assert_int_equal(copyjob_run(&j, &e), 0);
    assert_int_equal(j.copy.n_pages, 0);
    copyjob_fini(&j);
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
        struct copyjob j;

        app_open(0, COPYJOB_LIVE);
        app_sql(0, "PRAGMA encoding='%s'; CREATE TABLE t(a);", names[i]);
        app_close(0);
        copyjob_run_and_check(&j, NULL, COPYJOB_LIVE);
        (void)scratch_clear(NULL);
    }
}

/* What a schema says is the application's affair. */
static void strange_schema(void **state)
{
    struct copyjob j;
    struct err e = {0};

    (void)state;
    app_open(0, COPYJOB_LIVE);
    app_sql(0, "CREATE TABLE t(a); INSERT INTO t VALUES(1);"
               "PRAGMA writable_schema=ON;"
               "INSERT INTO sqlite_schema VALUES('table','v','v',0,"
               "'CREATE VIRTUAL TABLE v USING nonesuch(a)');"
               "INSERT INTO sqlite_schema VALUES('table','w','w',2,"
               "'CREATE TABLE w(a))))) !');");
    app_close(0);
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    if (copyjob_run(&j, &e) != 0)
        fail_msg("%s", e.message);
    copyjob_check(&j, COPYJOB_LIVE);
    copyjob_fini(&j);
}

/* -------------------------------------------------------------- WAL mode */

static void wal_later_commits(void **state)
{
    struct copyjob j;

    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(3));
    app_sql(0, "PRAGMA wal_checkpoint");
    copyjob_commit(0);
    app_image(COPYJOB_LIVE, scratch_path("image"));
    copyjob_run_and_check(&j, copyjob_commit, scratch_path("image"));
    assert_true(j.n_steps >= 3);
    app_close(0);
}

static void wal_restarted(void **state)
{
    struct copyjob j;

    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(3));
    app_sql(0, "PRAGMA wal_checkpoint");
    app_image(COPYJOB_LIVE, scratch_path("image"));
    copyjob_run_and_check(&j, copyjob_commit_and_restart,
                          scratch_path("image"));
    app_close(0);
}

static void commit_and_checkpoint(int n)
{
    copyjob_commit(n);
    (void)app_try(0, n % 2 == 0 ? "PRAGMA wal_checkpoint(TRUNCATE)"
                                : "PRAGMA wal_checkpoint(PASSIVE)");
}

static void wal_checkpointed(void **state)
{
    struct copyjob j;

    (void)state;
    copyjob_make_live(4096, 2, "wal", copyjob_rows(3));
    app_sql(0, "PRAGMA wal_checkpoint");
    /* Some frames that a checkpoint may take over, some newer than that. */
    copyjob_commit(1);
    app_image(COPYJOB_LIVE, scratch_path("image"));
    copyjob_run_and_check(&j, commit_and_checkpoint, scratch_path("image"));
    app_close(0);
}

static void shrink_and_grow(int n)
{
    if (n == 1)
        app_sql(0, "DELETE FROM t; VACUUM; PRAGMA wal_checkpoint");
    else
        app_sql(0, APP_ROWS "INSERT INTO u SELECT hex(zeroblob(2000)) FROM n",
                500);
}

static void wal_shrinks_and_grows(void **state)
{
    (void)state;
    for (int vacuum = 0; vacuum < 3; vacuum++) {
        struct copyjob j;

        copyjob_make_live(4096, vacuum, "wal", copyjob_rows(3));
        app_image(COPYJOB_LIVE, scratch_path("image"));
        copyjob_run_and_check(&j, shrink_and_grow, scratch_path("image"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Frames after the last commit are nobody's state. */
static void wal_uncommitted(void **state)
{
    struct copyjob j;
    struct stat before;
    struct stat after;

    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(2));
    app_open(1, COPYJOB_LIVE);
    app_sql(1, "PRAGMA cache_size=10; PRAGMA wal_autocheckpoint=0");
    app_image(COPYJOB_LIVE, scratch_path("image"));
    assert_int_equal(stat(scratch_path("live.db-wal"), &before), 0);
    app_sql(1, "BEGIN; UPDATE t SET b='never' || b");
    assert_int_equal(stat(scratch_path("live.db-wal"), &after), 0);
    assert_true(after.st_size > before.st_size);
    copyjob_run_and_check(&j, NULL, scratch_path("image"));
    app_sql(1, "ROLLBACK; BEGIN; UPDATE t SET b='new' || b");
    copyjob_run_and_check(&j, NULL, scratch_path("image"));
    app_sql(1, "COMMIT");
    app_image(COPYJOB_LIVE, scratch_path("image"));
    copyjob_run_and_check(&j, NULL, scratch_path("image"));
    app_close(1);
    app_close(0);
}

static void wal_empty(void **state)
{
    struct copyjob j;

    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(2));
    app_close(0);
    assert_false(file_exists(scratch_path("live.db-wal")));
    copyjob_run_and_check(&j, NULL, COPYJOB_LIVE);
    assert_true(j.copy.wal || j.n_pinned == 1);
    /* Nothing of ours remains beside it. */
    assert_false(file_exists(scratch_path("live.db-wal")));
    assert_false(file_exists(scratch_path("live.db-shm")));
    app_open(0, COPYJOB_LIVE);
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE); SELECT * FROM t");
    copyjob_run_and_check(&j, NULL, COPYJOB_LIVE);
    assert_true(file_exists(scratch_path("live.db-wal")));
    app_close(0);
}

/* A -wal that a killed application left behind. */
static void wal_left_behind(void **state)
{
    struct copyjob j;
    struct bytes before;
    struct bytes after;

    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(2));
    app_sql(0, "PRAGMA wal_checkpoint");
    copyjob_commit(1);
    app_image(COPYJOB_LIVE, scratch_path("image"));
    file_copy_all(COPYJOB_LIVE, scratch_path("killed"));
    file_copy_all(scratch_path("live.db-wal"), scratch_path("killed-wal"));
    app_close(0);
    (void)rename(scratch_path("killed"), COPYJOB_LIVE);
    (void)rename(scratch_path("killed-wal"), scratch_path("live.db-wal"));
    before = bytes_read(scratch_path("live.db-wal"));
    copyjob_run_and_check(&j, NULL, scratch_path("image"));
    after = bytes_read(scratch_path("live.db-wal"));
    assert_true(bytes_equal(before, after, NULL));
    bytes_fini(&before);
    bytes_fini(&after);
}

static void wal_limit(void **state)
{
    struct copyjob j;

    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(3));
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE)");
    copyjob_init(&j, COPYJOB_LIVE, copyjob_commit);
    j.live.wal_limit_bytes = 100000;
    copyjob_expect(&j, ERR_BUSY, "wal_limit");
    /* The reader is gone: the application can reset its WAL. */
    assert_int_equal(app_int(0, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
    app_close(0);
}

/* -------------------------------------------------------------- refusals */

static void locked(void **state)
{
    struct copyjob j;

    (void)state;
    copyjob_make_live(4096, 0, "delete", 100);
    app_sql(0, "BEGIN EXCLUSIVE");
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    j.live.busy_timeout_ms = 50;
    copyjob_expect(&j, ERR_BUSY, "locked");
    app_sql(0, "ROLLBACK; PRAGMA locking_mode=EXCLUSIVE;"
               "PRAGMA journal_mode=WAL; UPDATE t SET b='x' WHERE a=1");
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    j.live.busy_timeout_ms = 50;
    copyjob_expect(&j, ERR_BUSY, "exclusive");
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
        struct copyjob j;

        stop = false;
        copyjob_make_live(4096, 0, modes[i], copyjob_rows(4));
        copyjob_init(&j, COPYJOB_LIVE, stop_at_two);
        j.live.cancel = &stop;
        copyjob_expect(&j, ERR_BUSY, "stopping");
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void no_database(void **state)
{
    char text[8192];
    struct copyjob j;

    (void)state;
    memset(text, 'x', sizeof text);
    bytes_write(COPYJOB_LIVE, (struct bytes){(uint8_t *)text, sizeof text});
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    copyjob_expect(&j, ERR_NOT_DATABASE, "");
    assert_int_equal(unlink(COPYJOB_LIVE), 0);
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    copyjob_expect(&j, ERR_IO, "");
    assert_false(file_exists(COPYJOB_LIVE));
}

static void full_disk(void **state)
{
    struct copyjob j;

    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(3));
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    outfile_free(j.out);
    file_close(&j.fd);
    j.fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(j.fd >= 0);
    j.out = outfile_new(j.fd, false);
    j.opts.out = j.out;
    copyjob_expect(&j, ERR_NO_SPACE, "");
    app_close(0);
}

/* Whatever way a copy ends, it leaves no lock and no descriptor. */
static void leaves_nothing(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct copyjob j;
        int n_fds;

        copyjob_make_live(4096, 0, modes[i], copyjob_rows(3));
        n_fds = fds_open();
        for (int k = 0; k < 2; k++) {
            struct err e = {0};

            stop = false;
            copyjob_init(&j, COPYJOB_LIVE, k == 0 ? NULL : stop_at_two);
            j.live.cancel = &stop;
            assert_int_equal(copyjob_run(&j, &e), -k);
            copyjob_fini(&j);
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
