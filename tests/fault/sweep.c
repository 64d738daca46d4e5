/*
 * The sweep: every action, every point, every fault (docs/design.md, "Faults
 * on purpose").  Each attempt runs in processes of its own on a fresh copy of
 * a prepared folder: one that acts and meets the fault, and one that starts
 * afterwards and looks whether the promises hold.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attempt.h"
#include "base/mem.h"
#include "fault.h"
#include "world.h"

static const struct scenario scenarios[] = {
    {"create-wal", DO_CREATE, WITH_WAL, false},
    {"create-delete", DO_CREATE, 0, false},
    {"create-empty", DO_CREATE, WITH_EMPTY_LIVE, false},
    {"restore-wal", DO_RESTORE, WITH_WAL, false},
    {"restore-wal-smaller", DO_RESTORE, WITH_WAL | WITH_SHRINK, true},
    {"restore-wal-page-size", DO_RESTORE, WITH_WAL | WITH_SIZE, true},
    {"restore-delete", DO_RESTORE, 0, false},
    {"restore-delete-smaller", DO_RESTORE, WITH_SHRINK, true},
    {"restore-delete-page-size", DO_RESTORE, WITH_SIZE, true},
    {"restore-missing", DO_RESTORE, WITHOUT_LIVE, false},
    {"restore-empty", DO_RESTORE, WITH_EMPTY_LIVE, true},
    {"restore-damaged", DO_RESTORE, WITH_BAD_LIVE, true},
    {"restore-unreadable", DO_RESTORE, WITH_BAD_LIVE | WITH_BAD_HEADER, true},
    {"restore-bad-backup", DO_RESTORE, WITH_BAD_BACKUP, false},
    {"delete", DO_DELETE, 0, false},
    {"verify", DO_VERIFY, 0, false},
    {"verify-bad-backup", DO_VERIFY, WITH_BAD_BACKUP, false},
    {"list", DO_LIST, 0, false},
    {"start", DO_START, WITH_LEFTOVERS, false},
    {"start-first", DO_START, WITHOUT_ALL, false},
    {"start-wal", DO_START, WITH_LEFTOVERS | WITH_WAL, true},
    {"database-add", DO_ADD, 0, false},
    {"database-add-path", DO_ADD_PATH, 0, false},
    {"database-remove", DO_REMOVE, WITH_EXTRA, false},
    {"database-choose", DO_CHOOSE, WITH_EXTRA, false},
};
#define MAX_WORKERS 32
#define VARIANT_SHARE 6 /* of a variant, one attempt in so many */
#define N_SCENARIOS (sizeof scenarios / sizeof *scenarios)

/* ----------------------------------------------------------------- attempts */

struct task {
    struct fault_plan plan;
    bool cut_after; /* the power goes when the answer is out */
    bool wide;      /* not one that every run makes */
    struct memory_plan memory;
};

static struct {
    bool all;       /* every attempt; else a share of the wide ones */
    unsigned share; /* one in so many of the wide ones */
    uint64_t seed;
    unsigned n_workers;
    enum fault_control control;
    bool control_run; /* broken promises are what is wanted */
    char base[256];
} run = {.share = 24, .n_workers = 4};

struct tasks {
    struct task *t;
    size_t n;
    bool variant;
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdU;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53U;
    return x ^ (x >> 33);
}

static void add(struct tasks *l, struct task t)
{
    t.plan.seed = mix(run.seed + (uint64_t)t.plan.at * 64 + t.plan.mode);
    if (!run.all && ((t.wide && t.plan.seed % run.share != 0) ||
                     (l->variant && t.plan.seed % VARIANT_SHARE != 0)))
        return;
    l->t = xrealloc(l->t, (l->n + 1) * sizeof *l->t);
    l->t[l->n++] = t;
}

