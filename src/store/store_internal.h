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

/* store_sibling: NAME.db with another ending, such as ".json". */
#define SIBLING_SIZE 40
void store_sibling(const struct backup_name *name, const char *ending,
                   char out[SIBLING_SIZE]);

#endif
