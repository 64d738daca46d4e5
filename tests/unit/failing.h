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

#endif
