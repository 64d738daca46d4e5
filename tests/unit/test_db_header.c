/* The database header, through src/sqlite/check.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite/check.h"
#include "sqlite3.h"

static void put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

/* The same bytes in every run (splitmix64). */
static void fill_random(uint8_t *bytes, size_t n, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        bytes[i] = (uint8_t)(z >> 56);
    }
}

/* The header of a database that SQLite makes with these statements. */
static void make_header(const char *sql, uint8_t bytes[100])
{
    sqlite3 *db = NULL;
    sqlite3_int64 size = 0;
    unsigned char *image;

    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    image = sqlite3_serialize(db, "main", &size, 0);
    assert_non_null(image);
    assert_true(size >= 100);
    memcpy(bytes, image, 100);
    sqlite3_free(image);
    (void)sqlite3_close(db);
}

static void expect_refusal(const uint8_t bytes[100], enum err_code code,
                           const char *message)
{
    struct db_header h;
    struct err e;

    assert_int_equal(db_header_parse(bytes, &h, &e), -1);
    assert_int_equal(e.code, code);
    assert_string_equal(e.message, message);
}

static void reads_fields(void **state)
{
    uint8_t bytes[100];
    struct db_header h;
    struct err e;

    (void)state;
    make_header("PRAGMA page_size=8192; PRAGMA encoding='UTF-16le';"
                "PRAGMA auto_vacuum=2; PRAGMA user_version=7;"
                "PRAGMA application_id=99; CREATE TABLE t(a)",
                bytes);
    assert_int_equal(db_header_parse(bytes, &h, &e), 0);
    assert_int_equal(h.page_size, 8192);
    assert_int_equal(h.n_pages, 3);
    assert_int_equal(h.encoding, 2);
    assert_int_equal(h.auto_vacuum, 2);
    assert_int_equal(h.user_version, 7);
    assert_int_equal(h.application_id, 99);
    assert_int_equal(h.schema_cookie, 1);
    assert_false(h.wal);
    bytes[18] = bytes[19] = 2;
    put32(bytes + 64, 0);
    assert_int_equal(db_header_parse(bytes, &h, &e), 0);
    assert_true(h.wal);
    assert_int_equal(h.auto_vacuum, 1);
}

static void reads_page_sizes(void **state)
{
    (void)state;
    for (unsigned size = 512; size <= 65536; size *= 2) {
        char sql[80];
        uint8_t bytes[100];
        struct db_header h;
        struct err e;

        (void)snprintf(sql, sizeof sql,
                       "PRAGMA page_size=%u; CREATE TABLE t(a)", size);
        make_header(sql, bytes);
        assert_int_equal(db_header_parse(bytes, &h, &e), 0);
        assert_int_equal(h.page_size, size);
    }
}

static void old_page_count(void **state)
{
    uint8_t bytes[100];
    struct db_header h;
    struct err e;

    (void)state;
    make_header("CREATE TABLE t(a)", bytes);
    put32(bytes + 24, 5);
    put32(bytes + 92, 4);
    assert_int_equal(db_header_parse(bytes, &h, &e), 0);
    assert_int_equal(h.n_pages, 0);
    assert_int_equal(h.change_counter, 5);
    assert_int_equal(h.version_valid_for, 4);
}

static void refuses_impossible(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        const char *message;
    } cases[] = {
        {16, 3, "the header names an impossible page size"},
        {17, 2, "the header names an impossible page size"},
        {18, 3, "the header names an unknown file format, 3 and 1"},
        {19, 9, "the header names an unknown file format, 1 and 9"},
        {21, 65, "the header has wrong payload fractions"},
        {22, 0, "the header has wrong payload fractions"},
        {23, 31, "the header has wrong payload fractions"},
        {47, 5, "the header names an unknown schema format, 5"},
        {59, 4, "the header names an unknown text encoding, 4"},
    };
    uint8_t good[100];

    (void)state;
    make_header("CREATE TABLE t(a)", good);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[100];

        memcpy(bytes, good, sizeof bytes);
        bytes[cases[i].at] = cases[i].value;
        expect_refusal(bytes, ERR_DAMAGED, cases[i].message);
    }
    put32(good + 16, 0x02000101); /* pages of 512 bytes */
    good[20] = 33;
    expect_refusal(good, ERR_DAMAGED,
                   "the header reserves 33 of 512 bytes of each page");
}

static void tells_foreign_files(void **state)
{
    static const char prose[] =
        "When in the Course of human events, it becomes necessary for one "
        "people to dissolve the political bands which";
    static const char base64[] =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhg"
        "GAWjR9awAAAABJRU5ErkJggg0x7Zq81Kx2";
    uint8_t bytes[100] = {0};
    uint64_t seed = 1;

    (void)state;
    expect_refusal(bytes, ERR_DAMAGED, "the header is overwritten with zeroes");
    memcpy(bytes, prose, sizeof bytes);
    expect_refusal(bytes, ERR_NOT_DATABASE, "the file is no SQLite database");
    memcpy(bytes, base64, sizeof bytes);
    expect_refusal(bytes, ERR_NOT_DATABASE, "the file is no SQLite database");
    for (int i = 0; i < 1000; i++) {
        fill_random(bytes, sizeof bytes, &seed);
        expect_refusal(bytes, ERR_ENCRYPTED,
                       "the file looks like an encrypted database");
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"db_header: every field is read", reads_fields, NULL, NULL, NULL},
        {"db_header: every page size is read", reads_page_sizes, NULL, NULL,
         NULL},
        {"db_header: a page count by an old SQLite does not count",
         old_page_count, NULL, NULL, NULL},
        {"db_header: impossible values are damage", refuses_impossible, NULL,
         NULL, NULL},
        {"db_header: random bytes look encrypted, text and zeroes do not",
         tells_foreign_files, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
