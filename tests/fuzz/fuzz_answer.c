/*
 * What the command line makes of a server's answers.  The first byte chooses
 * the call, the rest is what a server sends, byte for byte.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cli_client.h"

#define NAME "app_20260413_142530.db"

/* The answer of the moment.  A connection that the other side has given up may
 * still be served while the next call begins. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct buf answer;
static char url[64];

static void set_answer(const void *bytes, size_t n)
{
    (void)pthread_mutex_lock(&lock);
    buf_fini(&answer);
    answer = (struct buf){0};
    buf_put(&answer, bytes, n);
    (void)pthread_mutex_unlock(&lock);
}

static void send_answer(int fd)
{
    struct buf copy = {0};

    (void)pthread_mutex_lock(&lock);
    buf_put(&copy, answer.data, answer.len);
    (void)pthread_mutex_unlock(&lock);
    (void)send(fd, copy.data, copy.len, MSG_NOSIGNAL);
    buf_fini(&copy);
}

/* Answer one connection and wait until the other side has closed. */
static void serve(int fd)
{
    char request[8192];
    size_t n = 0;
    ssize_t got = 1;

    while (got > 0 && n < sizeof request - 1) {
        got = recv(fd, request + n, sizeof request - 1 - n, 0);
        n += got > 0 ? (size_t)got : 0;
        request[n] = '\0';
        if (strstr(request, "\r\n\r\n") != NULL)
            break;
    }
    send_answer(fd);
    (void)shutdown(fd, SHUT_WR);
    while (recv(fd, request, sizeof request, 0) > 0)
        ;
    (void)close(fd);
}

static void *run_server(void *arg)
{
    int listener = *(int *)arg;

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd >= 0)
            serve(fd);
    }
    return NULL;
}

static void start_once(void)
{
    static int listener = -1;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    pthread_t thread;
    int null;

    if (listener >= 0)
        return;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(bind(listener, (struct sockaddr *)&at, size) == 0);
    require(listen(listener, 8) == 0);
    require(getsockname(listener, (struct sockaddr *)&at, &size) == 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u",
                   (unsigned)ntohs(at.sin_port));
    require(pthread_create(&thread, NULL, run_server, &listener) == 0);
    /* What commands print is looked at by the tests of the command line. */
    null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    require(null >= 0 && dup2(null, STDOUT_FILENO) == STDOUT_FILENO);
}

static int take(void *arg, const void *bytes, size_t n, uint64_t total_bytes,
                struct err *e)
{
    (void)arg;
    (void)bytes;
    (void)total_bytes;
    return n < SIZE_MAX ? 0 : err_set(e, ERR_INTERNAL, "a piece");
}

static int go_on(void *arg, struct err *e)
{
    (void)arg;
    (void)e;
    return 0;
}

static int call(struct cli_client *c, unsigned which, json_t **v, struct err *e)
{
    const struct cli_sink sink = {.write = take, .tick = go_on};
    struct cli_download_facts said = {0};
    struct backup_name safety = {""};
    int rc;

    switch (which) {
    case 0:
        return c->ops->create(c, NULL, v, e);
    case 1:
        rc = c->ops->restore(c, NULL, NAME, true, &safety, v, e);
        require(memchr(safety.s, '\0', sizeof safety.s) != NULL);
        return rc;
    case 2:
        rc = c->ops->download(c, NULL, NAME, true, &sink, &said, e);
        require(said.sha256[0] == '\0' || strlen(said.sha256) == 64);
        return rc;
    case 3:
        return c->ops->remove(c, "x", e);
    default:
        return c->ops->use(c, "x", v, e);
    }
}

static void try_call(unsigned which)
{
    struct cli_client *c = NULL;
    struct err e = {0};
    json_t *v = NULL;

    require(cli_remote_open(url, &c, &e) == 0);
    if (call(c, which, &v, &e) != 0) {
        require_error(&e);
        require(v == NULL);
    }
    json_decref(v);
    c->ops->close(c);
}

static void try_command(unsigned which)
{
    static char *const lists[][6] = {
        {"holdfast list", "--server", url, "--quiet", "-l", NULL},
        {"holdfast list", "--server", url, "--json", NULL, NULL},
        {"holdfast databases", "--server", url, "list", NULL, NULL},
        {"holdfast verify", "--server", url, NAME, NULL, NULL}};
    char *argv[6];
    int argc = 0;

    memcpy(argv, lists[which], sizeof argv);
    while (argc < 6 && argv[argc] != NULL)
        argc++;
    (void)(which < 2    ? cli_list(argc, argv)
           : which == 2 ? cli_databases(argc, argv)
                        : cli_verify(argc, argv));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned which = input_number(&in) % 9;

    start_once();
    set_answer(in.at, in.left);
    if (which < 5)
        try_call(which);
    else
        try_command(which - 5);
    return 0;
}
