/* Shared by the files of the catalog; nobody else includes it. */
#ifndef HOLDFAST_CATALOG_CATALOG_INTERNAL_H
#define HOLDFAST_CATALOG_CATALOG_INTERNAL_H

#include <pthread.h>

#include "catalog/catalog.h"
#include "sqlite/sq.h"

struct catalog {
    pthread_mutex_t lock; /* held by whoever uses db */
    struct sqlite3 *db;
};

/* catalog_damaged: *e for a row that no call here can have written. */
int catalog_damaged(struct err *e);

#endif
