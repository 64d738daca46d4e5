/*
 * The helper: a single-threaded process that forks one child per call, keeps
 * its time, ends it when the caller lets go of the call, and tells the caller
 * how it ended.  See guard_internal.h for the protocol.
 *
 * Invariants: it never blocks but in poll (a status fits into an empty pipe),
 * and it holds the reply pipe of no child: the pipe's end is the child's end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "guard/guard_internal.h"

#define NO_DEADLINE INT64_MAX

struct child {
    pid_t pid;     /* 0: a free slot */
    int status_fd; /* -1 once the caller has let go */
    uint32_t cpu_s;
    int64_t deadline_ms;
    bool timed_out;
};

struct helper {
    int sock;
    int sigchld_fd;
    pid_t pid;
    const struct guard_service *services;
    size_t n_services;
    struct child children[GUARD_MAX_CHILDREN];
    struct guard_job job;
    char request[GUARD_MAX_REQUEST];
};

/* Signals that reach a whole process group or control group: the program
 * decides what they mean, and the helper ends with it. */
static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

static void set_up_signals(struct helper *h)
{
    sigset_t set;

    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_DFL); /* fails for KILL and STOP */
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        (void)signal(ignored[i], SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_SETMASK, &set, NULL);
    h->sigchld_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Standard input and output on /dev/null, the socket at 3, the rest closed. */
static int set_up_descriptors(int sock)
{
    int null;

    if (sock != 3 && dup2(sock, 3) < 0)
        return -1;
    null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0)
        return -1;
    if (fcntl(STDERR_FILENO, F_GETFD) < 0 && dup2(null, STDERR_FILENO) < 0)
        return -1;
    closefrom(4);
    return 0;
}

static struct child *free_slot(struct helper *h)
{
    for (size_t i = 0; i < GUARD_MAX_CHILDREN; i++)
        if (h->children[i].pid == 0)
            return &h->children[i];
    return NULL;
}

static void tell(struct child *c, enum guard_end end, int detail)
{
    struct guard_status status = {.end = end, .detail = detail};

    if (c->status_fd >= 0)
        while (write(c->status_fd, &status, sizeof status) < 0 &&
               errno == EINTR)
            ;
    file_close(&c->status_fd);
}

static void start_child(struct helper *h, struct child *c, int reply_fd,
                        int status_fd)
{
    pid_t pid = fork();

    if (pid == 0)
        guard_child_main(&h->services[h->job.service], &h->job, h->request,
                         reply_fd, h->pid);
    *c = (struct child){.pid = pid,
                        .status_fd = status_fd,
                        .cpu_s = h->job.cpu_s,
                        .deadline_ms = clock_monotonic_ms() +
                                       (int64_t)h->job.wall_s * 1000};
    if (pid < 0) {
        tell(c, GUARD_END_NO_CHILD, errno);
        c->pid = 0;
    }
}

/* The descriptors of a message, as many as came; -1 for the others. */
static void take_fds(struct msghdr *msg, int fds[GUARD_JOB_FDS])
{
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);

    for (int i = 0; i < GUARD_JOB_FDS; i++)
        fds[i] = -1;
    if (c != NULL && c->cmsg_level == SOL_SOCKET &&
        c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(GUARD_JOB_FDS * sizeof(int)))
        memcpy(fds, CMSG_DATA(c), GUARD_JOB_FDS * sizeof(int));
}

