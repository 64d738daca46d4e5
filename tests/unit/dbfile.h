/*
 * Database files for tests, in a scratch folder of their own, made by "the
 * application": a connection with its own function f(x) and collation "app".
 */
#ifndef HOLDFAST_TESTS_DBFILE_H
#define HOLDFAST_TESTS_DBFILE_H

#include <stddef.h>
#include <stdint.h>

#include "sqlite3.h"

/* The scratch folder, as cmocka's group setup and teardown. */
int dbfile_setup(void **state);
int dbfile_teardown(void **state);

const char *dbfile_folder(void);

/* dbfile_path: the path of a file in the scratch folder; it stays valid. */
const char *dbfile_path(const char *name);

/* dbfile_clear: remove every file from the scratch folder. */
void dbfile_clear(void);

/* dbfile_open: a connection of the application's. */
sqlite3 *dbfile_open(const char *path);

/* dbfile_sql: run statements; an error fails the test. */
void dbfile_sql(sqlite3 *db, const char *sql);

/* dbfile_make: a new database made with these statements; its path. */
const char *dbfile_make(const char *name, const char *sql);

/* dbfile_change: run statements on a database, open for that time only. */
void dbfile_change(const char *path, const char *sql);

int64_t dbfile_int(const char *path, const char *sql);
uint64_t dbfile_size(const char *path);

/* dbfile_write: bytes into any file, made if it is not there. */
void dbfile_write(const char *path, uint64_t at, const void *bytes, size_t n);

/* A query part that gives 500 rows n(i). */
#define DBFILE_ROWS \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 500)"

#endif
