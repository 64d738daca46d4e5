/*
 * What the files of src/http share.
 *
 * The life of a request: request_new when the request line has arrived,
 * guards_check when the headers have, request_take_body as the body arrives,
 * then the handler; a reply is kept in `response` until the connection's own
 * thread queues it; request_free when the library is done with the request.
 *
 * One field is shared by two threads, `handoff`: the connection's thread and
 * whoever replies meet there.  Whoever comes second acts (http_server.c).
 */
#ifndef HOLDFAST_HTTP_HTTP_INTERNAL_H
#define HOLDFAST_HTTP_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <stdatomic.h>

#include "http/http.h"

#define HTTP_MAX_TARGET 8192
#define HTTP_MAX_FIELDS 64
#define HTTP_MAX_FIELD_BYTES 16384
#define HTTP_MAX_SEGMENTS 16 /* of a path; a longer one is no route */
#define HTTP_MAX_PARAMS 4    /* parts in a pattern */
#define HTTP_MAX_HOST 255    /* bytes of a host name */
#define HTTP_PEER_SIZE 46    /* INET6_ADDRSTRLEN */

struct http_pair {
    const char *name;
    size_t name_len;
    const char *value;
};

enum handoff {
    HANDOFF_IDLE,      /* no handler has been called */
    HANDOFF_RUNNING,   /* a handler has the request, the connection is awake */
    HANDOFF_SUSPENDED, /* as before, and the connection sleeps */
    HANDOFF_REPLIED    /* `response` is there */
};

struct http_request {
    struct http_server *server;
    struct MHD_Connection *conn; /* NULL before the headers have arrived */
    const struct http_route *route;
    char id[17];
    char method[16]; /* a longer one is cut: it is none of ours */
    bool head;
    bool admitted;   /* guards_check has been called */
    bool takes_body; /* the headers announce a body */
    bool close;      /* the connection ends with this request */
    bool cut_body;   /* the reply does not wait for the body */
    bool handled;    /* a handler has been called */
    bool out_of_memory;
    int64_t started_ms;

    /* The target.  `text` has two copies of it: as sent, but split where the
     * query begins, and one that is decoded piece by piece. */
    size_t target_len;     /* as sent, which may be more than was kept */
    const char *authority; /* of an absolute target, or NULL */
    size_t authority_len;
    const char *path;
    const char *segments[HTTP_MAX_SEGMENTS];
    size_t n_segments;
    struct http_pair params[HTTP_MAX_PARAMS];
    size_t n_params;
    struct http_pair *query;
    size_t n_query;

    char peer[HTTP_PEER_SIZE];
    void *kept;
    void (*kept_fini)(void *);

    char *body;
    size_t body_len;
    size_t body_cap;
    uint64_t body_seen; /* bytes that arrived, kept or not */

    /* Written by whoever replies, before handoff says so. */
    _Atomic int handoff;
    int status;
    uint64_t reply_bytes;
    struct MHD_Response *response; /* NULL once it has been queued */

    char *decoded; /* the second copy */
    char text[];
};

/* ---- http_request.c ---- */

/* request_new: for the target `uri` as the request line has it (NULL: none),
 * which is copied. */
struct http_request *request_new(struct http_server *s, const char *uri);
void request_free(struct http_request *rq);

/* request_parse_target: split and decode.  NULL, or what is wrong with it. */
const char *request_parse_target(struct http_request *rq);

/* request_take_body: keep the next n bytes of the body as far as the route
 * takes them; false when the rest is not worth waiting for. */
bool request_take_body(struct http_request *rq, const char *bytes, size_t n);

/* request_mutates: whether the method is one that changes something. */
bool request_mutates(const struct http_request *rq);

/* ---- http_text.c ---- */

/* text_unescape: http_unescape that says what is wrong, or NULL. */
const char *text_unescape(char *s);
bool text_is_token(const char *s, size_t n);
bool text_equal_nocase(const char *a, size_t a_len, const char *b);

struct authority {
    char host[HTTP_MAX_HOST + 1]; /* an IPv6 address in brackets, normalised */
    int port;                     /* -1: none */
};

/* text_parse_authority: HOST, HOST:PORT or [IPV6]:PORT; false if malformed. */
bool text_parse_authority(const char *s, size_t n, struct authority *a);

/* text_etag_matches: whether the list of entity tags (or "*") names etag, by
 * weak comparison (RFC 9110 8.8.3.2). */
bool text_etag_matches(const char *list, const char *etag);

/* ---- http_guards.c ---- */

/* guards_check: all that is decided from the headers, the route included.
 * Replies when the request is refused. */
void guards_check(struct http_request *rq, const char *url, const char *method,
                  const char *version);

/* guards_check_body: what only the whole body shows. */
bool guards_check_body(struct http_request *rq);

/* guards_refuse_busy: 503 with this reason, and Retry-After. */
void guards_refuse_busy(struct http_request *rq, const char *reason,
                        const char *message);

/* ---- http_router.c ---- */

/* router_match: find rq's route and parameters.  0; 404; or 405 with the
 * methods that there are in `allow`. */
int router_match(struct http_request *rq, const struct http_route *routes,
                 size_t n_routes, struct buf *allow);

/* ---- http_watch.c ---- */

/*
 * A connection that waits for a request, or for more of its body, is given up
 * after limit_s, however lively it drips: the library's own time-out begins
 * anew with every byte.  And while seven eighths of max_connections are open
 * it is given up after a second, those that have waited longest first, so that
 * idle and slow ones cannot keep all others out.  What is being answered is
 * left alone.
 * All functions are safe from any thread.
 */
struct watch;
struct watched; /* one connection */

/* watch_new: NULL with *e when its thread cannot be started. */
struct watch *watch_new(unsigned limit_s, unsigned max_connections,
                        struct err *e);
/* watch_free: when all have been removed; accepts NULL. */
void watch_free(struct watch *w);

/* watch_add: a new connection, which waits.  It owns fd, and must be removed
 * before that is closed. */
struct watched *watch_add(struct watch *w, int fd);
void watch_remove(struct watched *c);

/* watch_wait: it waits from now on.  watch_rest: it does not. */
void watch_wait(struct watched *c);
void watch_rest(struct watched *c);

/* ---- http_server.c ---- */

const struct http_opts *server_opts(const struct http_server *s);

/* server_knows_host: whether the host is one of ours. */
bool server_knows_host(const struct http_server *s, const char *host);

/* server_take_memory: whether n bytes more may be held of bodies, over all
 * requests (P9); they are given back with server_give_memory. */
bool server_take_memory(struct http_server *s, size_t n);
void server_give_memory(struct http_server *s, size_t n);

/* server_next_id: 16 hex digits that this server has not given before. */
void server_next_id(struct http_server *s, char id[17]);

/* server_hand_over: rq's response is in place.  Called once per request, from
 * any thread; rq may be gone when it returns. */
void server_hand_over(struct http_request *rq);

/* ---- http_response.c ---- */

/* response_finish: complete r with the headers that every reply has, and hand
 * it over.  `n` is the number of body bytes, for the log. */
void response_finish(struct http_request *rq, int status,
                     struct MHD_Response *r, uint64_t n,
                     const char *content_type, struct http_headers *h);

#endif
