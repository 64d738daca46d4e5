/* The HTTP server over real loopback connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "http/http.h"
#include "http_peer.h"

#define LOCAL "Host: localhost\r\n"

static struct http_server *server;

/* ---- handlers ---- */

static void item(struct http_request *rq, void *ctx)
{
    const char *q = http_query(rq, "q");

    (void)ctx;
    http_reply_json(rq, 200,
                    json_pack("{s:s,s:s,s:s?,s:b}", "method", http_method(rq),
                              "name", http_param(rq, "name"), "q", q,
                              "repeated", http_query_repeated(rq, "q")),
                    NULL);
}

static void echo(struct http_request *rq, void *ctx)
{
    size_t n;
    const char *body = http_body(rq, &n);

    (void)ctx;
    http_reply_json(rq, 201, json_pack("{s:s%}", "body", body, n), NULL);
}

static void remove_item(struct http_request *rq, void *ctx)
{
    (void)ctx;
    http_reply_empty(rq, 204, NULL);
}

static void *reply_at_once(void *rq)
{
    http_reply_json(rq, 200, json_pack("{s:s}", "by", "a thread"), NULL);
    return NULL;
}

static void race(struct http_request *rq, void *ctx)
{
    pthread_t t;

    (void)ctx;
    assert_int_equal(pthread_create(&t, NULL, reply_at_once, rq), 0);
    (void)pthread_detach(t);
}

static const struct http_route routes[] = {
    {"GET", "/items/current", echo, 0, 0},
    {"GET", "/items/{name}", item, 0, 0},
    {"DELETE", "/items/{name}", remove_item, 0, 0},
    {"POST", "/items/{name}/echo", echo, 1000, 0},
    {"POST", "/empty", echo, 0, 0},
    {"GET", "/race", race, 0, 0},
};

static int start_server(void **state)
{
    static const char *const hosts[] = {"Backup.example", "fe80::1"};
    struct err e = {0};

    (void)state;
    log_set_level(LOG_OFF);
    if (http_server_start(
            (struct http_opts){.host = "127.0.0.2",
                               .routes = routes,
                               .n_routes = sizeof routes / sizeof routes[0],
                               .hosts = hosts,
                               .n_hosts = 2},
            &server, &e) != 0) {
        (void)fprintf(stderr, "%s\n", e.message);
        return -1;
    }
    peer_use("127.0.0.2", http_server_port(server));
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    http_server_stop(server);
    return 0;
}

/* ---- requests and their parts ---- */

static void answers(void **state)
{
    struct answer a, b;

    (void)state;
    assert_false(
        ask("GET /items/a%20b?q=c%2Bd+e HTTP/1.1\r\n" LOCAL "\r\n", &a));
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "{\"method\":\"GET\",\"name\":\"a b\","
                                "\"q\":\"c+d+e\",\"repeated\":false}");
    assert_string_equal(answer_header(&a, "Content-Type"), "application/json");
    assert_string_equal(answer_header(&a, "Cache-Control"), "no-store");
    assert_string_equal(answer_header(&a, "X-Content-Type-Options"), "nosniff");
    (void)ask("GET /items/a HTTP/1.1\r\n" LOCAL "\r\n", &b);
    assert_string_not_equal(strstr(a.head, "X-Request-Id"),
                            strstr(b.head, "X-Request-Id"));
    answer_fini(&a);
    answer_fini(&b);
}

static void query(void **state)
{
    struct buf b = {0};
    struct answer a;

    (void)state;
    (void)ask("GET /items/a?&q=&&q=2& HTTP/1.1\r\n" LOCAL "\r\n", &a);
    assert_string_equal(a.body, "{\"method\":\"GET\",\"name\":\"a\","
                                "\"q\":\"\",\"repeated\":true}");
    answer_fini(&a);
    buf_puts(&b, "GET /items/a?");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "p%d&", i);
    buf_puts(&b, "q=last HTTP/1.1\r\n" LOCAL "\r\n");
    (void)ask(b.data, &a);
    assert_non_null(strstr(a.body, "\"q\":\"last\""));
    answer_fini(&a);
    buf_fini(&b);
}

