/*
 * Rows of the catalog that somebody else wrote.  Each line of the input is a
 * row: the table's letter, then its values, with tabs between them; "-" is
 * NULL, and "=…" an integer.
 */
#include "fuzz.h"

#include <string.h>

#include "base/mem.h"
#include "catalog/catalog.h"
#include "sqlite/sq.h"
#include "sqlite3.h"
#include "store/facts.h"

/* The catalog's tables without their constraints, as damage may leave them. */
static const char schema[] =
    "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
    "CREATE TABLE database(name, path);"
    "CREATE TABLE setting(key, value);"
    "CREATE TABLE adopted(database, filename, size, mtime_ns, good, facts);"
    "PRAGMA user_version=1";

static struct catalog *catalog;
static sqlite3 *rows;

static void open_once(void)
{
    struct err e;
    char *path;

    if (catalog != NULL)
        return;
    path = xasprintf("%s/holdfast.db", scratch_dir());
    require(sq_init(&e) == 0);
    require(sqlite3_open(path, &rows) == SQLITE_OK);
    require(sqlite3_exec(rows, schema, NULL, NULL, NULL) == SQLITE_OK);
    require(catalog_open(scratch_dir(), &catalog, &e) == 0);
    free(path);
}

static void bind(sqlite3_stmt *st, int i, const char *value)
{
    if (strcmp(value, "-") == 0)
        (void)sqlite3_bind_null(st, i);
    else if (value[0] == '=')
        (void)sqlite3_bind_int64(st, i, strtoll(value + 1, NULL, 10));
    else
        (void)sqlite3_bind_text(st, i, value, -1, SQLITE_TRANSIENT);
}

static void put_row(char *line)
{
    static const char *const inserts[] = {
        "INSERT INTO database VALUES(?1,?2)",
        "INSERT INTO setting VALUES(?1,?2)",
        "INSERT INTO adopted VALUES(?1,?2,?3,?4,?5,?6)"};
    size_t table = line[0] == 'd' ? 0 : line[0] == 's' ? 1 : 2;
    sqlite3_stmt *st = NULL;
    char *rest = line;

    require(sqlite3_prepare_v2(rows, inserts[table], -1, &st, NULL) ==
            SQLITE_OK);
    (void)strsep(&rest, "\t");
    for (int i = 1; i <= sqlite3_bind_parameter_count(st) && rest != NULL; i++)
        bind(st, i, strsep(&rest, "\t"));
    require(sqlite3_step(st) == SQLITE_DONE);
    (void)sqlite3_finalize(st);
}

static void read_databases(void)
{
    struct catalog_database *list = NULL;
    struct err e = {0};
    char *current = NULL;
    size_t n = 0;
    int64_t mark;

    if (catalog_list_databases(catalog, &list, &n, &e) != 0)
        require_error(&e);
    for (size_t i = 0; i < n; i++) {
        require(list[i].name != NULL);
        require(list[i].path == NULL || list[i].path[0] == '/');
    }
    catalog_databases_free(list, n);
    if (catalog_get_current(catalog, &current, &e) != 0)
        require_error(&e);
    free(current);
    (void)catalog_get_mark(catalog, "default", &mark, &e);
}

static void read_adopted(void)
{
    const struct catalog_key k = {.database = "default",
                                  .filename = "app_20260413_142530.db",
                                  .size_bytes = 4096,
                                  .mtime_ns = 1};
    struct catalog_adopted *list = NULL;
    struct facts f = {0};
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;

    if (catalog_list_adopted(catalog, "default", &list, &n, &e) != 0)
        require_error(&e);
    for (size_t i = 0; i < n; i++)
        require(memchr(list[i].filename, '\0', sizeof list[i].filename) !=
                NULL);
    free(list);
    if (catalog_get_adopted(catalog, &k, &text, &e) == 0 && text != NULL &&
        facts_parse(text, strlen(text), &f, &e) != 0)
        require_error(&e);
    facts_fini(&f);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    open_once();
    require(sqlite3_exec(rows, "BEGIN", NULL, NULL, NULL) == SQLITE_OK);
    for (int i = 0; i < 16 && in.left > 0; i++) {
        char *line = input_line(&in);

        put_row(line);
        free(line);
    }
    require(sqlite3_exec(rows, "COMMIT", NULL, NULL, NULL) == SQLITE_OK);
    read_databases();
    read_adopted();
    require(sqlite3_exec(rows,
                         "DELETE FROM database; DELETE FROM setting;"
                         "DELETE FROM adopted",
                         NULL, NULL, NULL) == SQLITE_OK);
    return 0;
}
