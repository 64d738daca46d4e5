/*
 * Checking a database file.  The work runs in a limited child (src/guard),
 * because the file may be hostile: defensive, untrusted schema, cell sizes
 * checked, no extensions, a hard heap limit of 96 MiB, and time limits that
 * grow with the size (5 s of processor time, and 1 s more per 20 MiB for a
 * quick check or per 5 MiB for a deep one; four times that and 30 s by the
 * clock).
 *
 * What SQLite's quick_check or integrity_check objects to is damage, CHECK
 * constraints included: a copy that passes is one that any SQLite finds "ok".
 * Parts of a schema that need the application's own functions, collations or
 * modules are checked structurally and reported as not checked, never as
 * damage.
 */
#ifndef HOLDFAST_SQLITE_CHECK_H
#define HOLDFAST_SQLITE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "guard/guard.h"

enum check_result {
    CHECK_OK,         /* all that was looked at is right */
    CHECK_DAMAGED,    /* see problem */
    CHECK_NOT_PROVEN, /* a limit was hit first; see problem */
    CHECK_MOVED_ON    /* the live database is no longer at that snapshot */
};

struct check_opts {
    const char *path;     /* absolute */
    bool live;            /* a database in use: opened through SQLite with its
                             locks; else a private file, which nobody changes
                             and beside which nothing is looked at */
    const void *snapshot; /* live, WAL: the 48 bytes of sqlite3_snapshot to
                             check, or NULL when its WAL had no frames */
    bool wal;             /* live: it was in WAL mode */
    bool deep;            /* integrity_check instead of quick_check */
    uint64_t size_bytes;  /* scales the time limits */
    const bool *cancel;   /* as in struct guard_call; may be NULL */
};

struct check_report {
    enum check_result result;
    char problem[512];   /* the first finding, for a person: what and where
                            (page, table); "" if ok */
    unsigned n_problems; /* at least this many */
    char *not_checked;   /* NULL, or a text such as "function f, collation c,
                            CHECK constraints of table t, rows of table u,
                            module m" (UTF-8, below 4 KiB) */
};

/*
 * check_run: check a file and fill *report, which check_report_fini empties.
 * Returns -1 only when the check itself could not run (ERR_NOT_FOUND,
 * ERR_BUSY, ERR_CANCELLED, ERR_IO, ERR_INTERNAL), or with ERR_NOT_DATABASE or
 * ERR_ENCRYPTED when the file is no SQLite database or looks like an encrypted
 * one; damage is a report.  So are a limit that was reached and a crash of the
 * checker: CHECK_NOT_PROVEN.
 *
 * A private file must have at least one page, whole pages, and as many as its
 * header says; a live one of 0 bytes is an empty database.
 *
 * For a live database the caller keeps a read transaction open meanwhile: it
 * is what keeps the snapshot from being overwritten, and the -wal and -shm
 * from having to be made or removed.  The child waits up to 5 s for a lock;
 * in rollback mode it needs a shared lock, which it does not get while a
 * writer is waiting for readers to finish (ERR_BUSY).
 */
int check_run(struct guard *g, const struct check_opts *opts,
              struct check_report *report, struct err *e);

void check_report_fini(struct check_report *r);

/*
 * What the first 100 bytes of a database file say (SQLite file format, 1.3).
 * Pure: no file is opened.
 */
struct db_header {
    uint32_t page_size;
    uint32_t n_pages; /* in the header; 0 if it does not say */
    bool wal;         /* bytes 18 and 19 are 2 */
    uint32_t change_counter;
    uint32_t version_valid_for;
    uint32_t schema_cookie;
    uint32_t encoding; /* 1 UTF-8, 2 UTF-16le, 3 UTF-16be, 0 unset */
    uint32_t user_version;
    uint32_t application_id;
    uint32_t auto_vacuum; /* 0 none, 1 full, 2 incremental */
};

/*
 * db_header_parse: fails with ERR_NOT_DATABASE for another magic,
 * ERR_ENCRYPTED where the bytes look random (SQLCipher), ERR_DAMAGED where
 * they are all zero, or for a right magic with impossible values (page size,
 * payload fractions, formats, encoding).
 */
int db_header_parse(const uint8_t bytes[100], struct db_header *h,
                    struct err *e);

/* The services of the limited child, for guard_start. */
extern const struct guard_service check_service;

/*
 * convert_run: write to `to` (must not exist) a copy of the private database
 * file `from` with another page size, by VACUUM INTO in a limited child.
 * Fails with ERR_CONFLICT (reason "schema") where copying needs the
 * application's own functions or collations (such as an index with such a
 * collation; a CHECK constraint does not), ERR_CONFLICT (reason "exists"),
 * ERR_DAMAGED, ERR_LIMIT, ERR_NO_SPACE; then nothing is left at `to`.  The
 * copy is neither synced nor checked.
 */
int convert_run(struct guard *g, const char *from, const char *to,
                uint32_t page_size, uint64_t size_bytes, struct err *e);

extern const struct guard_service convert_service;

#endif