static void head(void **state)
{
    struct answer get, h;

    (void)state;
    (void)ask("GET /items/abc HTTP/1.1\r\n" LOCAL "\r\n", &get);
    (void)ask("HEAD /items/abc HTTP/1.1\r\n" LOCAL "\r\n", &h);
    assert_int_equal(h.status, 200);
    assert_int_equal(strtoul(answer_header(&h, "Content-Length"), NULL, 10),
                     get.body_len + strlen("HEAD") - strlen("GET"));
    answer_fini(&get);
    answer_fini(&h);
}

static void absolute(void **state)
{
    (void)state;
    assert_int_equal(answered("GET http://localhost:1/items/a HTTP/1.1\r\n"
                              "Host: localhost:1\r\n\r\n"),
                     200);
    assert_true(refused("GET http://localhost/items/a HTTP/1.1\r\n"
                        "Host: 127.0.0.1\r\n\r\n",
                        400, "BAD_REQUEST", "another host"));
}

static void keep_alive(void **state)
{
    int fd = peer_dial();
    struct answer a;

    (void)state;
    /* The second and third arrive while the first is being answered. */
    peer_say(fd, "GET /items/1 HTTP/1.1\r\n" LOCAL "\r\n"
                 "GET /race HTTP/1.1\r\n" LOCAL "\r\n"
                 "GET /nowhere HTTP/1.1\r\n" LOCAL "\r\n"
                 "POST /items/4/echo HTTP/1.1\r\n" LOCAL
                 "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                 "GET /items/5 HTTP/1.1\r\n" LOCAL "Connection: close\r\n\r\n");
    for (int i = 1; i <= 5; i++) {
        static const int want[] = {0, 200, 200, 404, 201, 200};

        assert_true(peer_read(fd, false, &a));
        assert_int_equal(a.status, want[i]);
        answer_fini(&a);
    }
    assert_true(peer_ended(fd));
    (void)close(fd);
}

static void body(void **state)
{
    struct answer a;

    (void)state;
    assert_false(ask("POST /items/x/echo HTTP/1.1\r\n" LOCAL
                     "Content-Type: application/json; charset=utf-8\r\n"
                     "Content-Length: 5\r\n\r\n[1,2]",
                     &a));
    assert_string_equal(a.body, "{\"body\":\"[1,2]\"}");
    answer_fini(&a);
    assert_false(ask("POST /items/x/echo HTTP/1.1\r\n" LOCAL
                     "Content-Type: Application/JSON\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n"
                     "2\r\n[1\r\n3;x=y\r\n,2]\r\n0\r\nTrailer: x\r\n\r\n",
                     &a));
    assert_string_equal(a.body, "{\"body\":\"[1,2]\"}");
    answer_fini(&a);
    assert_false(ask("POST /items/x/echo HTTP/1.1\r\n" LOCAL "\r\n", &a));
    assert_string_equal(a.body, "{\"body\":\"\"}");
    answer_fini(&a);
}

static void expect(void **state)
{
    int fd = peer_dial();
    struct answer a;

    (void)state;
    peer_say(fd, "POST /items/x/echo HTTP/1.1\r\n" LOCAL
                 "Content-Type: application/json\r\nContent-Length: 2\r\n"
                 "Expect: 100-continue\r\n\r\n");
    assert_true(peer_read(fd, false, &a));
    assert_int_equal(a.status, 100);
    answer_fini(&a);
    peer_say(fd, "{}");
    assert_true(peer_read(fd, false, &a));
    assert_int_equal(a.status, 201);
    answer_fini(&a);
    (void)close(fd);
}

/* ---- refusals ---- */

static void targets(void **state)
{
    static const char *const wrong[][2] = {
        {"/items/%", "hexadecimal"},
        {"/items/%zz", "hexadecimal"},
        {"/items/a%00b", "%00"},
        {"/items/%ff", "UTF-8"},
        {"/items/%c0%af", "UTF-8"},
        {"/items/a?q=%00", "%00"},
        {"/items/a?%zz=1", "hexadecimal"},
        {"/items/a?q=%ff", "UTF-8"},
        {"/items/\xc3\xa9", "above 127"},
        {"/items/a\x01", "control"},
        {"/items/a\x7f", "control"},
        {"/items/a b", "blank"},
        {"*", "begins with '/'"},
        {"items", "begins with '/'"},
        {"localhost:80", "begins with"},
        {" /items/a", "one blank"},
        {"/items/a ", "blank"},
        {"http://localhost", "begins with"},
    };
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        (void)snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n" LOCAL "\r\n",
                       wrong[i][0]);
        assert_true(refused(text, 400, "BAD_REQUEST", wrong[i][1]));
    }
    assert_true(
        refused_bytes("GET /items/a\0b HTTP/1.1\r\n" LOCAL "\r\n",
                      sizeof("GET /items/a\0b HTTP/1.1\r\n" LOCAL "\r\n") - 1,
                      400, "BAD_REQUEST", "NUL"));
    assert_true(refused("G\x01T /items/a HTTP/1.1\r\n" LOCAL "\r\n", 400,
                        "BAD_REQUEST", "no token"));
}

