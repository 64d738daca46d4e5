/*
 * The HTTP server, and nothing about backups: libmicrohttpd (epoll, a small
 * thread pool) behind a narrow interface.
 *
 * A handler is called once per request, after the body has arrived whole.  It
 * calls exactly one http_reply…() for the request, before it returns or later
 * and from any thread; until then the connection is suspended and costs no
 * thread.  A request is valid until its reply; the strings it hands out live
 * as long as it does.
 *
 * Refused here, in this order and before any handler, with the error body of
 * http_reply_error:
 *   400 BAD_REQUEST      a control byte, a blank or a byte above 127 in the
 *                        target, a broken percent escape, %00, or escapes
 *                        that are not UTF-8
 *   414 URI_TOO_LONG     request target over 8192 bytes
 *   431 HEADERS_TOO_LARGE  over 64 header fields or 16 KiB of them
 *   400 BAD_REQUEST      framing that two readers could understand in two
 *                        ways: both Content-Length and Transfer-Encoding, two
 *                        of either, a coding other than chunked, a header
 *                        line folded or ended by a bare LF, a NUL byte
 *   400 BAD_REQUEST      no Host, two, or a malformed one
 *   403 FORBIDDEN        a Host that is not ours; on a mutating method an
 *                        Origin that is not the Host's, or Sec-Fetch-Site
 *                        that is neither same-origin nor none
 *   whatever http_opts.admit says
 *   404 NOT_FOUND        no such route (resource_type "route")
 *   405 METHOD_NOT_ALLOWED with Allow (HEAD goes with GET; OPTIONS is 405)
 *   415 UNSUPPORTED_MEDIA_TYPE  a non-empty body that is not
 *                        application/json on a route that takes a body
 *   413 PAYLOAD_TOO_LARGE  body over the route's max_body, known from
 *                        Content-Length before it is read, or counted
 *   503 BUSY             with Retry-After and reason "stopping", or "memory":
 *                        4 MiB are held of all bodies at a time
 * The connection is closed after a refusal that leaves a body unread, and
 * after each of the first five.
 *
 * libmicrohttpd itself answers barely, and closes, what it cannot parse (a
 * broken request line, version, header line, chunk or Content-Length) and
 * headers far above the limits here.
 *
 * A connection is closed without an answer when its next request has not come
 * whole within idle_timeout_s (of a body: each 64 KiB of it), or when its
 * client takes nothing of a reply for so long; and while seven eighths of the
 * connections are open, those that have waited longest for a request, more
 * than a second, give way.
 *
 * Every response bears X-Request-Id, X-Content-Type-Options: nosniff and,
 * unless it says otherwise, Cache-Control: no-store.
 *
 * Every request gives one log line when it is over, event=http.request with
 * request, method, path (256 bytes of it, no query), status, bytes of body and
 * ms; `ended=early` where the connection broke, and then no status if nothing
 * had been answered.  Its level is info for POST, PUT, PATCH and DELETE and
 * from status 500 up, otherwise debug.
 */
#ifndef HOLDFAST_HTTP_HTTP_H
#define HOLDFAST_HTTP_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct http_server;
struct http_request;

typedef void http_handler(struct http_request *rq, void *ctx);

struct http_route {
    const char *method;  /* "GET", "POST", …; GET also answers HEAD */
    const char *pattern; /* "/api/v1/backup/{filename}/restore"; a {part}
                            matches one non-empty segment, percent-decoded;
                            a decoded '/' never matches a part.  Of several
                            routes that match the first is taken. */
    http_handler *handler;
    size_t max_body; /* bytes of body accepted; 0: any body is 413 */
    unsigned access; /* whatever http_opts.admit makes of it */
};

/*
 * http_admit: whether the caller may go on.  Asked once the headers are there
 * and before it is said what there is at the path, or a body is read: see
 * http_request_route.  On false it has replied.  It must not wait.
 */
typedef bool http_admit(struct http_request *rq, void *ctx);

struct http_opts {
    const char *host; /* numeric address to listen on */
    uint16_t port;    /* 0: any free one, see http_server_port */
    const struct http_route *routes;
    size_t n_routes;
    void *ctx;                /* handed to every handler, and to admit */
    http_admit *admit;        /* NULL: everybody may everything */
    const char *const *hosts; /* further names that are ours (--host) */
    size_t n_hosts;
    unsigned max_connections; /* 0: 4096; never over half the descriptors
                                 that the process may open */
    unsigned idle_timeout_s;  /* 0: 30 */
};

/* http_server_start: listen and answer.  The routes and ctx are borrowed until
 * stop.  Fails with ERR_INVALID (host is no numeric address), ERR_CONFLICT
 * (the address is taken) or ERR_IO. */
int http_server_start(struct http_opts opts, struct http_server **out,
                      struct err *e);

/* http_server_port: the port that it listens on. */
uint16_t http_server_port(const struct http_server *s);

/* http_server_quiesce: answer new requests with 503; those under way go on.
 * Returns at once. */
