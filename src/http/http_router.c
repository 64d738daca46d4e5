/* From a path and a method to a route: see http_internal.h. */
#include <assert.h>
#include <string.h>

#include "http/http_internal.h"

/* match_part: one segment against "{name}". */
static bool match_part(struct http_request *rq, const char *name, size_t len,
                       const char *segment)
{
    if (*segment == '\0' || strchr(segment, '/') != NULL)
        return false;
    assert(rq->n_params < HTTP_MAX_PARAMS);
    rq->params[rq->n_params++] =
        (struct http_pair){.name = name, .name_len = len, .value = segment};
    return true;
}

/* match_path: the path against a pattern; fills the parameters. */
static bool match_path(struct http_request *rq, const char *pattern)
{
    const char *p = pattern;

    rq->n_params = 0;
    for (size_t i = 0; i < rq->n_segments; i++) {
        const char *segment = rq->segments[i];
        size_t len;

        if (*p++ != '/')
            return false;
        len = strcspn(p, "/");
        if (len > 1 && p[0] == '{' && p[len - 1] == '}') {
            if (!match_part(rq, p + 1, len - 2, segment))
                return false;
        } else if (strlen(segment) != len || memcmp(segment, p, len) != 0) {
            return false;
        }
        p += len;
    }
    return *p == '\0';
}

static void allow_put(struct buf *allow, const char *method)
{
    if (allow->data != NULL && strstr(allow->data, method) != NULL)
        return;
    if (allow->len > 0)
        buf_puts(allow, ", ");
    buf_puts(allow, method);
    if (strcmp(method, "GET") == 0)
        buf_puts(allow, ", HEAD");
}

int router_match(struct http_request *rq, const struct http_route *routes,
                 size_t n_routes, struct buf *allow)
{
    const char *method = rq->head ? "GET" : rq->method;
    const char *matched = NULL;

    for (size_t i = 0; i < n_routes; i++) {
        if (!match_path(rq, routes[i].pattern))
            continue;
        /* The first pattern that matches is the resource: a concrete path
         * stands before one with a {part}. */
        if (matched != NULL && strcmp(matched, routes[i].pattern) != 0)
            continue;
        matched = routes[i].pattern;
        if (strcmp(routes[i].method, method) == 0) {
            rq->route = &routes[i];
            return 0;
        }
        allow_put(allow, routes[i].method);
    }
    return allow->len > 0 ? 405 : 404;
}