static void long_target(void **state)
{
    static const size_t lengths[] = {8192, 8193, 20000};
    struct buf b = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        b.len = 0;
        buf_puts(&b, "GET /items/");
        while (b.len < lengths[i] + 4)
            buf_puts(&b, "a");
        buf_puts(&b, " HTTP/1.1\r\n" LOCAL "\r\n");
        if (lengths[i] <= 8192)
            assert_int_equal(answered(b.data), 200);
        else
            assert_true(refused(b.data, 414, "URI_TOO_LONG", "8192"));
    }
    buf_fini(&b);
}

static void many_headers(void **state)
{
    struct buf b = {0};

    (void)state;
    for (int n = 64; n <= 65; n++) {
        b.len = 0;
        buf_puts(&b, "GET /items/a HTTP/1.1\r\n" LOCAL);
        for (int i = 1; i < n; i++)
            buf_printf(&b, "X-%d: y\r\n", i);
        buf_puts(&b, "\r\n");
        if (n == 64)
            assert_int_equal(answered(b.data), 200);
        else
            assert_true(refused(b.data, 431, "HEADERS_TOO_LARGE", "64"));
    }
    /* "Host: localhost" and "X: " with their line ends have 22 bytes. */
    for (size_t n = 16384; n <= 16385; n++) {
        b.len = 0;
        buf_puts(&b, "GET /items/a HTTP/1.1\r\n" LOCAL "X: ");
        for (size_t i = 22; i < n; i++)
            buf_puts(&b, "y");
        buf_puts(&b, "\r\n\r\n");
        if (n == 16384)
            assert_int_equal(answered(b.data), 200);
        else
            assert_true(refused(b.data, 431, "HEADERS_TOO_LARGE", "16384"));
    }
    buf_fini(&b);
}

static void framing(void **state)
{
    static const char *const wrong[][2] = {
        {"Content-Length: 0\r\nContent-Length: 0\r\n", "at most one"},
        {"Content-Length: 0\r\ncontent-length: 5\r\n", "at most one"},
        {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "not both"},
        {"Content-Length: abc\r\nTransfer-Encoding: chunked\r\n", "not both"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
         "at most one"},
        {"Transfer-Encoding: gzip, chunked\r\n", "chunked"},
        {"Transfer-Encoding: identity\r\n", "chunked"},
        {"Transfer-Encoding:\r\n", "chunked"},
        {"Transfer-Encoding : chunked\r\n", "no token"},
        {"X: a\r\n b\r\n", "CRLF"},
        {"X: a\n", "CRLF"},
        {"X: a\rb\r\n", "control"},
        {"X: a\x01\r\n", "control"},
        {"X(): a\r\n", "no token"},
    };
    char text[300];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        (void)snprintf(text, sizeof text,
                       "POST /items/a/echo HTTP/1.1\r\n" LOCAL "%s"
                       "Content-Type: application/json\r\n\r\n"
                       "0\r\n\r\n",
                       wrong[i][0]);
        assert_true(refused(text, 400, "BAD_REQUEST", wrong[i][1]));
    }
    assert_true(refused("POST /items/a/echo HTTP/1.0\r\n" LOCAL
                        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                        400, "BAD_REQUEST", "HTTP/1.1"));
    assert_true(refused("GET /items/a HTTP/1.1\nHost: localhost\n\n", 400,
                        "BAD_REQUEST", "CRLF"));
    assert_true(refused("GET /items/a HTTP/1.1\r\nHost: localhost\r\n\n", 400,
                        "BAD_REQUEST", "CRLF"));
    assert_true(refused_bytes(
        "GET /items/a HTTP/1.1\r\nX: a\0b\r\n" LOCAL "\r\n",
        sizeof("GET /items/a HTTP/1.1\r\nX: a\0b\r\n" LOCAL "\r\n") - 1, 400,
        "BAD_REQUEST", "NUL"));
}

