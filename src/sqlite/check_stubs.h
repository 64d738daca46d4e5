/*
 * Stand-ins for the functions and collations of an application, so that a
 * schema that names them can be worked on without them.  A function stub
 * returns NULL, a collation stub compares bytes.  Every use is counted: work
 * during which none was used does not depend on them, whatever the schema
 * says.
 */
#ifndef HOLDFAST_SQLITE_CHECK_STUBS_H
#define HOLDFAST_SQLITE_CHECK_STUBS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct sqlite3;
struct sqlite3_stmt;
struct stub;

#define STUBS_MAX 200

struct stubs {
    struct sqlite3 *db; /* borrowed; must be closed before stubs_fini */
    struct stub *list[STUBS_MAX];
    unsigned n;
    uint64_t n_uses;
    bool stop; /* the first use interrupts what is running */
};

/* stubs_init: for connection db; collations are made when they are asked
 * for. */
void stubs_init(struct stubs *s, struct sqlite3 *db);
void stubs_fini(struct stubs *s);

/*
 * stubs_supply: make the function that SQLite's last error says is missing.
 * True if there is a new one, so that trying again makes sense.
 */
bool stubs_supply(struct stubs *s);

/* stubs_prepare: prepare `sql`, supplying functions as needed; SQLite's
 * result code. */
int stubs_prepare(struct stubs *s, const char *sql, struct sqlite3_stmt **out);

/* stubs_put_used: append "function f, collation c" of those used. */
void stubs_put_used(const struct stubs *s, struct buf *out);

#endif
