/* Converting to another page size, through src/sqlite/check.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "dbfile.h"
#include "sqlite/check.h"

#define MIB ((uint64_t)1 << 20)

static struct guard *guard;

static int convert(const char *from, uint32_t page_size, struct err *e)
{
    (void)unlink(dbfile_path("converted"));
    return convert_run(guard, from, dbfile_path("converted"), page_size, MIB,
                       e);
}

static void converts(void **state)
{
    const char *from = dbfile_make(
        "from.db", "PRAGMA page_size=1024; PRAGMA auto_vacuum=1;"
                   "PRAGMA user_version=7; PRAGMA journal_mode=WAL;"
                   "CREATE TABLE t(a CHECK(f(a)>a), b COLLATE app,"
                   " c INT AS (f(a)) STORED);"
                   "CREATE INDEX i ON t(a); CREATE INDEX j ON t(f(a));"
                   "CREATE VIRTUAL TABLE ft USING fts5(a);" DBFILE_ROWS
                   "INSERT INTO t(a, b) SELECT i, hex(i) FROM n;"
                   "INSERT INTO ft SELECT b FROM t;"
                   "CREATE VIEW v AS SELECT absent(a) FROM t");
    const char *to = dbfile_path("converted");
    struct err e = {0};

    (void)state;
    for (uint32_t size = 512; size <= 65536; size *= 2) {
        if (convert(from, size, &e) != 0)
            fail_msg("%u: %s", (unsigned)size, e.message);
        assert_int_equal(dbfile_int(to, "PRAGMA page_size"), size);
        assert_int_equal(dbfile_int(to, "PRAGMA user_version"), 7);
        assert_int_equal(dbfile_int(to, "PRAGMA auto_vacuum"), 1);
        assert_int_equal(dbfile_int(to, "SELECT sum(a) FROM t"), 125250);
        assert_int_equal(
            dbfile_int(to, "SELECT count(*) FROM ft WHERE ft MATCH '313030'"),
            1);
        assert_int_equal(dbfile_int(to, "SELECT integrity_check='ok' "
                                        "FROM pragma_integrity_check"),
                         1);
    }
    assert_int_equal(access(dbfile_path("converted-journal"), F_OK), -1);
}

static void convert_refusals(void **state)
{
    const char *from = dbfile_make("from.db", "CREATE TABLE t(a);" DBFILE_ROWS
                                              "INSERT INTO t SELECT i FROM n");
    const char *to = dbfile_path("converted");
    struct err e;

    (void)state;
    assert_int_equal(convert(from, 1000, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(convert(dbfile_path("nonesuch"), 1024, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    dbfile_write(to, 0, "x", 1);
    assert_int_equal(convert_run(guard, from, to, 1024, MIB, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, "exists");
    assert_int_equal(dbfile_size(to), 1);
    dbfile_write(from, 4096, "\x07", 1);
    assert_int_equal(convert(from, 1024, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    from = dbfile_make("from.db", "CREATE TABLE t(a COLLATE app);"
                                  "CREATE INDEX i ON t(a);"
                                  "INSERT INTO t VALUES('x'),('y')");
    assert_int_equal(convert(from, 1024, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, "schema");
    assert_string_equal(e.message, "the schema needs the application's own "
                                   "collation app");
    assert_int_equal(access(to, F_OK), -1);
    assert_int_equal(access(dbfile_path("converted-journal"), F_OK), -1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"convert: a copy with another page size has the same content",
         converts, NULL, NULL, NULL},
        {"convert: refusals leave nothing behind", convert_refusals, NULL, NULL,
         NULL},
    };
    struct err e;
    int failed;

    if (guard_start(&convert_service, 1, &guard, &e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, dbfile_setup, dbfile_teardown);
    guard_stop(guard);
    return failed;
}
