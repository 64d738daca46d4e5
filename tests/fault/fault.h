/*
 * Faults under every file call of the program.  In copies of the release's own
 * objects and of SQLite's, each reference to a call in fault_calls.c is turned
 * into one to its twin there, so that each of them passes through here by
 * construction, and a release has no trace of it.
 *
 * While armed, every call is a *point*, numbered from 1 in the order in which
 * it is reached.  (Threads may reach them in another order the next time:
 * what happens is said by number, what it was is read off afterwards.)  The
 * plan says what happens at one of them.
 *
 * The state lies in memory shared with the processes forked later, so that
 * who arms it can read what became of it after a death.  Only the process
 * that armed it meets faults; the calls of its limited children are counted.
 */
#ifndef HOLDFAST_TESTS_FAULT_H
#define HOLDFAST_TESTS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum fault_kind {
    FAULT_OPEN,
    FAULT_CREATE, /* an open that may make or cut a file */
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_TRUNCATE,
    FAULT_RENAME, /* or a link */
    FAULT_UNLINK,
    FAULT_MKDIR,
    FAULT_RMDIR,
    FAULT_STAT,
    FAULT_LOCK,
    FAULT_UNLOCK, /* never fails on Linux; one can die at it */
    FAULT_MAP,
    FAULT_DIR, /* opening a folder for reading its names */
    FAULT_NAMES,
    FAULT_OWNER,
    FAULT_PIPE,
    FAULT_KINDS
};

const char *fault_kind_name(enum fault_kind k);

/* fault_changes: whether such a call changes what is on the disk. */
bool fault_changes(enum fault_kind k);

/* fault_errno: the errno that suits the call, the i-th of its list; 0 when
 * the list has ended. */
int fault_errno(enum fault_kind k, unsigned i);

enum fault_mode {
    FAULT_COUNT, /* nothing happens */
    FAULT_ONCE,  /* the call fails with `error` */
    FAULT_SHORT, /* half of it is read or written */
    FAULT_ON,    /* it and every later call fail, each with what suits it */
    FAULT_FULL,  /* it and every later call that takes space: ENOSPC */
    FAULT_EXIT,  /* the process ends before it */
    FAULT_TEAR,  /* half of it is written, then the process ends */
    FAULT_CUT,   /* the power goes before it */
    FAULT_MODES
};

struct fault_plan {
    enum fault_mode mode;
    long at;     /* the point; 0: none */
    int error;   /* FAULT_ONCE */
    bool record; /* keep what is durable, for a power cut */
    uint64_t seed;
};

/* What is broken on purpose, to see the sweep notice it. */
enum fault_control {
    CONTROL_NONE,
    CONTROL_NO_DIR_SYNC,  /* a folder's sync makes nothing durable */
    CONTROL_NO_FILE_SYNC, /* nor does a file's */
    CONTROL_NO_UNLINK,    /* a file is said to be removed, and stays */
    CONTROL_LEAK,         /* a descriptor is said to be closed, and stays */
    CONTROL_TWICE,        /* a failed sync is tried again */
    CONTROLS
};

#define FAULT_EXITED 77 /* the exit status of a planned death */
#define FAULT_MAX_POINTS 4096

struct fault_state {
    struct fault_plan plan;
    enum fault_control control;
    pid_t pid;
    int armed;   /* atomic, as the counters are */
    int fired;   /* the plan's point was reached */
    int space;   /* what fired was an ENOSPC on a write */
    int unlinks; /* removals that a fault hit */
    long n_points;
    long n_calls[FAULT_KINDS]; /* in all processes while armed */
    long n_failed_syncs;
    long n_resyncs; /* of a file of ours whose sync had failed */
    char what[80];  /* the call at the point */
    uint8_t kind[FAULT_MAX_POINTS + 1]; /* of each point reached */
};
extern struct fault_state *fault;

/* fault_init: map the shared state; once, in the first process. */
void fault_init(void);

/* fault_arm: from here on, in this process.  With plan.record or a cut all
 * that is below `root` now counts as durable. */
void fault_arm(const struct fault_plan *plan, const char *root);
void fault_disarm(void);

/* fault_cut_to: where what a power cut leaves is written: FOLDER.0 and so on,
 * one for each way in which a cut can go (cut.h). */
void fault_cut_to(const char *folder);

/* fault_cut: the power goes now, as far as the disk is concerned. */
void fault_cut(void);

/* What the objects under test have instead of base/clock.h's: the clock of
 * names, which is advanced instead of waited for. */
int64_t fault_clock_now_s(void);
void fault_clock_wait_until(int64_t t, int64_t max_ms);
void fault_clock_advance(int64_t s);

#endif
