/* Live databases, through src/sqlite/live.h, image.h and vfs.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "dbutil.h"
#include "sqlite/image.h"
#include "sqlite/live.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

#define LIVE scratch_path("live.db")
#define NOBODY 65534

static struct live_opts opts(const char *path)
{
    return (struct live_opts){.path = path,
                              .label = "test",
                              .busy_timeout_ms = 50,
                              .wal_limit_bytes = 1 << 30};
}

static struct sqlite3 *connect_to(const struct live_opts *o)
{
    struct sqlite3 *db = NULL;
    struct err e = {0};

    if (live_connect(o, &db, &e) != 0)
        fail_msg("%s", e.message);
    return db;
}

static void make_live(const char *mode)
{
    app_open(0, LIVE);
    app_sql(0,
            "PRAGMA journal_mode=%s; PRAGMA wal_autocheckpoint=0;"
            "CREATE TABLE t(a); INSERT INTO t VALUES(1)",
            mode);
}

/* ------------------------------------------------------------------ stat */

static void looks(void **state)
{
    struct live_opts o = opts(LIVE);
    struct live_file f;
    struct stat st;
    struct err e = {0};

    (void)state;
    assert_int_equal(live_stat(&o, &f, &e), 0);
    assert_false(f.exists || f.wal_file || f.journal_file);
    make_live("wal");
    assert_int_equal(live_stat(&o, &f, &e), 0);
    assert_int_equal(stat(LIVE, &st), 0);
    assert_true(f.exists && f.wal_file && !f.journal_file);
    assert_int_equal(f.size_bytes, st.st_size);
    assert_int_equal(f.mtime_s, st.st_mtime);
    assert_int_equal(f.ino, st.st_ino);
    assert_int_equal(f.dev, st.st_dev);
    assert_int_equal(f.uid, st.st_uid);
    assert_int_equal(f.gid, st.st_gid);
    assert_int_equal(stat(scratch_path("live.db-wal"), &st), 0);
    assert_int_equal(f.wal_bytes, st.st_size);
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE)");
    assert_int_equal(live_stat(&o, &f, &e), 0);
    assert_false(f.wal_file);
    app_sql(0, "PRAGMA journal_mode=PERSIST; INSERT INTO t VALUES(2)");
    assert_int_equal(live_stat(&o, &f, &e), 0);
    assert_true(f.journal_file);
    app_close(0);
}

