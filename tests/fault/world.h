/*
 * The world of one attempt: a folder with a small data directory in a known
 * state, and the one function that says whether the promises hold in it.
 *
 * The live database holds state A, the older backup state B: accounts that all
 * bear one generation and have 1,000 each on average, so that a mixture or a
 * loss cannot go unseen.  A digest names a state exactly.
 */
#ifndef HOLDFAST_TESTS_WORLD_H
#define HOLDFAST_TESTS_WORLD_H

#include <stdbool.h>
#include <stddef.h>

#include "backup/backup.h"
#include "base/err.h"

enum action {
    DO_CREATE,
    DO_RESTORE,
    DO_DELETE,
    DO_VERIFY,
    DO_LIST,
    DO_START,
    DO_ADD,
    DO_ADD_PATH,
    DO_REMOVE,
    DO_CHOOSE
};

/* What the prepared folder is like. */
enum {
    WITH_WAL = 1,          /* the live database is in WAL mode, its WAL full */
    WITH_SIZE = 2,         /* the backup has another page size */
    WITHOUT_LIVE = 4,      /* the live file is missing */
    WITH_EMPTY_LIVE = 8,   /* it has 0 bytes */
    WITH_BAD_LIVE = 16,    /* it cannot be read */
    WITH_BAD_BACKUP = 32,  /* the older backup has lost a bit */
    WITH_LEFTOVERS = 64,   /* what crashes leave, of each kind */
    WITH_EXTRA = 128,      /* a second managed database, "extra" */
    WITHOUT_ALL = 256,     /* no data directory at all */
    WITH_SHRINK = 512,     /* the backup is the smaller one */
    WITH_BAD_HEADER = 1024 /* with a bad live file: not even page 1 */
};

struct scenario {
    const char *name;
    enum action action;
    unsigned with;
    bool variant; /* of one that is swept whole in every run */
};

#define DIGEST 80
#define MAX_KNOWN 4

struct known {
    char name[BACKUP_NAME_LEN + 1];
    char digest[DIGEST];
};

struct world {
    char live[DIGEST];  /* state A, or "missing", "empty", "broken" */
    char extra[DIGEST]; /* of the second database */
    struct known backup[MAX_KNOWN]; /* [0]: state B, the one acted upon */
    size_t n_backups;
    char raw[DIGEST]; /* of a live file that cannot be read: its bytes */
};

/* How an action ended. */
struct result {
    int answered; /* the caller was told, of success or of *e */
    bool failed;
    struct err e;
    struct backup_name name; /* create */
    struct backup_name safety;
};

/* world_make: prepare the folder `root`; in a process of its own. */
void world_make(const struct scenario *sc, const char *root, struct world *w);

/* world_check: start on what is there, and see whether the promises hold;
 * in a process of its own.  `died`: the process that acted did not live on
 * to take its answer back. */
void world_check(const struct scenario *sc, const struct world *w,
                 const char *root, const struct result *r, bool died);

/* world_digest: the state of a database file; never fails. */
void world_digest(const char *path, bool readonly, char out[DIGEST]);

/* world_open: the helper and the service, on root/data. */
int world_open(const char *root, struct service **out, struct err *e);
void world_close(struct service *s);
void world_start_helper(void);
void world_stop_helper(void);

/* world_act: do it, and wait for its end.  `s` is NULL for DO_START. */
void world_act(const struct scenario *sc, const struct world *w,
               const char *root, struct service *s, struct result *r);

/* world_leftovers: report each temporary file below a folder. */
void world_leftovers(const char *folder);

/* complain: a promise is broken. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