static void library_refusals(void **state)
{
    static const struct {
        const char *lines;
        int status;
    } wrong[] = {
        {"POST /empty HTTP/1.1\r\n" LOCAL "Content-Length: -1\r\n\r\n", 400},
        {"POST /empty HTTP/1.1\r\n" LOCAL "Content-Length: 1x\r\n\r\n", 400},
        {"POST /empty HTTP/1.1\r\n" LOCAL "Content-Length: +1\r\n\r\n", 400},
        {"POST /empty HTTP/1.1\r\n" LOCAL "Content-Length: 0x1\r\n\r\n", 400},
        {"POST /empty HTTP/1.1\r\n" LOCAL "Content-Length:\r\n\r\n", 400},
        {"POST /empty HTTP/1.1\r\n" LOCAL
         "Content-Length: 99999999999999999999\r\n\r\n",
         413},
        {"GET /items/a HTTP/2.0\r\n" LOCAL "\r\n", 505},
        {"GET /items/a\r\n" LOCAL "\r\n", 400},
        {"GET /items/a HTTP/1.1\r\n" LOCAL "no colon\r\n\r\n", 400},
        {"POST /items/a/echo HTTP/1.1\r\n" LOCAL
         "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n"
         "\r\nxyz\r\n",
         400},
    };
    struct answer a;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int fd = peer_dial();

        peer_say(fd, wrong[i].lines);
        assert_true(peer_read(fd, false, &a));
        if (a.status != wrong[i].status)
            fail_msg("%d for %s", a.status, wrong[i].lines);
        assert_string_equal(answer_header(&a, "Connection"), "close");
        answer_fini(&a);
        /* Of a bad Content-Length it says the headers twice, then closes. */
        while (!peer_ended(fd))
            ;
        (void)close(fd);
    }
}

static void huge_headers(void **state)
{
    struct buf b = {0};
    struct answer a;

    (void)state;
    buf_puts(&b, "GET /items/a HTTP/1.1\r\n" LOCAL "X: ");
    memset(buf_reserve(&b, 1 << 20), 'y', 1 << 20);
    b.len += 1 << 20;
    buf_puts(&b, "\r\n\r\n");
    assert_true(ask(b.data, &a));
    assert_int_equal(a.status, 431);
    answer_fini(&a);
    buf_fini(&b);
}

