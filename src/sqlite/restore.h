/*
 * The restore transaction: a live database gets the pages of a backup, in one
 * transaction of SQLite's own, while applications have it open (P3, P4).
 *
 *  1. Before the lock, copy the live pages into the safety file, noting per
 *     page whether it differs from the backup.
 *  2. Take the write lock.  Bring the safety file up to date with what was
 *     committed meanwhile: from the WAL's frames, or by comparing hashes.
 *  3. Sync and publish it (`keep`).  Only now is the live file touched.
 *  4. Write the pages that differ, page 1 last, cut to length, commit.
 *
 * On any error before the commit everything is rolled back: the live database
 * is as it was.
 */
#ifndef HOLDFAST_SQLITE_RESTORE_H
#define HOLDFAST_SQLITE_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "sqlite/copy.h"
#include "sqlite/live.h"

struct restore_opts {
    const struct live_opts *live;
    int backup_fd; /* a checked backup, in rollback mode (bytes 18, 19 = 1) */
    uint32_t backup_page_size;
    uint64_t backup_pages;
    struct outfile *safety; /* where the state before goes */
    int hash_fd;            /* an empty temporary file */
    unsigned max_stall_ms;  /* 0: no limit */
    /*
     * keep: make the safety file, now complete and synced, a backup that
     * survives a power cut; called with the write lock held.  When it fails
     * nothing is restored.
     */
    int (*keep)(void *ctx, const struct copy *c, struct err *e);
    /*
     * confirm: all pages of the backup have been read and written; before the
     * commit say whether they were still those that had been checked.  When
     * it fails nothing is restored.  May be NULL.
     */
    int (*confirm)(void *ctx, struct err *e);
    void *ctx;
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_arg;
};

struct restore_result {
    bool wal;
    uint64_t n_written; /* pages */
    uint64_t n_patched; /* pages of the safety file, under the lock */
    int64_t locked_ms;  /* how long the write lock was held */
    bool in_doubt;      /* the commit failed where it may have reached the
                           disk: a crash may yet bring it about, so that what
                           was kept is needed */
};

/*
 * restore_run: fails with ERR_BUSY (reasons "locked", "exclusive",
 * "wal_limit", "max_stall", "stopping"), ERR_CONFLICT (reason "page_size":
 * convert the backup first; "read_only"), ERR_NO_SPACE, ERR_DAMAGED and
 * ERR_NOT_DATABASE (the live database cannot be read), ERR_IO.
 *
 * A live file of 0 bytes has nothing to keep: `keep` is not called.
 */
int restore_run(const struct restore_opts *o, struct restore_result *r,
                struct err *e);

/*
 * restore_over_damage: for a live file that SQLite cannot read at all, and
 * that has no -wal: with the exclusive lock its content, whatever it is, is
 * copied raw into the safety file (*raw_bytes of it) and `keep`t, then
 * replaced on the same inode.
 */
int restore_over_damage(const struct restore_opts *o,
                        int (*keep_raw)(void *ctx, uint64_t raw_bytes,
                                        struct err *e),
                        struct restore_result *r, struct err *e);

/*
 * restore_damaged_page_size: the page size that such a file takes from the
 * backup, or keeps where its header still names one: to that the backup must
 * be converted first.
 */
int restore_damaged_page_size(const struct restore_opts *o, uint32_t *page_size,
                              struct err *e);

#endif
