/* Points, plans and deaths: see fault.h. */
#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cut.h"
#include "fault_internal.h"

struct fault_state *fault;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char cut_folder[512];
static int64_t clock_offset; /* atomic */

static const struct {
    const char *name;
    bool changes;
    int error[3];
} kinds[FAULT_KINDS] = {
    [FAULT_OPEN] = {"open", false, {EMFILE, EIO, EACCES}},
    [FAULT_CREATE] = {"create", true, {ENOSPC, EMFILE, EACCES}},
    [FAULT_READ] = {"read", false, {EIO}},
    [FAULT_WRITE] = {"write", true, {ENOSPC, EIO}},
    [FAULT_SYNC] = {"sync", true, {EIO, ENOSPC}},
    [FAULT_TRUNCATE] = {"truncate", true, {EIO, ENOSPC}},
    [FAULT_RENAME] = {"rename", true, {EIO, ENOSPC}},
    [FAULT_UNLINK] = {"unlink", true, {EIO, EACCES}},
    [FAULT_MKDIR] = {"mkdir", true, {ENOSPC, EACCES}},
    [FAULT_RMDIR] = {"rmdir", true, {EIO}},
    [FAULT_STAT] = {"stat", false, {EIO, EACCES}},
    [FAULT_LOCK] = {"lock", false, {EIO, ENOLCK}},
    [FAULT_UNLOCK] = {"unlock", false, {0}},
    [FAULT_MAP] = {"map", false, {ENOMEM}},
    [FAULT_DIR] = {"folder", false, {EMFILE, EACCES}},
    [FAULT_NAMES] = {"names", false, {EIO}},
    [FAULT_OWNER] = {"owner", false, {EPERM, EIO}},
    [FAULT_PIPE] = {"pipe", false, {EMFILE}},
};

const char *fault_kind_name(enum fault_kind k)
{
    return kinds[k].name;
}

bool fault_changes(enum fault_kind k)
{
    return kinds[k].changes;
}

int fault_errno(enum fault_kind k, unsigned i)
{
    return i < 3 ? kinds[k].error[i] : 0;
}

void fault_init(void)
{
    fault = mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fault == MAP_FAILED)
        abort();
}

void fault_cut_to(const char *folder)
{
    (void)snprintf(cut_folder, sizeof cut_folder, "%s", folder);
}

void fault_arm(const struct fault_plan *plan, const char *root)
{
    enum fault_control control = fault->control;

    memset(fault, 0, sizeof *fault);
    fault->control = control;
    fault->plan = *plan;
    fault->pid = getpid();
    if (plan->record)
        cut_begin(root);
    __atomic_store_n(&fault->armed, 1, __ATOMIC_RELEASE);
}

void fault_disarm(void)
{
    __atomic_store_n(&fault->armed, 0, __ATOMIC_RELEASE);
}

/* ------------------------------------------------------------------- points */

void fault_cut(void)
{
    for (int v = 0; v < CUT_VARIANTS; v++) {
        char to[540];

        (void)snprintf(to, sizeof to, "%s.%d", cut_folder, v);
        cut_write(to, (enum cut_variant)v, fault->plan.seed);
    }
}

void fault_die(void)
{
    if (fault->plan.record)
        fault_cut();
    _exit(FAULT_EXITED);
}

static enum fault_act fail(enum fault_kind k, int error)
{
    if (k == FAULT_WRITE && error == ENOSPC)
        __atomic_store_n(&fault->space, 1, __ATOMIC_RELEASE);
    if (k == FAULT_UNLINK)
        (void)__atomic_add_fetch(&fault->unlinks, 1, __ATOMIC_ACQ_REL);
    errno = error;
    return ACT_FAIL;
}

static bool takes_space(enum fault_kind k)
{
    return k == FAULT_CREATE || k == FAULT_WRITE || k == FAULT_MKDIR;
}

static bool lasts(enum fault_mode m)
{
    return m == FAULT_ON || m == FAULT_FULL;
}

/* Whether the plan has nothing for such a call.  (Threads: what was a write
 * when it was counted may be another call now.) */
static bool passes(const struct fault_plan *p, enum fault_kind k)
{
    bool transfer = k == FAULT_WRITE || k == FAULT_READ;

    if (k == FAULT_UNLOCK)
        return p->mode != FAULT_EXIT;
    if (p->mode == FAULT_TEAR)
        return k != FAULT_WRITE;
    return (p->mode == FAULT_SHORT || p->error == EINTR) && !transfer;
}

