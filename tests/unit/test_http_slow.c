/* The HTTP server and clients that take their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/http.h"
#include "http_peer.h"

#define LOCAL "Host: localhost\r\n"
#define LIMIT_S 1
#define MAX_CONNECTIONS 32 /* so that 28 are a crowd */
#define DRIP_MS 50
#define PATIENCE_MS ((int64_t)PEER_PATIENCE_S * 1000)

static struct http_server *server;

/* ---- a handler that replies when it is told to ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static struct http_request *kept;

static void keep(struct http_request *rq, void *ctx)
{
    (void)ctx;
    (void)pthread_mutex_lock(&lock);
    kept = rq;
    (void)pthread_cond_signal(&came);
    (void)pthread_mutex_unlock(&lock);
}

static void reply_to_kept(void)
{
    struct http_request *rq;

    (void)pthread_mutex_lock(&lock);
    while (kept == NULL)
        (void)pthread_cond_wait(&came, &lock);
    rq = kept;
    kept = NULL;
    (void)pthread_mutex_unlock(&lock);
    http_reply_json(rq, 200, json_pack("{s:s}", "by", "a thread"), NULL);
}

static void answer(struct http_request *rq, void *ctx)
{
    size_t n;

    (void)ctx;
    (void)http_body(rq, &n);
    http_reply_json(rq, 200, json_pack("{s:i}", "bytes", (int)n), NULL);
}

/* A file larger than what fits into the sockets on the way. */
#define LARGE_BYTES (32 << 20)
static _Atomic int large_fd = -1;

static void much(struct http_request *rq, void *ctx)
{
    FILE *f = tmpfile();
    int fd;

    (void)ctx;
    assert_non_null(f);
    fd = dup(fileno(f));
    assert_true(fd >= 0 && ftruncate(fd, LARGE_BYTES) == 0);
    (void)fclose(f);
    atomic_store(&large_fd, fd);
    http_reply_file(rq, (struct http_file){.fd = fd,
                                           .size_bytes = LARGE_BYTES,
                                           .content_type = "text/plain",
                                           .filename = "large"});
}

static const struct http_route routes[] = {
    {"GET", "/answer", answer, 0, 0},
    {"POST", "/answer", answer, 1 << 20, 0},
    {"GET", "/keep", keep, 0, 0},
    {"GET", "/much", much, 0, 0},
};

static int start_with(unsigned limit_s, struct http_server **out)
{
    struct err e = {0};

    if (http_server_start(
            (struct http_opts){.host = "127.0.0.3",
                               .routes = routes,
                               .n_routes = sizeof routes / sizeof routes[0],
                               .max_connections = MAX_CONNECTIONS,
                               .idle_timeout_s = limit_s},
            out, &e) != 0) {
        (void)fprintf(stderr, "%s\n", e.message);
        return -1;
    }
    peer_use("127.0.0.3", http_server_port(*out));
    return 0;
}

static int start_server(void **state)
{
    (void)state;
    log_set_level(LOG_OFF);
    return start_with(LIMIT_S, &server);
}

static int stop_server(void **state)
{
    (void)state;
    http_server_stop(server);
    return 0;
}

/* ---- clients ---- */

/* drip: send one byte after the other, the last again and again, until the
 * server closes; the milliseconds that took. */
static int64_t drip(int fd, const char *text)
{
    int64_t began_ms = clock_monotonic_ms();
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (poll(&p, 1, DRIP_MS) == 0) {
        assert_true(clock_monotonic_ms() - began_ms < PATIENCE_MS);
        if (!peer_send(fd, text, 1))
            break;
        if (text[1] != '\0')
            text++;
    }
    assert_true(peer_ended(fd));
    return clock_monotonic_ms() - began_ms;
}

static void slow_headers(void **state)
{
    int fd = peer_dial();

    (void)state;
    assert_true(drip(fd, "GET /answer HTTP/1.1\r\n" LOCAL "X: y") >=
                LIMIT_S * 1000 - DRIP_MS);
    (void)close(fd);
}

static void slow_body(void **state)
{
    static const char *const lengths[] = {"Content-Length: 100000\r\n",
                                          "Transfer-Encoding: chunked\r\n"};
    char text[200];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        int fd = peer_dial();

        (void)snprintf(text, sizeof text,
                       "POST /answer HTTP/1.1\r\n" LOCAL
                       "Content-Type: application/json\r\n%s\r\n",
                       lengths[i]);
        peer_say(fd, text);
        (void)drip(fd, i == 0 ? " " : "ffff\r\n ");
        (void)close(fd);
    }
}

static void slow_second(void **state)
{
    int fd = peer_dial();
    struct answer a;

    (void)state;
    peer_say(fd, "GET /answer HTTP/1.1\r\n" LOCAL "\r\n");
    assert_true(peer_read(fd, false, &a));
    answer_fini(&a);
    (void)drip(fd, "GET /answer HTTP/1.1\r\n" LOCAL "X: y");
    (void)close(fd);
}

/* The server closes the file with the connection, and has not heaped up more
 * for it in the kernel than a fraction of what that would take. */
