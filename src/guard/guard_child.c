/*
 * The child: takes on its limits, runs one service, writes the reply, ends.
 *
 * Order matters.  Paths are opened for landlock while file permissions still
 * allow it; credentials change before PR_SET_PDEATHSIG, which a change of
 * credentials clears; seccomp comes last, since it forbids the calls that set
 * up everything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "guard/guard_internal.h"

#define REPLY_FD 3
#define MAX_FILES 32

/*
 * xmalloc aborts when memory runs out, and errno then still says so.  That is
 * the memory limit at work and no crash.
 */
static void on_abort(int sig)
{
    /* Reading errno is safe: it is this thread's own.
     * NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c) */
    if (errno == ENOMEM)
        _exit(GUARD_EXIT_MEMORY);
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

/* From the helper's signals to a child's: those that it ignores stay ignored,
 * and a write past a limit is an error instead of the end. */
static void set_up_signals(void)
{
    sigset_t none;

    (void)signal(SIGXFSZ, SIG_IGN);
    (void)signal(SIGABRT, on_abort);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Everything closed but the reply pipe; the helper has put standard input and
 * output on /dev/null, where SQLite wants three descriptors taken. */
static int set_up_descriptors(int reply_fd, struct err *e)
{
    if (reply_fd != REPLY_FD && dup2(reply_fd, REPLY_FD) < 0)
        return err_sys(e, "cannot move the reply pipe");
    if (!GUARD_SANITIZED && dup2(STDIN_FILENO, STDERR_FILENO) < 0)
        return err_sys(e, "cannot close standard error");
    closefrom(REPLY_FD + 1);
    (void)umask(077);
    return 0;
}

/* Whether the user of the file system that this process now is may open all
 * that the job names. */
static bool can_open(const struct guard_job *job)
{
    for (int i = 0; i < GUARD_MAX_PATHS && job->paths[i].path[0] != '\0'; i++) {
        int fd = file_open_straight(job->paths[i].path, O_RDONLY, 0);

        if (fd < 0)
            return false;
        file_close(&fd);
    }
    return true;
}

/*
 * Become another user.  Where the process may not (a container without
 * CAP_SETUID), or where that user cannot reach the files, it stays who it is:
 * this is a second guard against files that the database's owner could not
 * open, and the caller is the first.
 */
static int become(const struct guard_job *job, struct err *e)
{
    uid_t uid = job->run_as_uid;
    gid_t gid = job->run_as_gid;
    bool reachable;

    if (geteuid() != 0 || uid == 0 || setgroups(0, NULL) != 0)
        return 0;
    (void)setfsgid(gid);
    (void)setfsuid(uid);
    reachable = can_open(job);
    (void)setfsuid(0);
    (void)setfsgid(getegid());
    if (!reachable)
        return 0;
    if (setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) {
        if (errno == EPERM || errno == EINVAL)
            return 0;
        return err_sys(e, "cannot become user %u", (unsigned)uid);
    }
    return 0;
}

/* Drop every capability but those to read and write past file modes: root's
 * and the service's files are 0600. */
static int drop_capabilities(struct err *e)
{
    struct __user_cap_header_struct head = {.version =
                                                _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    uint32_t keep = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;

    memset(data, 0, sizeof data);
    if (syscall(SYS_capget, &head, data) != 0)
        return err_sys(e, "cannot read the capabilities");
    data[0].permitted &= keep;
    data[0].effective &= keep;
    data[0].inheritable = 0;
    data[1] = (struct __user_cap_data_struct){0};
    if (syscall(SYS_capset, &head, data) != 0)
        return err_sys(e, "cannot drop the capabilities");
    return 0;
}

/* Lower a limit; one that stands lower already stays. */
static int limit(int what, rlim_t soft, rlim_t hard, struct err *e)
{
    struct rlimit r;

    if (getrlimit((__rlimit_resource_t)what, &r) != 0)
        return err_sys(e, "cannot read limit %d", what);
    if (hard < r.rlim_max)
        r.rlim_max = hard;
    r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
    if (setrlimit((__rlimit_resource_t)what, &r) != 0)
        return err_sys(e, "cannot set limit %d", what);
    return 0;
}

/* The address space in use now, in bytes; 0 if the kernel does not say. */
static uint64_t address_space(void)
{
    char text[32];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    file_close(&fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    return strtoull(text, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int set_limits(const struct guard_job *job, rlim_t file_bytes,
                      struct err *e)
{
    rlim_t memory = (rlim_t)(address_space() + job->memory_bytes);

    if (limit(RLIMIT_CORE, 0, 0, e) != 0 ||
        limit(RLIMIT_NOFILE, MAX_FILES, MAX_FILES, e) != 0 ||
        limit(RLIMIT_NPROC, 0, 0, e) != 0 ||
        limit(RLIMIT_FSIZE, file_bytes, file_bytes, e) != 0 ||
        limit(RLIMIT_CPU, job->cpu_s, job->cpu_s + 1, e) != 0)
        return -1;
    if (GUARD_SANITIZED)
        return 0;
    return limit(RLIMIT_AS, memory, memory, e);
}

/* No child without its helper: not one whose helper died before this. */
static int tie_to_helper(pid_t helper, struct err *e)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return err_sys(e, "cannot set the parent's death signal");
    if (getppid() != helper)
        _exit(1);
    return 0;
}

static int confine(const struct guard_job *job, int reply_fd, pid_t helper,
                   struct err *e)
{
    int ruleset = -1;
    bool grow = false;
    uint64_t max_file_bytes = 0;
    rlim_t file_bytes;

    set_up_signals();
    if (set_up_descriptors(reply_fd, e) != 0 ||
        guard_landlock_prepare(job->paths, &ruleset, &grow, &max_file_bytes,
                               e) != 0 ||
        become(job, e) != 0)
        return -1;
    file_bytes = grow ? RLIM_INFINITY : (rlim_t)max_file_bytes;
    if (job->file_bytes != 0 && job->file_bytes < file_bytes)
        file_bytes = (rlim_t)job->file_bytes;
    if (drop_capabilities(e) != 0 || tie_to_helper(helper, e) != 0 ||
        set_limits(job, file_bytes, e) != 0)
        return -1;
    if (prctl(PR_SET_DUMPABLE, 0) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_sys(e, "cannot give up privileges");
    if (guard_landlock_enter(ruleset, e) != 0)
        return -1;
    file_close(&ruleset);
    return guard_seccomp_enter(e);
}

static void write_all(const void *bytes, size_t n)
{
    const char *p = bytes;

    while (n > 0) {
        ssize_t done = write(REPLY_FD, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            _exit(1); /* the caller sees a reply that breaks off */
        p += done;
        n -= (size_t)done;
    }
}

_Noreturn void guard_child_main(const struct guard_service *service,
                                const struct guard_job *job,
                                const void *request, int reply_fd, pid_t helper)
{
    struct guard_frame frame = {.magic = GUARD_FRAME_MAGIC};
    struct buf reply = {0};
    struct err e;
    char name[16];
    int rc;

    memset(&e, 0, sizeof e);
    (void)snprintf(name, sizeof name, "holdfast-%s", service->name);
    (void)prctl(PR_SET_NAME, name);
    rc = confine(job, reply_fd, helper, &e);
    if (rc == 0)
        rc = service->run(request, job->request_len, &reply, &e);
    if (rc == 0 && reply.len > GUARD_MAX_REPLY)
        rc = err_set(&e, ERR_INTERNAL, "a reply of %zu bytes", reply.len);
    frame.failed = rc != 0;
    frame.len = rc != 0 ? (uint32_t)sizeof e : (uint32_t)reply.len;
    write_all(&frame, sizeof frame);
    write_all(rc != 0 ? (const void *)&e : reply.data, frame.len);
    _exit(0);
}
