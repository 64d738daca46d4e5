/*
 * The server: libmicrohttpd's threads, and where a reply meets its connection.
 * See http.h and http_internal.h.
 *
 * libmicrohttpd 0.9.75, on which this rests:
 * - A response queued in the first call of the access handler goes out without
 *   the body being read, and ends the connection.  While a body arrives none
 *   can be queued.  Everything else is queued in the last call.
 * - MHD_suspend_connection is for the access handler alone;
 * MHD_resume_connection may come from any thread, but only for a suspended
 * connection.
 * - A suspended connection is not watched: a client that leaves is noticed when
 *   the reply is sent.
 * - The header lines stay where they arrived, which guards_check makes use of.
 * - MHD_quiesce_daemon may abort when a worker thread notices it in the same
 *   moment, so the listening socket stays open until the end and new requests
 *   are answered with 503.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "http/http_internal.h"

#define MAX_THREADS 4
#define DEFAULT_CONNECTIONS 4096
#define DEFAULT_IDLE_S 30
#define THREAD_STACK_BYTES ((size_t)256 << 10)
/* Room for a target and headers somewhat above our limits, so that 414 and 431
 * are ours, with the library's records of them and the reply's headers. */
#define CONNECTION_BYTES ((size_t)40 << 10)
#define FLUSH_S 5              /* for the last replies to go out */
#define DRAIN_BYTES (1u << 20) /* of an unread body, before closing */
#define LOGGED_PATH_BYTES 256
/* Of a reply that may lie in the kernel before its client has room for it.
 * Without a limit it takes megabytes at once for a client that takes none,
 * and a few hundred of those keep a thread busy for seconds. */
#define UNSENT_BYTES (256 << 10)
/* Of all bodies that are held at a time. */
#define MAX_BODIES_BYTES ((size_t)4 << 20)
/* That much of a body has to come within the idle time-out: 2 KiB a second. */
#define BODY_PIECE_BYTES (64u << 10)

struct http_server {
    struct http_opts opts;
    struct MHD_Daemon *daemon;
    struct watch *watch;
    uint16_t port;
    char (*hosts)[HTTP_MAX_HOST + 1]; /* ours, as text_parse_authority says */
    size_t n_hosts;
    uint64_t id_base;
    atomic_uint_fast64_t id_count;
    atomic_size_t body_bytes; /* that requests hold */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool stopping;
    size_t n_handling; /* handlers that have not replied */
    size_t n_unsent;   /* requests handled whose reply is not out */
};

const struct http_opts *server_opts(const struct http_server *s)
{
    return &s->opts;
}

bool server_knows_host(const struct http_server *s, const char *host)
{
    for (size_t i = 0; i < s->n_hosts; i++) {
        if (strcasecmp(s->hosts[i], host) == 0)
            return true;
    }
    return false;
}

bool server_take_memory(struct http_server *s, size_t n)
{
    if (atomic_fetch_add(&s->body_bytes, n) + n <= MAX_BODIES_BYTES)
        return true;
    server_give_memory(s, n);
    return false;
}

void server_give_memory(struct http_server *s, size_t n)
{
    (void)atomic_fetch_sub(&s->body_bytes, n);
}

void server_next_id(struct http_server *s, char id[17])
{
    static const char hex[] = "0123456789abcdef";
    uint64_t x = s->id_base + atomic_fetch_add(&s->id_count, 1);

    /* A bijection (xor-shifts and odd factors), so that ids look unlike each
     * other and yet never repeat. */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    for (int i = 15; i >= 0; i--, x >>= 4)
        id[i] = hex[x & 15];
    id[16] = '\0';
}

/* ---- a handler begins, replies, and its reply has been sent ---- */

