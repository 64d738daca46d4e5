/* Shared by the files of the fault layer; nobody else includes it. */
#ifndef HOLDFAST_TESTS_FAULT_INTERNAL_H
#define HOLDFAST_TESTS_FAULT_INTERNAL_H

#include "fault.h"

/* What becomes of a call. */
enum fault_act { ACT_PASS, ACT_FAIL, ACT_SHORT, ACT_TEAR };

/*
 * fault_enter: a call of this kind is about to be made.  ACT_FAIL has set
 * errno; a death does not return.  When the call changes something and the
 * layer keeps what is durable, this holds a lock until fault_leave, so that
 * the model sees the calls in their order.  fault_leave keeps errno.
 */
enum fault_act fault_enter(enum fault_kind k, const char *what);
void fault_leave(enum fault_kind k);

/* fault_recording: whether the model wants to know of changes. */
bool fault_recording(void);

/* fault_broken: whether this is broken on purpose now. */
bool fault_broken(enum fault_control c);

/* fault_die: the second half of ACT_TEAR. */
_Noreturn void fault_die(void);

/* fault_sync_failed, fault_syncing: what is watched of syncs of our own
 * files; SQLite's handling of its files is judged by what a cut leaves. */
void fault_sync_failed(int fd);
void fault_syncing(int fd);

#endif
