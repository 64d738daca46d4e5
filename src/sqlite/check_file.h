/*
 * A look at a file without SQLite: whether it is a database at all, and
 * whether its length is that of whole pages.  Runs in the limited child.
 *
 * Never for a live database while this process has it open through SQLite:
 * closing the descriptor would drop SQLite's locks.
 */
#ifndef HOLDFAST_SQLITE_CHECK_FILE_H
#define HOLDFAST_SQLITE_CHECK_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The first bytes of a database file (SQLite file format, 1.3.1). */
#define CHECK_FILE_MAGIC "SQLite format 3" /* and its NUL */
#define CHECK_FILE_MAGIC_BYTES 16

/*
 * check_file_foreign: for the first n bytes (at least 100) of a file without
 * the magic: ERR_DAMAGED where zeroes stand in the header's place,
 * ERR_ENCRYPTED where the bytes look random, else ERR_NOT_DATABASE.  Returns
 * -1.
 */
int check_file_foreign(const uint8_t *bytes, size_t n, struct err *e);

/*
 * check_file_examine: 0 if the private file at `path` has a sound header, at
 * least one page, whole pages, and as many as its header says.  SQLite itself
 * accepts an empty file and one that ends in the middle of a page.  Fails
 * with ERR_DAMAGED (the message says how), ERR_NOT_DATABASE, ERR_ENCRYPTED,
 * ERR_NOT_FOUND, ERR_IO.
 */
int check_file_examine(const char *path, struct err *e);

/* check_file_look: the same for an open file. */
int check_file_look(int fd, struct err *e);

/*
 * check_file_explain: say in *e what a file is that SQLite does not take for
 * a database: ERR_NOT_DATABASE, ERR_ENCRYPTED, ERR_DAMAGED (the magic is
 * right, or overwritten with zeroes), ERR_NOT_FOUND, ERR_IO.  Returns -1.
 */
int check_file_explain(const char *path, struct err *e);

#endif
