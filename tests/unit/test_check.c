/* Checking database files, through src/sqlite/check.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dbfile.h"
#include "failing.h"
#include "sqlite/check.h"
#include "sqlite3.h"

#define MIB ((uint64_t)1 << 20)
#define PAGE INT64_C(4096) /* SQLite's default */

static struct guard *guard;
static struct guard *crashing; /* its "check" service dies */

/* ----------------------------------------------------- making databases */

/* Index i on t(a) lacks an entry, which only integrity_check finds. */
#define BREAK_INDEX                                    \
    "PRAGMA writable_schema=ON; UPDATE sqlite_schema " \
    "SET sql='CREATE INDEX i ON t(a) WHERE 0' WHERE name='i'"
#define MEND_SCHEMA                                    \
    "PRAGMA writable_schema=ON; UPDATE sqlite_schema " \
    "SET sql='CREATE INDEX i ON t(a)' WHERE name='i'"

static const char *make_broken_index(const char *name, const char *more)
{
    const char *path = dbfile_make(
        name, "CREATE TABLE t(a); CREATE INDEX i ON t(a);" DBFILE_ROWS
              "INSERT INTO t SELECT i FROM n");

    dbfile_change(path, more);
    dbfile_change(path, BREAK_INDEX);
    dbfile_change(path, "UPDATE t SET a=-7 WHERE rowid=9");
    dbfile_change(path, MEND_SCHEMA);
    return path;
}

/* -------------------------------------------------------------- checking */

static struct check_opts private_file(const char *path, bool deep)
{
    return (struct check_opts){
        .path = path, .deep = deep, .size_bytes = 16 * MIB};
}

/* `not_checked` NULL: everything was. */
static void expect_report(const struct check_opts *o, enum check_result result,
                          const char *problem, const char *not_checked)
{
    struct check_report r;
    struct err e = {0};
    int rc = check_run(guard, o, &r, &e);

    if (rc != 0)
        fail_msg("%s", e.message);
    assert_string_equal(r.problem, problem);
    assert_int_equal(r.result, result);
    assert_int_equal(r.n_problems != 0,
                     result == CHECK_DAMAGED || result == CHECK_NOT_PROVEN);
    assert_string_equal(r.not_checked == NULL ? "" : r.not_checked,
                        not_checked == NULL ? "" : not_checked);
    check_report_fini(&r);
}

static void expect_ok(const char *path, bool deep, const char *not_checked)
{
    struct check_opts o = private_file(path, deep);

    expect_report(&o, CHECK_OK, "", not_checked);
}

static void expect_damage(const char *path, bool deep, const char *problem)
{
    struct check_opts o = private_file(path, deep);

    expect_report(&o, CHECK_DAMAGED, problem, NULL);
}

static void expect_error(const struct check_opts *o, enum err_code code)
{
    struct check_report r;
    struct err e = {0};

    assert_int_equal(check_run(guard, o, &r, &e), -1);
    assert_int_equal(e.code, code);
    assert_null(strstr(e.message, dbfile_folder()));
    check_report_fini(&r);
}

static void sound_files(void **state)
{
    (void)state;
    for (int size = 512; size <= 65536; size *= 2) {
        char sql[512];
        const char *path;

        (void)snprintf(
            sql, sizeof sql,
            "PRAGMA page_size=%d; PRAGMA auto_vacuum=%d;"
            "CREATE TABLE t(a, b); CREATE INDEX i ON t(b);" DBFILE_ROWS
            "INSERT INTO t SELECT i, hex(i) FROM n",
            size, size / 512 % 3);
        path = dbfile_make("sound.db", sql);
        expect_ok(path, false, NULL);
        expect_ok(path, true, NULL);
    }
}

static void odd_paths(void **state)
{
    const char *path =
        dbfile_make("a ?b#c%20\xc3\xa4&immutable=0.db",
                    "PRAGMA journal_mode=WAL; CREATE TABLE t(a)");

    (void)state;
    expect_ok(path, true, NULL);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(unlink(path), 0);
}

static void wrong_lengths(void **state)
{
    const char *path = dbfile_make("length.db", "CREATE TABLE t(a);"
                                                "CREATE TABLE u(a)");

    (void)state;
    assert_int_equal(dbfile_size(path), 3 * PAGE);
    assert_int_equal(truncate(path, 3 * PAGE - 100), 0);
    expect_damage(path, false,
                  "the file is 12188 bytes long, not a multiple of its page "
                  "size, 4096");
    assert_int_equal(truncate(path, 2 * PAGE), 0);
    expect_damage(path, false, "the file has 2 pages where its header says 3");
    assert_int_equal(truncate(path, 4 * PAGE), 0);
    expect_damage(path, true, "the file has 4 pages where its header says 3");
    assert_int_equal(truncate(path, 50), 0);
    expect_damage(path, false, "the file ends inside its header");
    assert_int_equal(truncate(path, 0), 0);
    expect_damage(path, false, "the file is empty");
}