void http_server_quiesce(struct http_server *s);

/* http_server_stop: quiesce, wait until every handler has replied, give the
 * replies five seconds to go out, then close all and free s.  Accepts NULL. */
void http_server_stop(struct http_server *s);

/* ---- the request ---- */

/* http_request_id: 16 hex digits, unique, also in the log. */
const char *http_request_id(const struct http_request *rq);
const char *http_method(const struct http_request *rq);
const char *http_path(const struct http_request *rq); /* as sent, no query */

/* http_request_route: the route it is for, or NULL where there is none. */
const struct http_route *http_request_route(const struct http_request *rq);

/* http_peer: the numeric address of who sent it. */
const char *http_peer(const struct http_request *rq);

/* http_keep: something that lives as long as the request; `fini` (may be
 * NULL) frees it.  http_kept: it, or NULL. */
void http_keep(struct http_request *rq, void *p, void (*fini)(void *));
void *http_kept(const struct http_request *rq);

/* http_param: the decoded value of {name} in the route's pattern, or NULL. */
const char *http_param(const struct http_request *rq, const char *name);

/* http_query: the decoded value of a query parameter, or NULL; of several
 * with one name it is http_query_repeated that says so. */
const char *http_query(const struct http_request *rq, const char *name);
bool http_query_repeated(const struct http_request *rq, const char *name);

/* http_query_unknown: the first query parameter whose name is not in the
 * NULL-terminated list, or NULL. */
const char *http_query_unknown(const struct http_request *rq,
                               const char *const *known);

/* http_header: a request header's value, or NULL. */
const char *http_header(const struct http_request *rq, const char *name);

/* http_body: the body's bytes (never NULL). */
const char *http_body(const struct http_request *rq, size_t *len);

/* ---- the reply: exactly one of these per request ---- */

struct http_headers; /* extra headers of a reply; NULL is none */
struct http_headers *http_headers_new(void);
/* http_headers_put: control bytes in value are replaced by '?'.  A name that
 * is there already is replaced. */
void http_headers_put(struct http_headers *h, const char *name,
                      const char *value);
/* The http_reply… functions take the headers over. */

/* http_reply_json: v is taken over. */
void http_reply_json(struct http_request *rq, int status, json_t *v,
                     struct http_headers *h);

/* http_reply_empty: a status without a body (204). */
void http_reply_empty(struct http_request *rq, int status,
                      struct http_headers *h);

/* http_reply_static: bytes that outlive the server (the OpenAPI document).
 * Here and in http_reply_shared a 304 leaves the bytes out, and says their
 * length as RFC 9110 8.6 wants. */
void http_reply_static(struct http_request *rq, int status,
                       const char *content_type, const void *bytes, size_t n,
                       struct http_headers *h);

/*
 * A body shared by many replies, such as a long list that seldom changes:
 * counted references, the bytes are freed with the last.  http_shared_new
 * takes the bytes of the buffer and leaves it empty; http_reply_shared takes
 * over one reference; http_shared_unref accepts NULL.
 */
struct http_shared;
struct http_shared *http_shared_new(struct buf *take);
struct http_shared *http_shared_ref(struct http_shared *s);
void http_shared_unref(struct http_shared *s);
void http_reply_shared(struct http_request *rq, int status,
                       const char *content_type, struct http_shared *s,
                       struct http_headers *h);

/*
 * http_reply_file: a file by sendfile, with Content-Length, Accept-Ranges,
 * ETag, Last-Modified and Content-Disposition; honours Range (one range; 206,
 * 416 with Content-Range; several ranges or another unit: the whole file, as
 * RFC 9110 14.2 allows), If-Range, If-None-Match (304) and HEAD.  The
 * descriptor is taken over and closed when the body has been sent.  Such a
 * reply is Cache-Control: private, no-cache.
 */
struct http_file {
    int fd;
    uint64_t size_bytes;
    const char *content_type;
    const char *etag;      /* with its quotes, or NULL */
    int64_t last_modified; /* seconds since the epoch */
    const char *filename;  /* for Content-Disposition */
};
void http_reply_file(struct http_request *rq, struct http_file f);

/*
 * http_reply_error: {"error":code,"message":…,"details":{…}}.  `details` is
 * taken over, and left out when NULL.
 */
void http_reply_error(struct http_request *rq, int status, const char *code,
                      const char *message, json_t *details,
                      struct http_headers *h);

/* ---- pure parsers ---- */

/* http_range_parse: RFC 9110 14.1.2.  Returns 206 with *first and *n set, 416,
 * or 200 for a header that is to be ignored (NULL, another unit, several
 * ranges, not of the grammar). */
int http_range_parse(const char *header, uint64_t size, uint64_t *first,
                     uint64_t *n);

/* http_unescape: percent-decode s in place; false, and s undefined, for a
 * broken escape, %00, or what is not UTF-8.  '+' stays '+'. */
bool http_unescape(char *s);

#endif
