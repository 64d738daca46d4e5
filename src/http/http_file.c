/* A file as a reply, with ranges and conditions: see http.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/http_internal.h"

/*
 * disposition: `attachment; filename="…"`.  A quote or backslash is escaped;
 * what is not printable ASCII becomes '_', since a quoted string has no
 * encoding that every client agrees on.
 */
static void disposition(struct buf *out, const char *filename)
{
    buf_puts(out, "attachment; filename=\"");
    for (const char *p = filename; *p != '\0'; p++) {
        char c = *p;

        if (c < ' ' || c >= 127) /* also above 127, whatever char's sign */
            c = '_';
        if (c == '"' || c == '\\')
            buf_put(out, "\\", 1);
        buf_put(out, &c, 1);
    }
    buf_puts(out, "\"");
}

/* range_applies: whether If-Range, if it is there, names this very file. */
static bool range_applies(const struct http_request *rq,
                          const struct http_file *f, const char *modified)
{
    const char *v = http_header(rq, "If-Range");

    if (v == NULL)
        return true;
    /* Both comparisons are strong: a weak tag names no bytes. */
    if (f->etag != NULL && *f->etag == '"' && strcmp(v, f->etag) == 0)
        return true;
    return strcmp(v, modified) == 0;
}

/* plan: the status, and what part of the file is the body. */
static int plan(const struct http_request *rq, const struct http_file *f,
                const char *modified, uint64_t *first, uint64_t *n)
{
    const char *v = http_header(rq, "If-None-Match");

    *first = 0;
    *n = f->size_bytes;
    if (v != NULL && f->etag != NULL && text_etag_matches(v, f->etag))
        return 304;
    /* RFC 9110 14.2: Range is for GET alone. */
    if (rq->head || !range_applies(rq, f, modified))
        return 200;
    return http_range_parse(http_header(rq, "Range"), f->size_bytes, first, n);
}

static void put_range(struct http_headers *h, const char *range, uint64_t size)
{
    char value[80];

    (void)snprintf(value, sizeof value, "bytes %s/%" PRIu64, range, size);
    http_headers_put(h, "Content-Range", value);
}

static void reply_unsatisfiable(struct http_request *rq, struct http_file *f)
{
    struct http_headers *h = http_headers_new();
    char message[128];

    put_range(h, "*", f->size_bytes);
    (void)snprintf(message, sizeof message,
                   "the range lies outside of the %" PRIu64
                   " bytes that there are",
                   f->size_bytes);
    (void)close(f->fd);
    http_reply_error(rq, 416, "RANGE_NOT_SATISFIABLE", message, NULL, h);
}

static void put_file_headers(struct http_headers *h, const struct http_file *f,
                             const char *modified)
{
    struct buf b = {0};

    http_headers_put(h, "Accept-Ranges", "bytes");
    http_headers_put(h, "Cache-Control", "private, no-cache");
    http_headers_put(h, "Last-Modified", modified);
    if (f->etag != NULL)
        http_headers_put(h, "ETag", f->etag);
    disposition(&b, f->filename);
    http_headers_put(h, "Content-Disposition", b.data);
    buf_fini(&b);
}

void http_reply_file(struct http_request *rq, struct http_file f)
{
    char modified[CLOCK_HTTP_SIZE];
    struct http_headers *h;
    uint64_t first, n;
    int status;

    clock_format_http(f.last_modified, modified);
    status = plan(rq, &f, modified, &first, &n);
    if (status == 416) {
        reply_unsatisfiable(rq, &f);
        return;
    }
    h = http_headers_new();
    put_file_headers(h, &f, modified);
    if (status == 206) {
        char range[48];

        (void)snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, first,
                       first + n - 1);
        put_range(h, range, f.size_bytes);
    }
    /* The response owns the descriptor from here, also that of a 304 or HEAD,
     * of which only the length is used. */
    response_finish(rq, status,
                    MHD_create_response_from_fd_at_offset64(n, f.fd, first), n,
                    f.content_type, h);
}
