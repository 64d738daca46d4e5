/*
 * Memory.  The x-functions abort when memory runs out: every operation of
 * ours survives a crash at any instruction (P2), and small allocations do not
 * fail on the systems we run on.  A buffer whose size comes from outside is
 * bounded first and allocated with plain malloc, whose failure is reported.
 */
#ifndef HOLDFAST_BASE_MEM_H
#define HOLDFAST_BASE_MEM_H

#include <stddef.h>

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);

/* xasprintf: a new string, the caller's. */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
