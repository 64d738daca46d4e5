/* What the HTTP server sends back, when, and what becomes of it at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "http/http.h"
#include "http_peer.h"

#define LOCAL "Host: localhost\r\n"
#define GET_FILE "GET /file HTTP/1.1\r\n" LOCAL
#define FILE_BYTES 100000
#define BIG_BYTES (1u << 20)
#define ETAG "\"5f2b\""
#define MODIFIED 1776090330
#define MODIFIED_TEXT "Mon, 13 Apr 2026 14:25:30 GMT"

/* What the handlers and the tests share. */
static struct world {
    struct http_server *server;
    const char *file_path;
    uint64_t file_bytes;
    char *text; /* the bytes of the file */
    struct http_shared *big;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct http_request *waiting; /* the request that /later has */
} w = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---- handlers ---- */

static void file(struct http_request *rq, void *ctx)
{
    struct world *world = ctx;
    int fd = open(world->file_path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    http_reply_file(rq, (struct http_file){.fd = fd,
                                           .size_bytes = world->file_bytes,
                                           .content_type = "text/x",
                                           .etag = ETAG,
                                           .last_modified = MODIFIED,
                                           .filename = "a\"\\\n\xc3\xa9.db"});
}

static void big(struct http_request *rq, void *ctx)
{
    struct world *world = ctx;

    http_reply_shared(rq, 200, "application/json", http_shared_ref(world->big),
                      NULL);
}

static void fixed(struct http_request *rq, void *ctx)
{
    (void)ctx;
    http_reply_static(rq, http_header(rq, "If-None-Match") == NULL ? 200 : 304,
                      "text/plain", "fixed", 5, NULL);
}

static void headers(struct http_request *rq, void *ctx)
{
    struct http_headers *h = http_headers_new();

    (void)ctx;
    http_headers_put(h, "X-Name", "first");
    http_headers_put(h, "x-name", http_query(rq, "v"));
    http_headers_put(h, "Cache-Control", "max-age=60");
    http_reply_empty(rq, 204, h);
}

static void later(struct http_request *rq, void *ctx)
{
    struct world *world = ctx;

    (void)pthread_mutex_lock(&world->lock);
    world->waiting = rq;
    (void)pthread_cond_broadcast(&world->changed);
    (void)pthread_mutex_unlock(&world->lock);
}

/* take_waiting: the request that /later has, once it is there. */
static struct http_request *take_waiting(void)
{
    struct http_request *rq;

    (void)pthread_mutex_lock(&w.lock);
    while (w.waiting == NULL)
        (void)pthread_cond_wait(&w.changed, &w.lock);
    rq = w.waiting;
    w.waiting = NULL;
    (void)pthread_mutex_unlock(&w.lock);
    return rq;
}

static void *reply_ok(void *rq)
{
    size_t n;
    const char *body = http_body(rq, &n);

    http_reply_json(rq, 200, json_pack("{s:s%}", "body", body, n), NULL);
    return NULL;
}

/* race: whether the reply or the suspension comes first is open. */
static void race(struct http_request *rq, void *ctx)
{
    pthread_t t;

    (void)ctx;
    assert_int_equal(pthread_create(&t, NULL, reply_ok, rq), 0);
    (void)pthread_detach(t);
}

static const struct http_route routes[] = {
    {"GET", "/file", file, 0, 0},   {"GET", "/big", big, 0, 0},
    {"GET", "/fixed", fixed, 0, 0}, {"GET", "/headers", headers, 0, 0},
    {"GET", "/later", later, 0, 0}, {"POST", "/later", later, 1000, 0},
    {"GET", "/race", race, 0, 0},
};

/* ---- the world ---- */

static int start_server(void **state)
{
    struct err e = {0};

    (void)state;
    if (http_server_start(
            (struct http_opts){.host = "127.0.0.1",
                               .routes = routes,
                               .n_routes = sizeof routes / sizeof routes[0],
                               .ctx = &w},
            &w.server, &e) != 0) {
        (void)fprintf(stderr, "%s\n", e.message);
        return -1;
    }
    peer_use("127.0.0.1", http_server_port(w.server));
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    http_server_stop(w.server);
    w.server = NULL;
    return 0;
}

static int make_world(void **state)
{
    static char path[] = "/tmp/holdfast-http-XXXXXX";
    int fd = mkstemp(path);
    struct buf b = {0};

    (void)state;
    log_set_level(LOG_OFF);
    if (fd < 0)
        return -1;
    w.file_path = path;
    w.file_bytes = FILE_BYTES;
    w.text = xmalloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        w.text[i] = (char)('a' + i % 26);
    if (write(fd, w.text, FILE_BYTES) != FILE_BYTES)
        return -1;
    (void)close(fd);
    memset(buf_reserve(&b, BIG_BYTES), 'x', BIG_BYTES);
    b.len = BIG_BYTES;
    w.big = http_shared_new(&b);
    return 0;
}

static int remove_world(void **state)
{
    (void)state;
    http_shared_unref(w.big);
    (void)unlink(w.file_path);
    free(w.text);
    return 0;
}

/* ---- a file ---- */

/* get_file: with these further header lines. */
static void get_file(const char *lines, struct answer *a)
{
    char text[400];

    (void)snprintf(text, sizeof text, GET_FILE "%s\r\n", lines);
    (void)ask(text, a);
}

static void assert_file_headers(struct answer *a)
{
    assert_string_equal(answer_header(a, "ETag"), ETAG);
    assert_string_equal(answer_header(a, "Last-Modified"), MODIFIED_TEXT);
    assert_string_equal(answer_header(a, "Accept-Ranges"), "bytes");
    assert_string_equal(answer_header(a, "Cache-Control"), "private, no-cache");
    assert_string_equal(answer_header(a, "Content-Disposition"),
                        "attachment; filename=\"a\\\"\\\\___.db\"");
    assert_string_equal(answer_header(a, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(answer_header(a, "Content-Type"), "text/x");
}

static void whole_file(void **state)
{
    struct answer a;

    (void)state;
    get_file("", &a);
    assert_int_equal(a.status, 200);
    assert_file_headers(&a);
    assert_int_equal(a.body_len, FILE_BYTES);
    assert_memory_equal(a.body, w.text, FILE_BYTES);
    answer_fini(&a);
    (void)ask("HEAD /file HTTP/1.1\r\n" LOCAL "Range: bytes=0-9\r\n\r\n", &a);
    assert_int_equal(a.status, 200);
    assert_file_headers(&a);
    assert_string_equal(answer_header(&a, "Content-Length"), "100000");
    answer_fini(&a);
}

static void part_of_file(void **state)
{
    static const struct {
        const char *range;
        const char *said;
        size_t first, n;
    } cases[] = {
        {"bytes=0-9", "bytes 0-9/100000", 0, 10},
        {"bytes=99990-", "bytes 99990-99999/100000", 99990, 10},
        {"bytes=-5", "bytes 99995-99999/100000", 99995, 5},
        {"bytes=5-999999999999999999999", "bytes 5-99999/100000", 5, 99995},
    };
    struct answer a;
    char line[100];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(line, sizeof line, "Range: %s\r\n", cases[i].range);
        get_file(line, &a);
        assert_int_equal(a.status, 206);
        assert_file_headers(&a);
        assert_string_equal(answer_header(&a, "Content-Range"), cases[i].said);
        assert_int_equal(a.body_len, cases[i].n);
        assert_memory_equal(a.body, w.text + cases[i].first, cases[i].n);
        answer_fini(&a);
    }
    get_file("Range: bytes=0-1,5-6\r\n", &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.body_len, FILE_BYTES);
    answer_fini(&a);
}

static void outside_of_file(void **state)
{
    struct answer a;

    (void)state;
    get_file("Range: bytes=100000-\r\n", &a);
    assert_int_equal(a.status, 416);
    assert_string_equal(answer_header(&a, "Content-Range"), "bytes */100000");
    assert_string_equal(answer_header(&a, "Content-Type"), "application/json");
    assert_non_null(strstr(a.body, "\"error\":\"RANGE_NOT_SATISFIABLE\""));
    answer_fini(&a);
}

static void conditions(void **state)
{
    static const struct {
        const char *lines;
        int status;
    } cases[] = {
        {"If-None-Match: " ETAG "\r\n", 304},
        {"If-None-Match: W/" ETAG "\r\n", 304},
        {"If-None-Match: \"x\", W/\"y\" ,, " ETAG "\r\n", 304},
        {"If-None-Match: *\r\n", 304},
        {"If-None-Match: " ETAG "\r\nRange: bytes=0-1\r\n", 304},
        {"If-None-Match: \"x\"\r\n", 200},
        {"If-None-Match: 5f2b\r\n", 200},
        {"If-None-Match: \"5f2b\r\n", 200},
        {"If-None-Match:\r\n", 200},
        {"If-None-Match: \"x\"\r\nRange: bytes=0-1\r\n", 206},
        {"If-Range: " ETAG "\r\nRange: bytes=0-1\r\n", 206},
        {"If-Range: " MODIFIED_TEXT "\r\nRange: bytes=0-1\r\n", 206},
        {"If-Range: W/" ETAG "\r\nRange: bytes=0-1\r\n", 200},
        {"If-Range: \"x\"\r\nRange: bytes=0-1\r\n", 200},
        {"If-Range: \"x\"\r\nRange: bytes=100000-\r\n", 200},
        {"If-Range: Mon, 13 Apr 2026 14:25:31 GMT\r\nRange: bytes=0-1\r\n",
         200},
    };
    struct answer a;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = peer_dial();

        peer_say(fd, GET_FILE);
        peer_say(fd, cases[i].lines);
        peer_say(fd, "\r\n");
        assert_true(peer_read(fd, cases[i].status == 304, &a));
        if (a.status != cases[i].status)
            fail_msg("%d for %s", a.status, cases[i].lines);
        assert_file_headers(&a);
        if (a.status == 304)
            assert_string_equal(answer_header(&a, "Content-Length"), "100000");
        answer_fini(&a);
        /* Nothing of a body follows a 304: the connection is still sound. */
        peer_say(fd, "GET /fixed HTTP/1.1\r\n" LOCAL "\r\n");
        assert_true(peer_read(fd, false, &a));
        assert_string_equal(a.body, "fixed");
        answer_fini(&a);
        (void)close(fd);
    }
}

static void empty_file(void **state)
{
    struct answer a;

    (void)state;
    w.file_bytes = 0;
    get_file("", &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(answer_header(&a, "Content-Length"), "0");
    answer_fini(&a);
    get_file("Range: bytes=0-\r\n", &a);
    assert_int_equal(a.status, 416);
    assert_string_equal(answer_header(&a, "Content-Range"), "bytes */0");
    answer_fini(&a);
    w.file_bytes = FILE_BYTES;
}

/* n_open: descriptors of this process. */
static size_t n_open(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

static void descriptors(void **state)
{
    size_t before = n_open();
    struct answer a;

    (void)state;
    assert_int_equal(start_server(NULL), 0);
    for (int i = 0; i < 10; i++) {
        int fd = peer_dial();

        get_file("", &a);
        answer_fini(&a);
        get_file("Range: bytes=200000-\r\n", &a);
        answer_fini(&a);
        get_file("Range: bytes=0-1\r\n", &a);
        answer_fini(&a);
        peer_say(fd, GET_FILE "\r\n"); /* and never reads the answer */
        (void)close(fd);
    }
    (void)stop_server(NULL);
    assert_int_equal(n_open(), before);
}

/* ---- other replies ---- */

static void shared(void **state)
{
    struct answer a;

    (void)state;
    (void)ask("GET /big HTTP/1.1\r\n" LOCAL "\r\n", &a);
    assert_int_equal(a.body_len, BIG_BYTES);
    assert_int_equal(strspn(a.body, "x"), BIG_BYTES);
    answer_fini(&a);
    (void)ask("HEAD /big HTTP/1.1\r\n" LOCAL "\r\n", &a);
    assert_string_equal(answer_header(&a, "Content-Length"), "1048576");
    answer_fini(&a);
}

static void not_modified(void **state)
{
    int fd = peer_dial();
    struct answer a;

    (void)state;
    peer_say(fd, "GET /fixed HTTP/1.1\r\n" LOCAL "If-None-Match: *\r\n\r\n");
    assert_true(peer_read(fd, true, &a));
    assert_int_equal(a.status, 304);
    assert_string_equal(answer_header(&a, "Content-Length"), "5");
    answer_fini(&a);
    (void)close(fd);
}

static void extra_headers(void **state)
{
    struct answer a;

    (void)state;
    (void)ask("GET /headers?v=a%0d%0aSet-Cookie:%20b%7f HTTP/1.1\r\n" LOCAL
              "\r\n",
              &a);
    assert_int_equal(a.status, 204);
    assert_string_equal(answer_header(&a, "X-Name"), "a??Set-Cookie: b?");
    assert_null(answer_header(&a, "Set-Cookie"));
    assert_string_equal(answer_header(&a, "Cache-Control"), "max-age=60");
    assert_null(answer_header(&a, "Content-Length"));
    answer_fini(&a);
}

/* ---- replies from other threads ---- */

static void from_a_thread(void **state)
{
    int fd = peer_dial();
    struct answer a;
    pthread_t t;

    (void)state;
    for (int i = 0; i < 3; i++) {
        peer_say(fd, "POST /later HTTP/1.1\r\n" LOCAL
                     "Content-Type: application/json\r\n"
                     "Content-Length: 2\r\n\r\n{}");
        assert_int_equal(pthread_create(&t, NULL, reply_ok, take_waiting()), 0);
        assert_true(peer_read(fd, false, &a));
        assert_string_equal(a.body, "{\"body\":\"{}\"}");
        answer_fini(&a);
        (void)pthread_join(t, NULL);
    }
    (void)close(fd);
}

static void *ask_races(void *arg)
{
    int fd = peer_dial();
    struct answer a;
    size_t *n_ok = arg;

    for (int i = 0; i < 300; i++) {
        peer_say(fd, "GET /race HTTP/1.1\r\n" LOCAL "\r\n");
        assert_true(peer_read(fd, false, &a));
        *n_ok += a.status == 200;
        answer_fini(&a);
    }
    (void)close(fd);
    return NULL;
}

static void races(void **state)
{
    size_t n_ok[4] = {0};
    pthread_t t[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, ask_races, &n_ok[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        (void)pthread_join(t[i], NULL);
        assert_int_equal(n_ok[i], 300);
    }
}

static void client_leaves(void **state)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    (void)state;
    for (int i = 0; i < 20; i++) {
        int fd = peer_dial();
        struct http_request *rq;

        peer_say(fd, "GET /later HTTP/1.1\r\n" LOCAL "\r\n");
        rq = take_waiting();
        if (i % 2 == 0) /* gone with a reset, or with a farewell */
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once,
                             sizeof at_once);
        (void)close(fd);
        (void)reply_ok(rq);
    }
    assert_int_equal(answered("GET /fixed HTTP/1.1\r\n" LOCAL "\r\n"), 200);
}

/* ---- the log ---- */

/* logged: what is written to the log while a server answers `request`. */
static char *logged(const char *request)
{
    static char text[4096];
    int stderr_was = dup(STDERR_FILENO);
    ssize_t n;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    (void)fflush(stderr);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    log_set_level(LOG_DEBUG);
    assert_int_equal(start_server(NULL), 0);
    (void)answered(request);
    (void)stop_server(NULL); /* after it every request has been logged */
    log_set_level(LOG_OFF);
    (void)dup2(stderr_was, STDERR_FILENO);
    (void)close(stderr_was);
    (void)close(ends[1]);
    n = read(ends[0], text, sizeof text - 1);
    (void)close(ends[0]);
    assert_true(n > 0);
    text[n] = '\0';
    /* One line, and what it begins with is the time. */
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    return strstr(text, " level=");
}

static void log_lines(void **state)
{
    struct buf b = {0};
    char *line;

    (void)state;
    line = logged("GET /fixed?secret=1 HTTP/1.1\r\n" LOCAL "\r\n");
    assert_memory_equal(line, " level=debug event=http.request request=", 40);
    assert_non_null(
        strstr(line, " method=GET path=/fixed status=200 bytes=5 ms="));
    line = logged("POST /nowhere HTTP/1.1\r\n" LOCAL "\r\n");
    assert_memory_equal(line, " level=info", 11);
    assert_non_null(strstr(line, " method=POST path=/nowhere status=404 "));
    line = logged("HEAD /fixed HTTP/1.1\r\n" LOCAL "\r\n");
    assert_non_null(strstr(line, " status=200 bytes=0 "));

    buf_puts(&b, "GET /");
    while (b.len < 9000)
        buf_puts(&b, "a");
    buf_puts(&b, "?secret=1 HTTP/1.1\r\n" LOCAL "\r\n");
    line = strstr(logged(b.data), "path=/");
    assert_int_equal(strspn(line + 6, "a"), 255);
    assert_memory_equal(line + 6 + 255, " status=414 ", 12);
    buf_fini(&b);
}

/* ---- the end ---- */

static void *stop_in_thread(void *s)
{
    http_server_stop(s);
    return NULL;
}

static void stopping(void **state)
{
    int slow, idle, open, reading;
    struct http_request *rq;
    struct answer a;
    pthread_t t;

    (void)state;
    assert_int_equal(start_server(NULL), 0);
    slow = peer_dial();
    peer_say(slow, "GET /later HTTP/1.1\r\n" LOCAL "\r\n");
    rq = take_waiting();
    idle = peer_dial();
    open = peer_dial();
    peer_say(open, "GET /fixed HTTP/1.1\r\n" LOCAL "\r\n");
    assert_true(peer_read(open, false, &a));
    answer_fini(&a);
    reading = peer_dial();
    peer_say(reading, "POST /later HTTP/1.1\r\n" LOCAL
                      "Content-Type: application/json\r\n"
                      "Content-Length: 100\r\n\r\n{");

    http_server_quiesce(w.server);
    peer_say(open, "GET /fixed HTTP/1.1\r\n" LOCAL "\r\n");
    assert_true(peer_read(open, false, &a));
    assert_int_equal(a.status, 503);
    assert_string_equal(answer_header(&a, "Retry-After"), "5");
    assert_string_equal(answer_header(&a, "Connection"), "close");
    assert_string_equal(a.body,
                        "{\"error\":\"BUSY\",\"message\":\"the service is "
                        "stopping\",\"details\":{\"reason\":\"stopping\"}}");
    answer_fini(&a);
    assert_true(peer_ended(open));

    /* Stop waits for the handler, and its answer still goes out. */
    assert_int_equal(pthread_create(&t, NULL, stop_in_thread, w.server), 0);
    (void)reply_ok(rq);
    assert_true(peer_read(slow, false, &a));
    assert_int_equal(a.status, 200);
    answer_fini(&a);
    (void)pthread_join(t, NULL);
    assert_true(peer_ended(slow));
    assert_true(peer_ended(idle));
    assert_true(peer_ended(reading));
    (void)close(slow);
    (void)close(idle);
    (void)close(open);
    (void)close(reading);
}

static void stop_under_load(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        int fd[8];

        assert_int_equal(start_server(NULL), 0);
        for (size_t k = 0; k < 8; k++) {
            fd[k] = peer_dial();
            peer_say(fd[k], k % 2 == 0 ? "GET /race HTTP/1.1\r\n" LOCAL "\r\n"
                                       : GET_FILE "\r\n");
        }
        (void)stop_server(NULL);
        for (size_t k = 0; k < 8; k++)
            (void)close(fd[k]);
    }
}

static void cannot_start(void **state)
{
    struct http_server *s = NULL;
    struct http_opts opts = {.host = "127.0.0.1",
                             .port = http_server_port(w.server),
                             .routes = routes,
                             .n_routes = 1};
    static const char *const bad[] = {"not a name"};
    struct err e = {0};

    (void)state;
    assert_int_equal(http_server_start(opts, &s, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_non_null(strstr(e.message, "is taken"));
    opts.host = "localhost";
    assert_int_equal(http_server_start(opts, &s, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    opts.host = "127.0.0.1";
    opts.hosts = bad;
    opts.n_hosts = 1;
    assert_int_equal(http_server_start(opts, &s, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.message, "\"not a name\" is no host name"));
    assert_null(s);
}

#define SERVED(name, test)                              \
    {                                                   \
        (name), (test), start_server, stop_server, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        SERVED("file: it is sent whole with its headers, HEAD ignores Range",
               whole_file),
        SERVED("file: one range is sent as 206, of several the whole file",
               part_of_file),
        SERVED("file: a range outside is 416 and says the length",
               outside_of_file),
        SERVED("file: If-None-Match is weak, If-Range strong, in that order",
               conditions),
        SERVED("file: an empty one has no range", empty_file),
        {"file: every descriptor is closed again", descriptors, NULL, NULL,
         NULL},
        SERVED("reply: a shared body arrives whole", shared),
        SERVED("reply: a 304 says the length and has no body", not_modified),
        SERVED("reply: a header's value cannot begin another header",
               extra_headers),
        SERVED("reply: another thread replies while the connection sleeps",
               from_a_thread),
        SERVED("reply: one that comes before the connection sleeps is sent",
               races),
        SERVED("reply: a client that is gone by then does no harm",
               client_leaves),
        {"log: a line per request, without its query, mutating ones louder",
         log_lines, NULL, NULL, NULL},
        {"stop: new requests get 503, those under way are answered, the rest "
         "is cut",
         stopping, NULL, NULL, NULL},
        {"stop: in the middle of requests it ends and leaks nothing",
         stop_under_load, NULL, NULL, NULL},
        SERVED("start: a taken port and a wrong address say so", cannot_start),
    };

    return cmocka_run_group_tests_name("http_reply", tests, make_world,
                                       remove_world);
}
