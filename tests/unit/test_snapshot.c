/* Pinned read transactions, through src/sqlite/snapshot.h and sq.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dbutil.h"
#include "sqlite/snapshot.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

#define LIVE scratch_path("live.db")

static struct live_opts live;

static void make_live(const char *mode, int page_size)
{
    live = (struct live_opts){.path = LIVE,
                              .label = "test",
                              .busy_timeout_ms = 50,
                              .wal_limit_bytes = 1 << 30};
    app_open(0, LIVE);
    app_sql(0,
            "PRAGMA page_size=%d; PRAGMA journal_mode=%s;"
            "PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0;"
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b)",
            page_size, mode);
    app_sql(0, APP_ROWS "INSERT INTO t(b) SELECT hex(zeroblob(500)) FROM n",
            300);
}

static struct sqlite3 *connect_to(void)
{
    struct sqlite3 *db = NULL;
    struct err e = {0};

    if (live_connect(&live, &db, &e) != 0)
        fail_msg("%s", e.message);
    return db;
}

static void begin(struct snapshot *s, struct sqlite3 *db)
{
    struct err e = {0};

    if (snapshot_begin(s, db, &live, &e) != 0)
        fail_msg("%s", e.message);
}

/* All pages, in reads of `step`, and one by one, are those of `image`. */
static void expect_pages(struct snapshot *s, const char *image, size_t step)
{
    struct bytes want = bytes_read(image);
    uint8_t *buf = xmalloc(step * s->page_size);
    struct err e = {0};

    assert_int_equal(want.n, s->n_pages * s->page_size);
    for (uint64_t p = 1; p <= s->n_pages; p += step) {
        size_t n = s->n_pages - p + 1 < step ? s->n_pages - p + 1 : step;

        assert_int_equal(snapshot_read(s, p, n, buf, &e), 0);
        assert_memory_equal(buf, want.p + (p - 1) * s->page_size,
                            n * s->page_size);
    }
    for (uint64_t p = 1; p <= s->n_pages; p++) {
        const void *page = snapshot_page(s, p, &e);

        assert_non_null(page);
        assert_memory_equal(page, want.p + (p - 1) * s->page_size,
                            s->page_size);
    }
    free(buf);
    bytes_fini(&want);
}

static void shape(void **state)
{
    struct sqlite3 *db;
    struct snapshot s = {0};

    (void)state;
    snapshot_end(&s);
    make_live("delete", 1024);
    db = connect_to();
    begin(&s, db);
    assert_int_equal(s.page_size, 1024);
    assert_int_equal(s.n_pages, app_int(0, "PRAGMA page_count"));
    assert_false(s.wal || s.has_id);
    assert_null(s.in_wal);
    snapshot_end(&s);
    snapshot_end(&s);
    app_sql(0, "PRAGMA journal_mode=WAL");
    begin(&s, db);
    assert_true(s.wal);
    assert_false(s.has_id);
    assert_int_equal(s.n_frames, 0);
    snapshot_end(&s);
    app_sql(0, "UPDATE t SET b='x' WHERE a=1");
    begin(&s, db);
    assert_true(s.wal && s.has_id);
    assert_int_equal(s.n_frames,
                     app_int(0, "PRAGMA wal_checkpoint") == 0 ? s.n_frames : 0);
    assert_true(s.n_frames >= 1);
    assert_non_null(s.in_wal);
    snapshot_end(&s);
    live_disconnect(db);
    app_close(0);
}

