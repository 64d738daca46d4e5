/*
 * SQLite with our error handling: opening, running statements, mapping its
 * result codes to ours.  Only src/sqlite includes "sqlite3.h"; other parts
 * see the opaque structs here.
 *
 * A connection is used by one thread at a time (SQLITE_THREADSAFE=2).
 */
#ifndef HOLDFAST_SQLITE_SQ_H
#define HOLDFAST_SQLITE_SQ_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct sqlite3;
struct sqlite3_stmt;

/* sq_version: the version of the SQLite that is linked in. */
const char *sq_version(void);

/*
 * sq_init: set SQLite up for the process (our VFS, a log that keeps SQLite's
 * own words out of answers).  Call it before any thread uses SQLite.
 */
int sq_init(struct err *e);

/*
 * sq_fail: turn the result code `rc` of db (may be NULL) into *e with the
 * message "what: SQLite's text"; returns -1.  BUSY and LOCKED are ERR_BUSY,
 * CORRUPT is ERR_DAMAGED, NOTADB ERR_NOT_DATABASE, FULL ERR_NO_SPACE,
 * READONLY ERR_CONFLICT (reason "read_only"), IOERR and CANTOPEN ERR_IO.
 */
int sq_fail(struct sqlite3 *db, int rc, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* sq_open: open or make a database file of our own (the catalog). */
int sq_open(const char *path, struct sqlite3 **out, struct err *e);
void sq_close(struct sqlite3 *db); /* accepts NULL */

int sq_exec(struct sqlite3 *db, const char *sql, struct err *e);

/* sq_int: the first column of the first row; no row is an error. */
int sq_int(struct sqlite3 *db, const char *sql, int64_t *out, struct err *e);

/* Statements: prepare, bind by position from 1, step, read from 0. */
int sq_prepare(struct sqlite3 *db, const char *sql, struct sqlite3_stmt **out,
               struct err *e);
void sq_bind_text(struct sqlite3_stmt *st, int i, const char *s); /* copied */
void sq_bind_int(struct sqlite3_stmt *st, int i, int64_t v);
/* sq_step: 1 with a row, 0 at the end, -1. */
int sq_step(struct sqlite3_stmt *st, struct err *e);
const char *sq_text(struct sqlite3_stmt *st, int i); /* NULL for NULL */
int64_t sq_int64(struct sqlite3_stmt *st, int i);
void sq_reset(struct sqlite3_stmt *st);
void sq_finalize(struct sqlite3_stmt *st); /* accepts NULL */

#endif