/* All that can happen at one point. */
static void add_point(struct tasks *l, long at, enum fault_kind k)
{
    bool changes = fault_changes(k);
    bool transfer = k == FAULT_READ || k == FAULT_WRITE;

    for (unsigned i = 0; fault_errno(k, i) != 0; i++)
        add(l, (struct task){.plan = {.mode = FAULT_ONCE,
                                      .at = at,
                                      .error = fault_errno(k, i)},
                             .wide = i > 0});
    if (transfer)
        add(l, (struct task){
                   .plan = {.mode = FAULT_ONCE, .at = at, .error = EINTR},
                   .wide = true});
    if (transfer)
        add(l, (struct task){.plan = {.mode = FAULT_SHORT, .at = at},
                             .wide = true});
    add(l, (struct task){.plan = {.mode = FAULT_EXIT, .at = at}});
    add(l, (struct task){.plan = {.mode = FAULT_ON, .at = at}, .wide = true});
    if (changes) {
        add(l, (struct task){.plan = {.mode = FAULT_FULL, .at = at},
                             .wide = true});
        add(l,
            (struct task){.plan = {.mode = FAULT_CUT, .at = at, .record = true},
                          .wide = true});
    }
    if (k == FAULT_WRITE) {
        add(l, (struct task){.plan = {.mode = FAULT_TEAR, .at = at},
                             .wide = true});
        add(l, (struct task){
                   .plan = {.mode = FAULT_TEAR, .at = at, .record = true},
                   .wide = true});
    }
    if (k == FAULT_SYNC)
        add(l, (struct task){.plan = {.mode = FAULT_ONCE,
                                      .at = at,
                                      .error = EIO,
                                      .record = true},
                             .cut_after = true,
                             .wide = true});
}

/* Of the counting attempt: how many points, and what they are. */
static long count_points(const struct scenario *sc, const struct world *w,
                         const char *prepared, const char *folder)
{
    struct attempt a = {
        .scenario = sc, .world = w, .prepared = prepared, .folder = folder};
    struct outcome o;

    attempt_run(&a, &o);
    for (int i = 0; i < o.n_complaints && i < 4; i++)
        (void)printf("%s without a fault: %s\n", sc->name,
                     attempt_complaint(i));
    if (o.n_complaints > 0)
        exit(1);
    return o.n_points;
}

/* What the workers share. */
static struct tally {
    long next; /* atomic, as all are */
    long n_attempts;
    long n_fired;
    long n_acked;
    long n_checks;
    long n_bad;
} * tally;

static void report(const struct scenario *sc, const struct task *t)
{
    static const char *const modes[FAULT_MODES] = {
        "none", "once", "short",    "from there on", "full from there on",
        "exit", "torn", "power cut"};
    char text[2000];
    size_t n = 0;

    for (int i = 0; i < 4 && attempt_complaint(i)[0] != '\0'; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "\n    %s",
                              attempt_complaint(i));
    if (t->memory.at != 0) {
        (void)printf("%s, allocation %ld, %s:%s\n", sc->name, t->memory.at,
                     t->memory.forever ? "from there on" : "once", text);
        (void)fflush(stdout);
        return;
    }
    (void)printf("%s, point %ld (%s), %s%s%s%s:%s\n", sc->name, t->plan.at,
                 fault->what, modes[t->plan.mode],
                 t->plan.error != 0 ? ", " : "",
                 t->plan.error != 0 ? strerrorname_np(t->plan.error) : "",
                 t->cut_after                                  ? ", then a cut"
                 : t->plan.record && t->plan.mode != FAULT_CUT ? ", a cut"
                                                               : "",
                 text);
    (void)fflush(stdout);
}

