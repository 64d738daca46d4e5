/*
 * Calls that fail when a test wants it: those of the system and of SQLite, the
 * catalog's, a queue's, and a limited child's, which here runs in the process
 * of the test.  It works in programs that are linked with failing.wrap (see
 * the Makefile); in others nothing ever fails.
 *
 * All calls of the process are counted from failing_arm on, in all threads.
 */
#ifndef HOLDFAST_TESTS_FAILING_H
#define HOLDFAST_TESTS_FAILING_H

#include <stdbool.h>

enum failing_how {
    FAIL_IO,      /* EIO, SQLITE_IOERR, ERR_INTERNAL of a child */
    FAIL_FULL,    /* ENOSPC, SQLITE_NOMEM, ERR_LIMIT of a child */
    FAIL_BUSY,    /* EACCES, SQLITE_BUSY, ERR_ENCRYPTED of a child */
    FAIL_DAMAGED, /* ENOENT, SQLITE_CORRUPT, ERR_DAMAGED of a child */
    FAIL_FOREIGN, /* EEXIST, SQLITE_NOTADB, ERR_NOT_DATABASE of a child */
    FAIL_ODDLY,   /* EMFILE, SQLITE_ERROR, ERR_BUSY of a child */
    FAIL_QUOTA,   /* EDQUOT, SQLITE_FULL, ERR_NO_SPACE of a child */
    FAIL_INVALID, /* EINVAL, SQLITE_CONSTRAINT, ERR_IO of a child */
    FAIL_BRIEFLY, /* reads and writes are interrupted, or short; nothing else */
    FAIL_HOWS
};

/* failing_arm: the n-th call from now on fails, and all that follow if
 * `for_good`. */
void failing_arm(unsigned n, enum failing_how how, bool for_good);

/* failing_shallow: leave out the calls of the system that SQLite makes, and
 * let those of ours fail with EIO and ENOSPC only. */
void failing_shallow(bool on);

/* failing_real_children: whether limited children are such, as they are in
 * programs where nothing fails. */
void failing_real_children(bool on);

/* failing_disarm: from now on nothing fails; whether anything did. */
bool failing_disarm(void);

/* failing_what: the first call that failed, "" if none did. */
const char *failing_what(void);

/* failing_before: before our code executes `sql` for the n-th time from now
 * on, f is called (once). */
void failing_before(const char *sql, unsigned n, void (*f)(void));

/* failing_hold_child: what the next limited child does waits until it is
 * cancelled. */
void failing_hold_child(void);

/*
 * failing_trace: from now on note what makes files durable or gone, each as
 * "sync NAME; ", "rename FROM TO; " or "unlink NAME; ", with what is random or
 * a date left out of names; failing_traced: what was noted.  The catalog's
 * files are left out.
 */
void failing_trace(void);
const char *failing_traced(void);

/* What the system says about a file, for tests that cannot have it so. */
enum failing_pretence {
    PRETEND_NOTHING,
    PRETEND_FULL,      /* no byte is free */
    PRETEND_READ_ONLY, /* the filesystem is mounted so */
    PRETEND_NETWORK,   /* it is NFS */
    PRETEND_USER       /* we are not root */
};
void failing_pretend(enum failing_pretence what);

#endif