static void expect_refused(const char *path, const char *reason)
{
    struct live_opts o = opts(path);
    struct live_file f;
    struct err e = {0};

    assert_int_equal(live_stat(&o, &f, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, reason);
    assert_non_null(strstr(e.message, "database test"));
    assert_false(f.exists);
}

static void refused_files(void **state)
{
    (void)state;
    make_live("delete");
    app_close(0);
    assert_int_equal(mkdir(scratch_path("dir"), 0700), 0);
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    assert_int_equal(symlink("live.db", scratch_path("link")), 0);
    expect_refused(scratch_path("dir"), "not_regular");
    expect_refused(scratch_path("fifo"), "not_regular");
    expect_refused(scratch_path("link"), "not_regular");
    assert_int_equal(link(LIVE, scratch_path("other.db")), 0);
    expect_refused(LIVE, "hard_link");
    assert_int_equal(unlink(scratch_path("other.db")), 0);
    if (geteuid() != 0)
        return;
    /* Somebody else's file, and we are not root. */
    assert_int_equal(chmod(scratch_path("."), 0777), 0);
    assert_int_equal(seteuid(NOBODY), 0);
    expect_refused(LIVE, "owner");
    assert_int_equal(seteuid(0), 0);
}

/* ------------------------------------------------------------ connecting */

static void missing_file(void **state)
{
    struct live_opts o = opts(LIVE);
    struct sqlite3 *db = NULL;
    struct err e = {0};
    int n = fds_open();

    (void)state;
    assert_int_equal(live_connect(&o, &db, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_null(db);
    assert_false(file_exists(LIVE));
    assert_int_equal(fds_open(), n);
    live_disconnect(NULL);
}

/* Connecting and reading changes no byte and leaves no file. */
static void leaves_alone(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct live_opts o = opts(LIVE);
        struct bytes before;
        struct bytes after;
        struct sqlite3 *db;
        struct err e = {0};
        int64_t n;

        make_live(modes[i]);
        app_close(0);
        before = bytes_read(LIVE);
        db = connect_to(&o);
        assert_int_equal(sq_int(db, "SELECT count(*) FROM live.t", &n, &e), 0);
        assert_int_equal(n, 1);
        live_disconnect(db);
        after = bytes_read(LIVE);
        assert_true(bytes_equal(before, after, NULL));
        bytes_fini(&before);
        bytes_fini(&after);
        assert_false(file_exists(scratch_path("live.db-wal")));
        assert_false(file_exists(scratch_path("live.db-shm")));
        assert_false(file_exists(scratch_path("live.db-journal")));
        (void)scratch_clear(NULL);
    }
}

/* The last to leave a WAL with content does not run a checkpoint. */
static void no_checkpoint(void **state)
{
    struct live_opts o = opts(LIVE);
    struct bytes before;
    struct bytes after;
    struct bytes wal_before;
    struct bytes wal_after;
    struct sqlite3 *db;
    struct err e = {0};
    int64_t n;

    (void)state;
    make_live("wal");
    file_copy_all(LIVE, scratch_path("killed"));
    file_copy_all(scratch_path("live.db-wal"), scratch_path("killed-wal"));
    o.path = scratch_path("killed");
    before = bytes_read(scratch_path("killed"));
    wal_before = bytes_read(scratch_path("killed-wal"));
    db = connect_to(&o);
    assert_int_equal(sq_int(db, "SELECT count(*) FROM live.t", &n, &e), 0);
    assert_int_equal(n, 1);
    live_disconnect(db);
    after = bytes_read(scratch_path("killed"));
    wal_after = bytes_read(scratch_path("killed-wal"));
    assert_true(bytes_equal(before, after, NULL));
    assert_true(bytes_equal(wal_before, wal_after, NULL));
    bytes_fini(&before);
    bytes_fini(&after);
    bytes_fini(&wal_before);
    bytes_fini(&wal_after);
    app_close(0);
}

/* A -wal with nothing in it that an application has open stays. */
static void open_wal_stays(void **state)
{
    struct live_opts o = opts(LIVE);

    (void)state;
    make_live("wal");
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE)");
    live_disconnect(connect_to(&o));
    assert_true(file_exists(scratch_path("live.db-wal")));
    assert_true(file_exists(scratch_path("live.db-shm")));
    app_sql(0, "INSERT INTO t VALUES(2)");
    live_disconnect(connect_to(&o));
    app_open(1, LIVE);
    assert_int_equal(app_int(1, "SELECT count(*) FROM t"), 2);
    app_close(1);
    app_close(0);
    app_check(LIVE);
}

static void busy(void **state)
{
    struct live_opts o = opts(LIVE);
    struct sqlite3 *db = NULL;
    struct err e = {0};

    (void)state;
    make_live("delete");
    app_sql(0, "BEGIN EXCLUSIVE");
    assert_int_equal(live_connect(&o, &db, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_string_equal(e.reason, "locked");
    assert_non_null(strstr(e.message, "test"));
    app_close(0);
}

/* Closing any other descriptor of the file would drop our locks. */
/* A name that came after live_stat has looked. */
static void refused_by_its_second_name(const char *path)
{
    const char *second = scratch_path("second.db");
    struct sqlite3 *db = NULL;

    assert_int_equal(link(path, second), 0);
    assert_int_equal(
        sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW,
                        NULL),
        SQLITE_CANTOPEN);
    (void)sqlite3_close(db);
    assert_int_equal(unlink(second), 0);
}

static void locks_survive(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct live_opts o = opts(LIVE);
        struct sqlite3 *db;
        struct live_file f;
        struct db_header h;
        struct outfile *out;
        uint64_t n = 0;
        struct err e = {0};
        int fd = open(scratch_path("raw"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        make_live(modes[i]);
        db = connect_to(&o);
        assert_int_equal(sq_exec(db, "BEGIN IMMEDIATE", &e), 0);
        assert_int_equal(sq_exec(db, "INSERT INTO live.t VALUES(2)", &e), 0);
        refused_by_its_second_name(LIVE);
        assert_int_equal(live_stat(&o, &f, &e), 0);
        assert_int_equal(live_header(&o, &h, &n, &e), 0);
        out = outfile_new(fd, false);
        assert_int_equal(live_copy_raw(&o, out, &n, &e), 0);
        outfile_free(out);
        (void)close(fd);
        live_disconnect(connect_to(&o));
        assert_int_equal(app_try(0, "INSERT INTO t VALUES(3)"), SQLITE_BUSY);
        assert_int_equal(sq_exec(db, "COMMIT", &e), 0);
        live_disconnect(db);
        assert_int_equal(app_int(0, "SELECT count(*) FROM t"), 2);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* ------------------------------------------------------------- retrying */

static void retrying(void **state)
{
    struct live_opts o = opts(LIVE);
    struct live_wait w;
    int64_t began_ms = clock_monotonic_ms();
    bool cancel = false;
    struct err e = {0};
    int n = 0;

    (void)state;
    live_wait_start(&o, false, &w);
    while (live_retry(&o, &w, &e) == 0)
        n++;
    assert_true(n > 1);
    assert_true(clock_monotonic_ms() - began_ms >= 50);
    assert_int_equal(e.code, ERR_BUSY);
    assert_string_equal(e.reason, "locked");
    /* What has a reason already is no lock to wait for. */
    live_wait_start(&o, false, &w);
    assert_int_equal(live_retry(&o, &w, &e), -1);
    assert_string_equal(e.reason, "locked");
    e = (struct err){0};
    o.cancel = &cancel;
    assert_false(live_cancelled(&o));
    live_wait_start(&o, false, &w);
    assert_int_equal(live_retry(&o, &w, &e), 0);
    __atomic_store_n(&cancel, true, __ATOMIC_RELEASE);
    assert_true(live_cancelled(&o));
    assert_int_equal(live_retry(&o, &w, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_string_equal(e.reason, "stopping");
}

/* ---------------------------------------------------------------- image */

static void empty_image(void **state)
{
    struct buf b = {0};
    struct err e = {0};

    (void)state;
    assert_int_equal(image_empty(&b, &e), 0);
    bytes_write(LIVE, (struct bytes){(uint8_t *)b.data, b.len});
    buf_fini(&b);
    app_check(LIVE);
    app_open(0, LIVE);
    assert_int_equal(app_int(0, "PRAGMA page_count"), 1);
    assert_int_equal(app_int(0, "SELECT count(*) FROM sqlite_schema"), 0);
    app_sql(0, "CREATE TABLE t(a)");
    app_close(0);
}

static void headers(void **state)
{
    struct live_opts o = opts(LIVE);
    struct db_header h;
    uint64_t n = 9;
    struct err e = {0};

    (void)state;
    bytes_write(LIVE, (struct bytes){0});
    assert_int_equal(live_header(&o, &h, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_int_equal(h.page_size, 0);
    app_open(0, LIVE);
    app_sql(0, "PRAGMA page_size=8192; PRAGMA encoding='UTF-16be';"
               "PRAGMA auto_vacuum=2; PRAGMA application_id=77;"
               "PRAGMA journal_mode=WAL; CREATE TABLE t(a);"
               "PRAGMA user_version=5");
    /* As page 1 stands in the WAL, not in the main file. */
    assert_int_equal(live_header(&o, &h, &n, &e), 0);
    assert_int_equal(n, app_int(0, "PRAGMA page_count"));
    assert_int_equal(h.page_size, 8192);
    assert_int_equal(h.encoding, 3);
    assert_int_equal(h.auto_vacuum, 2);
    assert_int_equal(h.application_id, 77);
    assert_int_equal(h.user_version, 5);
    assert_true(h.wal);
    app_close(0);
}

static void raw(void **state)
{
    static const size_t sizes[] = {2, 4095, 70000, 1 << 20, (3 << 20) + 17};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct live_opts o = opts(LIVE);
        struct bytes b = {malloc(sizes[i]), sizes[i]};
        struct bytes got;
        struct outfile *out;
        uint64_t n = 0;
        struct err e = {0};
        int fd = open(scratch_path("raw"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        assert_non_null(b.p);
        for (size_t k = 0; k < b.n; k++)
            b.p[k] = (uint8_t)(k * 7 + (k >> 9));
        bytes_write(LIVE, b);
        out = outfile_new(fd, true);
        if (live_copy_raw(&o, out, &n, &e) != 0)
            fail_msg("%s", e.message);
        outfile_free(out);
        (void)close(fd);
        assert_int_equal(n, sizes[i]);
        got = bytes_read(scratch_path("raw"));
        assert_true(bytes_equal(b, got, NULL));
        bytes_fini(&got);
        bytes_fini(&b);
        (void)scratch_clear(NULL);
    }
}

/* ------------------------------------------------------------------ vfs */

static void expect_owner(const char *name)
{
    struct stat st;

    assert_int_equal(stat(scratch_path("%s", name), &st), 0);
    assert_int_equal(st.st_uid, NOBODY);
    assert_int_equal(st.st_gid, NOBODY);
}

/* What we make beside another user's database is his. */
static void owner(void **state)
{
    struct live_opts o = opts(LIVE);
    struct sqlite3 *db;
    struct err e = {0};
    int64_t n;

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(scratch_path("."), 0777), 0);
    make_live("wal");
    app_close(0);
    assert_int_equal(chown(LIVE, NOBODY, NOBODY), 0);
    db = connect_to(&o);
    assert_int_equal(sq_int(db, "SELECT count(*) FROM live.t", &n, &e), 0);
    expect_owner("live.db-wal");
    expect_owner("live.db-shm");
    live_disconnect(db);
    app_open(0, LIVE);
    app_sql(0, "PRAGMA journal_mode=DELETE");
    app_close(0);
    db = connect_to(&o);
    assert_int_equal(sq_exec(db, "BEGIN; INSERT INTO live.t VALUES(2)", &e), 0);
    expect_owner("live.db-journal");
    assert_int_equal(sq_exec(db, "ROLLBACK", &e), 0);
    live_disconnect(db);
    /* We are ourselves again. */
    bytes_write(scratch_path("mine"), (struct bytes){0});
    {
        struct stat st;

        assert_int_equal(stat(scratch_path("mine"), &st), 0);
        assert_int_equal(st.st_uid, 0);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"live: what the file system says, without opening anything", looks,
         NULL, scratch_clear, NULL},
        {"live: folders, links and others' files are refused with the reason",
         refused_files, NULL, scratch_clear, NULL},
        {"live: a missing file is not made", missing_file, NULL, scratch_clear,
         NULL},
        {"live: reading leaves the file and its folder as they were",
         leaves_alone, NULL, scratch_clear, NULL},
        {"live: no checkpoint is run on a WAL with content", no_checkpoint,
         NULL, scratch_clear, NULL},
        {"live: the WAL of an open application stays", open_wal_stays, NULL,
         scratch_clear, NULL},
        {"live: an exclusive lock is busy", busy, NULL, scratch_clear, NULL},
        {"live: our locks survive all that looks at the database",
         locks_survive, NULL, scratch_clear, NULL},
        {"live: retrying ends at the deadline and when the service stops",
         retrying, NULL, scratch_clear, NULL},
        {"image: an empty database is a valid one", empty_image, NULL,
         scratch_clear, NULL},
        {"image: the header of a live database is that of its last commit",
         headers, NULL, scratch_clear, NULL},
        {"image: raw bytes of a file that is no database", raw, NULL,
         scratch_clear, NULL},
        {"vfs: -wal, -shm and -journal belong to the database's owner", owner,
         NULL, scratch_clear, NULL},
    };
    struct err e;
    int failed;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