static void hosts(void **state)
{
    static const struct {
        const char *host;
        int status;
    } cases[] = {
        {"Host: localhost", 200},
        {"Host: LocalHost:8080", 200},
        {"Host: localhost:", 200},
        {"Host: 127.0.0.1:1", 200},
        {"Host: [::1]", 200},
        {"Host: [::1]:8080", 200},
        {"Host: [0:0:0:0:0:0:0:1]", 200},
        {"Host: 127.0.0.2", 200},
        {"Host: backup.EXAMPLE:443", 200},
        {"Host: [FE80::1]:1", 200},
        {"Host: localhost \t", 200},
        {"Host: localhost.", 403},
        {"Host: evil.example", 403},
        {"Host: localhost.evil.example", 403},
        {"Host: 127.0.0.3", 403},
        {"Host: [::2]", 403},
        {"Host:", 400},
        {"Host: :80", 400},
        {"Host: a@localhost", 400},
        {"Host: localhost:x", 400},
        {"Host: localhost:99999", 400},
        {"Host: [::1", 400},
        {"Host: [::1]x", 400},
        {"Host: ::1", 400},
        {"Host: localhost/", 400},
        {"Host: a b", 400},
        {"X-Forwarded-Host: localhost", 400},
        {"Host: localhost\r\nHost: localhost", 400},
        {"Host: evil.example\r\nX-Forwarded-Host: localhost", 403},
    };
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(text, sizeof text, "GET /items/a HTTP/1.1\r\n%s\r\n\r\n",
                       cases[i].host);
        if (cases[i].status == 200)
            assert_int_equal(answered(text), 200);
        else
            (void)refused(text, cases[i].status,
                          cases[i].status == 400 ? "BAD_REQUEST" : "FORBIDDEN",
                          "ost");
    }
    assert_true(
        refused("GET / HTTP/1.0\r\n\r\n", 400, "BAD_REQUEST", "no Host"));
}

static void sites(void **state)
{
    static const struct {
        const char *lines;
        int status;
    } cases[] = {
        {"Origin: http://localhost:8080\r\n", 204},
        {"Origin: HTTP://LOCALHOST:8080\r\n", 204},
        {"Origin: https://localhost:8080\r\n", 204},
        {"Sec-Fetch-Site: same-origin\r\n", 204},
        {"Sec-Fetch-Site: none\r\n", 204},
        {"Origin: http://localhost\r\n", 403},
        {"Origin: http://localhost:8081\r\n", 403},
        {"Origin: http://evil.example:8080\r\n", 403},
        {"Origin: null\r\n", 403},
        {"Origin:\r\n", 403},
        {"Origin: ftp://localhost:8080\r\n", 403},
        {"Origin: http://localhost:8080/\r\n", 403},
        {"Origin: http://a@localhost:8080\r\n", 403},
        {"Origin: http://localhost:8080\r\n"
         "Origin: http://localhost:8080\r\n",
         403},
        {"Sec-Fetch-Site: same-site\r\n", 403},
        {"Sec-Fetch-Site: cross-site\r\n", 403},
        {"Sec-Fetch-Site:\r\n", 403},
        {"Origin: http://localhost:8080\r\nSec-Fetch-Site: cross-site\r\n",
         403},
        {"Origin: http://evil.example\r\nX-Forwarded-Host: evil.example\r\n",
         403},
    };
    char text[300];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static const char form[] = "%s /items/a HTTP/1.1\r\n"
                                   "Host: localhost:8080\r\n%s\r\n";

        (void)snprintf(text, sizeof text, form, "DELETE", cases[i].lines);
        if (cases[i].status == 204)
            assert_int_equal(answered(text), 204);
        else
            assert_false(refused(text, 403, "FORBIDDEN", "cross-site"));
        (void)snprintf(text, sizeof text, form, "GET", cases[i].lines);
        assert_int_equal(answered(text), 200);
    }
}

static void default_ports(void **state)
{
    (void)state;
    assert_int_equal(answered("DELETE /items/a HTTP/1.1\r\nHost: localhost\r\n"
                              "Origin: https://localhost:443\r\n\r\n"),
                     204);
    assert_int_equal(answered("DELETE /items/a HTTP/1.1\r\n"
                              "Host: localhost:80\r\n"
                              "Origin: http://localhost\r\n\r\n"),
                     204);
    assert_false(refused("DELETE /items/a HTTP/1.1\r\nHost: localhost\r\n"
                         "Origin: http://localhost:443\r\n\r\n",
                         403, "FORBIDDEN", "cross-site"));
}

