/*
 * The body of GET /api/v1/backup.  It is rendered once per change of a list
 * and shared by all who ask for it, so that asking for 10,000 backups costs
 * one stat and one reference.
 */
#ifndef HOLDFAST_API_API_LIST_H
#define HOLDFAST_API_API_LIST_H

#include "backup/backup.h"
#include "base/buf.h"
#include "http/http.h"

/* api_list_render: append {"backups":[…]} in the order of the list.  Pure. */
void api_list_render(const struct backup_list *l, struct buf *out);

/* Rendered bodies of at most API_LISTS_MAX databases and, unless a single one
 * is larger, API_LISTS_MAX_BYTES; the longest unused go first. */
#define API_LISTS_MAX 64
#define API_LISTS_MAX_BYTES (16u << 20)

struct api_lists;
struct api_lists *api_lists_new(void);
void api_lists_free(struct api_lists *c);

/* api_lists_get: the body of list l of that database; a reference, the
 * caller's.  Safe from any thread. */
struct http_shared *api_lists_get(struct api_lists *c, const char *database,
                                  const struct backup_list *l);

#endif
