/*
 * Allocations of SQLite that fail.  Our own small ones abort when memory runs
 * out (base/mem.h), which is a death like any other and what the sweep of
 * deaths is about; SQLite's are reported, and everything must go on.
 */
#ifndef HOLDFAST_TESTS_MEMORY_H
#define HOLDFAST_TESTS_MEMORY_H

#include <stdbool.h>

struct memory_plan;

void memory_init(void); /* the shared state; once, in the first process */

/* memory_hook: be SQLite's allocator; before SQLite is used. */
void memory_hook(const struct memory_plan *plan);
void memory_arm(void);
void memory_disarm(void);

bool memory_fired(void);
long memory_count(void); /* allocations while armed */

/* memory_check_leaks: everything of SQLite is closed: what is still
 * allocated must be no more than it keeps for itself. */
void memory_check_leaks(void);

#endif