static void no_route(void **state)
{
    static const char *const paths[] = {
        "/",
        "/nowhere",
        "/items",
        "/items/",
        "/items/a/",
        "//items/a",
        "/items//a",
        "/items/a%2Fb",
        "/Items/a",
        "/items/a/b",
        "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t"};
    struct answer a;
    char text[200];
    json_t *v, *got;

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        (void)snprintf(text, sizeof text, "GET %s?x HTTP/1.1\r\n" LOCAL "\r\n",
                       paths[i]);
        assert_false(ask(text, &a));
        assert_int_equal(a.status, 404);
        v = json_pack("{s:s,s:s,s:{s:s,s:s}}", "error", "NOT_FOUND", "message",
                      "there is nothing at this path", "details",
                      "resource_type", "route", "identifier", paths[i]);
        got = json_loads(a.body, 0, NULL);
        assert_true(json_equal(v, got));
        json_decref(v);
        json_decref(got);
        answer_fini(&a);
    }
}

static void methods(void **state)
{
    static const char *const wrong[] = {"PUT", "OPTIONS", "TRACE", "get",
                                        "AVERYLONGMETHODNAME"};
    struct answer a;
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        (void)snprintf(text, sizeof text,
                       "%s /items/a HTTP/1.1\r\n" LOCAL "\r\n", wrong[i]);
        assert_false(refused(text, 405, "METHOD_NOT_ALLOWED", "GET, HEAD"));
    }
    (void)ask("PATCH /items/current HTTP/1.1\r\n" LOCAL "\r\n", &a);
    assert_string_equal(answer_header(&a, "Allow"), "GET, HEAD");
    answer_fini(&a);
    (void)ask("GET /empty HTTP/1.1\r\n" LOCAL "\r\n", &a);
    assert_string_equal(answer_header(&a, "Allow"), "POST");
    answer_fini(&a);
    assert_int_equal(answered("GET /items/current HTTP/1.1\r\n" LOCAL "\r\n"),
                     201);
}

