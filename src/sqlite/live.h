/*
 * A live database: a file that an application has, or may have, open.
 *
 * It is only ever opened through SQLite (docs/design.md, "Locks"), attached
 * as "live" to an empty in-memory main database, without checkpoints, memory
 * mapping or schema errors: its pages are what matters here, not its schema.
 */
#ifndef HOLDFAST_SQLITE_LIVE_H
#define HOLDFAST_SQLITE_LIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct sqlite3;

struct live_opts {
    const char *path;  /* absolute, without symlinks */
    const char *label; /* what messages call it: the database's name */
    unsigned busy_timeout_ms;
    uint64_t wal_limit_bytes;
    bool allow_network_fs;
    const bool
        *cancel; /* atomic; true gives up with ERR_BUSY "stopping"; or NULL */
};

/* What the file system says, without opening anything. */
struct live_file {
    bool exists;
    uint64_t size_bytes;
    int64_t mtime_s;
    uid_t uid;
    gid_t gid;
    dev_t dev;
    ino_t ino;
    bool wal_file; /* a -wal with something in it stands beside it */
    uint64_t wal_bytes;
    bool journal_file; /* so does a -journal */
};

/*
 * live_stat: examine the path.  A missing file is success with exists false.
 * ERR_CONFLICT for what is not a regular file or has several names (hard
 * links: SQLite would not find the same -wal from each), lies on a network
 * filesystem (unless allowed), or belongs to another user whose -wal we would
 * take over; the message says what mends it.
 */
int live_stat(const struct live_opts *o, struct live_file *out, struct err *e);

/*
 * live_connect: a connection with the database attached as "live".  It must
 * exist.  Close it with live_disconnect, which leaves no -wal or -shm behind
 * that was not there, and never runs a checkpoint on content.
 */
int live_connect(const struct live_opts *o, struct sqlite3 **out,
                 struct err *e);
void live_disconnect(struct sqlite3 *db); /* accepts NULL */

/* live_cancelled: whether o->cancel is set. */
bool live_cancelled(const struct live_opts *o);

/*
 * live_retry: for a loop around a call that may be BUSY: sleeps a little and
 * returns 0, or -1 with ERR_BUSY (reason "locked" or "exclusive") past the
 * deadline, or ERR_BUSY (reason "stopping").  *e is what the call failed with:
 * a BUSY that has a reason already (no descriptors) is none to wait for.
 */
struct live_wait {
    int64_t deadline_ms;
    unsigned pause_ms;
    bool reading; /* a read lock is wanted, not the write lock */
};
void live_wait_start(const struct live_opts *o, bool reading,
                     struct live_wait *w);
int live_retry(const struct live_opts *o, struct live_wait *w, struct err *e);

#endif
