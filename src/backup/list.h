/* The cached list of a database's backups; see backup.h for what users see. */
#ifndef HOLDFAST_BACKUP_LIST_H
#define HOLDFAST_BACKUP_LIST_H

struct list_box;

struct database;

/* list_forget: the next request reads the folder; with db->lock held. */
void list_forget(struct database *db);

/* list_box_put: give back a reference; accepts NULL. */
void list_box_put(struct list_box *b);

#endif