static void work(const struct scenario *sc, const struct world *w,
                 const char *prepared, const char *folder,
                 const struct tasks *l)
{
    for (;;) {
        long i = __atomic_fetch_add(&tally->next, 1, __ATOMIC_ACQ_REL);
        struct attempt a = {
            .scenario = sc, .world = w, .prepared = prepared, .folder = folder};
        struct outcome o;

        if (i >= (long)l->n || l->t == NULL)
            return;
        a.plan = l->t[i].plan;
        a.cut_after = l->t[i].cut_after;
        a.memory = l->t[i].memory;
        attempt_run(&a, &o);
        (void)__atomic_add_fetch(&tally->n_attempts, 1, __ATOMIC_ACQ_REL);
        (void)__atomic_add_fetch(&tally->n_fired, o.fired, __ATOMIC_ACQ_REL);
        (void)__atomic_add_fetch(&tally->n_checks, o.n_checks,
                                 __ATOMIC_ACQ_REL);
        if (o.result.answered && !o.result.failed)
            (void)__atomic_add_fetch(&tally->n_acked, 1, __ATOMIC_ACQ_REL);
        if (o.n_complaints > 0) {
            (void)__atomic_add_fetch(&tally->n_bad, 1, __ATOMIC_ACQ_REL);
            if (!run.control_run)
                report(sc, &l->t[i]);
        }
    }
}

