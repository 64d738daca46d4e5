/* Shared by the files of the store; nobody else includes it. */
#ifndef HOLDFAST_STORE_STORE_INTERNAL_H
#define HOLDFAST_STORE_STORE_INTERNAL_H

#include <pthread.h>

#include "store/store.h"

/* Facts are small; a pending file has 33 bytes per MiB of the copy. */
#define MAX_FACTS_BYTES ((size_t)64 << 10)
#define MAX_PENDING_BYTES ((size_t)256 << 20)

struct store {
    int data_dir;
    int tmp_dir;
    char *data_path;
    char *name;
    pthread_mutex_t lock;
    int dir;     /* DATA/backups/NAME, or -1 */
    int suspect; /* its suspect/, or -1 */
};

/*
 * store_dir: the folder (or its suspect/), opened, and with `make` made if it
 * is not there; -1 with ERR_NOT_FOUND when it is not.
 */
int store_dir(struct store *st, bool suspect, bool make, struct err *e);

struct stat;

/*
 * store_owns: whether the file is a backup's and not a second name of a file
 * of somebody else's, put into the folder so that we read or give it out.
 */
bool store_owns(int dir, const struct stat *file);

/* store_sibling: NAME.db with another ending, such as ".json". */
#define SIBLING_SIZE 40
void store_sibling(const struct backup_name *name, const char *ending,
                   char out[SIBLING_SIZE]);

/*
 * What a file in a folder of backups is, by its name; *t is its second.  Name
 * and second are one to one, so that a second stands for a name below.
 */
enum file_kind { KIND_OTHER, KIND_BACKUP, KIND_FACTS, KIND_PENDING };
enum file_kind store_kind(const char *file, int64_t *t);

/* A set of seconds.  {0} is an empty one; sort before asking. */
struct seconds {
    int64_t *t;
    size_t n;
    size_t cap;
};
void seconds_add(struct seconds *s, int64_t t);
void seconds_sort(struct seconds *s);
bool seconds_has(const struct seconds *s, int64_t t);
void seconds_fini(struct seconds *s);

/* store_is_leftover: a file of ours that only a crash can leave: ".stage-…"
 * and ".app_….tmp". */
bool store_is_leftover(const char *file);

/* store_remove_orphans: the files of ours beside backups that are not there;
 * true if any was removed, which is not synced yet. */
bool store_remove_orphans(int dir, const struct seconds *beside,
                          const char *ending, const struct seconds *backups);

#endif
