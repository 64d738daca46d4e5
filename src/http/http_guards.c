/*
 * What is decided from a request's headers before any handler sees it, in the
 * order of http.h.  Every check returns whether the request may go on; where
 * it may not, it has replied.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/http_internal.h"

struct field {
    size_t n; /* how often it is there */
    const char *value;
    size_t len; /* of the value, without blanks at its end */
};

/* The header fields that the checks look at, and how they lie in memory. */
struct fields {
    size_t n;
    size_t n_bytes;   /* as on the wire: name, ": ", value, CRLF */
    bool malformed;   /* a name that is no token, a control byte in a value */
    bool strange;     /* a line folded, or ended by more or less than CRLF */
    const char *next; /* where the next line has to begin */
    struct field host, length, coding, origin, site, type;
};

static bool is_value(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (((unsigned char)s[i] < ' ' && s[i] != '\t') || s[i] == 127)
            return false;
    }
    return true;
}

static void note(struct field *f, const char *value, size_t len)
{
    if (f->n++ > 0)
        return;
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
        len--;
    f->value = value;
    f->len = len;
}

static bool is(const struct field *f, const char *text)
{
    return text_equal_nocase(f->value, f->len, text);
}

static void note_known(struct fields *f, const char *name, size_t name_len,
                       const char *value, size_t len)
{
    if (text_equal_nocase(name, name_len, "Host"))
        note(&f->host, value, len);
    else if (text_equal_nocase(name, name_len, "Content-Length"))
        note(&f->length, value, len);
    else if (text_equal_nocase(name, name_len, "Transfer-Encoding"))
        note(&f->coding, value, len);
    else if (text_equal_nocase(name, name_len, "Origin"))
        note(&f->origin, value, len);
    else if (text_equal_nocase(name, name_len, "Sec-Fetch-Site"))
        note(&f->site, value, len);
    else if (text_equal_nocase(name, name_len, "Content-Type"))
        note(&f->type, value, len);
}

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind,
                               const char *name, size_t name_len,
                               const char *value, size_t value_len)
{
    struct fields *f = cls;

    (void)kind;
    if (value == NULL) {
        value = "";
        value_len = 0;
    }
    f->n++;
    f->n_bytes += name_len + value_len + 4;
    if (!text_is_token(name, name_len) || !is_value(value, value_len))
        f->malformed = true;
    /*
     * The library leaves the lines where they arrived, with NULs for the
     * separators, and takes a bare LF, a NUL and a folded line in its stride;
     * a proxy before it may understand them otherwise (RFC 9112 11.2).  Only
     * with plain CRLF line ends does every name begin where it must.
     */
    if (name != f->next)
        f->strange = true;
    f->next = value + value_len + 2;
    note_known(f, name, name_len, value, value_len);
    return MHD_YES;
}

