/*
 * Where the backups of one database live: plain files.
 *
 *   DATA/backups/NAME/app_YYYYMMDD_HHMMSS.db       a backup
 *   DATA/backups/NAME/app_YYYYMMDD_HHMMSS.json     its facts
 *   DATA/backups/NAME/app_YYYYMMDD_HHMMSS.pending  a safety copy that is
 *                                  durable but not yet proven (see below)
 *   DATA/backups/NAME/suspect/app_….db, .json      copies set aside
 *   DATA/tmp/…                                     work in progress
 *
 * A backup is published in this order: the file is synced, its facts are
 * written and synced, the file is renamed without replacing anything, both
 * folders are synced (P2).  So a .db with facts is a whole backup; a .json
 * without a .db is what a crash left, and start-up removes it.
 *
 * A safety copy must be durable before the first page of a restore is
 * written, at a moment when writers wait: it is published with a .pending
 * file (its facts so far, and checksums) instead of a .json; store_settle
 * completes it afterwards, or at the next start.
 *
 * A .db with neither is adopted: somebody put it there.  Its header and
 * length say whether it is listed.  Other files are left alone.
 */
#ifndef HOLDFAST_STORE_STORE_H
#define HOLDFAST_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/facts.h"

struct store;

/*
 * store_new: the backups of database `name` below the data directory
 * (descriptors borrowed; data_path is kept for the paths that limited children
 * are given).  Nothing is opened or made until it is needed.
 */
struct store *store_new(int data_dir, int tmp_dir, const char *data_path,
                        const char *name);
void store_free(struct store *st); /* accepts NULL */

/* ---- listing ---- */

struct store_entry {
    struct backup_name name;
    int64_t created_at;
    uint64_t size_bytes;
    int64_t mtime_ns;
    bool has_facts; /* else adopted */
    bool pending;   /* a safety copy to be settled: not a backup yet */
    bool suspect;
    bool whole; /* adopted: the header is a database's and the length is
                   what it says */
};

/*
 * store_scan: all .db files of the pattern with a real date, newest first;
 * those set aside too if asked for.  The array is the caller's.
 */
int store_scan(struct store *st, bool suspects, struct store_entry **out,
               size_t *n, struct err *e);

/*
 * store_clean: store_scan of everything for start-up, which removes what a
 * crash left behind: facts without a backup and staged files.
 */
int store_clean(struct store *st, struct store_entry **out, size_t *n,
                struct err *e);

/* store_find: the entry of one name, the good one first; ERR_NOT_FOUND. */
int store_find(struct store *st, const struct backup_name *name,
               struct store_entry *out, struct err *e);

/*
 * store_explain: what keeps an adopted file from being whole: ERR_DAMAGED,
 * ERR_NOT_DATABASE or ERR_ENCRYPTED, and the message says how.  0 where it
 * has become whole; ERR_NOT_FOUND where it has gone.
 */
int store_explain(struct store *st, const struct backup_name *name,
                  struct err *e);

/* store_stamp: changes whenever files come or go; false if there is no
 * folder.  `settled` is false while the stamp is too fresh to be trusted. */
struct store_stamp {
    int64_t mtime_ns;
    uint64_t ino;
};
bool store_stamp(struct store *st, struct store_stamp *out, bool *settled);

/* store_has: whether anything bears the name (.db, .json, .pending, suspect);
 * fails where that cannot be known. */
int store_has(struct store *st, const struct backup_name *name, bool *has,
              struct err *e);

/* ---- reading ---- */

/* store_open: a descriptor for reading; ERR_NOT_FOUND. */
int store_open(struct store *st, const struct backup_name *name, bool suspect,
               struct err *e);

/* store_path: the absolute path, new. */
char *store_path(const struct store *st, const struct backup_name *name,
                 bool suspect);

/* store_get_facts: ERR_NOT_FOUND where there are none (adopted); ERR_DAMAGED,
 * whose message goes on from "backup … is damaged:". */
int store_get_facts(struct store *st, const struct backup_name *name,
                    bool suspect, struct facts *out, struct err *e);

/* store_put_facts: replace them durably. */
int store_put_facts(struct store *st, const struct facts *f, struct err *e);

/* ---- a new copy ---- */

struct stage; /* a file being written, and a scratch file for hashes */

/* store_stage: in DATA/tmp, or beside the target where DATA/tmp is on another
 * mount.  stage_free removes what was not published. */
int store_stage(struct store *st, struct stage **out, struct err *e);

/* store_free_bytes: how much may be written where store_stage would put a
 * copy; nothing is made for the asking. */
int store_free_bytes(struct store *st, uint64_t *free_bytes, struct err *e);
int stage_fd(const struct stage *g);
int stage_hash_fd(const struct stage *g); /* unlinked, empty */
const char *stage_path(const struct stage *g);
void stage_free(struct stage *g); /* accepts NULL */

/* store_publish: the staged file, already synced, becomes a backup (or, by
 * f->state, a suspect copy) with these facts, durably. */
int store_publish(struct store *st, struct stage *g, const struct facts *f,
                  struct err *e);

/* store_keep: the staged file, already synced, becomes a pending safety copy,
 * durably.  `sums` has one checksum per MiB (checksum128, "" for unknown). */
int store_keep(struct store *st, struct stage *g, const struct facts *f,
               const char (*sums)[33], size_t n_sums, struct err *e);

/*
 * store_settle_read: the facts and checksums of a pending copy; *sums is the
 * caller's.  store_settle: give it its facts (state suspect sets it aside)
 * and remove the .pending.
 */
int store_settle_read(struct store *st, const struct backup_name *name,
                      struct facts *f, char (**sums)[33], size_t *n_sums,
                      struct err *e);
int store_settle(struct store *st, const struct facts *f, struct err *e);

/* ---- removing ---- */

/* store_delete: when it returns 0 the backup is gone, also after a power cut;
 * open descriptors stay readable.  ERR_NOT_FOUND. */
int store_delete(struct store *st, const struct backup_name *name, bool suspect,
                 struct err *e);

/* store_set_aside: move a backup that proved damaged to suspect/, its facts
 * (with state suspect) beside it; then trims the suspects. */
int store_set_aside(struct store *st, const struct facts *f, struct err *e);

/* store_trim_suspects: keep the newest two, and those of which only the facts
 * are damaged (they have no SHA-256): their bytes may be good. */
int store_trim_suspects(struct store *st, struct err *e);

#endif
