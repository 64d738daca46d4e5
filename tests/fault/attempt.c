/* One attempt: see attempt.h. */
#include "attempt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cut.h"
#include "memory.h"

/* A process that takes longer hangs. */
#define MAX_SECONDS 60

/* What the processes of an attempt share. */
static struct shared {
    struct result result;
    int n_checks;
    int n_complaints;
    char text[4][400];
} * shared;

void attempt_init(void)
{
    fault_init();
    memory_init();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
}

void complain(const char *fmt, ...)
{
    int i = __atomic_fetch_add(&shared->n_complaints, 1, __ATOMIC_ACQ_REL);
    va_list ap;

    if (i >= 4)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(shared->text[i], sizeof shared->text[i], fmt, ap);
    va_end(ap);
}

/* -------------------------------------------------------------------- files */

static void copy_one(const char *from, const char *to)
{
    static char buf[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t n;

    while (in >= 0 && (n = read(in, buf, sizeof buf)) > 0) {
        if (write(out, buf, (size_t)n) != n)
            abort();
    }
    (void)close(in);
    (void)close(out);
}

void attempt_copy(const char *from, const char *to)
{
    DIR *d = opendir(from);
    const struct dirent *ent;

    if (d == NULL || mkdir(to, 0700) != 0)
        abort();
    while ((ent = readdir(d)) != NULL) {
        char *a = xasprintf("%s/%s", from, ent->d_name);
        char *b = xasprintf("%s/%s", to, ent->d_name);
        struct stat st;

        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0 &&
            lstat(a, &st) == 0) {
            if (S_ISDIR(st.st_mode))
                attempt_copy(a, b);
            else
                copy_one(a, b);
        }
        free(a);
        free(b);
    }
    (void)closedir(d);
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
    (void)st;
    (void)at;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

void attempt_remove(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* -------------------------------------------------------- the one that acts */

static int n_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (d != NULL && readdir(d) != NULL)
        n++;
    if (d != NULL)
        (void)closedir(d);
    return n;
}

/* Locks of this process on files; the service has one, on its own file. */
static int count_locks(void)
{
    FILE *f = fopen("/proc/locks", "re");
    char line[256];
    int n = 0;

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *word = NULL;
        char *rest = line;

        /* "1: POSIX ADVISORY WRITE PID …" */
        for (int i = 0; i < 5; i++)
            word = strtok_r(i == 0 ? line : NULL, " ", &rest);
        if (word != NULL && strtol(word, NULL, 10) == (long)getpid())
            n++;
    }
    if (f != NULL)
        (void)fclose(f);
    return n;
}

/* While others lock and unlock, the table may be read with gaps. */
static int n_locks(void)
{
    int n = 0;

    for (int i = 0; i < 20 && n != 1; i++)
        n = count_locks();
    return n;
}

/* Whether the action is refused also where nothing fails. */
static bool always_refused(const struct scenario *sc)
{
    return sc->action == DO_RESTORE && (sc->with & WITH_BAD_BACKUP) != 0;
}

/* An error must be one that says what happened. */
static void check_error(const struct attempt *a, const struct result *r)
{
    unsigned with = a->scenario->with;
    bool damage = r->e.code == ERR_DAMAGED || r->e.code == ERR_NOT_DATABASE ||
                  r->e.code == ERR_ENCRYPTED;

    if (r->e.code == ERR_NONE || r->e.message[0] == '\0')
        complain("an error without a message");
    if (damage && (with & (WITH_BAD_BACKUP | WITH_BAD_LIVE)) == 0)
        complain("a fault is called damage: %s", r->e.message);
    if (a->plan.mode == FAULT_SHORT || a->plan.error == EINTR)
        complain("a short or interrupted call fails: %s", r->e.message);
    if (a->plan.mode == FAULT_ONCE && fault->space &&
        r->e.code != ERR_NO_SPACE && !always_refused(a->scenario))
        complain("a full disk is called: %s", r->e.message);
}

/* What was done and could not be said, or taken back, is refused now. */
static bool done_already(const struct attempt *a, const struct result *r)
{
    switch (a->scenario->action) {
    case DO_DELETE:
    case DO_REMOVE:
        return r->e.code == ERR_NOT_FOUND;
    case DO_ADD:
        return (a->plan.mode == FAULT_ON || a->plan.mode == FAULT_FULL) &&
               r->e.code == ERR_CONFLICT;
    default:
        return false;
    }
}

static void act_again(const struct attempt *a, const char *root,
                      struct service *s, const struct result *first)
{
    struct result r;

    if (!first->failed || always_refused(a->scenario))
        return;
    fault_clock_advance(10);
    world_act(a->scenario, a->world, root, s, &r);
    if (r.failed && !done_already(a, &r))
        complain("without the fault it still fails: %s (after: %s)",
                 r.e.message, first->e.message);
}

/* A safety copy that could not be settled is, once somebody looks. */
static void await_settled(const char *root, struct service *s)
{
    char *folder = xasprintf("%s/data/backups/default", root);
    const struct timespec pause = {.tv_nsec = 10000000};
    bool pending = true;

    for (int i = 0; i < 500 && pending && s != NULL; i++) {
        const struct backup_list *l = NULL;
        const struct dirent *ent;
        struct err e;
        DIR *d = opendir(folder);

        pending = false;
        while (d != NULL && (ent = readdir(d)) != NULL)
            pending = pending || strstr(ent->d_name, ".pending") != NULL;
        if (d != NULL)
            (void)closedir(d);
        if (pending && backup_list_get(s, "default", &l, &e) == 0)
            backup_list_put(l);
        if (pending)
            (void)nanosleep(&pause, NULL);
    }
    free(folder);
}

