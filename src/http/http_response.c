/* Replies: see http.h. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/mem.h"
#include "http/http_internal.h"

struct header {
    char *name;
    char *value;
};

struct http_headers {
    size_t n;
    struct header *list;
};

struct http_headers *http_headers_new(void)
{
    return xcalloc(1, sizeof(struct http_headers));
}

static struct header *headers_find(struct http_headers *h, const char *name)
{
    for (size_t i = 0; h != NULL && i < h->n; i++) {
        if (strcasecmp(h->list[i].name, name) == 0)
            return &h->list[i];
    }
    return NULL;
}

void http_headers_put(struct http_headers *h, const char *name,
                      const char *value)
{
    struct header *at = headers_find(h, name);

    if (at == NULL) {
        h->list = xrealloc(h->list, (h->n + 1) * sizeof *h->list);
        at = &h->list[h->n++];
        at->name = xstrdup(name);
    } else {
        free(at->value);
    }
    at->value = xstrdup(value);
    for (char *p = at->value; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
    }
}

static void headers_free(struct http_headers *h)
{
    if (h == NULL)
        return;
    for (size_t i = 0; i < h->n; i++) {
        free(h->list[i].name);
        free(h->list[i].value);
    }
    free(h->list);
    free(h);
}

/* The library refuses a header only when memory runs out, or for bytes that
 * http_headers_put has replaced. */
static void add(struct MHD_Response *r, const char *name, const char *value)
{
    if (MHD_add_response_header(r, name, value) != MHD_YES && *value != '\0')
        abort();
}

void response_finish(struct http_request *rq, int status,
                     struct MHD_Response *r, uint64_t n,
                     const char *content_type, struct http_headers *h)
{
    if (r == NULL)
        abort(); /* out of memory, as in xmalloc */
    if (content_type != NULL)
        add(r, "Content-Type", content_type);
    add(r, "X-Request-Id", rq->id);
    add(r, "X-Content-Type-Options", "nosniff");
    if (headers_find(h, "Cache-Control") == NULL)
        add(r, "Cache-Control", "no-store");
    for (size_t i = 0; h != NULL && i < h->n; i++)
        add(r, h->list[i].name, h->list[i].value);
    if (rq->close)
        add(r, "Connection", "close");
    headers_free(h);
    rq->status = status;
    rq->reply_bytes = rq->head || status == 304 ? 0 : n;
    rq->response = r;
    server_hand_over(rq);
}

void http_reply_json(struct http_request *rq, int status, json_t *v,
                     struct http_headers *h)
{
    struct buf b = {0};

    json_put(&b, v);
    json_decref(v);
    response_finish(
        rq, status,
        MHD_create_response_from_buffer(b.len, b.data, MHD_RESPMEM_MUST_FREE),
        b.len, "application/json", h);
}

void http_reply_empty(struct http_request *rq, int status,
                      struct http_headers *h)
{
    static char nothing[1];

    response_finish(
        rq, status,
        MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_PERSISTENT), 0,
        NULL, h);
}

void http_reply_static(struct http_request *rq, int status,
                       const char *content_type, const void *bytes, size_t n,
                       struct http_headers *h)
{
    /* The library takes a pointer to bytes that it never writes. */
    void *borrowed = (void *)(uintptr_t)bytes;

    response_finish(
        rq, status,
        MHD_create_response_from_buffer(n, borrowed, MHD_RESPMEM_PERSISTENT), n,
        content_type, h);
}

struct http_shared {
    atomic_size_t refs;
    struct buf bytes;
};

struct http_shared *http_shared_new(struct buf *take)
{
    struct http_shared *s = xmalloc(sizeof *s);

    atomic_init(&s->refs, 1);
    s->bytes = *take;
    *take = (struct buf){0};
    return s;
}

struct http_shared *http_shared_ref(struct http_shared *s)
{
    (void)atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void http_shared_unref(struct http_shared *s)
{
    if (s == NULL || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    buf_fini(&s->bytes);
    free(s);
}

static void unref(void *s)
{
    http_shared_unref(s);
}

void http_reply_shared(struct http_request *rq, int status,
                       const char *content_type, struct http_shared *s,
                       struct http_headers *h)
{
    size_t n = s->bytes.len;
    void *bytes = n == 0 ? (void *)s : s->bytes.data;

    response_finish(rq, status,
                    MHD_create_response_from_buffer_with_free_callback_cls(
                        n, bytes, unref, s),
                    n, content_type, h);
}

void http_reply_error(struct http_request *rq, int status, const char *code,
                      const char *message, json_t *details,
                      struct http_headers *h)
{
    json_t *v = json_pack("{s:s,s:s}", "error", code, "message", message);

    if (details != NULL)
        (void)json_object_set_new(v, "details", details);
    http_reply_json(rq, status, v, h);
}