static bool begin_handling(struct http_server *s)
{
    bool ok;

    (void)pthread_mutex_lock(&s->lock);
    ok = !s->stopping;
    if (ok) {
        s->n_handling++;
        s->n_unsent++;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return ok;
}

static void count_down(struct http_server *s, size_t *n)
{
    (void)pthread_mutex_lock(&s->lock);
    if (--*n == 0 && s->stopping)
        (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

void server_hand_over(struct http_request *rq)
{
    struct http_server *s = rq->server;
    struct MHD_Connection *conn = rq->conn;
    int was = atomic_exchange(&rq->handoff, HANDOFF_REPLIED);

    /* Unless it is suspended the connection's thread may be done with rq by
     * now.  It cannot have stopped: s waits for n_handling. */
    if (was == HANDOFF_SUSPENDED)
        MHD_resume_connection(conn);
    if (was != HANDOFF_IDLE)
        count_down(s, &s->n_handling);
}

static bool has_replied(struct http_request *rq)
{
    return atomic_load(&rq->handoff) == HANDOFF_REPLIED;
}

static enum MHD_Result queue_reply(struct http_request *rq)
{
    enum MHD_Result r =
        MHD_queue_response(rq->conn, (unsigned int)rq->status, rq->response);

    MHD_destroy_response(rq->response);
    rq->response = NULL;
    return r;
}

/* run_handler: call it, and put the connection to sleep unless it has replied
 * already.  Only the connection's own thread comes here. */
static enum MHD_Result run_handler(struct http_request *rq)
{
    int running = HANDOFF_RUNNING;

    if (!begin_handling(rq->server)) {
        rq->close = true;
        guards_refuse_busy(rq, "stopping", "the service is stopping");
        return queue_reply(rq);
    }
    rq->handled = true;
    atomic_store(&rq->handoff, HANDOFF_RUNNING);
    rq->route->handler(rq, rq->server->opts.ctx);
    if (has_replied(rq))
        return queue_reply(rq);
    MHD_suspend_connection(rq->conn);
    if (!atomic_compare_exchange_strong(&rq->handoff, &running,
                                        HANDOFF_SUSPENDED))
        MHD_resume_connection(rq->conn); /* the reply came in between */
    return MHD_YES;
}

/* ---- what libmicrohttpd calls ---- */

/* The first that is heard of a request; what it returns is *con_cls below. */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *conn)
{
    struct http_request *rq = request_new(cls, uri);
    char *query = uri == NULL ? NULL : strchr((char *)(uintptr_t)uri, '?');

    (void)conn;
    /*
     * The library is about to make a record of every query parameter in the
     * connection's memory, and a few hundred of them leave it waiting for
     * headers that it has thrown away.  The text is in its own read buffer:
     * cut off there, the query is nobody's but ours.
     */
    if (query != NULL)
        query[1] = '\0';
    return rq;
}

/* A connection comes or goes; *socket_context is kept with it. */
static void on_connection(void *cls, struct MHD_Connection *conn,
                          void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_server *s = cls;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);

        *socket_context = watch_add(s->watch, info->connect_fd);
    } else {
        watch_remove(*socket_context);
    }
}

static struct watched *watched_of(struct MHD_Connection *conn)
{
    return MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
        ->socket_context;
}

static void note_peer(struct http_request *rq)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(rq->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    socklen_t n = info->client_addr->sa_family == AF_INET6
                      ? sizeof(struct sockaddr_in6)
                      : sizeof(struct sockaddr_in);

    (void)getnameinfo(info->client_addr, n, rq->peer, sizeof rq->peer, NULL, 0,
                      NI_NUMERICHOST);
}

/* admit: the headers are there. */
static enum MHD_Result admit(struct http_request *rq, const char *url,
                             const char *method, const char *version)
{
    rq->admitted = true;
    note_peer(rq);
    guards_check(rq, url, method, version);
    rq->cut_body = has_replied(rq) && rq->takes_body;
    if (rq->takes_body && !rq->cut_body)
        watch_wait(watched_of(rq->conn));
    else
        watch_rest(watched_of(rq->conn));
    return rq->cut_body ? queue_reply(rq) : MHD_YES;
}

static enum MHD_Result take_body(struct http_request *rq, const char *bytes,
                                 size_t n)
{
    uint64_t pieces = rq->body_seen / BODY_PIECE_BYTES;

    if (!request_take_body(rq, bytes, n))
        return MHD_NO;
    if (rq->body_seen / BODY_PIECE_BYTES != pieces)
        watch_wait(watched_of(rq->conn));
    return MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *conn,
                                 const char *url, const char *method,
                                 const char *version, const char *body,
                                 size_t *body_len, void **con_cls)
{
    struct http_request *rq = *con_cls;

    (void)cls;
    if (!rq->admitted) {
        rq->conn = conn;
        return admit(rq, url, method, version);
    }
    if (*body_len > 0) {
        size_t n = *body_len;

        *body_len = 0;
        return take_body(rq, body, n);
    }
    watch_rest(watched_of(conn));
    if (has_replied(rq))
        return queue_reply(rq);
    return guards_check_body(rq) ? run_handler(rq) : queue_reply(rq);
}

