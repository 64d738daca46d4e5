/*
 * JSON by jansson, with our limits: a document is one object or array, UTF-8,
 * without duplicate keys, without \u0000, nested at most 32 deep, and nothing
 * but blanks follows it.  Its length is bounded by whoever reads it.
 */
#ifndef HOLDFAST_BASE_JSON_H
#define HOLDFAST_BASE_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

/* json_parse: a new reference, the caller's; NULL with ERR_BAD_REQUEST, whose
 * message says what is wrong and where. */
json_t *json_parse(const char *text, size_t len, struct err *e);

/* json_put: append v as compact text, keys in the order they were set. */
void json_put(struct buf *out, const json_t *v);

#endif
