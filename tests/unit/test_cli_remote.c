/* What the command line makes of a server's answers, good and strange. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli_client.h"

#define FILE_NAME "app_20260413_142530.db"
#define DATABASE "Content-Type: application/x-sqlite3\r\n"
#define DIGEST_OF_ABC \
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

/* A server that gives one answer to one request, which it passes on. */
struct fake {
    pid_t pid;
    int request; /* the pipe from it */
    struct cli_client *client;
};

static void answer_once(int listener, int out, const char *answer)
{
    char request[4096] = "";
    size_t n = 0;
    int c = accept(listener, NULL, NULL);

    while (n < sizeof request - 1 && strstr(request, "\r\n\r\n") == NULL) {
        ssize_t r = read(c, request + n, sizeof request - 1 - n);

        if (r <= 0)
            break;
        n += (size_t)r;
        request[n] = '\0';
    }
    if (write(out, request, n) != (ssize_t)n ||
        write(c, answer, strlen(answer)) != (ssize_t)strlen(answer))
        _exit(1);
    (void)shutdown(c, SHUT_WR);
    /* Until the other side has closed, so that no reset eats the answer. */
    while (read(c, request, sizeof request) > 0)
        ;
    _exit(0);
}

static void start(struct fake *f, const char *base, const char *answer)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int ends[2];
    char url[128];
    struct err e;

    assert_int_equal(bind(listener, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(pipe(ends), 0);
    f->pid = fork();
    assert_true(f->pid >= 0);
    if (f->pid == 0)
        answer_once(listener, ends[1], answer);
    (void)close(listener);
    (void)close(ends[1]);
    f->request = ends[0];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u%s",
                   (unsigned)ntohs(at.sin_port), base);
    if (cli_remote_open(url, &f->client, &e) != 0)
        fail_msg("%s", e.message);
}

/* The request's first bytes must be `line`; more must stand in it. */
static void stop(struct fake *f, const char *line, const char *more)
{
    char request[4096] = "";
    size_t n = 0;
    ssize_t r;

    f->client->ops->close(f->client);
    assert_int_equal(waitpid(f->pid, NULL, 0), f->pid);
    while ((r = read(f->request, request + n, sizeof request - 1 - n)) > 0)
        n += (size_t)r;
    request[n] = '\0';
    (void)close(f->request);
    if (line != NULL && strncmp(request, line, strlen(line)) != 0)
        fail_msg("not %s: %s", line, request);
    if (more != NULL)
        assert_non_null(strstr(request, more));
}

static void requests(void **state)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\n"
                             "Holdfast-Safety-Backup: " FILE_NAME "\r\n\r\n{}";
    struct backup_name safety;
    struct fake f;
    struct err e;
    json_t *v;

    (void)state;
    (void)setenv("HOLDFAST_API_KEY", "hf_live_abc", 1);
    start(&f, "/base//", ok);
    assert_int_equal(f.client->ops->restore(f.client, "a b&c", FILE_NAME, true,
                                            &safety, &v, &e),
                     0);
    assert_string_equal(safety.s, FILE_NAME);
    json_decref(v);
    stop(&f,
         "POST /base/api/v1/backup/" FILE_NAME
         "/restore?database=a%20b%26c&force=true HTTP/1.1\r\n",
         "\r\nAuthorization: Bearer hf_live_abc\r\n");
    (void)unsetenv("HOLDFAST_API_KEY");

    start(&f, "", ok);
    assert_int_equal(
        f.client->ops->delete_backup(f.client, NULL, "../..", &v, &e), 0);
    json_decref(v);
    stop(&f, "DELETE /api/v1/backup/..%2F.. HTTP/1.1\r\n", NULL);

    start(&f, "", ok);
    assert_int_equal(f.client->ops->use(f.client, "x\"y", &v, &e), 0);
    json_decref(v);
    stop(&f, "PATCH /api/v1/databases/current HTTP/1.1\r\n",
         "\r\nContent-Type: application/json\r\n");

    start(&f, "",
          "HTTP/1.1 200 OK\r\nHoldfast-Safety-Backup: ; rm -rf /\r\n\r\n{}");
    assert_int_equal(f.client->ops->restore(f.client, NULL, FILE_NAME, false,
                                            &safety, &v, &e),
                     0);
    assert_string_equal(safety.s, "");
    json_decref(v);
    stop(&f, "POST /api/v1/backup/" FILE_NAME "/restore HTTP/1.1\r\n", NULL);
}

