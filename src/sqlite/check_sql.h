/*
 * SQLite in the limited child: opening a file that may be hostile, and what
 * its result codes mean there.
 */
#ifndef HOLDFAST_SQLITE_CHECK_SQL_H
#define HOLDFAST_SQLITE_CHECK_SQL_H

#include <stdbool.h>

#include "base/err.h"

struct sqlite3;

#define CHECK_SQL_HEAP_MIB 96

enum check_sql_mode {
    CHECK_SQL_PRIVATE, /* no locks, no journals looked at */
    CHECK_SQL_LIVE     /* with SQLite's locks, waiting up to 5 s for one */
};

/*
 * check_sql_open: open `path` for reading, with the schema untrusted, cell
 * sizes checked, nothing mapped, no checkpoint on closing, and at most
 * CHECK_SQL_HEAP_MIB of heap for the whole process.  Close with
 * sqlite3_close.  Nothing is read yet, so damage shows with the first
 * statement.
 */
int check_sql_open(const char *path, enum check_sql_mode mode,
                   struct sqlite3 **out, struct err *e);

/*
 * check_sql_fail: turn result code rc into *e; returns -1.  ERR_DAMAGED (also
 * where the file cannot be read back), ERR_LIMIT (reason "memory"), ERR_BUSY
 * (reason "recovery" where a journal has to be rolled back first),
 * ERR_NOT_DATABASE, ERR_NOT_FOUND, ERR_NO_SPACE, ERR_IO, else ERR_INTERNAL.
 */
int check_sql_fail(struct sqlite3 *db, int rc, struct err *e);

#endif
