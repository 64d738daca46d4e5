/*
 * Named steps of an operation, for the tests.  In a test build
 * (-DHOLDFAST_TEST) a step is written into the file HOLDFAST_TEST_PHASE, kills
 * the process where HOLDFAST_TEST_KILL=STEP:N says so, and fails where the
 * file HOLDFAST_TEST_FAULT_FILE holds STEP:ERRNO.  A release build has none
 * of it.
 */
#ifndef HOLDFAST_BASE_PHASE_H
#define HOLDFAST_BASE_PHASE_H

#include "base/err.h"

#ifdef HOLDFAST_TEST
/* phase_enter: step `name` begins; -1 with *e when a test wants it to fail. */
int phase_enter(const char *name, struct err *e);
#else
static inline int phase_enter(const char *name, struct err *e)
{
    (void)name;
    (void)e;
    return 0;
}
#endif

#endif