static void frozen(void **state)
{
    static const int sizes[] = {512, 4096, 65536};

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct sqlite3 *db;
        struct snapshot s = {0};

        make_live("wal", sizes[i % 3]);
        if (i < 3)
            app_sql(0, "PRAGMA wal_checkpoint");
        app_sql(0, "UPDATE t SET b='first' WHERE a%%3=0");
        app_image(LIVE, scratch_path("image"));
        db = connect_to();
        begin(&s, db);
        app_sql(0, "DELETE FROM t WHERE a>10; PRAGMA wal_checkpoint;"
                   "VACUUM; INSERT INTO t(b) VALUES(zeroblob(100000))");
        expect_pages(&s, scratch_path("image"), 1);
        expect_pages(&s, scratch_path("image"), 7);
        snapshot_end(&s);
        app_image(LIVE, scratch_path("image"));
        begin(&s, db);
        expect_pages(&s, scratch_path("image"), 100);
        snapshot_end(&s);
        live_disconnect(db);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void data_versions(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct sqlite3 *db;
        struct snapshot s = {0};
        int64_t was;

        make_live(modes[i], 4096);
        db = connect_to();
        begin(&s, db);
        was = s.data_version;
        snapshot_end(&s);
        begin(&s, db);
        assert_int_equal(s.data_version, was);
        snapshot_end(&s);
        app_sql(0, "UPDATE t SET b=1 WHERE a=1");
        begin(&s, db);
        assert_int_not_equal(s.data_version, was);
        snapshot_end(&s);
        live_disconnect(db);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Every page that differs between two snapshots is marked. */
static void expect_marked(const char *sql, bool checkpointed)
{
    struct sqlite3 *a;
    struct sqlite3 *b;
    struct snapshot then = {0};
    struct snapshot now = {0};
    struct bytes x;
    struct bytes y;
    struct err e = {0};
    uint8_t *map;
    size_t n_marked = 0;

    make_live("wal", 4096);
    if (checkpointed)
        app_sql(0, "PRAGMA wal_checkpoint");
    app_image(LIVE, scratch_path("then"));
    a = connect_to();
    b = connect_to();
    begin(&then, a);
    app_sql(0, "%s", sql);
    app_image(LIVE, scratch_path("now"));
    begin(&now, b);
    map = xcalloc(now.n_pages / 8 + 1, 1);
    assert_int_equal(snapshot_changed_since(&now, &then, map, &e), 0);
    x = bytes_read(scratch_path("then"));
    y = bytes_read(scratch_path("now"));
    for (size_t p = 1; p <= now.n_pages; p++) {
        bool differs =
            p * 4096 > x.n ||
            memcmp(x.p + (p - 1) * 4096, y.p + (p - 1) * 4096, 4096) != 0;

        n_marked += bit_get(map, p);
        if (differs && !bit_get(map, p))
            fail_msg("page %zu differs and is not marked", p);
    }
    assert_false(bit_get(map, 0));
    if (*sql == '\0')
        assert_int_equal(n_marked, 0);
    bytes_fini(&x);
    bytes_fini(&y);
    free(map);
    snapshot_end(&now);
    snapshot_end(&then);
    live_disconnect(a);
    live_disconnect(b);
    app_close(0);
    (void)scratch_clear(NULL);
}

static void changes(void **state)
{
    static const char *const sql[] = {
        "",
        "UPDATE t SET b='x' WHERE a%7=0",
        "UPDATE t SET b='x' WHERE a=1; PRAGMA wal_checkpoint;"
        "UPDATE t SET b='y' WHERE a=299",
        "INSERT INTO t(b) SELECT b FROM t",
        "DELETE FROM t WHERE a<200; VACUUM",
        "DELETE FROM t WHERE a>20; VACUUM; INSERT INTO t(b) "
        "SELECT zeroblob(4000) FROM t; PRAGMA wal_checkpoint"};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof sql / sizeof *sql; i++)
        expect_marked(sql[i / 2], i % 2 == 1);
}

/* Within our own write transaction; it stays open. */
static void joining(void **state)
{
    struct sqlite3 *db;
    struct snapshot s = {0};
    struct err e = {0};

    (void)state;
    make_live("delete", 4096);
    app_image(LIVE, scratch_path("image"));
    db = connect_to();
    assert_int_equal(sq_exec(db, "BEGIN EXCLUSIVE", &e), 0);
    assert_int_equal(snapshot_join(&s, db, &live, &e), 0);
    expect_pages(&s, scratch_path("image"), 50);
    snapshot_end(&s);
    assert_int_equal(app_try(0, "SELECT * FROM t"), SQLITE_BUSY);
    assert_int_equal(sq_exec(db, "COMMIT", &e), 0);
    assert_int_equal(app_try(0, "SELECT * FROM t"), SQLITE_OK);
    live_disconnect(db);
    app_close(0);
}

/* Rollback mode: writers wait while it is there, and go on afterwards. */
static void locks(void **state)
{
    struct sqlite3 *db;
    struct snapshot s = {0};
    struct err e = {0};

    (void)state;
    make_live("delete", 4096);
    db = connect_to();
    begin(&s, db);
    assert_int_equal(app_try(0, "UPDATE t SET b=1"), SQLITE_BUSY);
    snapshot_end(&s);
    app_sql(0, "UPDATE t SET b=1");
    app_sql(0, "BEGIN EXCLUSIVE");
    assert_int_equal(snapshot_begin(&s, db, &live, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_string_equal(e.reason, "locked");
    app_sql(0, "ROLLBACK");
    begin(&s, db);
    snapshot_end(&s);
    live_disconnect(db);
    app_close(0);
}

static void wal_size(void **state)
{
    struct sqlite3 *db;
    struct snapshot s = {0};
    struct err e = {0};

    (void)state;
    make_live("wal", 4096);
    db = connect_to();
    begin(&s, db);
    assert_int_equal(snapshot_check_wal(&s, &e), 0);
    live.wal_limit_bytes = 1000;
    assert_int_equal(snapshot_check_wal(&s, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_string_equal(e.reason, "wal_limit");
    snapshot_end(&s);
    live_disconnect(db);
    app_close(0);
}

/* The header says more; what is there can still be copied and be judged. */
static void cut_short(void **state)
{
    struct bytes b;
    struct sqlite3 *db;
    struct snapshot s = {0};

    (void)state;
    make_live("delete", 4096);
    app_close(0);
    b = bytes_read(LIVE);
    b.n -= (size_t)3 * 4096;
    bytes_write(LIVE, b);
    db = connect_to();
    begin(&s, db);
    assert_int_equal(s.n_pages, b.n / 4096);
    snapshot_end(&s);
    live_disconnect(db);
    bytes_fini(&b);
}

static void no_database(void **state)
{
    static const char text[] = "no database, but a text that is long enough";
    struct sqlite3 *db = NULL;
    struct err e = {0};

    (void)state;
    make_live("delete", 4096);
    app_close(0);
    bytes_write(LIVE, (struct bytes){(uint8_t *)(uintptr_t)text, sizeof text});
    assert_int_equal(live_connect(&live, &db, &e), -1);
    assert_int_equal(e.code, ERR_NOT_DATABASE);
    assert_null(db);
}

/* SQLite's result codes become ours. */
static void result_codes(void **state)
{
    static const int codes[][2] = {{SQLITE_BUSY, ERR_BUSY},
                                   {SQLITE_BUSY_SNAPSHOT, ERR_BUSY},
                                   {SQLITE_LOCKED, ERR_BUSY},
                                   {SQLITE_CORRUPT, ERR_DAMAGED},
                                   {SQLITE_CORRUPT_INDEX, ERR_DAMAGED},
                                   {SQLITE_NOTADB, ERR_NOT_DATABASE},
                                   {SQLITE_FULL, ERR_NO_SPACE},
                                   {SQLITE_READONLY, ERR_CONFLICT},
                                   {SQLITE_IOERR_READ, ERR_IO},
                                   {SQLITE_CANTOPEN, ERR_IO},
                                   {SQLITE_ERROR, ERR_INTERNAL},
                                   {SQLITE_MISUSE, ERR_INTERNAL}};

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        struct err e = {0};

        assert_int_equal(sq_fail(NULL, codes[i][0], &e, "doing %d", 7), -1);
        assert_int_equal(e.code, codes[i][1]);
        assert_int_equal(strncmp(e.message, "doing 7: ", 9), 0);
        assert_string_equal(e.reason,
                            e.code == ERR_CONFLICT ? "read_only" : "");
    }
}

static void statements(void **state)
{
    struct sqlite3 *db = NULL;
    struct sqlite3_stmt *st = NULL;
    struct err e = {0};
    int64_t v = 0;

    (void)state;
    assert_int_equal(sq_open(scratch_path("own.db"), &db, &e), 0);
    assert_int_equal(sq_exec(db, "CREATE TABLE t(a, b)", &e), 0);
    assert_int_equal(sq_prepare(db, "INSERT INTO t VALUES(?1, ?2)", &st, &e),
                     0);
    for (int i = 1; i <= 2; i++) {
        sq_bind_int(st, 1, i);
        if (i == 1)
            sq_bind_text(st, 2, "text");
        assert_int_equal(sq_step(st, &e), 0);
        sq_reset(st); /* bindings too */
    }
    sq_finalize(st);
    assert_int_equal(sq_prepare(db, "SELECT * FROM t ORDER BY a", &st, &e), 0);
    assert_int_equal(sq_step(st, &e), 1);
    assert_int_equal(sq_int64(st, 0), 1);
    assert_string_equal(sq_text(st, 1), "text");
    assert_int_equal(sq_step(st, &e), 1);
    assert_null(sq_text(st, 1));
    assert_int_equal(sq_step(st, &e), 0);
    sq_finalize(st);
    sq_finalize(NULL);
    assert_int_equal(sq_int(db, "SELECT 5 WHERE 0", &v, &e), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    assert_int_equal(sq_int(db, "SELECT 5", &v, &e), 0);
    assert_int_equal(v, 5);
    assert_int_equal(sq_exec(db, "nonsense", &e), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    sq_close(db);
    sq_close(NULL);
    assert_int_equal(sq_open(scratch_path("no/own.db"), &db, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_string_equal(sq_version(), sqlite3_libversion());
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"snapshot: says page size, pages, mode and its place in the WAL",
         shape, NULL, scratch_clear, NULL},
        {"snapshot: pages are those of the moment it began", frozen, NULL,
         scratch_clear, NULL},
        {"snapshot: the data version changes with others' commits",
         data_versions, NULL, scratch_clear, NULL},
        {"snapshot: every page changed since an older one is marked", changes,
         NULL, scratch_clear, NULL},
        {"snapshot: joins a transaction and leaves it open", joining, NULL,
         scratch_clear, NULL},
        {"snapshot: keeps writers out in rollback mode, until it ends", locks,
         NULL, scratch_clear, NULL},
        {"snapshot: a WAL past its limit is told", wal_size, NULL,
         scratch_clear, NULL},
        {"snapshot: a file that is cut short has the pages that are there",
         cut_short, NULL, scratch_clear, NULL},
        {"snapshot: a file that is no database is told", no_database, NULL,
         scratch_clear, NULL},
        {"sq: SQLite's result codes become ours", result_codes, NULL,
         scratch_clear, NULL},
        {"sq: statements", statements, NULL, scratch_clear, NULL},
    };
    struct err e;
    int failed;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
