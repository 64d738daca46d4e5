/*
 * Small things that need SQLite: the image of an empty database, and what
 * page 1 of a live database says.
 */
#ifndef HOLDFAST_SQLITE_IMAGE_H
#define HOLDFAST_SQLITE_IMAGE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/outfile.h"
#include "sqlite/check.h"
#include "sqlite/live.h"

/* image_empty: append a valid empty database of one page. */
int image_empty(struct buf *out, struct err *e);

/*
 * live_header: what page 1 of a live database says, read in a transaction.
 * A file of 0 bytes gives zeroes.  Errors as snapshot_begin.
 */
int live_header(const struct live_opts *o, struct db_header *h, uint64_t *n,
                struct err *e);

/*
 * live_copy_raw: the bytes of the main file as they are, for a file that is
 * too damaged to be read page by page: not a backup, only something to keep.
 */
int live_copy_raw(const struct live_opts *o, struct outfile *out,
                  uint64_t *n_bytes, struct err *e);

#endif
