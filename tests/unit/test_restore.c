/* The restore transaction, through src/sqlite/restore.h: what it leaves. */
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
#include "restorejob.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

/* ------------------------------------------------------------ the matrix */

static void matrix(const char *mode)
{
    for (int i = 0; i < 36; i++) {
        int live_vacuum = i % 3;
        int backup_vacuum = i / 3 % 3;
        int n = i / 9 % 2 == 0 ? 400 : 1500; /* shrink, grow */
        struct restorejob j;

        restorejob_make_backup(4096, backup_vacuum, n, i / 18 == 1);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, live_vacuum, mode, 900,
                        "live");
        restorejob_run_and_check(&j);
        assert_int_equal(j.result.wal, strcmp(mode, "wal") == 0);
        /* The application goes on with the connection that it has. */
        app_sql(0, "INSERT INTO t(b) VALUES('after'); DELETE FROM t"
                   " WHERE a%%2=0; PRAGMA incremental_vacuum");
        assert_int_equal(app_int(0, "PRAGMA auto_vacuum"), backup_vacuum);
        assert_int_equal(app_int(0, APP_INTEGRITY), 1);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void matrix_wal(void **state)
{
    (void)state;
    matrix("wal");
}

static void matrix_delete(void **state)
{
    (void)state;
    matrix("delete");
}

static void page_sizes(void **state)
{
    static const int sizes[] = {512, 1024, 65536};
    static const char *const modes[] = {"wal", "delete", "truncate", "persist"};

    (void)state;
    for (int i = 0; i < 12; i++) {
        struct restorejob j;

        restorejob_make_backup(sizes[i % 3], 0, 700, true);
        restorejob_make(0, RESTOREJOB_LIVE, sizes[i % 3], 0, modes[i / 3], 1000,
                        "live");
        restorejob_run_and_check(&j);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* More chunks than one, and pages in the WAL. */
static void large(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;

        restorejob_make_backup(4096, 0, 6000, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 5000, "live");
        app_sql(0, "PRAGMA wal_checkpoint; UPDATE t SET b='new'||b"
                   " WHERE a%%10=0");
        restorejob_run_and_check(&j);
        assert_true(j.n_steps >= 3);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* A page that is reserved bytes larger or smaller inside. */
static void reserved_bytes(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct restorejob j;

        app_open(1, RESTOREJOB_BACKUP);
        app_reserve(1, i / 2 == 0 ? 48 : 0);
        app_sql(1,
                "CREATE TABLE t(a INTEGER PRIMARY KEY, b);" APP_ROWS
                "INSERT INTO t(b) SELECT hex(zeroblob(i%%900)) FROM n",
                800);
        app_close(1);
        app_open(0, RESTOREJOB_LIVE);
        app_reserve(0, i / 2 == 0 ? 0 : 16);
        app_sql(0,
                "PRAGMA journal_mode=%s;"
                "CREATE TABLE t(a INTEGER PRIMARY KEY, b);" APP_ROWS
                "INSERT INTO t(b) SELECT hex(zeroblob(i%%800)) FROM n",
                modes[i % 2], 900);
        restorejob_run_and_check(&j);
        app_sql(0, "INSERT INTO t(b) SELECT hex(zeroblob(a)) FROM t");
        assert_int_equal(app_int(0, APP_INTEGRITY), 1);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/*
 * A database last written by an SQLite before 3.7.0: its header's page count
 * is stale, which the counter beside it says.  A commit makes that counter
 * right, so the page count must be right too.
 */
static void stale_page_count(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;
        struct bytes b;
        struct bytes old;

        restorejob_make_backup(4096, 0, 700, false);
        old = bytes_read(RESTOREJOB_BACKUP);
        b = bytes_read(RESTOREJOB_BACKUP);
        b.p[31]--;
        b.p[30]--;
        b.p[95]--;
        bytes_write(RESTOREJOB_BACKUP, b);
        app_open(1, RESTOREJOB_BACKUP);
        assert_int_equal(app_int(1, APP_INTEGRITY), 1);
        app_close(1);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 300, "live");
        restorejob_init(&j, NULL);
        restorejob_run(&j);
        restorejob_fini(&j);
        assert_int_equal(app_int(0, "PRAGMA page_count"), old.n / 4096);
        assert_int_equal(app_int(0, APP_INTEGRITY), 1);
        bytes_fini(&b);
        bytes_fini(&old);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* What is restored into itself writes page 1 and nothing else. */
static void only_differing(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;

        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 1000, "live");
        app_image(RESTOREJOB_LIVE, RESTOREJOB_BACKUP);
        restorejob_run_and_check(&j);
        assert_int_equal(j.result.n_written, 1);
        app_image(RESTOREJOB_LIVE, RESTOREJOB_BACKUP);
        app_sql(0, "UPDATE t SET b='x' WHERE a=500");
        restorejob_run_and_check(&j);
        assert_in_range(j.result.n_written, 2, 12);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void undo(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;

        restorejob_make_backup(4096, 0, 1000, true);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 1, modes[i], 800, "live");
        app_image(RESTOREJOB_LIVE, scratch_path("original"));
        restorejob_run_and_check(&j);
        assert_int_equal(rename(RESTOREJOB_SAFETY, RESTOREJOB_BACKUP), 0);
        restorejob_run_and_check(&j);
        restorejob_check_live(scratch_path("original"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void empty_live(void **state)
{
    static const int sizes[] = {512, 4096, 65536};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct restorejob j;
        struct bytes none = {0};

        restorejob_make_backup(sizes[i], 1, 500, false);
        bytes_write(RESTOREJOB_LIVE, none);
        restorejob_init(&j, NULL);
        restorejob_run(&j);
        assert_int_equal(j.n_kept, 0);
        restorejob_fini(&j);
        restorejob_check_live(RESTOREJOB_BACKUP);
        (void)scratch_clear(NULL);
    }
}

static void keeps_inode_and_mode(void **state)
{
    struct stat before;
    struct stat after;
    struct restorejob j;

    (void)state;
    restorejob_make_backup(4096, 0, 1000, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "delete", 500, "live");
    assert_int_equal(chmod(RESTOREJOB_LIVE, 0664), 0);
    assert_int_equal(stat(RESTOREJOB_LIVE, &before), 0);
    restorejob_run_and_check(&j);
    assert_int_equal(stat(RESTOREJOB_LIVE, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_uid, before.st_uid);
    app_close(0);
}

/* A backup whose header says WAL does not change the live mode, or back. */
static void mode_stays(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;
        struct bytes b;

        restorejob_make_backup(4096, 0, 300, false);
        b = bytes_read(RESTOREJOB_BACKUP);
        b.p[18] = b.p[19] = 2;
        bytes_write(RESTOREJOB_BACKUP, b);
        bytes_fini(&b);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 300, "live");
        restorejob_run_and_check(&j);
        app_close(0);
        app_open(0, RESTOREJOB_LIVE);
        assert_int_equal(app_int(0, "SELECT journal_mode='wal' FROM "
                                    "pragma_journal_mode"),
                         i == 0);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* ------------------------------------------------- open connections */

static void cookie(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;
        int64_t cookie;

        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 100, "live");
        app_image(RESTOREJOB_LIVE, RESTOREJOB_BACKUP);
        app_sql(0, "CREATE TABLE later(x); INSERT INTO later VALUES(1)");
        cookie = app_int(0, "PRAGMA schema_version");
        restorejob_run_and_check(&j);
        app_open(1, RESTOREJOB_LIVE);
        assert_int_equal(app_int(1, "PRAGMA schema_version"), cookie + 1);
        /* Another table takes the page that the lost one had. */
        app_sql(1, "CREATE TABLE other(p, q, r); INSERT INTO other"
                   " VALUES(1, 2, 3)");
        assert_int_equal(app_try(0, "INSERT INTO later VALUES(2)"),
                         SQLITE_ERROR);
        assert_int_equal(app_int(1, "SELECT count(*) FROM other"), 1);
        app_close(1);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* WAL: a transaction that began before goes on seeing the old state. */
static void reader_in_the_middle(void **state)
{
    struct restorejob j;

    (void)state;
    restorejob_make_backup(4096, 0, 100, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "wal", 900, "live");
    app_sql(0, "BEGIN");
    assert_int_equal(app_int(0, "SELECT count(*) FROM t"), 900);
    restorejob_run_and_check(&j);
    assert_int_equal(app_int(0, "SELECT count(*) FROM t"), 900);
    assert_int_equal(app_try(0, "INSERT INTO t(b) VALUES(1)"), SQLITE_BUSY);
    app_sql(0, "COMMIT");
    assert_int_equal(app_int(0, "SELECT count(*) FROM t"), 100);
    app_close(0);
}

static void give_back(void **state)
{
    struct restorejob j;
    struct stat st;

    (void)state;
    restorejob_make_backup(4096, 0, 6000, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "wal", 5000, "live");
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE); UPDATE t SET b=1 WHERE a=1");
    restorejob_run_and_check(&j);
    assert_int_equal(stat(scratch_path("live.db-wal"), &st), 0);
    assert_in_range(st.st_size, 0, 1 << 20);
    app_close(0);
}

/* Nobody has it open: no -wal, -shm or -journal remains. */
static void nothing_beside(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;
        int n_fds;

        restorejob_make_backup(4096, 0, 900, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 500, "live");
        app_close(0);
        n_fds = fds_open();
        restorejob_init(&j, NULL);
        restorejob_run(&j);
        restorejob_fini(&j);
        assert_int_equal(fds_open(), n_fds);
        assert_false(file_exists(scratch_path("live.db-wal")));
        assert_false(file_exists(scratch_path("live.db-shm")));
        assert_false(file_exists(scratch_path("live.db-journal")));
        restorejob_check_live(RESTOREJOB_BACKUP);
        (void)scratch_clear(NULL);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"restore: every auto-vacuum mode over every other, growing and "
         "shrinking, with and without free pages (WAL)",
         matrix_wal, NULL, scratch_clear, NULL},
        {"restore: the same in rollback mode", matrix_delete, NULL,
         scratch_clear, NULL},
        {"restore: page sizes and journal modes", page_sizes, NULL,
         scratch_clear, NULL},
        {"restore: several buffers, and pages that stand in the WAL", large,
         NULL, scratch_clear, NULL},
        {"restore: another number of reserved bytes in each page",
         reserved_bytes, NULL, scratch_clear, NULL},
        {"restore: a backup with a stale page count in its header",
         stale_page_count, NULL, scratch_clear, NULL},
        {"restore: only pages that differ are written", only_differing, NULL,
         scratch_clear, NULL},
        {"restore: is undone by restoring the safety copy", undo, NULL,
         scratch_clear, NULL},
        {"restore: into a file of 0 bytes keeps nothing and takes the page "
         "size",
         empty_live, NULL, scratch_clear, NULL},
        {"restore: inode, mode and owner stay", keeps_inode_and_mode, NULL,
         scratch_clear, NULL},
        {"restore: the live journal mode stays", mode_stays, NULL,
         scratch_clear, NULL},
        {"restore: a connection with a cached schema gets no such table",
         cookie, NULL, scratch_clear, NULL},
        {"restore: a reader in the middle keeps its snapshot",
         reader_in_the_middle, NULL, scratch_clear, NULL},
        {"restore: the growth of the WAL is given back", give_back, NULL,
         scratch_clear, NULL},
        {"restore: leaves nothing beside the database", nothing_beside, NULL,
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
