/* The catalog, through src/catalog/catalog.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/catalog.h"
#include "dbutil.h"
#include "sqlite/sq.h"

static struct catalog *open_it(void)
{
    struct catalog *c = NULL;
    struct err e = {0};

    if (catalog_open(scratch_path("."), &c, &e) != 0)
        fail_msg("%s", e.message);
    return c;
}

static void databases(void **state)
{
    struct catalog *c = open_it();
    struct catalog_database *list = NULL;
    struct err e = {0};
    size_t n = 7;

    (void)state;
    assert_int_equal(catalog_list_databases(c, &list, &n, &e), 0);
    assert_int_equal(n, 0);
    catalog_databases_free(list, n);
    assert_int_equal(catalog_put_database(c, "shop", "/srv/o'hara.db", &e), 0);
    assert_int_equal(catalog_put_database(c, "blog", NULL, &e), 0);
    assert_int_equal(catalog_put_database(c, "shop", "/srv/b", &e), 0);
    catalog_close(c);
    c = open_it();
    assert_int_equal(catalog_list_databases(c, &list, &n, &e), 0);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "blog");
    assert_null(list[0].path);
    assert_string_equal(list[1].name, "shop");
    assert_string_equal(list[1].path, "/srv/b");
    catalog_databases_free(list, n);
    assert_int_equal(catalog_delete_database(c, "blog", &e), 0);
    assert_int_equal(catalog_delete_database(c, "nonesuch", &e), 0);
    assert_int_equal(catalog_list_databases(c, &list, &n, &e), 0);
    assert_int_equal(n, 1);
    catalog_databases_free(list, n);
    catalog_close(c);
}

static void settings(void **state)
{
    struct catalog *c = open_it();
    struct err e = {0};
    char *current = NULL;
    int64_t mark = 7;

    (void)state;
    assert_int_equal(catalog_get_current(c, &current, &e), 0);
    assert_null(current);
    assert_int_equal(catalog_get_mark(c, "shop", &mark, &e), 0);
    assert_int_equal(mark, 0);
    assert_int_equal(catalog_put_current(c, "shop", &e), 0);
    assert_int_equal(catalog_put_current(c, "blog", &e), 0);
    assert_int_equal(catalog_put_mark(c, "shop", 1776090330, &e), 0);
    catalog_close(c);
    c = open_it();
    assert_int_equal(catalog_get_current(c, &current, &e), 0);
    assert_string_equal(current, "blog");
    free(current);
    assert_int_equal(catalog_get_mark(c, "shop", &mark, &e), 0);
    assert_int_equal(mark, 1776090330);
    assert_int_equal(catalog_get_mark(c, "blog", &mark, &e), 0);
    assert_int_equal(mark, 0);
    catalog_close(c);
}

static const char *adopted(struct catalog *c, const struct catalog_key *k)
{
    static char text[64];
    struct err e = {0};
    char *facts = NULL;

    assert_int_equal(catalog_get_adopted(c, k, &facts, &e), 0);
    (void)snprintf(text, sizeof text, "%s", facts != NULL ? facts : "none");
    free(facts);
    return text;
}

static void adopted_facts(void **state)
{
    struct catalog *c = open_it();
    struct catalog_key k = {"shop", "app_20260413_142530.db", 8192, 5};
    struct catalog_key other;
    struct catalog_adopted *rows = NULL;
    struct err e = {0};
    size_t n;

    (void)state;
    assert_string_equal(adopted(c, &k), "none");
    assert_int_equal(catalog_put_adopted(c, &k, true, "{1}", &e), 0);
    assert_string_equal(adopted(c, &k), "{1}");
    /* A file that changed is another one. */
    other = k;
    other.size_bytes++;
    assert_string_equal(adopted(c, &other), "none");
    other = k;
    other.mtime_ns--;
    assert_string_equal(adopted(c, &other), "none");
    other = k;
    other.database = "blog";
    assert_string_equal(adopted(c, &other), "none");
    k.size_bytes = UINT64_C(1) << 40;
    assert_int_equal(catalog_put_adopted(c, &k, false, "{2}", &e), 0);
    assert_string_equal(adopted(c, &k), "{2}");
    other = k;
    other.filename = "app_20250413_142530.db";
    assert_int_equal(catalog_put_adopted(c, &other, true, "{3}", &e), 0);
    catalog_close(c);
    c = open_it();
    assert_int_equal(catalog_list_adopted(c, "shop", &rows, &n, &e), 0);
    assert_int_equal(n, 2);
    assert_string_equal(rows[0].filename, other.filename);
    assert_true(rows[0].good);
    assert_string_equal(rows[1].filename, k.filename);
    assert_int_equal(rows[1].size_bytes, k.size_bytes);
    assert_int_equal(rows[1].mtime_ns, 5);
    assert_false(rows[1].good);
    free(rows);
    rows = NULL;
    assert_int_equal(catalog_list_adopted(c, "blog", &rows, &n, &e), 0);
    assert_int_equal(n, 0);
    free(rows);
    catalog_close(c);
}

