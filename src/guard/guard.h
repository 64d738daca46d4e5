/*
 * Limited children.  Work on hostile input (checking a database file from
 * outside) runs in a process of its own with a memory and time limit,
 * landlock and seccomp.
 *
 * Such children are forked from a small helper process, which guard_start
 * forks before the program has any thread or SQLite connection: a process
 * with an open SQLite connection never forks.  The helper is single-threaded,
 * keeps no descriptor but its socket and stderr, and ends with the program,
 * however that ends; so do its children.  It ignores the signals of a
 * terminal and of a service manager, so that work under way when the program
 * is asked to stop is ended by the program.
 *
 * A child has standard descriptors on /dev/null, no other descriptor than
 * the pipe for its reply, no capability but to pass file permissions, no
 * core dumps, files only as named in the call, and no system calls beyond
 * reading and writing files, memory and time.  On a kernel without landlock
 * the rest holds without it.
 */
#ifndef HOLDFAST_GUARD_GUARD_H
#define HOLDFAST_GUARD_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

struct guard;

/*
 * A kind of work.  `run` is called in the child with the request's bytes,
 * after the limits are in force, and appends its reply (at most 64 KiB) to
 * *reply; it returns 0, or -1 with *e, which the caller gets as it is (bytes
 * of the message that are not printable ASCII become '?').  Where memory runs
 * out it may fail with ERR_LIMIT, reason "memory", or abort.
 */
struct guard_service {
    const char *name;
    int (*run)(const void *request, size_t len, struct buf *reply,
               struct err *e);
};

/*
 * guard_start: fork the helper.  `services` must be static; *out is the
 * caller's, for guard_stop.  Call it first in main; from a process with
 * threads it aborts.
 */
int guard_start(const struct guard_service *services, size_t n,
                struct guard **out, struct err *e);

/*
 * guard_stop: end the helper and its children, wait until the helper is gone
 * and free g; accepts NULL.  No guard_call may be under way.
 */
void guard_stop(struct guard *g);

#define GUARD_MAX_PATHS 4

struct guard_path {
    const char *path; /* a file, or a folder with all below it; it must
                         exist, and no part of it be a symlink */
    bool writable;    /* a folder: files may be made, written and removed
                         below it; a file: it may be overwritten, and grow
                         only if there is a writable folder too */
};

struct guard_call {
    const char *service;
    const void *request; /* borrowed; at most 128 KiB */
    size_t request_len;
    struct guard_path paths[GUARD_MAX_PATHS]; /* all that the child may open;
                                                 .path NULL ends them */
    uint64_t memory_bytes; /* address space beyond the child's start */
    uint64_t file_bytes;   /* a file it writes gets no longer; 0: no limit but
                              what is said of paths */
    unsigned cpu_s;
    unsigned wall_s;
    uid_t run_as_uid;   /* when running as root: the user and group the child */
    gid_t run_as_gid;   /* becomes, if that is permitted and they can open the
                           paths; uid 0: keep both */
    const bool *cancel; /* looked at ten times a second (atomic);
                           true ends the child; may be NULL */
};

/*
 * guard_call: run one request in a fresh child and wait for it.  Safe from
 * any number of threads; at most 8 children run at once, further calls wait.
 * When it returns the child has ended or is past its last instruction.
 *
 * On 0 the child's reply has been appended to *reply.  Fails with the child's
 * own error; ERR_NOT_FOUND for a path that does not exist; ERR_LIMIT (reason
 * "memory", "cpu" or "time") when a limit ended the child; ERR_DAMAGED with
 * reason "crash" when it died by a signal of its own or broke off its reply;
 * ERR_CANCELLED; ERR_INTERNAL when the helper is gone or cannot fork.
 */
int guard_call(struct guard *g, const struct guard_call *call,
               struct buf *reply, struct err *e);

/* guard_landlocked: whether this kernel enforces landlock (for the log). */
bool guard_landlocked(void);

#endif