static void refuse(struct http_request *rq, int status, const char *code,
                   const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void refuse(struct http_request *rq, int status, const char *code,
                   const char *fmt, ...)
{
    char message[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    http_reply_error(rq, status, code, message, NULL, NULL);
}

void guards_refuse_busy(struct http_request *rq, const char *reason,
                        const char *message)
{
    struct http_headers *h = http_headers_new();

    http_headers_put(h, "Retry-After", "5");
    http_reply_error(rq, 503, "BUSY", message,
                     json_pack("{s:s}", "reason", reason), h);
}

static bool check_target(struct http_request *rq, const char *url,
                         const char *method, const char *version)
{
    const char *wrong = NULL;

    if (rq->target_len > HTTP_MAX_TARGET) {
        refuse(rq, 414, "URI_TOO_LONG",
               "the request target has %zu bytes; at most %d are accepted",
               rq->target_len, HTTP_MAX_TARGET);
        return false;
    }
    if (!text_is_token(method, strlen(method)))
        wrong = "the method is no token";
    else if (url != method + strlen(method) + 1)
        wrong = "one blank must separate the method from the target";
    else if (version != url + rq->target_len + 1)
        wrong = "it has a NUL byte";
    else
        wrong = request_parse_target(rq);
    if (wrong == NULL)
        return true;
    refuse(rq, 400, "BAD_REQUEST", "malformed request target: %s", wrong);
    return false;
}

static bool check_limits(struct http_request *rq, const struct fields *f)
{
    if (f->n > HTTP_MAX_FIELDS)
        refuse(rq, 431, "HEADERS_TOO_LARGE",
               "the request has %zu header fields; at most %d are accepted",
               f->n, HTTP_MAX_FIELDS);
    else if (f->n_bytes > HTTP_MAX_FIELD_BYTES)
        refuse(rq, 431, "HEADERS_TOO_LARGE",
               "the header fields have %zu bytes; at most %d are accepted",
               f->n_bytes, HTTP_MAX_FIELD_BYTES);
    else
        return true;
    return false;
}

/* header_end: where the library found the end of the headers. */
static const char *header_end(struct http_request *rq, const char *method)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        rq->conn, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

    return info == NULL ? NULL : method + info->header_size;
}

static bool check_framing(struct http_request *rq, const struct fields *f,
                          const char *version, const char *end)
{
    const char *wrong = NULL;

    if (f->malformed)
        wrong = "a header name is no token, or a value has a control byte";
    else if (f->strange || f->next + 2 != end)
        wrong = "every header line must end with CRLF, have no NUL byte and "
                "not be folded";
    else if (f->coding.n > 0 && f->length.n > 0)
        wrong = "a request has Content-Length or Transfer-Encoding, not both";
    else if (f->length.n > 1)
        wrong = "a request has at most one Content-Length";
    else if (f->coding.n > 1)
        wrong = "a request has at most one Transfer-Encoding";
    else if (f->coding.n > 0 && !is(&f->coding, "chunked"))
        wrong = "the only Transfer-Encoding accepted is chunked";
    else if (f->coding.n > 0 && strcmp(version, "HTTP/1.0") == 0)
        wrong = "Transfer-Encoding needs HTTP/1.1";
    if (wrong == NULL)
        return true;
    refuse(rq, 400, "BAD_REQUEST", "malformed request: %s", wrong);
    return false;
}

static bool check_host(struct http_request *rq, const struct fields *f,
                       struct authority *host)
{
    const char *wrong = NULL;

    if (f->host.n == 0)
        wrong = "it has no Host header";
    else if (f->host.n > 1)
        wrong = "it has more than one Host header";
    else if (!text_parse_authority(f->host.value, f->host.len, host))
        wrong = "its Host header is not NAME, NAME:PORT or [IPV6]:PORT";
    else if (rq->authority != NULL &&
             (rq->authority_len != f->host.len ||
              strncasecmp(rq->authority, f->host.value, f->host.len) != 0))
        wrong = "its target names another host than its Host header";
    if (wrong != NULL) {
        refuse(rq, 400, "BAD_REQUEST", "malformed request: %s", wrong);
        return false;
    }
    if (server_knows_host(rq->server, host->host))
        return true;
    rq->close = false; /* its framing is sound */
    refuse(rq, 403, "FORBIDDEN",
           "the host \"%s\" is not one of this server's; accepted are "
           "localhost, 127.0.0.1, [::1], the listen address and every name "
           "that was given with --host",
           host->host);
    return false;
}

/* same_origin: whether the Origin is that of the Host, whose scheme is
 * unknown here: a proxy may have taken the TLS off. */
static bool same_origin(const struct field *f, const struct authority *host)
{
    const char *origin = f->value, *end = origin + f->len;
    struct authority o;
    int standard;
    int host_port;

    if (strncasecmp(origin, "http://", 7) == 0) {
        origin += 7;
        standard = 80;
    } else if (strncasecmp(origin, "https://", 8) == 0) {
        origin += 8;
        standard = 443;
    } else {
        return false; /* "null" and every other scheme */
    }
    if (!text_parse_authority(origin, (size_t)(end - origin), &o))
        return false;
    host_port = host->port < 0 ? standard : host->port;
    return strcasecmp(o.host, host->host) == 0 &&
           (o.port < 0 ? standard : o.port) == host_port;
}

static bool check_same_site(struct http_request *rq, const struct fields *f,
                            const struct authority *host)
{
    if (!request_mutates(rq))
        return true;
    if (f->origin.n > 1 || (f->origin.n == 1 && !same_origin(&f->origin, host)))
        refuse(rq, 403, "FORBIDDEN",
               "cross-site request: the Origin is not that of the Host");
    else if (f->site.n > 1 || (f->site.n == 1 && !is(&f->site, "same-origin") &&
                               !is(&f->site, "none")))
        refuse(rq, 403, "FORBIDDEN",
               "cross-site request: Sec-Fetch-Site is neither same-origin "
               "nor none");
    else
        return true;
    return false;
}

static void refuse_route(struct http_request *rq, int status,
                         const struct buf *allow)
{
    struct http_headers *h;
    char message[256];

    if (status == 404) {
        http_reply_error(rq, 404, "NOT_FOUND", "there is nothing at this path",
                         json_pack("{s:s,s:s}", "resource_type", "route",
                                   "identifier", rq->path),
                         NULL);
        return;
    }
    (void)snprintf(message, sizeof message,
                   "the method %s is not allowed here; allowed are %s",
                   rq->method, allow->data);
    h = http_headers_new();
    http_headers_put(h, "Allow", allow->data);
    http_reply_error(rq, 405, "METHOD_NOT_ALLOWED", message, NULL, h);
}

/* Who may not come in is not told either what there is. */
static bool check_route(struct http_request *rq)
{
    const struct http_opts *opts = server_opts(rq->server);
    struct buf allow = {0};
    int status = router_match(rq, opts->routes, opts->n_routes, &allow);
    bool ok = false;

    if (opts->admit == NULL || opts->admit(rq, opts->ctx)) {
        ok = status == 0;
        if (!ok)
            refuse_route(rq, status, &allow);
    }
    buf_fini(&allow);
    return ok;
}

static bool is_json(const char *type)
{
    size_t n = type == NULL ? 0 : strcspn(type, "; \t");

    return n > 0 && text_equal_nocase(type, n, "application/json");
}

static void refuse_type(struct http_request *rq)
{
    refuse(rq, 415, "UNSUPPORTED_MEDIA_TYPE",
           "the body must be JSON: send Content-Type: application/json");
}

static void refuse_size(struct http_request *rq)
{
    rq->close = true;
    if (rq->route->max_body == 0)
        refuse(rq, 413, "PAYLOAD_TOO_LARGE", "this request takes no body");
    else
        refuse(rq, 413, "PAYLOAD_TOO_LARGE",
               "the body has more than the %zu bytes that are accepted here",
               rq->route->max_body);
}

/* check_body: n bytes are announced; of a chunked body, whose n is 0 here,
 * guards_check_body judges. */
static bool check_body(struct http_request *rq, uint64_t n, const char *type)
{
    if (n == 0)
        return true;
    if (rq->route->max_body > 0 && !is_json(type))
        refuse_type(rq);
    else if (n > rq->route->max_body)
        refuse_size(rq);
    else
        return true;
    return false;
}

void guards_check(struct http_request *rq, const char *url, const char *method,
                  const char *version)
{
    struct fields f = {.next = version + strlen(version) + 2};
    struct authority host;
    uint64_t body_len = 0;

    (void)snprintf(rq->method, sizeof rq->method, "%s", method);
    rq->head = strcmp(rq->method, "HEAD") == 0;
    (void)MHD_get_connection_values_n(rq->conn, MHD_HEADER_KIND, collect, &f);
    /* The library has seen to it that this is a number of 64 bits. */
    if (f.length.n > 0)
        body_len = strtoull(f.length.value, NULL, 10);
    rq->takes_body = f.coding.n > 0 || body_len > 0;
    /* A request whose form is in doubt may have ended elsewhere. */
    rq->close = true;
    if (!check_target(rq, url, method, version) || !check_limits(rq, &f) ||
        !check_framing(rq, &f, version, header_end(rq, method)) ||
        !check_host(rq, &f, &host))
        return;
    rq->close = false;
    if (check_same_site(rq, &f, &host) && check_route(rq))
        (void)check_body(rq, body_len, f.type.value);
}

bool guards_check_body(struct http_request *rq)
{
    if (rq->body_seen == 0)
        return true;
    if (rq->route->max_body > 0 && !is_json(http_header(rq, "Content-Type")))
        refuse_type(rq);
    else if (rq->body_seen > rq->route->max_body)
        refuse_size(rq);
    else if (rq->out_of_memory)
        guards_refuse_busy(rq, "memory",
                           "there is no memory for the body just now");
    else
        return true;
    return false;
}
