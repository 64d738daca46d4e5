/* Copying in rollback mode, and ahead of a restore, through
 * src/sqlite/copy.h. */
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

/* --------------------------------------------------------- rollback mode */

/* The state at the end is the one that is copied. */
static void rollback_check(copyjob_step *at, struct copyjob *j)
{
    struct err e = {0};

    copyjob_init(j, COPYJOB_LIVE, at);
    if (copyjob_run(j, &e) != 0)
        fail_msg("%s", e.message);
    app_end_pending();
    app_image(COPYJOB_LIVE, scratch_path("image"));
    copyjob_check(j, scratch_path("image"));
    assert_int_equal(j->n_pinned, 0);
    copyjob_fini(j);
    app_check(scratch_path("out"));
}

static void change_one_row(int n)
{
    (void)n;
    app_commit_between(0, "UPDATE t SET b='changed' WHERE a=1");
}

static void rollback_commits(void **state)
{
    static const char *const modes[] = {"delete", "truncate", "persist"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct copyjob j;

        copyjob_make_live(4096, 0, modes[i], copyjob_rows(4));
        rollback_check(change_one_row, &j);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static int n_patches_wanted;

static void change_last(int n)
{
    if (n == n_patches_wanted)
        app_commit_between(0, "PRAGMA user_version=7");
}

/* Only what differs is written again. */
static void rollback_patches(void **state)
{
    struct copyjob j;
    struct err e = {0};

    (void)state;
    copyjob_make_live(4096, 0, "delete", copyjob_rows(4));
    n_patches_wanted = 3;
    copyjob_init(&j, COPYJOB_LIVE, change_last);
    assert_int_equal(copyjob_run(&j, &e), 0);
    app_end_pending();
    assert_true(j.n_steps >= 4);
    assert_false(j.copy.sha_known);
    assert_int_equal(j.copy.n_patched, 1);
    app_image(COPYJOB_LIVE, scratch_path("image"));
    copyjob_check(&j, scratch_path("image"));
    copyjob_fini(&j);
    app_close(0);
}

static void grow_between(int n)
{
    if (n <= 2)
        app_commit_between(0,
                           "INSERT INTO u SELECT hex(zeroblob(1000)) FROM t");
}

/* One statement a step: the second would wait for the next slice. */
static void shrink_between(int n)
{
    if (n == 1)
        app_commit_between(0, "DELETE FROM t WHERE a>100");
    if (n == 2)
        app_commit_between(0, "VACUUM");
}

static void shrink_then_grow_between(int n)
{
    if (n == 1)
        app_commit_between(0, "DELETE FROM u");
    if (n == 2)
        app_commit_between(0, "VACUUM");
    if (n == 3)
        app_commit_between(0,
                           "INSERT INTO u SELECT hex(zeroblob(1500)) FROM t");
}

static void rollback_sizes(void **state)
{
    static copyjob_step *const steps[] = {grow_between, shrink_between,
                                          shrink_then_grow_between};

    (void)state;
    for (int i = 0; i < 9; i++) {
        struct copyjob j;

        copyjob_make_live(4096, i % 3, "delete", copyjob_rows(4));
        rollback_check(steps[i / 3], &j);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void change_page_size(int n)
{
    if (n == 1)
        app_commit_between(0, "PRAGMA page_size=8192; VACUUM");
}

static void change_mode(int n)
{
    if (n == 1)
        app_commit_between(0, "PRAGMA journal_mode=WAL");
}

static void shape_changes(void **state)
{
    static copyjob_step *const steps[] = {change_page_size, change_mode};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct copyjob j;

        copyjob_make_live(4096, 0, "delete", copyjob_rows(3));
        copyjob_init(&j, COPYJOB_LIVE, steps[i]);
        copyjob_expect(&j, ERR_BUSY, "changed");
        app_end_pending();
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* A journal that a killed application left behind is rolled back first. */
static void hot_journal(void **state)
{
    struct copyjob j;
    struct err e = {0};

    (void)state;
    copyjob_make_live(4096, 0, "delete", copyjob_rows(2));
    app_sql(0, "PRAGMA synchronous=FULL; PRAGMA cache_size=5; BEGIN;"
               "UPDATE t SET b='torn' || b");
    file_copy_all(COPYJOB_LIVE, scratch_path("killed"));
    file_copy_all(scratch_path("live.db-journal"),
                  scratch_path("killed-journal"));
    app_sql(0, "ROLLBACK");
    app_close(0);
    copyjob_init(&j, scratch_path("killed"), NULL);
    if (copyjob_run(&j, &e) != 0)
        fail_msg("%s", e.message);
    assert_false(file_exists(scratch_path("killed-journal")));
    app_image(scratch_path("killed"), scratch_path("image"));
    app_open(0, scratch_path("killed"));
    assert_int_equal(app_int(0, "SELECT count(*) FROM t WHERE b LIKE 'torn%'"),
                     0);
    app_close(0);
    copyjob_check(&j, scratch_path("image"));
    copyjob_fini(&j);
}

/* ------------------------------------------------- ahead, then catch up */

/* A backup to compare with: the live database as it is now. */
static int backup_of_now(struct copyjob *j)
{
    int fd;

    app_image(COPYJOB_LIVE, scratch_path("backup"));
    fd = open(scratch_path("backup"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    j->opts.backup_fd = fd;
    j->opts.backup_page_size = (uint32_t)app_int(0, "PRAGMA page_size");
    j->opts.backup_pages = (uint64_t)app_int(0, "PRAGMA page_count");
    return fd;
}

/* Every checksum that is known is that of what stands in the file. */
static void check_sums(const struct copyjob *j)
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
static void check_differs(const struct copyjob *j)
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
static void ahead(const char *mode, copyjob_step *at, const char *later)
{
    struct copyjob j;
    struct snapshot then = {0};
    struct snapshot now = {0};
    struct sqlite3 *second = NULL;
    struct err e = {0};
    int backup_fd;
    int rc;

    copyjob_init(&j, COPYJOB_LIVE, at);
    backup_fd = backup_of_now(&j);
    copyjob_connect(&j);
    if (copy_ahead(&j.copy, j.db, &j.opts, &then, &e) != 0)
        fail_msg("%s", e.message);
    app_end_pending();
    app_sql(0, "%s", later);
    app_image(COPYJOB_LIVE, scratch_path("image"));
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
    copyjob_check(&j, scratch_path("image"));
    check_differs(&j);
    check_sums(&j);
    copyjob_fini(&j);
    file_close(&backup_fd);
}

static void ahead_quiet(void **state)
{
    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(2));
    ahead("wal", NULL, "");
    app_close(0);
    (void)scratch_clear(NULL);
    copyjob_make_live(4096, 0, "delete", copyjob_rows(2));
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

        copyjob_make_live(i % 2 == 0 ? 4096 : 512, (int)i % 3,
                          wal ? "wal" : "delete", copyjob_rows(3));
        ahead(wal ? "wal" : "delete", wal ? copyjob_commit : change_one_row,
              later[i / 2 % 4]);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Everything stands in the main file at first; then the WAL begins anew. */
static void ahead_wal_restarted(void **state)
{
    (void)state;
    copyjob_make_live(4096, 0, "wal", copyjob_rows(3));
    app_sql(0, "PRAGMA wal_checkpoint");
    ahead("wal", copyjob_commit_and_restart, "UPDATE t SET b='last' WHERE a=1");
    app_close(0);
}

static void drop_tail(int n)
{
    if (n == 3)
        app_commit_between(0, "DELETE FROM tail WHERE rowid>100");
}

/* Full auto-vacuum, where the pages of `tail` are the last ones. */
static void make_with_tail(void)
{
    app_open(0, COPYJOB_LIVE);
    app_sql(0,
            "PRAGMA auto_vacuum=1; PRAGMA synchronous=OFF;"
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE TABLE tail(b)");
    app_sql(0, APP_ROWS "INSERT INTO t(b) SELECT hex(zeroblob(1500)) FROM n",
            500);
    app_sql(0, APP_ROWS "INSERT INTO tail SELECT hex(zeroblob(1500)) FROM n",
            600);
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
    struct copyjob j;
    struct snapshot then = {0};
    struct err e = {0};
    int backup_fd;

    (void)state;
    copyjob_make_live(4096, 0, "wal", 10);
    copyjob_init(&j, COPYJOB_LIVE, NULL);
    backup_fd = backup_of_now(&j);
    j.opts.backup_page_size = 8192;
    copyjob_connect(&j);
    assert_int_equal(copy_ahead(&j.copy, j.db, &j.opts, &then, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, "page_size");
    copyjob_fini(&j);
    file_close(&backup_fd);
    app_close(0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
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
    };
    struct err e;
    int failed;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
