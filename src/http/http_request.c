/* A request: its target, query, headers and body.  See http.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "http/http_internal.h"

/* What is kept of a target that is refused for its length: enough to log. */
#define KEPT_OF_LONG_TARGET 256

/* A body that is too large is still read to its end before it is refused,
 * since the library sends nothing while one arrives; but not for ever. */
#define MAX_DISCARD_BYTES (16u << 20)

struct http_request *request_new(struct http_server *s, const char *uri)
{
    size_t len = uri == NULL ? 0 : strlen(uri);
    size_t kept = len > HTTP_MAX_TARGET ? KEPT_OF_LONG_TARGET : len;
    struct http_request *rq = xmalloc(sizeof *rq + 2 * (kept + 1));

    memset(rq, 0, sizeof *rq);
    rq->server = s;
    rq->started_ms = clock_monotonic_ms();
    rq->target_len = len;
    rq->decoded = rq->text + kept + 1;
    if (kept > 0)
        memcpy(rq->text, uri, kept);
    rq->text[kept] = '\0';
    rq->path = rq->text;
    server_next_id(s, rq->id);
    return rq;
}

void request_free(struct http_request *rq)
{
    if (rq->response != NULL)
        MHD_destroy_response(rq->response);
    server_give_memory(rq->server, rq->body_cap);
    if (rq->kept_fini != NULL)
        rq->kept_fini(rq->kept);
    free(rq->query);
    /* It may have held a password. */
    if (rq->body != NULL)
        explicit_bzero(rq->body, rq->body_cap);
    free(rq->body);
    free(rq);
}

const struct http_route *http_request_route(const struct http_request *rq)
{
    return rq->route;
}

const char *http_peer(const struct http_request *rq)
{
    return rq->peer;
}

void http_keep(struct http_request *rq, void *p, void (*fini)(void *))
{
    assert(rq->kept == NULL);
    rq->kept = p;
    rq->kept_fini = fini;
}

void *http_kept(const struct http_request *rq)
{
    return rq->kept;
}

/*
 * parse_absolute: "http://authority/path", which RFC 9112 3.2.2 has every
 * server accept.  Returns where the path begins, or NULL.
 */
static char *parse_absolute(struct http_request *rq)
{
    char *p = rq->text;

    if (strncasecmp(p, "http://", 7) == 0)
        p += 7;
    else if (strncasecmp(p, "https://", 8) == 0)
        p += 8;
    else
        return NULL;
    rq->authority = p;
    rq->authority_len = strcspn(p, "/?");
    p += rq->authority_len;
    return *p == '/' ? p : NULL;
}

static const char *parse_path(struct http_request *rq)
{
    const char *wrong;
    char *p = rq->decoded;

    memcpy(p, rq->path, strlen(rq->path) + 1); /* as long as `text` at most */
    while (p != NULL) {
        char *segment = p + 1;

        p = strchr(segment, '/');
        if (p != NULL)
            *p = '\0';
        wrong = text_unescape(segment);
        if (wrong != NULL)
            return wrong;
        /* One more than a route can have is enough to match none. */
        if (rq->n_segments < HTTP_MAX_SEGMENTS)
            rq->segments[rq->n_segments++] = segment;
    }
    return NULL;
}

static const char *parse_query(struct http_request *rq, char *query)
{
    size_t n = 1;

    for (const char *p = query; *p != '\0'; p++)
        n += *p == '&';
    rq->query = xcalloc(n, sizeof *rq->query);
    while (query != NULL) {
        const char *wrong = NULL;
        char *name = query;
        char *value;

        query = strchr(name, '&');
        if (query != NULL)
            *query++ = '\0';
        if (*name == '\0')
            continue; /* "a=1&&b=2" and a query that is empty */
        value = strchr(name, '=');
        if (value != NULL) {
            *value++ = '\0';
            wrong = text_unescape(value);
        }
        if (wrong == NULL)
            wrong = text_unescape(name);
        if (wrong != NULL)
            return wrong;
        rq->query[rq->n_query++] = (struct http_pair){
            .name = name, .value = value == NULL ? "" : value};
    }
    return NULL;
}