static void media_types(void **state)
{
    static const char *const wrong[] = {
        "", "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/jsonp\r\n", "Content-Type:\r\n"};
    char text[300];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        (void)snprintf(text, sizeof text,
                       "POST /items/a/echo HTTP/1.1\r\n" LOCAL "%s"
                       "Content-Length: 2\r\n\r\n{}",
                       wrong[i]);
        assert_true(
            refused(text, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"));
        (void)snprintf(text, sizeof text,
                       "POST /items/a/echo HTTP/1.1\r\n" LOCAL "%s"
                       "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                       wrong[i]);
        assert_false(
            refused(text, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"));
    }
    assert_int_equal(answered("POST /items/a/echo HTTP/1.1\r\n" LOCAL
                              "Content-Type: text/plain\r\n"
                              "Content-Length: 0\r\n\r\n"),
                     201);
}

static void large_bodies(void **state)
{
    struct buf b = {0};

    (void)state;
    /* Only announced: nothing of the body is sent, and no 100 comes first. */
    assert_true(refused("POST /items/a/echo HTTP/1.1\r\n" LOCAL
                        "Content-Type: application/json\r\n"
                        "Expect: 100-continue\r\n"
                        "Content-Length: 1001\r\n\r\n",
                        413, "PAYLOAD_TOO_LARGE", "1000 bytes"));
    assert_true(refused("POST /empty HTTP/1.1\r\n" LOCAL
                        "Content-Length: 1\r\n\r\nx",
                        413, "PAYLOAD_TOO_LARGE", "no body"));
    assert_true(refused("DELETE /items/a HTTP/1.1\r\n" LOCAL
                        "Content-Length: 18446744073709551615\r\n\r\n",
                        413, "PAYLOAD_TOO_LARGE", "no body"));
    assert_true(refused("POST /empty HTTP/1.1\r\n" LOCAL
                        "Transfer-Encoding: chunked\r\n\r\n"
                        "1\r\nx\r\n0\r\n\r\n",
                        413, "PAYLOAD_TOO_LARGE", "no body"));
    /* Sent whole, and far larger than any buffer on the way. */
    buf_puts(&b, "POST /items/a/echo HTTP/1.1\r\n" LOCAL
                 "Content-Type: application/json\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 200; i++) {
        buf_puts(&b, "2000\r\n");
        memset(buf_reserve(&b, 0x2000), ' ', 0x2000);
        b.len += 0x2000;
        buf_puts(&b, "\r\n");
    }
    buf_puts(&b, "0\r\n\r\n");
    assert_true(
        refused_bytes(b.data, b.len, 413, "PAYLOAD_TOO_LARGE", "1000 bytes"));
    buf_fini(&b);
}

static void body_of_the_limit(void **state)
{
    struct buf b = {0};

    (void)state;
    buf_puts(&b, "POST /items/a/echo HTTP/1.1\r\n" LOCAL
                 "Content-Type: application/json\r\n"
                 "Content-Length: 1000\r\n\r\n");
    memset(buf_reserve(&b, 1000), ' ', 1000);
    b.len += 1000;
    b.data[b.len] = '\0';
    assert_int_equal(answered(b.data), 201);
    buf_fini(&b);
}

static void endless_body(void **state)
{
    int fd = peer_dial();
    struct buf b = {0};
    struct answer a;
    size_t sent = 0;

    (void)state;
    peer_say(fd, "POST /items/a/echo HTTP/1.1\r\n" LOCAL
                 "Content-Type: application/json\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n");
    buf_puts(&b, "10000\r\n");
    memset(buf_reserve(&b, 0x10000), ' ', 0x10000);
    b.len += 0x10000;
    buf_puts(&b, "\r\n");
    while (peer_send(fd, b.data, b.len)) {
        sent += b.len;
        assert_true(sent < (64u << 20));
    }
    assert_false(peer_read(fd, false, &a));
    (void)close(fd);
    buf_fini(&b);
    assert_int_equal(answered("GET /items/a HTTP/1.1\r\n" LOCAL "\r\n"), 200);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"http: a handler gets method, parameter and query, decoded once",
         answers, NULL, NULL, NULL},
        {"http: empty, repeated and a thousand query parameters", query, NULL,
         NULL, NULL},
        {"http: HEAD is answered by GET with its length and no body", head,
         NULL, NULL, NULL},
        {"http: an absolute target is taken when it names the Host", absolute,
         NULL, NULL, NULL},
        {"http: pipelined requests are answered in order on one connection",
         keep_alive, NULL, NULL, NULL},
        {"http: a body arrives whole, of known length or in chunks", body, NULL,
         NULL, NULL},
        {"http: Expect: 100-continue is answered before the body", expect, NULL,
         NULL, NULL},
        {"http: a malformed target is 400 and says why", targets, NULL, NULL,
         NULL},
        {"http: a target of 8192 bytes is taken, a longer one is 414",
         long_target, NULL, NULL, NULL},
        {"http: 64 fields and 16 KiB of them are taken, more is 431",
         many_headers, NULL, NULL, NULL},
        {"http: ambiguous framing is 400 and ends the connection", framing,
         NULL, NULL, NULL},
        {"http: the library refuses what it cannot parse and closes",
         library_refusals, NULL, NULL, NULL},
        {"http: a megabyte of headers is 431 and ends the connection",
         huge_headers, NULL, NULL, NULL},
        {"http: only a Host of ours is served", hosts, NULL, NULL, NULL},
        {"http: a mutating request from another site is 403", sites, NULL, NULL,
         NULL},
        {"http: a port that is the scheme's own may be left out", default_ports,
         NULL, NULL, NULL},
        {"http: a path without a route is 404 and named", no_route, NULL, NULL,
         NULL},
        {"http: another method is 405 with Allow; the first route wins",
         methods, NULL, NULL, NULL},
        {"http: a body that is not JSON is 415, an empty one may be anything",
         media_types, NULL, NULL, NULL},
        {"http: a body over the limit is 413, before it is sent where its "
         "length is known",
         large_bodies, NULL, NULL, NULL},
        {"http: a body of exactly the limit is taken", body_of_the_limit, NULL,
         NULL, NULL},
        {"http: a body without end is cut off", endless_body, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("http_server", tests, start_server,
                                       stop_server);
}
