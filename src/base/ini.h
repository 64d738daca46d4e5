/*
 * Configuration files in INI format, by libinih:
 *
 *   # a comment
 *   [section]
 *   key = value      ; a comment, after a blank
 *
 * Lines have at most 197 bytes.  A key may be repeated; an indented line
 * after it gives the key one more value.
 */
#ifndef HOLDFAST_BASE_INI_H
#define HOLDFAST_BASE_INI_H

#include "base/err.h"

/*
 * Called for each section heading (key and value NULL) and each key, in the
 * order of the file.  -1 with *e ends the reading.
 */
typedef int ini_set(void *arg, const char *section, const char *key,
                    const char *value, struct err *e);

/*
 * ini_read: read the file `path`.  On failure the message begins with
 * "PATH:LINE: " where a line is to blame.  Fails with ERR_NOT_FOUND, ERR_IO,
 * ERR_BAD_REQUEST for what is no INI, and as `set` does.
 */
int ini_read(const char *path, ini_set *set, void *arg, struct err *e);

#endif