static void look_after(const struct attempt *a, const char *root)
{
    char *data = xasprintf("%s/data", root);
    const struct result *r = &shared->result;

    if (r->failed)
        check_error(a, r);
    /* A start that fails has nothing open; a service holds its lock. */
    if (a->scenario->action != DO_START) {
        int locks = n_locks();

        if (locks != 1)
            complain("%d locks are held", locks);
    }
    /* What cannot be removed now is removed by the next start; so is what a
     * start that meets a fault leaves. */
    if (fault->unlinks == 0 && a->plan.mode != FAULT_ON &&
        (a->scenario->action != DO_START || (!fault->fired && !memory_fired())))
        world_leftovers(data);
    if (fault->n_resyncs > 0)
        complain("a file whose sync failed is synced again");
    free(data);
}

static void act(const struct attempt *a, const char *root)
{
    struct service *s = NULL;
    struct err e = {0};
    int before;

    memory_hook(&a->memory);
    world_start_helper();
    before = n_descriptors();
    if (a->scenario->action != DO_START && world_open(root, &s, &e) != 0) {
        complain("the start before the fault fails: %s", e.message);
        return;
    }
    (void)access("/fault-layer-armed", F_OK); /* seen by strace */
    fault_arm(&a->plan, root);
    memory_arm();
    world_act(a->scenario, a->world, root, s, &shared->result);
    memory_disarm();
    if (a->cut_after || (a->plan.mode == FAULT_CUT && !fault->fired))
        fault_cut();
    fault_disarm();
    (void)access("/fault-layer-disarmed", F_OK);
    await_settled(root, s);
    look_after(a, root);
    act_again(a, root, s, &shared->result);
    world_close(s);
    if (n_descriptors() != before)
        complain("%d descriptors leak", n_descriptors() - before);
    world_stop_helper();
    memory_check_leaks();
}

/* ----------------------------------------------------------------- processes
 */

static void act_process(const struct attempt *a, const char *root)
{
    act(a, root);
}

static void check_process(const struct attempt *a, const char *root, bool died)
{
    world_check(a->scenario, a->world, root, &shared->result, died);
}

/* Wait for a process that must end by itself. */
static int reap(pid_t pid, const char *who)
{
    int status;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        complain("%s %s", who,
                 WTERMSIG(status) == SIGALRM
                     ? "hangs"
                     : xasprintf("dies by signal %d", WTERMSIG(status)));
    return status;
}

static pid_t begin(void)
{
    pid_t pid = fork();

    if (pid < 0)
        abort();
    if (pid == 0)
        (void)alarm(MAX_SECONDS);
    return pid;
}

static void check(const struct attempt *a, const char *root, bool died)
{
    pid_t pid = begin();
    int status;

    if (pid == 0) {
        fault_disarm();
        check_process(a, root, died);
        _exit(0);
    }
    status = reap(pid, "the next start");
    shared->n_checks++;
    if (!WIFSIGNALED(status) && WEXITSTATUS(status) != 0)
        complain("the next start exits with %d", WEXITSTATUS(status));
}

/* Each state that the power cut may have left takes the folder's place. */
static void check_cuts(const struct attempt *a, const char *root)
{
    for (int v = 0; v < CUT_VARIANTS; v++) {
        char *cut = xasprintf("%s/cut.%d", a->folder, v);
        int n = shared->n_complaints;

        attempt_remove(root);
        if (rename(cut, root) != 0)
            complain("there is no %s", cut);
        else
            check(a, root, true);
        if (shared->n_complaints > n)
            complain("(cut %d)", v);
        free(cut);
    }
}

void attempt_run(const struct attempt *a, struct outcome *out)
{
    char *root = xasprintf("%s/root", a->folder);
    char *cut = xasprintf("%s/cut", a->folder);
    bool cuts;
    pid_t pid;
    int status;

    memset(shared, 0, sizeof *shared);
    if (mkdir(a->folder, 0700) != 0)
        abort();
    attempt_copy(a->prepared, root);
    fault_cut_to(cut);
    fault->fired = 0;
    pid = begin();
    if (pid == 0) {
        act_process(a, root);
        _exit(0);
    }
    status = reap(pid, "the program");
    out->fired = fault->fired || memory_fired();
    out->n_points = a->memory.at != 0 ? memory_count() : fault->n_points;
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0 &&
        WEXITSTATUS(status) != FAULT_EXITED)
        complain("the program exits with %d", WEXITSTATUS(status));
    cuts = a->plan.record;
    if (!cuts || a->cut_after)
        check(a, root, WEXITSTATUS(status) == FAULT_EXITED);
    if (cuts && (out->fired || a->plan.mode == FAULT_CUT))
        check_cuts(a, root);
    attempt_remove(a->folder);
    out->result = shared->result;
    out->n_checks = shared->n_checks;
    out->n_complaints = shared->n_complaints;
    free(root);
    free(cut);
}

const char *attempt_complaint(int i)
{
    return shared->text[i];
}
