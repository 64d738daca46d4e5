/*
 * Between the three sides of the guard, which are one program: the caller
 * (guard.c), the helper (guard_helper.c) and the child (guard_child.c).
 *
 * The caller sends one datagram per call: struct guard_job, then the
 * request's bytes, with two descriptors, the write ends of a pipe for the
 * reply and of one for the status.  The child writes a struct guard_frame and
 * its payload into the first, the helper a struct guard_status into the
 * second once the child has ended.  Closing the other end of the status pipe
 * tells the helper to end the child.
 */
#ifndef HOLDFAST_GUARD_GUARD_INTERNAL_H
#define HOLDFAST_GUARD_GUARD_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "guard/guard.h"

#define GUARD_MAX_REQUEST ((size_t)128 * 1024)
#define GUARD_MAX_REPLY ((size_t)64 * 1024)
#define GUARD_MAX_CHILDREN 8

/* The sanitizers reserve terabytes of address space and report on stderr. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GUARD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GUARD_SANITIZED 1
#endif
#endif
#ifndef GUARD_SANITIZED
#define GUARD_SANITIZED 0
#endif

struct guard_job_path {
    char path[PATH_MAX]; /* "" ends them */
    bool writable;
};

struct guard_job {
    uint32_t service; /* its position in the table */
    uint32_t request_len;
    uint32_t cpu_s;
    uint32_t wall_s;
    uint64_t memory_bytes;
    uint64_t file_bytes;
    uid_t run_as_uid;
    gid_t run_as_gid;
    struct guard_job_path paths[GUARD_MAX_PATHS];
};

#define GUARD_JOB_FDS 2 /* the reply pipe, then the status pipe */

/* How a child ended. */
enum guard_end {
    GUARD_END_EXIT = 1, /* by itself: the reply says more */
    GUARD_END_CRASH,    /* detail: the signal, or 0 */
    GUARD_END_MEMORY,
    GUARD_END_CPU,
    GUARD_END_TIME,
    GUARD_END_NO_CHILD /* it never ran; detail: errno */
};

struct guard_status {
    uint32_t end;
    int32_t detail;
};

/* The exit status by which a child says that memory ran out. */
#define GUARD_EXIT_MEMORY 3

#define GUARD_FRAME_MAGIC 0x48464752u
struct guard_frame {
    uint32_t magic;
    uint32_t failed; /* 0: the payload is the reply; 1: a struct err */
    uint32_t len;
};

/*
 * guard_take_reply: what came through the reply pipe of a child that ended by
 * itself: its reply, appended to *reply, or its error.  The child may be
 * hostile: fails with ERR_DAMAGED, reason "crash", for what no child of ours
 * would send.
 */
int guard_take_reply(const void *bytes, size_t len, struct buf *reply,
                     struct err *e);

/* guard_helper_main: the helper's life on its end of the socket. */
_Noreturn void guard_helper_main(int sock, const struct guard_service *services,
                                 size_t n);

/*
 * guard_child_main: in a freshly forked child, take on the limits of `job`,
 * run the service and write its reply to reply_fd.
 */
_Noreturn void guard_child_main(const struct guard_service *service,
                                const struct guard_job *job,
                                const void *request, int reply_fd,
                                pid_t helper);

/*
 * guard_landlock_prepare: a ruleset that allows `paths` and nothing else in
 * *ruleset_fd, or -1 there on a kernel without landlock.  *grow tells whether
 * files may grow without bound (a folder is writable), else *max_file_bytes
 * is the size of the largest writable file.
 */
int guard_landlock_prepare(const struct guard_job_path *paths, int *ruleset_fd,
                           bool *grow, uint64_t *max_file_bytes, struct err *e);

/* guard_landlock_enter: put the ruleset in force for this process. */
int guard_landlock_enter(int ruleset_fd, struct err *e);

/* guard_seccomp_enter: allow this process the listed system calls only; a
 * processor that the list does not know goes without. */
int guard_seccomp_enter(struct err *e);

#endif
