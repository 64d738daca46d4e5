/* Database files for tests: see dbfile.h. */
#include "dbfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[256];

const char *dbfile_folder(void)
{
    return scratch;
}

/* The path of a file in the scratch folder; it stays valid. */
const char *dbfile_path(const char *name)
{
    static char *paths[64];
    char path[512];
    size_t i = 0;

    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    while (i < 63 && paths[i] != NULL && strcmp(paths[i], path) != 0)
        i++;
    if (paths[i] == NULL)
        paths[i] = strdup(path);
    assert_non_null(paths[i]);
    return paths[i];
}

/* The application's own f(x) and collation "app". */
static void app_function(sqlite3_context *ctx, int n, sqlite3_value **args)
{
    (void)n;
    sqlite3_result_int64(ctx, 2 * sqlite3_value_int64(args[0]) + 1);
}

static int app_collation(void *arg, int n_a, const void *a, int n_b,
                         const void *b)
{
    int order = memcmp(b, a, (size_t)(n_a < n_b ? n_a : n_b));

    (void)arg;
    return order != 0 ? order : n_b - n_a;
}

void dbfile_sql(sqlite3 *db, const char *sql)
{
    char *message = NULL;

    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
}

sqlite3 *dbfile_open(const char *path)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_create_function(
                         db, "f", 1,
                         SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
                         NULL, app_function, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(
        sqlite3_create_collation(db, "app", SQLITE_UTF8, NULL, app_collation),
        SQLITE_OK);
    return db;
}

/* A new database made by the application with these statements. */
const char *dbfile_make(const char *name, const char *sql)
{
    const char *path = dbfile_path(name);
    sqlite3 *db;

    (void)unlink(path);
    db = dbfile_open(path);
    dbfile_sql(db, sql);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return path;
}

void dbfile_change(const char *path, const char *sql)
{
    sqlite3 *db = dbfile_open(path);

    dbfile_sql(db, sql);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

uint64_t dbfile_size(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

void dbfile_write(const char *path, uint64_t at, const void *bytes, size_t n)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, (off_t)at), (ssize_t)n);
    (void)close(fd);
}

int64_t dbfile_int(const char *path, const char *sql)
{
    sqlite3 *db = dbfile_open(path);
    sqlite3_stmt *st = NULL;
    int64_t value;

    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    value = sqlite3_column_int64(st, 0);
    (void)sqlite3_finalize(st);
    (void)sqlite3_close(db);
    return value;
}

void dbfile_clear(void)
{
    DIR *d = opendir(scratch);
    const struct dirent *ent;

    assert_non_null(d);
    while ((ent = readdir(d)) != NULL)
        if (ent->d_name[0] != '.')
            (void)unlink(dbfile_path(ent->d_name));
    (void)closedir(d);
}

int dbfile_setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(scratch, sizeof scratch, "%s/holdfast_test.XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(scratch) != NULL ? 0 : -1;
}

int dbfile_teardown(void **state)
{
    (void)state;
    dbfile_clear();
    return rmdir(scratch);
}
