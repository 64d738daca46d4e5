/* Limited children, the caller's side: see guard.h. */
#include "guard/guard.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "guard/guard_internal.h"

#define CANCEL_POLL_MS 100

struct guard {
    const struct guard_service *services;
    size_t n_services;
    int sock;
    pid_t helper;
    pthread_mutex_t lock; /* guards n_running */
    pthread_cond_t freed;
    unsigned n_running;
};

/* A call under way: our ends of its pipes and what has come through them. */
struct call {
    int reply_fd;
    int status_fd;
    struct buf bytes;
    struct guard_status status;
    size_t status_len;
    bool cancelled;
    int read_error; /* errno of a read of the reply that failed */
    bool overlong;
};

/*
 * A fork copies only the calling thread: a helper made in a process with
 * threads could inherit a lock that nobody will ever release.  The thread
 * sanitizer has a thread of its own.
 */
static void assert_single_thread(void)
{
#if !GUARD_SANITIZED
    struct stat st;

    /* A folder's links: itself, its name, and one for each folder in it. */
    if (stat("/proc/self/task", &st) == 0)
        assert(st.st_nlink == 2 + 1);
#endif
}

static void init_lock(struct guard *g)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    rc |= pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc |= pthread_cond_init(&g->freed, &attr);
    rc |= pthread_mutex_init(&g->lock, NULL);
    (void)pthread_condattr_destroy(&attr);
    assert(rc == 0);
}

int guard_start(const struct guard_service *services, size_t n,
                struct guard **out, struct err *e)
{
    int pair[2];
    pid_t pid;
    struct guard *g;

    assert_single_thread();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_sys(e, "cannot make a socket pair");
    pid = fork();
    if (pid < 0) {
        (void)err_sys(e, "cannot fork the helper");
        file_close(&pair[0]);
        file_close(&pair[1]);
        return -1;
    }
    if (pid == 0) {
        file_close(&pair[0]);
        guard_helper_main(pair[1], services, n);
    }
    file_close(&pair[1]);
    g = xcalloc(1, sizeof *g);
    g->services = services;
    g->n_services = n;
    g->sock = pair[0];
    g->helper = pid;
    init_lock(g);
    *out = g;
    return 0;
}

void guard_stop(struct guard *g)
{
    if (g == NULL)
        return;
    assert(g->n_running == 0);
    file_close(&g->sock);
    while (waitpid(g->helper, NULL, 0) < 0 && errno == EINTR)
        ;
    (void)pthread_cond_destroy(&g->freed);
    (void)pthread_mutex_destroy(&g->lock);
    free(g);
}

static bool is_cancelled(const struct guard_call *call)
{
    return call->cancel != NULL &&
           __atomic_load_n(call->cancel, __ATOMIC_ACQUIRE);
}

static void wait_for_slot(struct guard *g)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += CANCEL_POLL_MS * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_nsec -= 1000000000L;
        t.tv_sec++;
    }
    (void)pthread_cond_timedwait(&g->freed, &g->lock, &t);
}

static int take_slot(struct guard *g, const struct guard_call *call,
                     struct err *e)
{
    int rc = 0;

    (void)pthread_mutex_lock(&g->lock);
    while (g->n_running == GUARD_MAX_CHILDREN && !is_cancelled(call))
        wait_for_slot(g);
    if (is_cancelled(call))
        rc = err_set(e, ERR_CANCELLED, "cancelled");
    else
        g->n_running++;
    (void)pthread_mutex_unlock(&g->lock);
    return rc;
}

static void give_slot(struct guard *g)
{
    (void)pthread_mutex_lock(&g->lock);
    g->n_running--;
    (void)pthread_cond_signal(&g->freed);
    (void)pthread_mutex_unlock(&g->lock);
}

static int make_job(const struct guard *g, const struct guard_call *call,
                    struct guard_job *job, struct err *e)
{
    size_t i;

