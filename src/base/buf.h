/*
 * A growable byte buffer, always followed by a NUL.  `struct buf b = {0}` is
 * an empty one; buf_fini frees it and accepts an empty one.
 */
#ifndef HOLDFAST_BASE_BUF_H
#define HOLDFAST_BASE_BUF_H

#include <stddef.h>

struct buf {
    char *data; /* NULL while empty */
    size_t len;
    size_t cap;
};

void buf_put(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* buf_reserve: room for n more bytes; returns where they go. */
char *buf_reserve(struct buf *b, size_t n);

void buf_fini(struct buf *b);

#endif
