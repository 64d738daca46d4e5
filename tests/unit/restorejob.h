/*
 * One restore into a live database, in steps, for the tests of
 * src/sqlite/restore.h.  The application has it open in slot 0 (dbutil.h).
 */
#ifndef HOLDFAST_TESTS_RESTOREJOB_H
#define HOLDFAST_TESTS_RESTOREJOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/outfile.h"
#include "sqlite/live.h"
#include "sqlite/restore.h"

#define RESTOREJOB_LIVE scratch_path("live.db")
#define RESTOREJOB_BACKUP scratch_path("backup")
#define RESTOREJOB_SAFETY scratch_path("safety")

/* Called from the progress function, before the lock. */
typedef void restorejob_step(int n);

struct restorejob {
    struct live_opts live;
    struct restore_opts opts;
    struct restore_result result;
    struct outfile *out;
    int fd;
    int hash_fd;
    int backup_fd;
    restorejob_step *at;
    int n_steps;
    bool copied; /* the progress of the copy has reached its total */
    /* What `keep` saw and shall do. */
    int n_kept;
    int write_rc; /* what another connection's write gets meanwhile */
    int read_rc;
    bool keep_fails; /* with ERR_NO_SPACE, reason "test" */
    uint64_t raw_bytes;
};

/* restorejob_make: slot `slot` makes a database of n rows and stays open;
 * restorejob_make_backup: one in rollback mode that nobody has open. */
void restorejob_make(int slot, const char *path, int page_size, int auto_vacuum,
                     const char *mode, int n, const char *salt);
void restorejob_make_backup(int page_size, int auto_vacuum, int n,
                            bool free_pages);

void restorejob_init(struct restorejob *j, restorejob_step *at);
void restorejob_fini(struct restorejob *j);

/* restorejob_run, restorejob_expect: restore_run, with success or with this
 * failure. */
void restorejob_run(struct restorejob *j);
void restorejob_expect(struct restorejob *j, enum err_code code,
                       const char *reason);
int restorejob_keep_raw(void *ctx, uint64_t raw_bytes, struct err *e);

/* The live database is the backup now, and whole. */
void restorejob_check_live(const char *backup);
/* The safety copy is the file `before`, but in rollback mode. */
void restorejob_check_safety(const char *before);
/* The live database is what it was, and free of locks. */
void restorejob_check_untouched(const char *before);

/* restorejob_run_and_check: all of a restore while nobody writes. */
void restorejob_run_and_check(struct restorejob *j);

#endif
