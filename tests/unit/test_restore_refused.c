/* The restore transaction, through src/sqlite/restore.h: commits until the
 * lock, refusals, and damaged live files. */
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

/* ---------------------------------- commits between the copy and the lock */

static const char *late_sql;
static bool late_wal;

static void commit_late(int n)
{
    (void)n;
    if (late_wal)
        app_sql(0, "%s", late_sql);
    else
        app_commit_between(0, late_sql);
}

/* Every commit that was acknowledged is in the safety file. */
static void late_commits(void **state)
{
    static const char *const late[] = {
        "UPDATE t SET b='late' || b WHERE a%50=0", "DELETE FROM t WHERE a%3=0",
        "INSERT INTO t(b) SELECT hex(randomblob(300)) FROM t WHERE a<1500",
        "BEGIN; CREATE TABLE IF NOT EXISTS m(a); INSERT INTO m VALUES(1); END"};

    (void)state;
    for (int i = 0; i < 16; i++) {
        struct restorejob j;
        int64_t n_rows;

        late_wal = i < 8;
        late_sql = late[i % 4];
        restorejob_make_backup(4096, 0, i / 4 % 2 == 0 ? 2000 : 5000, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, i % 3,
                        late_wal ? "wal" : "delete", 4000, "live");
        restorejob_init(&j, commit_late);
        restorejob_run(&j);
        app_end_pending();
        assert_true(j.n_steps >= 2);
        assert_int_equal(j.n_kept, 1);
        assert_true(j.result.n_patched > 0);
        restorejob_fini(&j);
        restorejob_check_live(RESTOREJOB_BACKUP);
        /* The last commit came before the lock: the safety file has it. */
        app_open(3, RESTOREJOB_SAFETY);
        assert_int_equal(app_int(3, APP_INTEGRITY), 1);
        n_rows = app_int(3, i % 4 == 0   ? "SELECT sum(b GLOB 'late*') FROM t"
                            : i % 4 == 1 ? "SELECT count(*) FROM t WHERE a%3<>0"
                            : i % 4 == 2 ? "SELECT count(*) FROM t"
                                         : "SELECT count(*) FROM m");
        if (i % 4 == 0)
            assert_int_equal(n_rows, 80);
        else if (i % 4 == 1)
            assert_int_equal(n_rows, 2667);
        else if (i % 4 == 3)
            assert_int_equal(n_rows, j.n_steps);
        else
            assert_true(n_rows > 5000);
        app_close(3);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void commit_and_image(int n)
{
    app_sql(0, "UPDATE t SET b='late' || b WHERE a%%9=%d", n % 9);
    app_image(RESTOREJOB_LIVE, scratch_path("before"));
}

/* WAL: to the byte. */
static void late_commits_exactly(void **state)
{
    struct restorejob j;

    (void)state;
    restorejob_make_backup(4096, 0, 3000, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "wal", 5000, "live");
    app_sql(0, "PRAGMA wal_checkpoint(RESTART)");
    restorejob_init(&j, commit_and_image);
    restorejob_run(&j);
    restorejob_fini(&j);
    restorejob_check_safety(scratch_path("before"));
    restorejob_check_live(RESTOREJOB_BACKUP);
    app_close(0);
}

static void switch_mode(int n)
{
    if (n == 1)
        app_commit_between(0, "PRAGMA journal_mode=WAL");
}

static void mode_changes(void **state)
{
    struct restorejob j;

    (void)state;
    restorejob_make_backup(4096, 0, 300, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "delete", 5000, "live");
    restorejob_init(&j, switch_mode);
    restorejob_expect(&j, ERR_BUSY, "changed");
    app_drop_pending(); /* it may find the file locked in its second
                           restorejob_step */
    assert_int_equal(j.n_kept, 0);
    restorejob_fini(&j);
    app_close(0);
}

/* -------------------------------------------------------------- refusals */

static void keep_fails(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;

        restorejob_make_backup(4096, 0, 900, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 500, "live");
        app_image(RESTOREJOB_LIVE, scratch_path("before"));
        restorejob_init(&j, NULL);
        j.keep_fails = true;
        restorejob_expect(&j, ERR_NO_SPACE, "test");
        assert_int_equal(j.n_kept, 1);
        assert_int_equal(j.result.n_written, 0);
        restorejob_fini(&j);
        restorejob_check_untouched(scratch_path("before"));
        assert_false(file_exists(scratch_path("live.db-journal")));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Somebody else writes for longer than the busy timeout. */
static void locked(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;
        int64_t began_ms;

        restorejob_make_backup(4096, 0, 900, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 500, "live");
        app_image(RESTOREJOB_LIVE, scratch_path("before"));
        app_sql(0, "BEGIN IMMEDIATE");
        restorejob_init(&j, NULL);
        j.live.busy_timeout_ms = 200;
        began_ms = clock_monotonic_ms();
        restorejob_expect(&j, ERR_BUSY, "locked");
        assert_true(clock_monotonic_ms() - began_ms >= 200);
        assert_int_equal(j.n_kept, 0);
        restorejob_fini(&j);
        app_sql(0, "ROLLBACK");
        restorejob_check_untouched(scratch_path("before"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Rollback mode: a reader keeps the restore out, and it says so in time. */
static void pinned_reader(void **state)
{
    struct restorejob j;

    (void)state;
    restorejob_make_backup(4096, 0, 900, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "delete", 500, "live");
    app_image(RESTOREJOB_LIVE, scratch_path("before"));
    app_sql(0, "BEGIN; SELECT * FROM t");
    restorejob_init(&j, NULL);
    j.live.busy_timeout_ms = 200;
    restorejob_expect(&j, ERR_BUSY, "locked");
    restorejob_fini(&j);
    app_sql(0, "COMMIT");
    restorejob_check_untouched(scratch_path("before"));
    app_close(0);
}

static void other_page_size(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;

        restorejob_make_backup(8192, 0, 900, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 500, "live");
        app_image(RESTOREJOB_LIVE, scratch_path("before"));
        restorejob_init(&j, NULL);
        restorejob_expect(&j, ERR_CONFLICT, "page_size");
        restorejob_fini(&j);
        restorejob_check_untouched(scratch_path("before"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Run `f` as a user whom file modes bind. */
static void as_nobody(void (*f)(struct restorejob *j), struct restorejob *j)
{
    uid_t was = geteuid();

    assert_int_equal(chown(RESTOREJOB_LIVE, 65534, 65534), 0);
    assert_int_equal(chmod(scratch_path("."), 0777), 0);
    assert_int_equal(seteuid(65534), 0);
    f(j);
    assert_int_equal(seteuid(was), 0);
}

static void expect_read_only(struct restorejob *j)
{
    restorejob_expect(j, ERR_CONFLICT, "read_only");
}

static void read_only_file(void **state)
{
    struct restorejob j;

    (void)state;
    restorejob_make_backup(4096, 0, 900, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "delete", 500, "live");
    app_image(RESTOREJOB_LIVE, scratch_path("before"));
    app_close(0);
    assert_int_equal(chmod(RESTOREJOB_LIVE, 0444), 0);
    restorejob_init(&j, NULL);
    if (geteuid() == 0)
        as_nobody(expect_read_only, &j);
    else
        expect_read_only(&j);
    assert_int_equal(j.n_kept, 0);
    restorejob_fini(&j);
    assert_int_equal(chmod(RESTOREJOB_LIVE, 0644), 0);
    restorejob_check_untouched(scratch_path("before"));
}

static void max_stall(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;

        restorejob_make_backup(4096, 0, 900, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 900, "live");
        app_image(RESTOREJOB_LIVE, scratch_path("before"));
        restorejob_init(&j, NULL);
        j.opts.max_stall_ms = 1;
        restorejob_expect(&j, ERR_BUSY, "max_stall");
        assert_int_equal(j.n_kept, 0);
        restorejob_fini(&j);
        restorejob_check_untouched(scratch_path("before"));
        restorejob_init(&j, NULL);
        j.opts.max_stall_ms = 600000;
        restorejob_run(&j);
        restorejob_fini(&j);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static bool stop;

static void stop_now(int n)
{
    (void)n;
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
}

static void stopping(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;

        stop = false;
        restorejob_make_backup(4096, 0, 900, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 4000, "live");
        app_image(RESTOREJOB_LIVE, scratch_path("before"));
        restorejob_init(&j, stop_now);
        j.live.cancel = &stop;
        restorejob_expect(&j, ERR_BUSY, "stopping");
        restorejob_fini(&j);
        restorejob_check_untouched(scratch_path("before"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* A backup that ends before its last page: rolled back. */
static void short_backup(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct restorejob j;

        restorejob_make_backup(4096, 0, 900, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, modes[i], 500, "live");
        app_image(RESTOREJOB_LIVE, scratch_path("before"));
        restorejob_init(&j, NULL);
        j.opts.backup_pages += 300;
        restorejob_expect(&j, ERR_IO, "");
        restorejob_fini(&j);
        restorejob_check_untouched(scratch_path("before"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* ------------------------------------------------------- over damage */

static int over_damage(struct restorejob *j, struct err *e)
{
    return restore_over_damage(&j->opts, restorejob_keep_raw, &j->result, e);
}

static void damage_live(void)
{
    struct bytes b = bytes_read(RESTOREJOB_LIVE);

    memset(b.p, 0xa5, 4096);
    b.n -= 1000; /* and no whole number of pages */
    bytes_write(RESTOREJOB_LIVE, b);
    bytes_fini(&b);
}

static void damaged(void **state)
{
    static const int sizes[] = {512, 4096, 65536};

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct restorejob j;
        struct err e = {0};
        struct stat before;
        struct stat after;
        struct bytes raw;
        struct bytes kept;

        restorejob_make_backup(sizes[i % 3], 1, i < 3 ? 300 : 3000, false);
        restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "delete", 1500, "live");
        app_close(0);
        damage_live();
        raw = bytes_read(RESTOREJOB_LIVE);
        assert_int_equal(stat(RESTOREJOB_LIVE, &before), 0);
        restorejob_init(&j, NULL);
        if (over_damage(&j, &e) != 0)
            fail_msg("%s", e.message);
        assert_int_equal(j.n_kept, 1);
        assert_int_equal(j.raw_bytes, raw.n);
        restorejob_fini(&j);
        kept = bytes_read(RESTOREJOB_SAFETY);
        assert_true(bytes_equal(raw, kept, NULL));
        restorejob_check_live(RESTOREJOB_BACKUP);
        assert_int_equal(stat(RESTOREJOB_LIVE, &after), 0);
        assert_int_equal(after.st_ino, before.st_ino);
        assert_false(file_exists(scratch_path("live.db-journal")));
        bytes_fini(&raw);
        bytes_fini(&kept);
        (void)scratch_clear(NULL);
    }
}

static void damaged_not_kept(void **state)
{
    struct restorejob j;
    struct err e = {0};
    struct bytes raw;
    struct bytes now;

    (void)state;
    restorejob_make_backup(4096, 0, 300, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "delete", 900, "live");
    app_close(0);
    damage_live();
    raw = bytes_read(RESTOREJOB_LIVE);
    restorejob_init(&j, NULL);
    j.keep_fails = true;
    assert_int_equal(over_damage(&j, &e), -1);
    assert_string_equal(e.reason, "test");
    restorejob_fini(&j);
    now = bytes_read(RESTOREJOB_LIVE);
    assert_true(bytes_equal(raw, now, NULL));
    bytes_fini(&raw);
    bytes_fini(&now);
    /* The backup cannot be read to its end: rolled back. */
    raw = bytes_read(RESTOREJOB_LIVE);
    restorejob_init(&j, NULL);
    j.opts.backup_pages += 10;
    assert_int_equal(over_damage(&j, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    restorejob_fini(&j);
    now = bytes_read(RESTOREJOB_LIVE);
    assert_true(bytes_equal(raw, now, NULL));
    bytes_fini(&raw);
    bytes_fini(&now);
}

/* A damaged live database is told, not restored over by restore_run. */
static void damage_is_told(void **state)
{
    struct restorejob j;
    struct bytes raw;
    struct bytes now;

    (void)state;
    restorejob_make_backup(4096, 0, 300, false);
    restorejob_make(0, RESTOREJOB_LIVE, 4096, 0, "delete", 900, "live");
    app_close(0);
    damage_live();
    raw = bytes_read(RESTOREJOB_LIVE);
    restorejob_init(&j, NULL);
    restorejob_expect(&j, ERR_NOT_DATABASE, "");
    assert_int_equal(j.n_kept, 0);
    restorejob_fini(&j);
    now = bytes_read(RESTOREJOB_LIVE);
    assert_true(bytes_equal(raw, now, NULL));
    bytes_fini(&raw);
    bytes_fini(&now);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"restore: commits between the copy and the lock are in the safety "
         "copy",
         late_commits, NULL, scratch_clear, NULL},
        {"restore: the safety copy is the last state before the lock, byte "
         "for byte",
         late_commits_exactly, NULL, scratch_clear, NULL},
        {"restore: a journal mode changed meanwhile is refused", mode_changes,
         NULL, scratch_clear, NULL},
        {"restore: nothing is changed when the safety copy cannot be kept",
         keep_fails, NULL, scratch_clear, NULL},
        {"restore: a database locked past the busy timeout is busy", locked,
         NULL, scratch_clear, NULL},
        {"restore: a reader that stays keeps it out in rollback mode",
         pinned_reader, NULL, scratch_clear, NULL},
        {"restore: another page size is a conflict", other_page_size, NULL,
         scratch_clear, NULL},
        {"restore: a read-only file is a conflict", read_only_file, NULL,
         scratch_clear, NULL},
        {"restore: is refused when writers would wait too long", max_stall,
         NULL, scratch_clear, NULL},
        {"restore: is given up when the service stops", stopping, NULL,
         scratch_clear, NULL},
        {"restore: a backup that ends too early is rolled back", short_backup,
         NULL, scratch_clear, NULL},
        {"restore: a damaged live database is told, and not touched",
         damage_is_told, NULL, scratch_clear, NULL},
        {"restore over damage: the bytes are kept and the inode stays", damaged,
         NULL, scratch_clear, NULL},
        {"restore over damage: nothing is changed when it cannot be kept or "
         "read",
         damaged_not_kept, NULL, scratch_clear, NULL},
    };
    struct err e;
    int failed;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