static void strange_answers(void **state)
{
    static const struct {
        const char *answer;
        enum err_code code;
        const char *message;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\n\r\n<html>", ERR_INTERNAL, "right server?"},
        {"HTTP/1.1 200 OK\r\n\r\n", ERR_INTERNAL, "right server?"},
        {"HTTP/1.1 200 OK\r\n\r\n[1]", ERR_INTERNAL, "right server?"},
        {"HTTP/1.1 302 Found\r\nLocation: https://x.example/\r\n\r\n",
         ERR_BAD_REQUEST, "redirects to https://x.example/"},
        {"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", ERR_UNREACHABLE,
         "HTTP status 502"},
        {"HTTP/1.1 401 No\r\n\r\n{\"error\":\"AUTH_REQUIRED\","
         "\"message\":\"no key\"}",
         ERR_UNAUTHORIZED, "no key"},
        {"HTTP/1.1 503 No\r\n\r\n{\"error\":\"BUSY\",\"message\":\"locked\","
         "\"details\":{\"reason\":\"locked\"}}",
         ERR_BUSY, "locked"},
        {"HTTP/1.1 500 No\r\n\r\n{\"error\":\"INTERNAL_ERROR\","
         "\"message\":\"oh\",\"details\":{\"request_id\":\"77\"}}",
         ERR_INTERNAL, "oh (request 77)"},
        {"HTTP/1.1 500 No\r\n\r\n{\"error\":5,\"message\":\"oh\"}",
         ERR_INTERNAL, "HTTP status 500"},
        {"HTTP/1.1 404 No\r\n\r\n{\"error\":\"NOT_FOUND\",\"message\":\"oh\","
         "\"details\":{\"resource_type\":\"route\",\"identifier\":\"/\"}}",
         ERR_NOT_FOUND, "knows no such call"},
        {"", ERR_UNREACHABLE, "no answer from http://127.0.0.1:"},
        {"what?\r\n\r\n", ERR_UNREACHABLE, "no answer from"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", ERR_UNREACHABLE,
         "no answer from"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fake f;
        struct err e = {0};
        json_t *v;

        start(&f, "", rows[i].answer);
        assert_int_equal(f.client->ops->list(f.client, NULL, &v, &e), -1);
        stop(&f, "GET /api/v1/backup HTTP/1.1\r\n", NULL);
        assert_int_equal(e.code, rows[i].code);
        if (strstr(e.message, rows[i].message) == NULL)
            fail_msg("\"%s\" is not in: %s", rows[i].message, e.message);
    }
}

static int take(void *arg, const void *bytes, size_t n, uint64_t total_bytes,
                struct err *e)
{
    (void)total_bytes;
    (void)e;
    buf_put(arg, bytes, n);
    return 0;
}

static int refuse(void *arg, const void *bytes, size_t n, uint64_t total_bytes,
                  struct err *e)
{
    (void)arg;
    (void)bytes;
    (void)total_bytes;
    return err_set(e, ERR_NO_SPACE, "no room for %zu bytes", n);
}

static int go_on(void *arg, struct err *e)
{
    (void)arg;
    (void)e;
    return 0;
}

static int download(const char *answer, struct cli_sink sink,
                    struct cli_download_facts *said, struct err *e)
{
    struct fake f;
    int rc;

    start(&f, "", answer);
    *said = (struct cli_download_facts){0};
    rc = f.client->ops->download(f.client, NULL, FILE_NAME, false, &sink, said,
                                 e);
    stop(&f, "GET /api/v1/backup/" FILE_NAME "/download HTTP/1.1\r\n", NULL);
    return rc;
}

static void downloads(void **state)
{
    struct buf got = {0};
    const struct cli_sink sink = {.write = take, .tick = go_on, .arg = &got};
    struct cli_download_facts said;
    struct err e;

    (void)state;
    assert_int_equal(
        download("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" DATABASE
                 "etag: \"" DIGEST_OF_ABC "\"\r\n\r\nabc",
                 sink, &said, &e),
        0);
    assert_string_equal(got.data, "abc");
    assert_int_equal(said.size_bytes, 3);
    assert_string_equal(said.sha256, DIGEST_OF_ABC);
    buf_fini(&got);

    assert_int_equal(download("HTTP/1.1 200 OK\r\n" DATABASE
                              "ETag: W/\"" DIGEST_OF_ABC "\"\r\n\r\nabc",
                              sink, &said, &e),
                     0);
    assert_int_equal(said.size_bytes, 0);
    assert_string_equal(said.sha256, "");
    buf_fini(&got);
}

static void bad_downloads(void **state)
{
    struct buf got = {0};
    struct cli_sink sink = {.write = take, .tick = go_on, .arg = &got};
    struct cli_download_facts said;
    struct err e;

    (void)state;
    assert_int_equal(download("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
                              "\r\n<html>",
                              sink, &said, &e),
                     -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    assert_int_equal(download("HTTP/1.1 404 No\r\n" DATABASE
                              "\r\n{\"error\":\"NOT_FOUND\",\"message\":\"x\"}",
                              sink, &said, &e),
                     -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(got.len, 0);

    assert_int_equal(
        download("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n" DATABASE "\r\nabc",
                 sink, &said, &e),
        -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    buf_fini(&got);

    sink.write = refuse;
    assert_int_equal(
        download("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" DATABASE "\r\nabc",
                 sink, &said, &e),
        -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_string_equal(e.message, "no room for 3 bytes");
}

static void bad_targets(void **state)
{
    static const char *const urls[] = {
        "127.0.0.1:8080",     "ftp://x/",    "",
        "file:///etc/passwd", "http://x/?a", "http://x/#a"};
    struct cli_client *c;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        assert_int_equal(cli_remote_open(urls[i], &c, &e), -1);
        assert_int_equal(e.code, ERR_BAD_REQUEST);
    }
    (void)setenv("HOLDFAST_API_KEY", "a\r\nX-Other: b", 1);
    assert_int_equal(cli_remote_open("http://127.0.0.1", &c, &e), -1);
    assert_int_equal(e.code, ERR_BAD_REQUEST);
    assert_null(strstr(e.message, "X-Other"));
    (void)unsetenv("HOLDFAST_API_KEY");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"remote: a call is the API's request, whatever stands in a name",
         requests, NULL, NULL, NULL},
        {"remote: every strange answer is an error that says what came",
         strange_answers, NULL, NULL, NULL},
        {"remote: a download brings length and digest", downloads, NULL, NULL,
         NULL},
        {"remote: nothing but a whole database is taken as a download",
         bad_downloads, NULL, NULL, NULL},
        {"remote: what is no http URL, or no key, is refused before any "
         "request",
         bad_targets, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("cli_remote", tests, NULL, NULL);
}