static void refusals(void **state)
{
    struct catalog *c = open_it();
    struct err e = {0};

    (void)state;
    catalog_close(c);
    catalog_close(NULL);
    app_open(0, scratch_path("holdfast.db"));
    app_sql(0, "PRAGMA user_version=3");
    app_close(0);
    c = NULL;
    assert_int_equal(catalog_open(scratch_path("."), &c, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_null(c);
    assert_non_null(strstr(e.message, "newer"));
    bytes_write(
        scratch_path("holdfast.db"),
        (struct bytes){(uint8_t *)(uintptr_t) "no database, but text", 21});
    assert_int_equal(catalog_open(scratch_path("."), &c, &e), -1);
    assert_int_equal(e.code, ERR_NOT_DATABASE);
    assert_int_equal(catalog_open(scratch_path("absent"), &c, &e), -1);
    assert_int_equal(e.code, ERR_IO);
}

/* Tables as damage may leave them: no constraint of the schema holds. */
static struct catalog *damaged_with(const char *rows)
{
    static const char tables[] =
        "DROP TABLE IF EXISTS database; DROP TABLE IF EXISTS setting;"
        "DROP TABLE IF EXISTS adopted; CREATE TABLE database(name, path);"
        "CREATE TABLE setting(key, value); CREATE TABLE adopted(database, "
        "filename, size, mtime_ns, good, facts)";
    struct sqlite3 *db = NULL;
    struct err e = {0};

    catalog_close(open_it());
    assert_int_equal(sq_open(scratch_path("holdfast.db"), &db, &e), 0);
    assert_int_equal(sq_exec(db, tables, &e), 0);
    assert_int_equal(sq_exec(db, rows, &e), 0);
    sq_close(db);
    return open_it();
}

static void expect_damaged_list(const char *rows)
{
    struct catalog *c = damaged_with(rows);
    struct catalog_database *list = NULL;
    struct err e = {0};
    size_t n = 7;

    assert_int_equal(catalog_list_databases(c, &list, &n, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    assert_int_equal(n, 0);
    catalog_databases_free(list, n);
    catalog_close(c);
}

static void damaged_rows(void **state)
{
    const struct catalog_key k = {"shop", "f", 1, 1};
    struct catalog_adopted *list = NULL;
    struct catalog *c;
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;

    (void)state;
    expect_damaged_list("INSERT INTO database VALUES('a','/a'),(NULL,'/b')");
    expect_damaged_list("INSERT INTO database VALUES('a','b')");
    c = damaged_with("INSERT INTO setting VALUES('current',NULL);"
                     "INSERT INTO adopted VALUES('shop','f',1,1,1,NULL),"
                     "('shop',NULL,NULL,NULL,NULL,NULL)");
    assert_int_equal(catalog_get_current(c, &text, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    assert_null(text);
    assert_int_equal(catalog_get_adopted(c, &k, &text, &e), 0);
    assert_null(text);
    assert_int_equal(catalog_list_adopted(c, "shop", &list, &n, &e), 0);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].filename, "");
    free(list);
    catalog_close(c);
}

static void *put_many(void *arg)
{
    struct catalog *c = arg;
    struct err e = {0};
    int64_t mark;

    for (int i = 1; i <= 20; i++) {
        if (catalog_put_mark(c, "shop", i, &e) != 0 ||
            catalog_get_mark(c, "shop", &mark, &e) != 0 || mark < 1)
            return NULL;
    }
    return c;
}

static void threads(void **state)
{
    struct catalog *c = open_it();
    pthread_t thread[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, put_many, c), 0);
    for (int i = 0; i < 4; i++) {
        void *r = NULL;

        assert_int_equal(pthread_join(thread[i], &r), 0);
        assert_ptr_equal(r, c);
    }
    catalog_close(c);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"catalog: registered databases are kept, replaced and forgotten",
         databases, NULL, scratch_clear, NULL},
        {"catalog: the current database and the newest names are kept",
         settings, NULL, scratch_clear, NULL},
        {"catalog: an adopted backup is known by name, size and mtime",
         adopted_facts, NULL, scratch_clear, NULL},
        {"catalog: a newer format, another file and a missing folder are "
         "refused",
         refusals, NULL, scratch_clear, NULL},
        {"catalog: rows that nobody could have written are damage, or none",
         damaged_rows, NULL, scratch_clear, NULL},
        {"catalog: is used from several threads", threads, NULL, scratch_clear,
         NULL},
    };
    struct err e;
    int failed;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