static void run_tasks(const struct scenario *sc, const struct world *w,
                      const char *prepared, const struct tasks *l)
{
    pid_t pid[MAX_WORKERS];

    (void)fflush(stdout);
    tally->next = 0;
    for (unsigned i = 0; i < run.n_workers; i++) {
        pid[i] = fork();
        if (pid[i] < 0)
            abort();
        if (pid[i] == 0) {
            char *folder = xasprintf("%s/work.%u", run.base, i);

            attempt_init();
            fault->control = run.control;
            work(sc, w, prepared, folder, l);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < run.n_workers; i++) {
        int status;

        if (waitpid(pid[i], &status, 0) != pid[i] || status != 0)
            abort();
    }
}

static void prepare(const struct scenario *sc, struct world *w,
                    const char *prepared)
{
    pid_t pid;
    int status;

    if (mkdir(prepared, 0700) != 0)
        abort();
    pid = fork();
    if (pid == 0) {
        world_make(sc, prepared, w);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        abort();
}

static void say(const struct scenario *sc, long n, const char *unit)
{
    if (run.control_run || n == 0)
        return;
    (void)printf("%-26s %5ld %-11s %6ld attempts %6ld hit %6ld states looked "
                 "at %3ld broken\n",
                 sc->name, n, unit, tally->n_attempts, tally->n_fired,
                 tally->n_checks, tally->n_bad);
    (void)fflush(stdout);
}

/* Allocations of SQLite: each fails once, and from there on. */
#define MEMORY_SHARE 40 /* attempts of a run that does not make all */

static long sweep_memory(const struct scenario *sc, const struct world *w,
                         const char *prepared, const char *folder)
{
    struct attempt a = {.scenario = sc,
                        .world = w,
                        .prepared = prepared,
                        .folder = folder,
                        .memory = {.at = 1L << 40}};
    struct tasks l = {0};
    struct outcome o;
    long step;

    attempt_run(&a, &o);
    step = run.all || o.n_points < MEMORY_SHARE ? 1
                                                : 2 * o.n_points / MEMORY_SHARE;
    for (long at = 1 + (long)(run.seed % (uint64_t)step); at <= o.n_points;
         at += step) {
        add(&l, (struct task){.memory = {.at = at}});
        add(&l, (struct task){.memory = {.at = at, .forever = true}});
    }
    memset(tally, 0, sizeof *tally);
    run_tasks(sc, w, prepared, &l);
    say(sc, o.n_points, "allocations");
    free(l.t);
    return tally->n_bad;
}

static long sweep_calls(const struct scenario *sc, const struct world *w,
                        const char *prepared, const char *folder)
{
    long n = count_points(sc, w, prepared, folder);
    struct tasks l = {.variant = sc->variant};

    for (long at = 1; at <= n && at <= FAULT_MAX_POINTS; at++)
        add_point(&l, at, (enum fault_kind)fault->kind[at]);
    /* After the last one: the power goes when the answer is out. */
    for (int i = 0; i < 4; i++)
        add(&l, (struct task){.plan = {.mode = FAULT_CUT,
                                       .at = n + 1000 + i,
                                       .record = true}});
    memset(tally, 0, sizeof *tally);
    run_tasks(sc, w, prepared, &l);
    say(sc, n, "calls");
    free(l.t);
    return tally->n_bad;
}

/* The calls of one action without a fault, for a comparison with strace. */
static void print_calls(const struct scenario *sc, const struct world *w,
                        const char *prepared, const char *folder)
{
    (void)count_points(sc, w, prepared, folder);
    for (int k = 0; k < FAULT_KINDS; k++)
        (void)printf("%s %ld\n", fault_kind_name((enum fault_kind)k),
                     fault->n_calls[k]);
}

/* One action: gives the number of broken promises. */
static long sweep(const struct scenario *sc, bool only_count)
{
    struct world *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *prepared = xasprintf("%s/%s", run.base, sc->name);
    char *folder = xasprintf("%s/count", run.base);
    long n_bad = 0;

    prepare(sc, w, prepared);
    if (only_count) {
        print_calls(sc, w, prepared, folder);
    } else {
        n_bad = sweep_calls(sc, w, prepared, folder);
        if (!run.control_run)
            n_bad += sweep_memory(sc, w, prepared, folder);
    }
    attempt_remove(prepared);
    free(prepared);
    free(folder);
    (void)munmap(w, sizeof *w);
    return n_bad;
}

static void make_base(void)
{
    const char *tmp = getenv("TMPDIR");

    if (tmp == NULL)
        tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(run.base, sizeof run.base, "%s/holdfast_faults.XXXXXX", tmp);
    if (mkdtemp(run.base) == NULL) {
        perror(run.base);
        exit(1);
    }
}

/*
 * sweep [-a] [-s SEED] [-j WORKERS] [-c CONTROL | -n] [ACTION...]
 *
 * -a  every attempt (else all first errors and deaths, and a share of the
 *     rest and of the variants that the seed chooses)
 * -c  a control: something is broken on purpose; fails unless that is noticed
 * -n  the calls of an action that meets no fault
 */
static bool wanted(const struct scenario *sc, char **names)
{
    for (char **at = names; *at != NULL; at++) {
        if (strcmp(sc->name, *at) == 0)
            return true;
    }
    return *names == NULL;
}

static int conclude(long n_bad, long n_actions)
{
    static const char *const controls[CONTROLS] = {
        "",
        "a folder's sync makes nothing durable",
        "a file's sync makes nothing durable",
        "removed files stay",
        "closed descriptors stay open",
        "failed syncs are tried again"};

    if (!run.control_run) {
        (void)printf("faults: %ld actions, %ld attempts broke a promise (seed "
                     "%llu%s)\n",
                     n_actions, n_bad, (unsigned long long)run.seed,
                     run.all ? ", all attempts" : "");
        return n_bad == 0 && n_actions > 0 ? 0 : 1;
    }
    (void)printf("control, %s: %s (%ld times)\n", controls[run.control],
                 n_bad > 0 ? "noticed" : "NOT NOTICED", n_bad);
    return n_bad > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    bool only_count = false;
    long n_actions = 0;
    long n_bad = 0;
    int c;

    run.seed = (uint64_t)time(NULL);
    run.n_workers = 4 * (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    while ((c = getopt(argc, argv, "as:j:c:n")) != -1) {
        if (c == 'a')
            run.all = true;
        else if (c == 's')
            run.seed = strtoull(optarg, NULL, 10);
        else if (c == 'j')
            run.n_workers = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'c')
            run.control = (enum fault_control)strtoul(optarg, NULL, 10);
        else if (c == 'n')
            only_count = true;
        else
            return 2;
    }
    if (run.n_workers == 0 || run.n_workers > MAX_WORKERS)
        run.n_workers = MAX_WORKERS;
    if (run.control >= CONTROLS)
        return 2;
    run.control_run = run.control != CONTROL_NONE;
    make_base();
    attempt_init();
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < N_SCENARIOS; i++) {
        if (!wanted(&scenarios[i], argv + optind))
            continue;
        n_bad += sweep(&scenarios[i], only_count);
        n_actions++;
    }
    attempt_remove(run.base);
    return only_count ? 0 : conclude(n_bad, n_actions);
}