static void slow_reader(void **state)
{
    int64_t began_ms = clock_monotonic_ms();
    static char piece[1 << 16];
    int fd = peer_dial();
    size_t left = 0;
    char head[64];

    (void)state;
    peer_say(fd, "GET /much HTTP/1.1\r\n" LOCAL "\r\n");
    assert_true(recv(fd, head, sizeof head, 0) > 0);
    while (fcntl(atomic_load(&large_fd), F_GETFD) != -1) {
        assert_true(clock_monotonic_ms() - began_ms < PATIENCE_MS);
        (void)poll(NULL, 0, DRIP_MS);
    }
    for (ssize_t n; (n = recv(fd, piece, sizeof piece, 0)) > 0;)
        left += (size_t)n;
    assert_true(left < (2 << 20));
    (void)close(fd);
}

/* A request under way is not given up, whatever others do meanwhile. */
static void answering(void **state)
{
    int fd = peer_dial();
    int other;
    struct answer a;

    (void)state;
    peer_say(fd, "GET /keep HTTP/1.1\r\n" LOCAL "\r\n");
    other = peer_dial();
    (void)drip(other, "GET /answer HTTP/1.1\r\n" LOCAL "X: y");
    (void)close(other);
    reply_to_kept();
    assert_true(peer_read(fd, false, &a));
    assert_int_equal(a.status, 200);
    answer_fini(&a);
    (void)close(fd);
}

/* More connections than there may be, on a server whose limit nobody here
 * lives to see: the newest are served all the same, and the one that is being
 * answered stays. */
static void crowd(void **state)
{
    struct http_server *patient;
    int fds[3 * MAX_CONNECTIONS];
    struct answer a;
    int busy;

    (void)state;
    assert_int_equal(start_with(2 * PEER_PATIENCE_S, &patient), 0);
    busy = peer_dial();
    peer_say(busy, "GET /keep HTTP/1.1\r\n" LOCAL "\r\n");
    for (int i = 0; i < 3 * MAX_CONNECTIONS; i++) {
        fds[i] = peer_dial();
        peer_say(fds[i], "GET /answer HTTP/1.1\r\n");
        assert_int_equal(answered("GET /answer HTTP/1.1\r\n" LOCAL "\r\n"),
                         200);
    }
    for (int i = 0; i < 3 * MAX_CONNECTIONS; i++) {
        if (i < 2 * MAX_CONNECTIONS)
            assert_true(peer_ended(fds[i]));
        (void)close(fds[i]);
    }
    reply_to_kept();
    assert_true(peer_read(busy, false, &a));
    assert_int_equal(a.status, 200);
    answer_fini(&a);
    (void)close(busy);
    http_server_stop(patient);
    peer_use("127.0.0.3", http_server_port(server));
}

#define LARGE_BODIES 12

/* large_bodies: a dozen of a MiB each at once; how many were refused. */
static int large_bodies(void)
{
    static char piece[(1 << 20) - 1];
    int fds[LARGE_BODIES];
    struct answer a;
    int n_busy = 0;

    memset(piece, ' ', sizeof piece);
    for (int i = 0; i < LARGE_BODIES; i++) {
        fds[i] = peer_dial();
        peer_say(fds[i], "POST /answer HTTP/1.1\r\n" LOCAL
                         "Content-Type: application/json\r\n"
                         "Content-Length: 1048576\r\n\r\n");
        assert_true(peer_send(fds[i], piece, sizeof piece));
    }
    for (int i = 0; i < LARGE_BODIES; i++)
        peer_say(fds[i], " ");
    for (int i = 0; i < LARGE_BODIES; i++) {
        assert_true(peer_read(fds[i], false, &a));
        if (a.status == 503) {
            n_busy++;
            assert_non_null(strstr(a.body, "\"reason\":\"memory\""));
            assert_string_equal(answer_header(&a, "Retry-After"), "5");
        } else {
            assert_int_equal(a.status, 200);
        }
        answer_fini(&a);
        (void)close(fds[i]);
    }
    return n_busy;
}

/* P9: what is held of unfinished bodies is bounded, over all of them.  How
 * many of them the server holds at once is for its threads to say, so more
 * than once if need be. */
static void bodies(void **state)
{
    int64_t began_ms = clock_monotonic_ms();
    struct http_server *patient;
    int n_busy;

    (void)state;
    assert_int_equal(start_with(2 * PEER_PATIENCE_S, &patient), 0);
    do {
        n_busy = large_bodies();
        assert_true(n_busy < LARGE_BODIES);
    } while (n_busy == 0 && clock_monotonic_ms() - began_ms < PATIENCE_MS);
    assert_true(n_busy > 0);
    /* They have been given back. */
    assert_int_equal(answered("POST /answer HTTP/1.1\r\n" LOCAL
                              "Content-Type: application/json\r\n"
                              "Content-Length: 2\r\n\r\n{}"),
                     200);
    http_server_stop(patient);
    peer_use("127.0.0.3", http_server_port(server));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"http: headers that only drip are given up after the limit",
         slow_headers, NULL, NULL, NULL},
        {"http: so is a body, of known length or in chunks", slow_body, NULL,
         NULL, NULL},
        {"http: so is a second request on the same connection", slow_second,
         NULL, NULL, NULL},
        {"http: a client that does not take its answer is given up",
         slow_reader, NULL, NULL, NULL},
        {"http: a request that is being answered is not", answering, NULL, NULL,
         NULL},
        {"http: in a crowd the one that has waited longest gives way", crowd,
         NULL, NULL, NULL},
        {"http: of all bodies together a few MiB are held, more is 503", bodies,
         NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("http_slow", tests, start_server,
                                       stop_server);
}
