/*
 * A pinned read transaction on a live database (see live.h) and its pages.
 *
 * Pages come in big sequential reads of the main file through SQLite's own
 * handle; every page that stands in the WAL is then laid over it by asking
 * SQLite's pager within the same transaction.  So the bytes are those of one
 * committed state (P1), whatever writers and checkpoints do meanwhile.
 */
#ifndef HOLDFAST_SQLITE_SNAPSHOT_H
#define HOLDFAST_SQLITE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sqlite/live.h"

struct sqlite3_stmt;

#define SNAPSHOT_ID_SIZE 48

/* The caller's storage; start from zeroes. */
struct snapshot {
    struct sqlite3 *db; /* borrowed */
    const struct live_opts *opts;
    uint32_t page_size;
    uint64_t n_pages; /* 0 for a file of 0 bytes */
    bool wal;
    bool has_id;                  /* the WAL has frames; id is valid */
    uint8_t id[SNAPSHOT_ID_SIZE]; /* sqlite3_snapshot, for src/sqlite/check.h */
    uint32_t n_frames;            /* frames of the WAL in this snapshot */
    uint8_t salt[8];              /* of the WAL, as its frames bear them */
    int64_t data_version;         /* changes with any commit of another
                                     connection; compare on one connection */
    uint8_t *in_wal;              /* bitmap by page number, or NULL */
    struct sqlite3_stmt *page;
    bool joined;
};

/*
 * snapshot_begin: begin the transaction on db ("live").  Retries while BUSY
 * up to the busy timeout.  ERR_BUSY, ERR_DAMAGED, ERR_NOT_DATABASE, ERR_IO.
 */
int snapshot_begin(struct snapshot *s, struct sqlite3 *db,
                   const struct live_opts *opts, struct err *e);

/*
 * snapshot_join: the same within a transaction that db has already begun;
 * snapshot_end then leaves that transaction open.  Rollback mode only (within
 * a write transaction SQLite does not tell where the WAL stands).
 */
int snapshot_join(struct snapshot *s, struct sqlite3 *db,
                  const struct live_opts *opts, struct err *e);

/* snapshot_read: pages first … first+n-1 (from 1) into buf. */
int snapshot_read(struct snapshot *s, uint64_t first, size_t n, void *buf,
                  struct err *e);

/* snapshot_page: one page through the pager; valid until the next call. */
const void *snapshot_page(struct snapshot *s, uint64_t pgno, struct err *e);

/* snapshot_check_wal: ERR_BUSY (reason "wal_limit") when the WAL, which
 * cannot be reset while we read, has grown past the limit. */
int snapshot_check_wal(const struct snapshot *s, struct err *e);

/*
 * snapshot_check_whole: ERR_DAMAGED unless the file, with its WAL, has every
 * page of the snapshot whole.  SQLite itself takes what is missing of the
 * last page for zeroes.
 */
int snapshot_check_whole(const struct snapshot *s, struct err *e);

/*
 * snapshot_changed_since: mark in *map (n_pages of `now` + 1 bits, zeroed)
 * every page that may differ from `then`, an older snapshot of the same file
 * whose transaction is still open.  Both in WAL mode.
 */
int snapshot_changed_since(const struct snapshot *now,
                           const struct snapshot *then, uint8_t *map,
                           struct err *e);

/* snapshot_end: end the transaction; harmless when none is open. */
void snapshot_end(struct snapshot *s);

/* Bitmaps by page number. */
static inline bool bit_get(const uint8_t *map, uint64_t i)
{
    return (map[i >> 3] >> (i & 7) & 1) != 0;
}

static inline void bit_set(uint8_t *map, uint64_t i)
{
    map[i >> 3] = (uint8_t)(map[i >> 3] | 1U << (i & 7));
}

static inline void bit_clear(uint8_t *map, uint64_t i)
{
    map[i >> 3] = (uint8_t)(map[i >> 3] & ~(1U << (i & 7)));
}

/* put_be32: the numbers in a database header are big-endian. */
static inline void put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

/* lock_page: the page that SQLite never uses (file format, 1.3.16). */
static inline uint64_t lock_page(uint32_t page_size)
{
    return 0x40000000 / page_size + 1;
}

#endif
