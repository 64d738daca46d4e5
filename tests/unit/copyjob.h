/*
 * One copy of a live database, in steps, for the tests of src/sqlite/copy.h.
 * The application has the database open in slot 0 (see dbutil.h).
 */
#ifndef HOLDFAST_TESTS_COPYJOB_H
#define HOLDFAST_TESTS_COPYJOB_H

#include <stdint.h>

#include "base/err.h"
#include "base/outfile.h"
#include "sqlite/copy.h"
#include "sqlite/live.h"

#define COPYJOB_LIVE scratch_path("live.db")

/* Called from the progress function: the n-th chunk (from 1) is copied. */
typedef void copyjob_step(int n);

struct copyjob {
    struct live_opts live;
    struct copy_opts opts;
    struct outfile *out; /* the file "out" */
    struct sqlite3 *db;
    int fd;
    int hash_fd;
    copyjob_step *at;
    int n_steps;
    int n_pinned;
    uint64_t done_bytes;
    uint64_t total_bytes;
    struct copy copy;
};

/* copyjob_make_live: two tables and an index with 2 * n rows; there are free
 * pages.  copyjob_rows: what n makes a little more than so many chunks. */
void copyjob_make_live(int page_size, int auto_vacuum, const char *mode, int n);
int copyjob_rows(int chunks);

void copyjob_init(struct copyjob *j, const char *path, copyjob_step *at);
void copyjob_connect(struct copyjob *j);
void copyjob_fini(struct copyjob *j);

/* copyjob_run: connect and copy_live. */
int copyjob_run(struct copyjob *j, struct err *e);

/* copyjob_expect: run, with this failure, and fini. */
void copyjob_expect(struct copyjob *j, enum err_code code, const char *reason);

/* copyjob_check: the file that came out is the one at `image`, to the byte,
 * says rollback mode, and has the SHA-256 that was told. */
void copyjob_check(const struct copyjob *j, const char *image);

/* copyjob_run_and_check: all of a copy of the live database, which must be
 * `image`, taken before. */
void copyjob_run_and_check(struct copyjob *j, copyjob_step *at,
                           const char *image);

/* Steps: commit; commit, with a WAL that begins anew. */
void copyjob_commit(int n);
void copyjob_commit_and_restart(int n);

#endif