/* From the point on. */
static enum fault_act act_from(enum fault_kind k)
{
    if (fault->plan.mode == FAULT_ON)
        return fail(k, fault_errno(k, k == FAULT_WRITE ? 1 : 0));
    return takes_space(k) ? fail(k, ENOSPC) : ACT_PASS;
}

static enum fault_act act_at(enum fault_kind k, const char *what, long n)
{
    const struct fault_plan *p = &fault->plan;

    if (passes(p, k) || n < p->at || (n > p->at && !lasts(p->mode)))
        return ACT_PASS;
    if (!__atomic_exchange_n(&fault->fired, 1, __ATOMIC_ACQ_REL))
        (void)snprintf(fault->what, sizeof fault->what, "%s", what);
    if (lasts(p->mode))
        return act_from(k);
    switch (p->mode) {
    case FAULT_ONCE:
        return fail(k, p->error);
    case FAULT_SHORT:
        return ACT_SHORT;
    case FAULT_TEAR:
        return ACT_TEAR;
    case FAULT_EXIT:
    case FAULT_CUT:
        fault_die();
    default:
        return ACT_PASS;
    }
}

bool fault_broken(enum fault_control c)
{
    return fault->control == c && fault->pid == getpid() &&
           __atomic_load_n(&fault->armed, __ATOMIC_ACQUIRE);
}

bool fault_recording(void)
{
    return cut_recording() && fault->pid == getpid();
}

enum fault_act fault_enter(enum fault_kind k, const char *what)
{
    long n;

    if (fault_recording() && kinds[k].changes)
        (void)pthread_mutex_lock(&lock);
    if (!__atomic_load_n(&fault->armed, __ATOMIC_ACQUIRE))
        return ACT_PASS;
    (void)__atomic_add_fetch(&fault->n_calls[k], 1, __ATOMIC_ACQ_REL);
    if (fault->pid != getpid())
        return ACT_PASS; /* a limited child, or one that forks them */
    n = __atomic_add_fetch(&fault->n_points, 1, __ATOMIC_ACQ_REL);
    if (n <= FAULT_MAX_POINTS)
        fault->kind[n] = (uint8_t)k;
    return fault->plan.at != 0 ? act_at(k, what, n) : ACT_PASS;
}

void fault_leave(enum fault_kind k)
{
    int saved = errno;

    if (fault_recording() && kinds[k].changes)
        (void)pthread_mutex_unlock(&lock);
    errno = saved;
}

/* -------------------------------------------------------------------- syncs */

#define MAX_FAILED 64

static struct {
    dev_t dev;
    ino_t ino;
} failed[MAX_FAILED];
static int n_failed;

/* A file that is written by ourselves and not by SQLite. */
static bool ours(int fd, struct stat *st)
{
    char self[64];
    char target[512];
    ssize_t n;

    if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode))
        return false;
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    n = readlink(self, target, sizeof target - 1);
    if (n < 0)
        return false;
    target[n] = '\0';
    return strstr(target, "/app.db") == NULL &&
           strstr(target, "/holdfast.db") == NULL;
}

void fault_sync_failed(int fd)
{
    struct stat st;

    fault->n_failed_syncs++;
    if (ours(fd, &st) && n_failed < MAX_FAILED) {
        failed[n_failed].dev = st.st_dev;
        failed[n_failed++].ino = st.st_ino;
    }
}

void fault_syncing(int fd)
{
    struct stat st;

    if (n_failed == 0 || !ours(fd, &st))
        return;
    for (int i = 0; i < n_failed; i++) {
        if (failed[i].ino == st.st_ino && failed[i].dev == st.st_dev)
            fault->n_resyncs++;
    }
}

/* -------------------------------------------------------------------- clock */

/* Names are seconds: the sweep has its own, and nobody waits for the next. */
void fault_clock_advance(int64_t s)
{
    (void)__atomic_add_fetch(&clock_offset, s, __ATOMIC_ACQ_REL);
}

int64_t fault_clock_now_s(void)
{
    return clock_now_s() + __atomic_load_n(&clock_offset, __ATOMIC_ACQUIRE);
}

void fault_clock_wait_until(int64_t t, int64_t max_ms)
{
    int64_t now = fault_clock_now_s();

    (void)max_ms;
    if (now < t)
        fault_clock_advance(t - now);
}
