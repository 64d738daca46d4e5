/*
 * Limited children.  Work on hostile input (checking a database file from
 * outside) runs in a process of its own with a memory and time limit,
 * landlock and seccomp.
 *
 * Such children are forked from a small helper process, which guard_start
 * forks before the program has any thread or SQLite connection: a process
 * with an open SQLite connection never forks.  The helper is single-threaded,
 * keeps no descriptor but its socket, and ends with the program, however that
 * ends; so do its children.
 */
#ifndef HOLDFAST_GUARD_GUARD_H
#define HOLDFAST_GUARD_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct guard;

/*
 * A kind of work.  `run` is called in the child with the request's bytes,
 * after the limits are in force, and appends its reply (at most 64 KiB) to
 * *reply; it returns 0, or -1 with *e, which the caller gets as it is.
 */
struct guard_service {
    const char *name;
    int (*run)(const void *request, size_t len, struct buf *reply,
               struct err *e);
};

/* guard_start: fork the helper.  `services` must be static.  Call it first in
 * main; from a process with threads it aborts. */
int guard_start(const struct guard_service *services, size_t n,
                struct guard **out, struct err *e);

/* guard_stop: end the helper and its children; accepts NULL. */
void guard_stop(struct guard *g);

struct guard_path {
    const char *path; /* a file, or a folder with all below it */
    bool writable;    /* also: files may be made and removed below it */
};

struct guard_call {
    const char *service;
    const void *request; /* borrowed; at most 128 KiB */
    size_t request_len;
    struct guard_path paths[4]; /* all that the child may open; .path NULL
                                   ends them */
    uint64_t memory_bytes;      /* address space beyond the child's start */
    unsigned cpu_s;
    unsigned wall_s;
    const bool *cancel;         /* looked at ten times a second (atomic);
                                   true ends the child; may be NULL */
};

/*
 * guard_call: run one request in a fresh child and wait for it.  Safe from
 * any number of threads; at most 8 children run at once, further calls wait.
 * On 0 *reply is the child's.  Fails with the child's own error; ERR_LIMIT
 * (reason "memory", "cpu" or "time") when a limit ended it; ERR_DAMAGED with
 * reason "crash" when it died by a signal of its own; ERR_CANCELLED;
 * ERR_INTERNAL when the helper is gone.
 */
int guard_call(struct guard *g, const struct guard_call *call,
               struct buf *reply, struct err *e);

/* guard_landlocked: whether this kernel enforces landlock (for the log). */
bool guard_landlocked(void);

#endif
