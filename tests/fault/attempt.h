/* One attempt: a fresh copy, a fault, and what is left. */
#ifndef HOLDFAST_TESTS_ATTEMPT_H
#define HOLDFAST_TESTS_ATTEMPT_H

#include "fault.h"
#include "world.h"

/* Allocations of SQLite that fail, instead of calls on files. */
struct memory_plan {
    long at;      /* the allocation; 0: none */
    bool forever; /* and every later one */
};

struct attempt {
    const struct scenario *scenario;
    const struct world *world;
    const char *prepared; /* the folder to copy */
    const char *folder;   /* where to work; made and removed */
    struct fault_plan plan;
    bool cut_after;
    struct memory_plan memory;
};

/* What became of it, in memory shared with the attempt's processes. */
struct outcome {
    struct result result;
    int fired;     /* the point was reached */
    long n_points; /* or allocations */
    int n_checks;  /* states of the disk that were looked at */
    int n_complaints;
};

/* attempt_init: once, in the first process. */
void attempt_init(void);

/* attempt_run: *out is the caller's; complaints go to complain(). */
void attempt_run(const struct attempt *a, struct outcome *out);

/* attempt_copy, attempt_remove: whole folders. */
void attempt_copy(const char *from, const char *to);
void attempt_remove(const char *path);

/* attempt_complaint: the i-th text of the last attempt; at most 4. */
const char *attempt_complaint(int i);

#endif
