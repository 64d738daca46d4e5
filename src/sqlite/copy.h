/*
 * Copying a live database, page for page, into a private file (P1).
 *
 * WAL mode: one pinned read transaction, held until all pages are read;
 * writers and readers go on.  Rollback mode: short read transactions with
 * room for writers between them; if anything was committed meanwhile, the
 * pages are read once more under one lock and compared by hash with what was
 * copied, and those that differ are patched, so that writers wait only for
 * that comparison.
 *
 * In the copy the header's journal-mode bytes say rollback, so that it opens
 * anywhere; nothing else is changed.
 */
#ifndef HOLDFAST_SQLITE_COPY_H
#define HOLDFAST_SQLITE_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/outfile.h"
#include "crypto/pagehash.h"
#include "crypto/sha256.h"
#include "sqlite/live.h"
#include "sqlite/snapshot.h"

struct copy_opts {
    const struct live_opts *live;
    struct outfile *out; /* where the copy goes */
    int hash_fd;         /* an empty temporary file for the hashes of pages */
    /*
     * A backup to compare with while copying (a restore); -1: none.  Then
     * copy->differs says which pages of it differ from the live ones, and
     * copy->chunk_sums has a checksum of every chunk of the copy.
     */
    int backup_fd;
    uint64_t backup_pages;
    uint32_t backup_page_size;
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_arg;
    /* Called once, in the pinned transaction, before its pages are read (WAL
     * mode only): a check of the very same snapshot can start beside it. */
    void (*pinned)(void *arg, const struct snapshot *s);
    void *pinned_arg;
};

struct copy {
    const struct copy_opts *opts; /* borrowed */
    uint32_t page_size;
    uint64_t n_pages;
    bool wal;
    bool sha_known; /* false once a place has been patched */
    char sha256[SHA256_HEX_SIZE];
    uint64_t n_patched;
    uint8_t *differs;       /* bitmap by page number; max_pages + 1 bits */
    uint64_t max_pages;     /* how many pages `differs` has room for */
    char (*chunk_sums)[33]; /* hex, "" where a chunk was patched */
    uint64_t n_chunks;
    /* inner */
    struct pagehash_key key;
    struct sha256 *sha;
    int64_t data_version;
    uint64_t hashed_pages;
};

/*
 * copy_live: copy the database to o->out and finish it (synced, right
 * length).  db is a connection of live_connect.  A file of 0 bytes gives a
 * copy with 0 pages.  On failure the out file holds rubbish.
 * ERR_BUSY, ERR_DAMAGED, ERR_NOT_DATABASE, ERR_NO_SPACE, ERR_IO.
 */
int copy_live(struct copy *c, struct sqlite3 *db, const struct copy_opts *o,
              struct err *e);

/*
 * For a restore: copy without the comparison at the end, so that it can be
 * made under the write lock.  In WAL mode the read transaction stays open in
 * *pinned until the caller ends it.
 */
int copy_ahead(struct copy *c, struct sqlite3 *db, const struct copy_opts *o,
               struct snapshot *pinned, struct err *e);

/* copy_catch_up_wal: patch what was committed between *then and *now. */
int copy_catch_up_wal(struct copy *c, struct snapshot *now,
                      const struct snapshot *then, struct err *e);

/* copy_catch_up_hash: the same by comparing the hashes of all pages. */
int copy_catch_up_hash(struct copy *c, struct snapshot *now, struct err *e);

void copy_fini(struct copy *c);

#endif
