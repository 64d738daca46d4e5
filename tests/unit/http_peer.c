/* The other end of a connection: see http_peer.h. */
#include "http_peer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/buf.h"

static struct sockaddr_in server_at;

void peer_use(const char *address, uint16_t port)
{
    server_at =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, address, &server_at.sin_addr), 1);
}

int peer_dial(void)
{
    struct timeval patience = {.tv_sec = PEER_PATIENCE_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    assert_int_equal(
        connect(fd, (struct sockaddr *)&server_at, sizeof server_at), 0);
    return fd;
}

bool peer_send(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        bytes += sent;
        n -= (size_t)sent;
    }
    return true;
}

void peer_say(int fd, const char *text)
{
    assert_true(peer_send(fd, text, strlen(text)));
}

/* read_head: up to and with the empty line, not a byte more. */
static bool read_head(int fd, struct buf *head)
{
    char c;

    while (head->len < 4 ||
           memcmp(head->data + head->len - 4, "\r\n\r\n", 4) != 0) {
        if (recv(fd, &c, 1, 0) != 1)
            return false;
        buf_put(head, &c, 1);
    }
    return true;
}

static void read_body(int fd, struct answer *a)
{
    a->body = malloc(a->body_len + 1);
    assert_non_null(a->body);
    for (size_t done = 0; done < a->body_len;) {
        ssize_t n = recv(fd, a->body + done, a->body_len - done, 0);

        assert_true(n > 0);
        done += (size_t)n;
    }
    a->body[a->body_len] = '\0';
}

bool peer_read(int fd, bool no_body, struct answer *a)
{
    struct buf head = {0};
    const char *length;

    *a = (struct answer){0};
    if (!read_head(fd, &head)) {
        buf_fini(&head);
        return false;
    }
    a->head = head.data;
    assert_memory_equal(a->head, "HTTP/1.1 ", 9);
    a->status = (int)strtol(a->head + 9, NULL, 10);
    length = answer_header(a, "Content-Length");
    if (length != NULL && !no_body)
        a->body_len = strtoul(length, NULL, 10);
    read_body(fd, a);
    return true;
}

bool peer_ended(int fd)
{
    char c;

    return recv(fd, &c, 1, 0) <= 0;
}

const char *answer_header(struct answer *a, const char *name)
{
    static _Thread_local char value[1024];
    size_t len = strlen(name);

    for (const char *p = strstr(a->head, "\r\n"); p[2] != '\r';
         p = strstr(p + 2, "\r\n")) {
        if (strncasecmp(p + 2, name, len) == 0 && p[2 + len] == ':') {
            size_t n = strcspn(p + 2 + len + 2, "\r");

            assert_true(n < sizeof value);
            memcpy(value, p + 2 + len + 2, n);
            value[n] = '\0';
            return value;
        }
    }
    return NULL;
}

void answer_fini(struct answer *a)
{
    free(a->head);
    free(a->body);
    *a = (struct answer){0};
}

bool ask_bytes(const char *request, size_t n, struct answer *a)
{
    int fd = peer_dial();
    bool head = strncmp(request, "HEAD", 4) == 0;
    bool closed;

    (void)peer_send(fd, request, n);
    if (!peer_read(fd, head, a)) {
        fail_msg("no answer to: %.60s", request);
        return false;
    }
    closed = strstr(a->head, "Connection: close\r\n") != NULL;
    if (closed)
        assert_true(peer_ended(fd));
    (void)close(fd);
    return closed;
}

bool ask(const char *request, struct answer *a)
{
    return ask_bytes(request, strlen(request), a);
}

bool refused_bytes(const char *request, size_t n, int status, const char *code,
                   const char *part)
{
    struct answer a;
    bool closed = ask_bytes(request, n, &a);
    json_t *v;

    if (a.status != status)
        fail_msg("%d and not %d for: %.200s", a.status, status, request);
    v = json_loads(a.body, 0, NULL);
    if (v == NULL)
        fail_msg("no JSON for %.200s: %s", request, a.body);
    assert_string_equal(json_string_value(json_object_get(v, "error")), code);
    if (strstr(json_string_value(json_object_get(v, "message")), part) == NULL)
        fail_msg("\"%s\" is not in %s", part, a.body);
    assert_string_equal(answer_header(&a, "Content-Type"), "application/json");
    assert_int_equal(strlen(answer_header(&a, "X-Request-Id")), 16);
    json_decref(v);
    answer_fini(&a);
    return closed;
}

bool refused(const char *request, int status, const char *code,
             const char *part)
{
    return refused_bytes(request, strlen(request), status, code, part);
}

int answered(const char *request)
{
    struct answer a;
    int status;

    (void)ask(request, &a);
    status = a.status;
    answer_fini(&a);
    return status;
}