/* One call from the socket; false when the program has gone. */
static bool take_job(struct helper *h, struct child *slot)
{
    union {
        char bytes[CMSG_SPACE(GUARD_JOB_FDS * sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec iov[2] = {{&h->job, sizeof h->job},
                           {h->request, sizeof h->request}};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = 2,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(h->sock, &msg, MSG_CMSG_CLOEXEC);
    int fds[GUARD_JOB_FDS];

    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n == 0)
        return false;
    take_fds(&msg, fds);
    if (fds[0] >= 0 && (size_t)n == sizeof h->job + h->job.request_len &&
        h->job.service < h->n_services)
        start_child(h, slot, fds[0], fds[1]);
    else
        file_close(&fds[1]);
    file_close(&fds[0]);
    return true;
}

static void tell_end(struct child *c, int status, const struct rusage *used)
{
    if (c->timed_out) {
        tell(c, GUARD_END_TIME, 0);
    } else if (WIFEXITED(status)) {
        int code = WEXITSTATUS(status);

        tell(c,
             code == 0                   ? GUARD_END_EXIT
             : code == GUARD_EXIT_MEMORY ? GUARD_END_MEMORY
                                         : GUARD_END_CRASH,
             0);
    } else if (WTERMSIG(status) == SIGXCPU) {
        tell(c, GUARD_END_CPU, 0);
    } else if (WTERMSIG(status) == SIGKILL) {
        /* Not by us: the hard limit of processor time, or the kernel
         * because the machine or the control group ran out of memory. */
        bool cpu =
            used->ru_utime.tv_sec + used->ru_stime.tv_sec >= (time_t)c->cpu_s;

        tell(c, cpu ? GUARD_END_CPU : GUARD_END_MEMORY, SIGKILL);
    } else {
        tell(c, GUARD_END_CRASH, WTERMSIG(status));
    }
}

static void reap(struct helper *h)
{
    struct signalfd_siginfo info[8];

    while (read(h->sigchld_fd, info, sizeof info) > 0)
        ;
    for (size_t i = 0; i < GUARD_MAX_CHILDREN; i++) {
        struct child *c = &h->children[i];
        struct rusage used;
        int status;

        if (c->pid != 0 && wait4(c->pid, &status, WNOHANG, &used) == c->pid) {
            tell_end(c, status, &used);
            c->pid = 0;
        }
    }
}

/* End the children whose time is up; the next deadline as a poll timeout. */
static int mind_deadlines(struct helper *h)
{
    int64_t now = clock_monotonic_ms();
    int64_t next = NO_DEADLINE;

    for (size_t i = 0; i < GUARD_MAX_CHILDREN; i++) {
        struct child *c = &h->children[i];

        if (c->pid == 0)
            continue;
        if (c->deadline_ms <= now) {
            c->timed_out = true;
            c->deadline_ms = NO_DEADLINE;
            (void)kill(c->pid, SIGKILL);
        }
        if (c->deadline_ms < next)
            next = c->deadline_ms;
    }
    if (next == NO_DEADLINE)
        return -1;
    return next - now > 60000 ? 60000 : (int)(next - now);
}

static void kill_all(struct helper *h)
{
    for (size_t i = 0; i < GUARD_MAX_CHILDREN; i++)
        if (h->children[i].pid != 0)
            (void)kill(h->children[i].pid, SIGKILL);
    while (wait(NULL) > 0 || errno == EINTR)
        ;
}

/* Wait for the next event and act on it; false when the program has gone. */
static bool turn(struct helper *h)
{
    struct pollfd p[2 + GUARD_MAX_CHILDREN];
    struct child *slot = free_slot(h);
    int timeout_ms = mind_deadlines(h);
    bool up = true;

    p[0] = (struct pollfd){.fd = h->sigchld_fd, .events = POLLIN};
    p[1] = (struct pollfd){.fd = h->sock, .events = slot != NULL ? POLLIN : 0};
    /* With no events asked for, a pipe still reports that nobody reads. */
    for (size_t i = 0; i < GUARD_MAX_CHILDREN; i++)
        p[2 + i].fd = h->children[i].pid != 0 ? h->children[i].status_fd : -1,
              p[2 + i].events = 0;
    if (poll(p, 2 + GUARD_MAX_CHILDREN, timeout_ms) <= 0)
        return true;
    for (size_t i = 0; i < GUARD_MAX_CHILDREN; i++)
        if (p[2 + i].fd >= 0 && p[2 + i].revents != 0) {
            file_close(&h->children[i].status_fd);
            (void)kill(h->children[i].pid, SIGKILL);
        }
    if (p[0].revents != 0)
        reap(h);
    if ((p[1].revents & POLLIN) != 0)
        up = take_job(h, slot);
    else if (p[1].revents != 0)
        up = false;
    return up;
}

_Noreturn void guard_helper_main(int sock, const struct guard_service *services,
                                 size_t n)
{
    static struct helper h; /* the helper's alone: it never returns */

    h.services = services;
    h.n_services = n;
    h.sock = 3;
    h.pid = getpid();
    (void)prctl(PR_SET_NAME, "holdfast-helper");
    if (set_up_descriptors(sock) != 0)
        _exit(1);
    set_up_signals(&h);
    if (h.sigchld_fd < 0)
        _exit(1);
    while (turn(&h))
        ;
    kill_all(&h);
    _exit(0);
}
