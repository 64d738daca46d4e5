/*
 * Worker threads, and strands: a strand runs its jobs one at a time in the
 * order they came, different strands go on side by side.  A waiting strand
 * occupies no thread.
 */
#ifndef HOLDFAST_BASE_POOL_H
#define HOLDFAST_BASE_POOL_H

#include <stddef.h>

#include "base/err.h"

struct pool;
struct strand;

typedef void pool_fn(void *arg);

struct pool *pool_new(unsigned n_threads);

/* pool_free: wait until all jobs have run, then end the threads. */
void pool_free(struct pool *p);

/* strand_new: at most max_waiting jobs may wait.  The pool must outlive it. */
struct strand *strand_new(struct pool *p, size_t max_waiting);

/* strand_put: run fn(arg) after the jobs put before; ERR_BUSY (reason
 * "queue") when too many wait already. */
int strand_put(struct strand *s, pool_fn *fn, void *arg, struct err *e);

/* strand_drain: wait until the strand has nothing to do. */
void strand_drain(struct strand *s);

/* strand_free: only when drained; accepts NULL. */
void strand_free(struct strand *s);

#endif