    for (i = 0; i < g->n_services; i++)
        if (strcmp(g->services[i].name, call->service) == 0)
            break;
    if (i == g->n_services)
        return err_set(e, ERR_INTERNAL, "no service %s", call->service);
    if (call->request_len > GUARD_MAX_REQUEST)
        return err_set(e, ERR_TOO_LARGE, "a request of %zu bytes",
                       call->request_len);
    job->service = (uint32_t)i;
    job->request_len = (uint32_t)call->request_len;
    job->cpu_s = call->cpu_s;
    job->wall_s = call->wall_s;
    job->memory_bytes = call->memory_bytes;
    job->file_bytes = call->file_bytes;
    job->run_as_uid = call->run_as_uid;
    job->run_as_gid = call->run_as_gid;
    for (i = 0; i < GUARD_MAX_PATHS && call->paths[i].path != NULL; i++) {
        struct guard_job_path *p = &job->paths[i];
        int n = snprintf(p->path, sizeof p->path, "%s", call->paths[i].path);

        if (n <= 0 || (size_t)n >= sizeof p->path)
            return err_set(e, ERR_INVALID, "a path of %d bytes", n);
        p->writable = call->paths[i].writable;
    }
    return 0;
}

static int send_job(const struct guard *g, struct guard_job *job,
                    const struct guard_call *call, const int fds[2],
                    struct err *e)
{
    union {
        char bytes[CMSG_SPACE(GUARD_JOB_FDS * sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec iov[2] = {
        {job, sizeof *job},
        {(void *)(uintptr_t)call->request, call->request_len}};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = 2,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    ssize_t n;

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(GUARD_JOB_FDS * sizeof(int));
    memcpy(CMSG_DATA(c), fds, GUARD_JOB_FDS * sizeof(int));
    do
        n = sendmsg(g->sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_set(e, ERR_INTERNAL, "the helper process is gone: %s",
                       strerror(errno));
    return 0;
}

static int submit(const struct guard *g, const struct guard_call *call,
                  struct call *c, struct err *e)
{
    struct guard_job *job = xcalloc(1, sizeof *job);
    int reply[2] = {-1, -1};
    int status[2] = {-1, -1};
    int rc = make_job(g, call, job, e);

    if (rc != 0)
        goto done;
    if (pipe2(reply, O_CLOEXEC) != 0 || pipe2(status, O_CLOEXEC) != 0) {
        rc = err_sys(e, "cannot make a pipe");
        goto done;
    }
    rc = send_job(g, job, call, (int[]){reply[1], status[1]}, e);
    if (rc != 0)
        goto done;
    c->reply_fd = reply[0];
    c->status_fd = status[0];
    reply[0] = status[0] = -1;
done:
    for (int i = 0; i < 2; i++) {
        file_close(&reply[i]);
        file_close(&status[i]);
    }
    free(job);
    return rc;
}

/* Take what has come through the reply pipe; at its end close it. */
static void read_reply(struct call *c)
{
    size_t max = sizeof(struct guard_frame) + GUARD_MAX_REPLY;
    ssize_t n = read(c->reply_fd, buf_reserve(&c->bytes, 16384), 16384);

    if (n < 0 && errno == EINTR)
        return;
    if (n < 0)
        c->read_error = errno;
    if (n <= 0) {
        file_close(&c->reply_fd);
        return;
    }
    if (c->bytes.len + (size_t)n > max) {
        /* No honest child: stop listening, which ends it too. */
        c->overlong = true;
        file_close(&c->reply_fd);
        file_close(&c->status_fd);
        return;
    }
    c->bytes.len += (size_t)n;
}

static void read_status(struct call *c)
{
    char *to = (char *)&c->status + c->status_len;
    ssize_t n = read(c->status_fd, to, sizeof c->status - c->status_len);

    if (n < 0 && errno == EINTR)
        return;
    if (n > 0)
        c->status_len += (size_t)n;
    if (n <= 0 || c->status_len == sizeof c->status)
        file_close(&c->status_fd);
}

/*
 * Until both pipes are at their end.  After a cancellation only the reply
 * pipe is awaited: its end says that the child is gone.
 */
static void await(const struct guard_call *call, struct call *c)
{
    while (c->reply_fd >= 0 || c->status_fd >= 0) {
        struct pollfd p[2] = {{.fd = c->reply_fd, .events = POLLIN},
                              {.fd = c->status_fd, .events = POLLIN}};
        int n = poll(p, 2, call->cancel != NULL ? CANCEL_POLL_MS : -1);

        if (!c->cancelled && is_cancelled(call)) {
            c->cancelled = true;
            file_close(&c->status_fd);
            continue;
        }
        if (n <= 0)
            continue;
        if (p[1].revents != 0 && c->status_fd >= 0)
            read_status(c);
        if (p[0].revents != 0)
            read_reply(c);
    }
}

static int crashed(struct err *e, const char *how)
{
    return err_set_reason(e, ERR_DAMAGED, "crash", "the child process %s", how);
}

/* End the text of `size` bytes and leave only printable ASCII in it. */
static void clean(char *text, size_t size)
{
    text[size - 1] = '\0';
    for (char *p = text; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

/* The child's own error.  It comes from a process that may be hostile. */
static int take_error(const char *payload, struct err *e)
{
    memcpy(e, payload, sizeof *e);
    clean(e->reason, sizeof e->reason);
    clean(e->message, sizeof e->message);
    if ((int)e->code <= ERR_NONE || e->code > ERR_INTERNAL ||
        e->message[0] == '\0')
        return crashed(e, "sent a malformed error");
    return -1;
}

int guard_take_reply(const void *bytes, size_t len, struct buf *reply,
                     struct err *e)
{
    struct guard_frame f;
    const char *payload = (const char *)bytes + sizeof f;

    if (len < sizeof f)
        return crashed(e, "ended without a reply");
    memcpy(&f, bytes, sizeof f);
    if (f.magic != GUARD_FRAME_MAGIC || f.len != len - sizeof f)
        return crashed(e, "broke off its reply");
    if (f.failed == 0) {
        buf_put(reply, payload, f.len);
        return 0;
    }
    if (f.len != sizeof *e)
        return crashed(e, "broke off its reply");
    return take_error(payload, e);
}

static int conclude(const struct guard_call *call, const struct call *c,
                    struct buf *reply, struct err *e)
{
    if (c->cancelled)
        return err_set(e, ERR_CANCELLED, "cancelled");
    if (c->read_error != 0) {
        errno = c->read_error;
        return err_sys(e, "cannot read from a child process");
    }
    if (c->overlong)
        return crashed(e, "sent an overlong reply");
    if (c->status_len != sizeof c->status)
        return err_set(e, ERR_INTERNAL, "the helper process is gone");
    switch (c->status.end) {
    case GUARD_END_EXIT:
        return guard_take_reply(c->bytes.data, c->bytes.len, reply, e);
    case GUARD_END_MEMORY:
        return err_set_reason(e, ERR_LIMIT, "memory",
                              "the memory limit was reached");
    case GUARD_END_CPU:
        return err_set_reason(e, ERR_LIMIT, "cpu",
                              "the limit of %u s of processor time was reached",
                              call->cpu_s);
    case GUARD_END_TIME:
        return err_set_reason(e, ERR_LIMIT, "time",
                              "the time limit of %u s was reached",
                              call->wall_s);
    case GUARD_END_NO_CHILD:
        return err_set(e, ERR_INTERNAL, "cannot fork a child process: %s",
                       strerror(c->status.detail));
    default:
        return crashed(e, "crashed");
    }
}

int guard_call(struct guard *g, const struct guard_call *call,
               struct buf *reply, struct err *e)
{
    struct call c = {.reply_fd = -1, .status_fd = -1};
    int rc;

    if (take_slot(g, call, e) != 0)
        return -1;
    rc = submit(g, call, &c, e);
    if (rc == 0) {
        await(call, &c);
        rc = conclude(call, &c, reply, e);
    }
    give_slot(g);
    buf_fini(&c.bytes);
    return rc;
}
