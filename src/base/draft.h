/*
 * A new file in a folder of others, which appears there only when it is
 * whole.  Until then it has no name, so that no crash leaves anything behind;
 * only where the filesystem cannot do that it has one that begins with a dot.
 */
#ifndef HOLDFAST_BASE_DRAFT_H
#define HOLDFAST_BASE_DRAFT_H

#include "base/err.h"

struct draft {
    int dir; /* borrowed */
    int fd;
    char name[40]; /* "": it has none */
};

/* draft_open: an empty file in `dir` (borrowed until draft_close), mode 0600.
 * A draft that could not be opened may be closed. */
int draft_open(struct draft *d, int dir, struct err *e);

/*
 * draft_publish: sync the file, give it the name `name` without replacing
 * anything (ERR_CONFLICT if it exists), sync the folder.  When it fails the
 * name is not taken by it.
 */
int draft_publish(struct draft *d, const char *name, struct err *e);

/* draft_close: drop what was not published. */
void draft_close(struct draft *d);

#endif