static void foreign_files(void **state)
{
    const char *path = dbfile_path("foreign");
    struct check_opts o = private_file(path, false);
    uint8_t bytes[8192];
    uint32_t x = 1;

    (void)state;
    (void)unlink(path);
    expect_error(&o, ERR_NOT_FOUND);
    dbfile_write(path, 0, "hello, world", 12);
    expect_error(&o, ERR_NOT_DATABASE);
    for (size_t i = 0; i < sizeof bytes; i++) {
        x = x * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(x >> 24);
    }
    dbfile_write(path, 0, bytes, sizeof bytes);
    expect_error(&o, ERR_ENCRYPTED);
    o.live = true;
    expect_error(&o, ERR_ENCRYPTED);
    assert_int_equal(truncate(path, 8191), 0); /* no whole pages */
    o.live = false;
    expect_error(&o, ERR_NOT_DATABASE);
    memset(bytes, 'x', sizeof bytes);
    dbfile_write(path, 0, bytes, sizeof bytes);
    expect_error(&o, ERR_NOT_DATABASE);
    o.live = true;
    expect_error(&o, ERR_NOT_DATABASE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    o.live = false;
    expect_error(&o, ERR_NOT_FOUND);
    assert_int_equal(unlink(path), 0);
}

/* The report of a check that must find damage. */
static void find_damage(const char *path, bool deep, struct check_report *r)
{
    struct check_opts o = private_file(path, deep);
    struct err e;

    assert_int_equal(check_run(guard, &o, r, &e), 0);
    assert_int_equal(r->result, CHECK_DAMAGED);
    assert_true(r->n_problems > 0);
}

static void broken_pages(void **state)
{
    const char *path =
        dbfile_make("pages.db", "CREATE TABLE tab(a);" DBFILE_ROWS
                                "INSERT INTO tab SELECT hex(i) "
                                "|| printf('%100s', i) FROM n");
    struct check_report r;

    (void)state;
    dbfile_write(path, 5 * PAGE + 3, "\xff\xff\xff\xff", 4);
    find_damage(path, false, &r);
    assert_non_null(strstr(r.problem, "Tree 2 page"));
    assert_non_null(strstr(r.problem, "(table tab)"));
    check_report_fini(&r);
    find_damage(path, true, &r);
    check_report_fini(&r);
}

static void broken_index(void **state)
{
    const char *path = make_broken_index("index.db", "SELECT 1");

    (void)state;
    expect_ok(path, false, NULL);
    expect_damage(path, true, "row 9 missing from index i");
}

static void broken_schema(void **state)
{
    const char *path = dbfile_make("schema.db", "CREATE TABLE t(a)");

    (void)state;
    dbfile_change(path, "PRAGMA writable_schema=ON; UPDATE sqlite_schema "
                        "SET sql='CREATE TABLE t(a' || char(7) || char(255)");
    expect_damage(path, false,
                  "malformed database schema (t) - unrecognized token: \"?\"");
}

static void missing_functions(void **state)
{
    const char *path;

    (void)state;
    path = dbfile_make("f.db", "CREATE TABLE t(a CHECK(f(a)>a));"
                               "CREATE TABLE empty(a CHECK(f(a)>a));"
                               "INSERT INTO t VALUES(1),(2)");
    expect_ok(path, false, "function f, CHECK constraints of table t");
    expect_ok(path, true, "function f, CHECK constraints of table t");
    path = dbfile_make("f.db", "CREATE TABLE t(a); CREATE INDEX i ON t(f(a));"
                               "INSERT INTO t VALUES(1),(2)");
    expect_ok(path, false, NULL);
    expect_ok(path, true, "function f, rows of table t");
    path = dbfile_make("f.db", "CREATE TABLE t(a);"
                               "CREATE INDEX i ON t(a) WHERE f(a)>3;"
                               "INSERT INTO t VALUES(1),(2)");
    expect_ok(path, false, NULL);
    expect_ok(path, true, "function f, rows of table t");
    path = dbfile_make("f.db", "CREATE TABLE t(a, b INT NOT NULL AS (f(a)),"
                               " c INT NOT NULL AS (f(a)) STORED);"
                               "CREATE INDEX i ON t(b);"
                               "CREATE TABLE \"12 \"\"odd\"(a);"
                               "INSERT INTO t(a) VALUES(1),(2)");
    expect_ok(path, false, "function f, rows of table t");
    expect_ok(path, true, "function f, rows of table t");
    /* An application's function with the name of one of SQLite's. */
    path = dbfile_make("f.db", "CREATE TABLE t(a CHECK(upper(a)>''));"
                               "INSERT INTO t VALUES('x')");
    dbfile_change(path, "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET "
                        "sql='CREATE TABLE t(a CHECK(upper(a,1,2)>''''))'");
    expect_ok(path, true, "function upper, CHECK constraints of table t");
}

static void missing_collation(void **state)
{
    static const char *const encodings[] = {"UTF-8", "UTF-16le"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char sql[512];
        const char *path;

        (void)snprintf(sql, sizeof sql,
                       "PRAGMA encoding='%s';"
                       "CREATE TABLE t(a COLLATE app);"
                       "CREATE INDEX i ON t(a);"
                       "CREATE TABLE w(a PRIMARY KEY COLLATE app) "
                       "WITHOUT ROWID;" DBFILE_ROWS
                       "INSERT INTO t SELECT hex(i) FROM n;"
                       "INSERT INTO w SELECT DISTINCT a FROM t",
                       encodings[i]);
        path = dbfile_make("collation.db", sql);
        expect_ok(path, false, NULL);
        expect_ok(path, true,
                  "collation app, rows of table t, rows of table w");
    }
}

static void damage_beside_stubs(void **state)
{
    const char *path = make_broken_index(
        "beside.db", "CREATE TABLE s(a CHECK(f(a)>a));"
                     "INSERT INTO s VALUES(1);"
                     "CREATE TABLE c(a COLLATE app); CREATE INDEX j ON c(a);"
                     "INSERT INTO c VALUES('x'),('y')");
    struct check_report r;

    (void)state;
    find_damage(path, true, &r);
    assert_string_equal(r.problem, "row 9 missing from index i");
    check_report_fini(&r);
    expect_ok(path, false, "function f, CHECK constraints of table s");
    /* Its own index, where only its CHECK constraint needs the function. */
    path = make_broken_index("beside.db", "SELECT 1");
    dbfile_change(path, "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET "
                        "sql='CREATE TABLE t(a CHECK(f(a)>a))' WHERE name='t'");
    find_damage(path, true, &r);
    assert_string_equal(r.problem, "row 9 missing from index i");
    check_report_fini(&r);
    path = dbfile_make("beside.db", "CREATE TABLE s(a CHECK(f(a)>a));"
                                    "INSERT INTO s VALUES(1);"
                                    "CREATE TABLE t(a);");
    dbfile_write(path, 2 * PAGE, "\x07", 1);
    find_damage(path, false, &r);
    assert_non_null(strstr(r.problem, "Tree 3 page 3"));
    assert_non_null(strstr(r.problem, "(table t)"));
    check_report_fini(&r);
}

static void virtual_tables(void **state)
{
    const char *path = dbfile_make(
        "virtual.db",
        "CREATE VIRTUAL TABLE ft USING fts5(a, b);"
        "CREATE VIRTUAL TABLE old USING fts4(a);"
        "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1);" DBFILE_ROWS
        "INSERT INTO ft SELECT 'word' || i, hex(i) FROM n;"
        "INSERT INTO old SELECT a FROM ft;"
        "INSERT INTO r VALUES(1, 2, 3)");
    struct check_report r;

    (void)state;
    expect_ok(path, false, NULL);
    expect_ok(path, true, NULL);
    dbfile_change(path, "PRAGMA writable_schema=ON;"
                        "INSERT INTO sqlite_schema VALUES('table','v','v',0,"
                        "'CREATE VIRTUAL TABLE v USING \"no such\"(a)')");
    expect_ok(path, false, "module no such");
    expect_ok(path, true, "module no such");
    /* A tokenizer of the application's. */
    dbfile_change(path,
                  "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql="
                  "'CREATE VIRTUAL TABLE ft USING fts5(a, b, "
                  "tokenize=''mine'')' WHERE name='ft';"
                  "CREATE TABLE t(a CHECK(f(a)>a));"
                  "INSERT INTO t VALUES(1)");
    expect_ok(path, true,
              "function f, rows of table ft, "
              "CHECK constraints of table t, module no such");
    /* Damage in what the module keeps. */
    path = dbfile_make("virtual.db",
                       "CREATE VIRTUAL TABLE ft USING fts5(a);"
                       "INSERT INTO ft VALUES('one'),('two');"
                       "UPDATE ft_content SET c0='three' WHERE id=1");
    find_damage(path, true, &r);
    assert_string_equal(r.problem, "fts5: checksum mismatch for table \"ft\"");
    check_report_fini(&r);
}

static void views_and_triggers(void **state)
{
    const char *path =
        dbfile_make("views.db", "CREATE TABLE t(a);"
                                "CREATE VIEW v AS SELECT f(a), gone(a) FROM t;"
                                "CREATE VIEW w AS SELECT * FROM nowhere "
                                "ORDER BY x COLLATE absent;"
                                "CREATE TRIGGER tr AFTER INSERT ON t BEGIN"
                                "  SELECT missing(new.a); END");

    (void)state;
    expect_ok(path, false, NULL);
    expect_ok(path, true, NULL);
}

static void refusing_schema(void **state)
{
    const char *path = dbfile_make("refuse.db", "CREATE TABLE t(a);"
                                                "INSERT INTO t VALUES(1);"
                                                "CREATE TABLE u(a)");

    (void)state;
    dbfile_change(path,
                  "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET "
                  "sql='CREATE TABLE t(a CHECK(abs(-9223372036854775807-a)"
                  ">0))' WHERE name='t'");
    expect_ok(path, true, "CHECK constraints of table t");
}

static void bombs(void **state)
{
    const char *path = dbfile_make("bomb.db", "CREATE TABLE t(a)");
    struct check_opts o = private_file(path, false);

    (void)state;
    dbfile_change(path, "INSERT INTO t VALUES(1); PRAGMA writable_schema=ON;"
                        "UPDATE sqlite_schema SET sql='CREATE TABLE t(a "
                        "CHECK(length(hex(zeroblob(2e8)))>=0))'");
    expect_report(&o, CHECK_NOT_PROVEN,
                  "the memory limit of 96 MiB was reached", NULL);
}

/* A table t whose text, in the schema alone, has `each` for every number below
 * 205, which is more than can be replaced. */
static const char *with_many(const char *name, const char *head,
                             const char *each, const char *tail)
{
    const char *path = dbfile_make(name, "CREATE TABLE t(a, b);"
                                         "INSERT INTO t VALUES(1, 2)");
    struct buf sql = {0};

    buf_printf(&sql,
               "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET "
               "sql='%s",
               head);
    for (int i = 0; i < 205; i++)
        for (const char *c = each; *c != '\0'; c++)
            if (*c == '#')
                buf_printf(&sql, "%d", i);
            else
                buf_put(&sql, c, 1);
    buf_printf(&sql, "%s'", tail);
    dbfile_change(path, sql.data);
    buf_fini(&sql);
    return path;
}

/* More missing functions than are replaced: the constraints are left out, or
 * the schema cannot be used. */
static void many_functions(void **state)
{
    const char *path = with_many("constraints.db", "CREATE TABLE t(a, b CHECK(",
                                 "g#(a) OR ", "b=2))");
    struct check_opts o;

    (void)state;
    expect_ok(path, false, "CHECK constraints of table t");
    dbfile_write(path, 4096, "\x07", 1);
    expect_damage(path, false,
                  "Tree 2 page 2: btreeInitPage() returns error "
                  "code 11 (table t)");
    path = with_many("columns.db", "CREATE TABLE t(a",
                     ", c# NOT NULL AS (g#(a))", ")");
    o = private_file(path, false);
    expect_report(&o, CHECK_NOT_PROVEN,
                  "SQLite refuses the schema (unknown function: g4())", NULL);
}

static int die(const void *request, size_t len, struct buf *reply,
               struct err *e)
{
    (void)request;
    (void)len;
    (void)reply;
    (void)e;
    return raise(SIGSEGV);
}

static void crashes(void **state)
{
    const char *path = dbfile_make("crash.db", "CREATE TABLE t(a)");
    struct check_opts o = private_file(path, false);
    struct check_report r;
    struct err e;

    (void)state;
    failing_real_children(true);
    assert_int_equal(check_run(crashing, &o, &r, &e), 0);
    failing_real_children(false);
    assert_int_equal(r.result, CHECK_NOT_PROVEN);
    assert_string_equal(r.problem, "the checker crashed on this file");
    check_report_fini(&r);
}

static void cancelled(void **state)
{
    bool cancel = true;
    struct check_opts o =
        private_file(dbfile_make("cancel.db", "CREATE TABLE t(a)"), false);

    (void)state;
    o.cancel = &cancel;
    expect_error(&o, ERR_CANCELLED);
}

/* --------------------------------------------------------- live databases */

/* How many files lie in the scratch folder, and their owner. */
static int count_files(uid_t owner)
{
    DIR *d = opendir(dbfile_folder());
    const struct dirent *ent;
    int n = 0;

    assert_non_null(d);
    while ((ent = readdir(d)) != NULL) {
        struct stat st;

        if (ent->d_name[0] == '.')
            continue;
        assert_int_equal(stat(dbfile_path(ent->d_name), &st), 0);
        assert_int_equal(st.st_uid, owner);
        n++;
    }
    (void)closedir(d);
    return n;
}

static struct check_opts live_file(const char *path, bool wal,
                                   const void *snapshot)
{
    return (struct check_opts){.path = path,
                               .live = true,
                               .wal = wal,
                               .snapshot = snapshot,
                               .size_bytes = MIB};
}

static void live_snapshot(void **state)
{
    const char *path = dbfile_path("live.db");
    sqlite3 *reader;
    sqlite3 *writer;
    sqlite3_snapshot *snapshot = NULL;
    struct check_opts o;

    (void)state;
    dbfile_clear();
    writer = dbfile_open(path);
    dbfile_sql(writer, "PRAGMA journal_mode=WAL; CREATE TABLE t(a);"
                       "INSERT INTO t VALUES(1)");
    reader = dbfile_open(path);
    dbfile_sql(reader, "BEGIN; SELECT * FROM t");
    assert_int_equal(sqlite3_snapshot_get(reader, "main", &snapshot),
                     SQLITE_OK);
    o = live_file(path, true, snapshot);
    expect_report(&o, CHECK_OK, "", NULL);
    /* Writers go on; the snapshot stays, with its schema. */
    dbfile_sql(writer, "CREATE TABLE u(a CHECK(f(a)>a));"
                       "INSERT INTO u VALUES(1); PRAGMA wal_checkpoint");
    expect_report(&o, CHECK_OK, "", NULL);
    assert_int_equal(count_files(geteuid()), 3);
    /* The reader lets go, and the WAL is used again from its start. */
    dbfile_sql(reader, "COMMIT");
    dbfile_sql(writer, "PRAGMA wal_checkpoint(TRUNCATE);"
                       "INSERT INTO t VALUES(2)");
    expect_report(&o, CHECK_MOVED_ON, "", NULL);
    sqlite3_snapshot_free(snapshot);
    (void)sqlite3_close(reader);
    (void)sqlite3_close(writer);
}

static void live_empty_wal(void **state)
{
    const char *path = dbfile_path("live.db");
    sqlite3 *reader;
    sqlite3 *writer;
    sqlite3_snapshot *snapshot = NULL;
    struct check_opts o = live_file(path, true, NULL);

    (void)state;
    dbfile_clear();
    dbfile_change(path, "PRAGMA journal_mode=WAL; CREATE TABLE t(a)");
    reader = dbfile_open(path);
    dbfile_sql(reader, "BEGIN; SELECT * FROM t");
    assert_int_equal(sqlite3_snapshot_get(reader, "main", &snapshot),
                     SQLITE_ERROR);
    expect_report(&o, CHECK_OK, "", NULL);
    writer = dbfile_open(path);
    dbfile_sql(writer, "INSERT INTO t VALUES(2)");
    expect_report(&o, CHECK_MOVED_ON, "", NULL);
    o.wal = false;
    expect_report(&o, CHECK_MOVED_ON, "", NULL);
    /* A WAL that has begun again has a snapshot, though no frames. */
    dbfile_sql(reader, "COMMIT");
    dbfile_sql(writer, "PRAGMA wal_checkpoint(TRUNCATE)");
    dbfile_sql(reader, "BEGIN; SELECT * FROM t");
    assert_int_equal(sqlite3_snapshot_get(reader, "main", &snapshot),
                     SQLITE_OK);
    o = live_file(path, true, snapshot);
    expect_report(&o, CHECK_OK, "", NULL);
    dbfile_sql(writer, "INSERT INTO t VALUES(2)");
    expect_report(&o, CHECK_OK, "", NULL);
    sqlite3_snapshot_free(snapshot);
    (void)sqlite3_close(reader);
    (void)sqlite3_close(writer);
}

static void live_rollback(void **state)
{
    const char *path = dbfile_path("live.db");
    sqlite3 *app;
    struct check_opts o = live_file(path, false, NULL);

    (void)state;
    dbfile_clear();
    dbfile_write(path, 0, "", 0);
    expect_report(&o, CHECK_OK, "", NULL); /* an empty database */
    app = dbfile_open(path);
    dbfile_sql(app, "PRAGMA journal_mode=PERSIST; CREATE TABLE t(a);"
                    "INSERT INTO t VALUES(1);"
                    "BEGIN IMMEDIATE; INSERT INTO t VALUES(2)");
    expect_report(&o, CHECK_OK, "", NULL);
    o.wal = true;
    expect_report(&o, CHECK_MOVED_ON, "", NULL);
    dbfile_sql(app, "ROLLBACK");
    (void)sqlite3_close(app);
    dbfile_write(path, PAGE + 3, "\xff\xff", 2);
    o.wal = false;
    o.deep = true;
    {
        struct check_report r;
        struct err e;

        assert_int_equal(check_run(guard, &o, &r, &e), 0);
        assert_int_equal(r.result, CHECK_DAMAGED);
        assert_non_null(strstr(r.problem, "(table t)"));
        check_report_fini(&r);
    }
}

static void live_of_another(void **state)
{
    const char *path = dbfile_path("live.db");
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    sqlite3 *app;
    sqlite3_snapshot *snapshot = NULL;
    struct check_opts o;

    (void)state;
    if (geteuid() != 0)
        skip();
    dbfile_clear();
    app = dbfile_open(path);
    dbfile_sql(app, "PRAGMA journal_mode=WAL; CREATE TABLE t(a);"
                    "BEGIN; SELECT * FROM t");
    assert_int_equal(sqlite3_snapshot_get(app, "main", &snapshot), SQLITE_OK);
    for (size_t i = 0; i < 3; i++) {
        char name[64];

        (void)snprintf(name, sizeof name, "live.db%s", suffixes[i]);
        assert_int_equal(chmod(dbfile_path(name), 0600), 0);
        assert_int_equal(chown(dbfile_path(name), 1234, 4321), 0);
    }
    assert_int_equal(chown(dbfile_folder(), 1234, 4321), 0);
    o = live_file(path, true, snapshot);
    expect_report(&o, CHECK_OK, "", NULL);
    assert_int_equal(count_files(1234), 3);
    /* A folder that the owner cannot use. */
    assert_int_equal(chown(dbfile_folder(), 0, 0), 0);
    expect_report(&o, CHECK_OK, "", NULL);
    assert_int_equal(count_files(1234), 3);
    sqlite3_snapshot_free(snapshot);
    (void)sqlite3_close(app);
}

#define T(name, f)                \
    {                             \
        name, f, NULL, NULL, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T("check: a sound file of any page size is right", sound_files),
        T("check: a path with signs that URIs use, and a WAL header",
          odd_paths),
        T("check: a file of the wrong length is damage", wrong_lengths),
        T("check: what is no database is told from what looks encrypted",
          foreign_files),
        T("check: a broken page is named with its table", broken_pages),
        T("check: a missing index entry is found by the deep check",
          broken_index),
        T("check: a malformed schema is damage", broken_schema),
        T("check: missing functions are not damage", missing_functions),
        T("check: a missing collation is not damage", missing_collation),
        T("check: damage is found beside what cannot be checked",
          damage_beside_stubs),
        T("check: virtual tables are checked, unknown modules named",
          virtual_tables),
        T("check: views and triggers are not looked into", views_and_triggers),
        T("check: more missing functions than are replaced", many_functions),
        T("check: a constraint that fails to run is not checked",
          refusing_schema),
        T("check: a file that needs too much memory is not proven", bombs),
        T("check: a crash of the checker is not proven", crashes),
        T("check: a cancelled check fails", cancelled),
        T("check: a live snapshot is checked while writers go on",
          live_snapshot),
        T("check: a live WAL without frames", live_empty_wal),
        T("check: a live database in rollback mode", live_rollback),
        T("check: root checks a live database of another user",
          live_of_another),
    };
    static const struct guard_service broken = {"check", die};
    struct err e;
    int failed;

    if (guard_start(&check_service, 1, &guard, &e) != 0 ||
        guard_start(&broken, 1, &crashing, &e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, dbfile_setup, dbfile_teardown);
    guard_stop(crashing);
    guard_stop(guard);
    return failed;
}
