/*
 * Bytes on a connection to a real server: framing, headers, guards, routes,
 * body.  Whatever comes, what the server answers is HTTP, and it still answers
 * a good request afterwards.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_request.h"
#include "base/mem.h"
#include "http/http.h"

#define CHECK_EVERY 512

/* What a handler is given must keep what http.h says. */
static void handle(struct http_request *rq, void *ctx)
{
    static const char *const headers[] = {"Host", "Content-Type", "Range",
                                          "If-None-Match", "Authorization"};
    struct api_field f[] = {{.name = "name", .required = true},
                            {.name = "path"}};
    struct http_headers *h = http_headers_new();
    const char *filename = http_param(rq, "filename");
    const char *query = http_query(rq, "database");
    json_t *body = NULL;
    struct err e;
    size_t len;

    (void)ctx;
    require(http_path(rq)[0] == '/');
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        const char *value = http_header(rq, headers[i]);

        require(i != 0 || value != NULL);
        if (value != NULL)
            http_headers_put(h, "X-Echo", value);
    }
    if (filename != NULL)
        require_utf8(filename);
    if (query != NULL)
        require_utf8(query);
    require(http_body(rq, &len) != NULL && len <= 4096);
    if (len == 0)
        http_reply_json(rq, 200, json_pack("{s:s?}", "filename", filename), h);
    else if (api_body_fields(rq, f, 2, &body, &e) == 0)
        http_reply_json(rq, 201, json_pack("{s:s}", "name", f[0].value), h);
    else
        http_reply_error(rq, 400, "BAD_REQUEST", e.message, NULL, h);
    json_decref(body);
}

static const struct http_route routes[] = {
    {"GET", "/a", handle, 0, 0},
    {"POST", "/a", handle, 4096, 0},
    {"GET", "/a/{filename}", handle, 0, 0},
    {"DELETE", "/a/{filename}", handle, 16, 0},
};

static uint16_t port(void)
{
    static struct http_server *s;
    struct err e;

    if (s == NULL)
        require(http_server_start((struct http_opts){.host = "127.0.0.1",
                                                     .routes = routes,
                                                     .n_routes = 4},
                                  &s, &e) == 0);
    return http_server_port(s);
}

static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port()),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    /* A reset instead of a close keeps no port waiting. */
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    require(fd >= 0);
    require(connect(fd, (const struct sockaddr *)&to, sizeof to) == 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    return fd;
}

/* Whether the bytes hold a whole answer; to HEAD it has no body. */
static bool is_whole(const struct buf *answer, bool head)
{
    const char *end, *length;

    if (answer->len == 0)
        return false;
    end = strstr(answer->data, "\r\n\r\n");
    if (end == NULL)
        return false;
    length = strcasestr(answer->data, "\r\nContent-Length: ");
    if (head || length == NULL || length > end)
        return true;
    return answer->len - (size_t)(end + 4 - answer->data) >=
           strtoul(length + 18, NULL, 10);
}

/*
 * Send all and read an answer, the caller's, waiting at most so long for each
 * part of it: whether the bytes are a whole request nobody knows.
 */
static void converse(const void *bytes, size_t n, int wait_ms,
                     struct buf *answer)
{
    bool head = n > 4 && memcmp(bytes, "HEAD", 4) == 0;
    int fd = dial();
    ssize_t got = 1;

    (void)send(fd, bytes, n, MSG_NOSIGNAL);
    while (got > 0 && !is_whole(answer, head)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (poll(&p, 1, wait_ms) != 1)
            break;
        got = recv(fd, buf_reserve(answer, 16384), 16384, 0);
        if (got > 0) {
            answer->len += (size_t)got;
            answer->data[answer->len] = '\0';
        }
    }
    (void)close(fd);
}

static void check_alive(void)
{
    static const char good[] = "GET /a HTTP/1.1\r\nHost: localhost\r\n"
                               "Connection: close\r\n\r\n";
    struct buf answer = {0};

    converse(good, sizeof good - 1, 60000, &answer);
    require(answer.len > 12 && memcmp(answer.data, "HTTP/1.1 200", 12) == 0);
    buf_fini(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned n;
    struct buf answer = {0};

    converse(data, size, 3, &answer);
    if (answer.len > 0)
        require(answer.len > 12 && memcmp(answer.data, "HTTP/1.", 7) == 0);
    buf_fini(&answer);
    if (n++ % CHECK_EVERY == 0)
        check_alive();
    return 0;
}
