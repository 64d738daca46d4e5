/*
 * Writing a large private file in order, with a thread of its own so that
 * reading and hashing go on while the disk writes.  Where the filesystem
 * allows it the writes bypass the page cache (O_DIRECT): a copy then neither
 * waits for a late flush nor drives the application's pages out of memory.
 *
 * The caller fills one 1 MiB buffer after the other; memory is bounded by
 * OUTFILE_BUFFERS of them.  After outfile_drain single places may be patched.
 */
#ifndef HOLDFAST_BASE_OUTFILE_H
#define HOLDFAST_BASE_OUTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define OUTFILE_CHUNK ((size_t)1 << 20)
#define OUTFILE_BUFFERS 4

struct outfile;

/* outfile_new: write to fd (borrowed, empty, open for reading and writing). */
struct outfile *outfile_new(int fd, bool direct);

/* outfile_buffer: the next buffer of OUTFILE_CHUNK bytes, aligned for direct
 * I/O; waits until one is free. */
void *outfile_buffer(struct outfile *o);

/* outfile_push: hand the buffer over, n bytes of it (OUTFILE_CHUNK for all
 * but the last).  An error of an earlier write is reported here. */
int outfile_push(struct outfile *o, size_t n, struct err *e);

/* outfile_drain: wait until all that was pushed is written. */
int outfile_drain(struct outfile *o, struct err *e);

/* outfile_patch: overwrite bytes; only after outfile_drain. */
int outfile_patch(struct outfile *o, const void *bytes, size_t n,
                  uint64_t offset, struct err *e);

/* outfile_finish: drain, set the length, sync. */
int outfile_finish(struct outfile *o, uint64_t size_bytes, struct err *e);

int outfile_fd(const struct outfile *o);

/* outfile_free: stop the thread; the file stays as it is.  Accepts NULL. */
void outfile_free(struct outfile *o);

#endif