static void log_request(const struct http_request *rq,
                        enum MHD_RequestTerminationCode how)
{
    enum log_level level =
        request_mutates(rq) || rq->status >= 500 ? LOG_INFO : LOG_DEBUG;
    char path[LOGGED_PATH_BYTES + 1], status[24], bytes[24], ms[24];
    size_t n = strcspn(rq->path, "?");

    if (n > LOGGED_PATH_BYTES)
        n = LOGGED_PATH_BYTES;
    memcpy(path, rq->path, n);
    path[n] = '\0';
    log_event(level, "http.request", "request", rq->id, "method",
              *rq->method == '\0' ? NULL : rq->method, "path", path, "status",
              rq->status == 0 ? NULL : log_i64(status, rq->status), "bytes",
              log_i64(bytes, (long long)rq->reply_bytes), "ms",
              log_i64(ms, clock_monotonic_ms() - rq->started_ms), "ended",
              how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? NULL : "early",
              NULL);
}

/*
 * drain: take what has arrived of a body that nobody reads.  Closing a socket
 * with bytes left in it resets the connection, and the client could lose the
 * reply that tells it why.
 */
static void drain(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    size_t left = DRAIN_BYTES;
    char sink[8192];

    while (info != NULL && left > 0) {
        ssize_t n = recv(info->connect_fd, sink, sizeof sink, MSG_DONTWAIT);

        if (n <= 0)
            return;
        left -= (size_t)n < left ? (size_t)n : left;
    }
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                         enum MHD_RequestTerminationCode how)
{
    struct http_server *s = cls;
    struct http_request *rq = *con_cls;

    watch_wait(watched_of(conn)); /* for the next one */
    if (rq == NULL)
        return;
    *con_cls = NULL;
    /* A connection that was resumed only to die comes here without on_access:
     * this load makes what the replier wrote visible. */
    (void)has_replied(rq);
    if (rq->cut_body)
        drain(conn);
    log_request(rq, how);
    if (rq->handled)
        count_down(s, &s->n_unsent);
    request_free(rq);
}

/* Percent escapes are ours to decode; the library keeps the text as it is. */
static size_t keep_escapes(void *cls, struct MHD_Connection *conn, char *s)
{
    (void)cls;
    (void)conn;
    return strlen(s);
}

/* ---- start and stop ---- */

/* add_host: text is a name, or an IPv6 address in brackets or bare. */
static int add_host(struct http_server *s, const char *text, struct err *e)
{
    char in_brackets[INET6_ADDRSTRLEN + 3];
    struct authority a;
    size_t n = strlen(text);
    struct in6_addr in6;

    if (inet_pton(AF_INET6, text, &in6) == 1) {
        n = (size_t)snprintf(in_brackets, sizeof in_brackets, "[%s]", text);
        text = in_brackets;
    }
    if (!text_parse_authority(text, n, &a))
        return err_set(e, ERR_INVALID, "\"%s\" is no host name", text);
    s->hosts = xrealloc(s->hosts, (s->n_hosts + 1) * sizeof *s->hosts);
    memcpy(s->hosts[s->n_hosts++], a.host, sizeof a.host);
    return 0;
}

static int add_hosts(struct http_server *s, struct err *e)
{
    static const char *const always[] = {"localhost", "127.0.0.1", "[::1]"};

    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) {
        if (add_host(s, always[i], e) != 0)
            return -1;
    }
    for (size_t i = 0; i < s->opts.n_hosts; i++) {
        if (add_host(s, s->opts.hosts[i], e) != 0)
            return -1;
    }
    return add_host(s, s->opts.host, e);
}