const char *request_parse_target(struct http_request *rq)
{
    char *path = rq->text;
    const char *wrong;
    char *query;

    for (const char *p = path; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 127) /* above 127 it may be negative */
            return "it has a control byte, a blank or a byte above 127; "
                   "send those percent-encoded";
    }
    if (*path != '/')
        path = parse_absolute(rq);
    if (path == NULL)
        return "it must be a path that begins with '/'";
    rq->path = path;
    query = strchr(path, '?');
    if (query != NULL)
        *query++ = '\0';
    wrong = parse_path(rq);
    if (wrong == NULL && query != NULL)
        wrong = parse_query(rq, query);
    return wrong;
}

/* What has come is of no use any more, and others need the memory. */
static void give_up_body(struct http_request *rq)
{
    server_give_memory(rq->server, rq->body_cap);
    free(rq->body);
    rq->body = NULL;
    rq->body_len = rq->body_cap = 0;
    rq->out_of_memory = true;
}

bool request_take_body(struct http_request *rq, const char *bytes, size_t n)
{
    size_t max = rq->route == NULL ? 0 : rq->route->max_body;

    rq->body_seen += n;
    if (rq->body_seen > max || rq->out_of_memory)
        return rq->body_seen <= max + MAX_DISCARD_BYTES;
    if (rq->body_len + n > rq->body_cap) {
        size_t cap = rq->body_cap == 0 ? 1024 : rq->body_cap;
        char *grown;

        while (cap < rq->body_len + n)
            cap *= 2;
        if (!server_take_memory(rq->server, cap - rq->body_cap)) {
            give_up_body(rq);
            return true;
        }
        grown = realloc(rq->body, cap);
        if (grown == NULL) {
            server_give_memory(rq->server, cap - rq->body_cap);
            give_up_body(rq);
            return true;
        }
        rq->body = grown;
        rq->body_cap = cap;
    }
    memcpy(rq->body + rq->body_len, bytes, n);
    rq->body_len += n;
    return true;
}

bool request_mutates(const struct http_request *rq)
{
    return strcmp(rq->method, "POST") == 0 || strcmp(rq->method, "PUT") == 0 ||
           strcmp(rq->method, "PATCH") == 0 ||
           strcmp(rq->method, "DELETE") == 0;
}

const char *http_request_id(const struct http_request *rq)
{
    return rq->id;
}

const char *http_method(const struct http_request *rq)
{
    return rq->method;
}

const char *http_path(const struct http_request *rq)
{
    return rq->path;
}

const char *http_param(const struct http_request *rq, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < rq->n_params; i++) {
        if (rq->params[i].name_len == len &&
            memcmp(rq->params[i].name, name, len) == 0)
            return rq->params[i].value;
    }
    return NULL;
}

const char *http_query(const struct http_request *rq, const char *name)
{
    for (size_t i = 0; i < rq->n_query; i++) {
        if (strcmp(rq->query[i].name, name) == 0)
            return rq->query[i].value;
    }
    return NULL;
}

bool http_query_repeated(const struct http_request *rq, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < rq->n_query; i++)
        n += strcmp(rq->query[i].name, name) == 0;
    return n > 1;
}

const char *http_query_unknown(const struct http_request *rq,
                               const char *const *known)
{
    for (size_t i = 0; i < rq->n_query; i++) {
        const char *const *k = known;

        while (*k != NULL && strcmp(rq->query[i].name, *k) != 0)
            k++;
        if (*k == NULL)
            return rq->query[i].name;
    }
    return NULL;
}

const char *http_header(const struct http_request *rq, const char *name)
{
    return MHD_lookup_connection_value(rq->conn, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_request *rq, size_t *len)
{
    *len = rq->body_len;
    return rq->body == NULL ? "" : rq->body;
}
