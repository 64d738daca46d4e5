/*
 * Backups: create, list, restore, download, delete, verify (contract in
 * docs/design.md).  `db` is a database's name, or NULL for the current one.
 */
#ifndef HOLDFAST_BACKUP_BACKUP_H
#define HOLDFAST_BACKUP_BACKUP_H

#include "backup/databases.h"
#include "backup/service.h"
#include "store/facts.h"

/* What a finished operation hands to `done`; valid during the call. */
struct backup_answer {
    char database[DATABASE_NAME_SIZE];
    struct backup_name name; /* the backup made, restored, deleted, … */
    uint64_t size_bytes;
    int64_t created_at;
    struct backup_name safety; /* restore: "" when there was nothing to
                                  keep */
    const struct facts *facts; /* create and verify: details; else NULL */
    int fd;                    /* fetch: open file; done takes it over */
};

/* e is NULL on success, and then `a` is set. */
typedef void backup_done(void *arg, const struct err *e,
                         const struct backup_answer *a);

struct backup_call {
    backup_done *done;
    void *arg;
    const char *request_id; /* for the log; copied; may be NULL */
    /* Called from the working thread now and then; may be NULL.  Not called
     * any more once `done` is. */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
};

/*
 * backup_create: requests that are already waiting when a copy begins are all
 * answered with that one copy.
 * ERR_NOT_FOUND, ERR_DAMAGED (a suspect copy is kept), ERR_NOT_DATABASE,
 * ERR_ENCRYPTED, ERR_BUSY (reasons "locked", "exclusive", "wal_limit",
 * "queue", "stopping"), ERR_NO_SPACE, ERR_CONFLICT.
 */
void backup_create(struct service *s, const char *db,
                   const struct backup_call *call);

/* backup_restore: `force` allows another text encoding.  See restore.c. */
void backup_restore(struct service *s, const char *db, const char *filename,
                    bool force, const struct backup_call *call);

void backup_delete(struct service *s, const char *db, const char *filename,
                   const struct backup_call *call);

/* backup_verify: read back, compare the digest, integrity_check; the result
 * is kept with the backup and is in answer->facts.  A backup that proves
 * damaged becomes suspect, which is an answer, not an error. */
void backup_verify(struct service *s, const char *db, const char *filename,
                   const struct backup_call *call);

/*
 * backup_fetch: open a backup for reading; answer has fd, size and facts
 * (with sha256).  A suspect one only if asked for (ERR_INVALID otherwise).
 */
void backup_fetch(struct service *s, const char *db, const char *filename,
                  bool suspect, const struct backup_call *call);

/* backup_details: the facts of one backup, suspects included; the caller
 * calls facts_fini. */
int backup_details(struct service *s, const char *db, const char *filename,
                   struct facts *out, struct err *e);

/* An immutable list of the good backups, newest first. */
struct backup_item {
    struct backup_name name;
    uint64_t size_bytes;
    int64_t created_at;
};
struct backup_list {
    uint64_t generation; /* differs from that of any other list */
    size_t n;
    struct backup_item item[];
};

/* backup_list_get: costs one stat while nothing has changed; give it back
 * with backup_list_put. */
int backup_list_get(struct service *s, const char *db,
                    const struct backup_list **out, struct err *e);
void backup_list_put(const struct backup_list *l);

/*
 * backup_details_list: details, newest first, suspects included, at most
 * `limit` (1 to 1000), only those older than `before` if it is not NULL.  The
 * array is the caller's: facts_fini on each and free.
 */
int backup_details_list(struct service *s, const char *db, size_t limit,
                        const struct backup_name *before, struct facts **out,
                        size_t *n, struct err *e);

#endif