static int bind_and_listen(struct http_server *s, int fd,
                           const struct addrinfo *ai, struct err *e)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } at;
    socklen_t len = sizeof at;
    const int on = 1, unsent = UNSENT_BYTES;

    /* Every connection inherits it. */
    if (setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent,
                   sizeof unsent) != 0)
        return err_sys(e, "cannot set TCP_NOTSENT_LOWAT");
    /* Not SO_REUSEPORT: a second server on the port has to fail. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return err_sys(e, "cannot set SO_REUSEADDR");
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 ||
        listen(fd, SOMAXCONN) != 0) {
        if (errno != EADDRINUSE)
            return err_sys(e, "cannot listen on %s port %u", s->opts.host,
                           s->opts.port);
        return err_set(e, ERR_CONFLICT,
                       "%s port %u is taken: another program listens there",
                       s->opts.host, s->opts.port);
    }
    memset(&at, 0, sizeof at);
    if (getsockname(fd, &at.any, &len) != 0)
        return err_sys(e, "cannot read the listening port");
    s->port =
        ntohs(at.any.sa_family == AF_INET6 ? at.in6.sin6_port : at.in.sin_port);
    return 0;
}

/* open_listener: the listening socket, or -1. */
static int open_listener(struct http_server *s, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *ai = NULL;
    char port[8];
    int fd = -1;

    (void)snprintf(port, sizeof port, "%u", s->opts.port);
    if (getaddrinfo(s->opts.host, port, &hints, &ai) != 0) {
        (void)err_set(e, ERR_INVALID, "\"%s\" is no numeric address",
                      s->opts.host);
        return -1;
    }
    fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        (void)err_sys(e, "cannot open a socket");
    } else if (bind_and_listen(s, fd, ai, e) != 0) {
        (void)close(fd);
        fd = -1;
    }
    freeaddrinfo(ai);
    return fd;
}

/* connection_limit: the databases need descriptors too. */
static unsigned connection_limit(const struct http_opts *opts)
{
    unsigned n = opts->max_connections == 0 ? DEFAULT_CONNECTIONS
                                            : opts->max_connections;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 &&
        files.rlim_cur != RLIM_INFINITY && files.rlim_cur / 2 < n)
        n = (unsigned)(files.rlim_cur / 2);
    return n;
}

static unsigned thread_count(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    /* Fewer than two is no pool for the library. */
    return cores > MAX_THREADS ? MAX_THREADS : cores < 2 ? 2 : (unsigned)cores;
}

static int start_daemon(struct http_server *s, struct err *e)
{
    unsigned idle_s =
        s->opts.idle_timeout_s == 0 ? DEFAULT_IDLE_S : s->opts.idle_timeout_s;
    unsigned max_connections = connection_limit(&s->opts);
    int fd = open_listener(s, e);

    if (fd < 0)
        return -1;
    s->watch = watch_new(idle_s, max_connections, e);
    if (s->watch == NULL) {
        (void)close(fd);
        return -1;
    }
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_access, s, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE,
        thread_count(), MHD_OPTION_THREAD_STACK_SIZE, THREAD_STACK_BYTES,
        MHD_OPTION_CONNECTION_LIMIT, max_connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_URI_LOG_CALLBACK,
        on_target, s, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    if (s->daemon == NULL) {
        (void)close(fd);
        return err_sys(e, "cannot start the HTTP server");
    }
    return 0;
}

/* server_free: everything but the daemon, which has stopped or never ran. */
static void server_free(struct http_server *s)
{
    watch_free(s->watch);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
    free(s->hosts);
    free(s);
}

int http_server_start(struct http_opts opts, struct http_server **out,
                      struct err *e)
{
    struct http_server *s = xcalloc(1, sizeof *s);
    pthread_condattr_t attr;

    s->opts = opts;
    rand_bytes(&s->id_base, sizeof s->id_base);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (add_hosts(s, e) != 0 || start_daemon(s, e) != 0) {
        server_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

void http_server_quiesce(struct http_server *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->stopping = true;
    (void)pthread_mutex_unlock(&s->lock);
}

void http_server_stop(struct http_server *s)
{
    struct timespec end;

    if (s == NULL)
        return;
    http_server_quiesce(s);
    (void)pthread_mutex_lock(&s->lock);
    while (s->n_handling > 0)
        (void)pthread_cond_wait(&s->changed, &s->lock);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += FLUSH_S;
    while (s->n_unsent > 0 &&
           pthread_cond_timedwait(&s->changed, &s->lock, &end) != ETIMEDOUT)
        ;
    (void)pthread_mutex_unlock(&s->lock);
    /* No handler runs and none can begin, so no connection is suspended but
     * those that are being resumed, which this call allows for. */
    MHD_stop_daemon(s->daemon);
    server_free(s);
}
