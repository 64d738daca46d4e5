/*
 * JSON by jansson, with our limits: a document from outside is at most
 * max bytes, UTF-8, without duplicate keys and nested at most 32 deep.
 */
#ifndef HOLDFAST_BASE_JSON_H
#define HOLDFAST_BASE_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

/* json_parse: a new reference, the caller's; NULL with ERR_BAD_REQUEST. */
json_t *json_parse(const char *text, size_t len, struct err *e);

/* json_put: append v as compact text, keys in the order they were set. */
void json_put(struct buf *out, const json_t *v);

#endif
