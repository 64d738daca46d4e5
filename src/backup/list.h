/* The cached list of a database's backups; see backup.h for what users see. */
#ifndef HOLDFAST_BACKUP_LIST_H
#define HOLDFAST_BACKUP_LIST_H

#include <stddef.h>

#include "base/err.h"

struct list_box;

struct database;
struct store_entry;

/* list_start: read the folder for start-up, cleaning it (store_clean); what
 * is found is the list from now on, and *out too (the caller's to free). */
int list_start(struct database *db, struct store_entry **out, size_t *n,
               struct err *e);

/* list_forget: the next request reads the folder; with db->lock held. */
void list_forget(struct database *db);

/* list_box_put: give back a reference; accepts NULL. */
void list_box_put(struct list_box *b);

#endif
