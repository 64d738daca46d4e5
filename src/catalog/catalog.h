/*
 * The catalog, DATA/holdfast.db: which databases are registered, which is the
 * current one, and what was found out about adopted backups (a cache: the
 * files themselves are the truth); what authentication needs stands in
 * catalog_auth.h.  SQLite, synchronous=EXTRA: what a call has
 * acknowledged survives a power cut.
 *
 * user_version is the format, 2 now.  A newer one is refused; an older one is
 * copied to holdfast.db.format-N beside it and then brought up to date in one
 * transaction.  A row that no call here could have written is ERR_DAMAGED, or
 * in the cache no row.
 */
#ifndef HOLDFAST_CATALOG_CATALOG_H
#define HOLDFAST_CATALOG_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct catalog;

/* catalog_open: open or make it.  All calls are safe from any thread. */
int catalog_open(const char *data_path, struct catalog **out, struct err *e);
void catalog_close(struct catalog *c); /* accepts NULL */

/* catalog_version: changes when another process has changed the catalog, and
 * not by what is done here. */
int catalog_version(struct catalog *c, int64_t *version, struct err *e);

/* ---- registered databases ---- */

struct catalog_database {
    char *name;
    char *path; /* NULL: managed, below the data directory */
    bool removing;
};

int catalog_list_databases(struct catalog *c, struct catalog_database **out,
                           size_t *n, struct err *e);
void catalog_databases_free(struct catalog_database *list, size_t n);
int catalog_put_database(struct catalog *c, const char *name, const char *path,
                         struct err *e);
int catalog_delete_database(struct catalog *c, const char *name, struct err *e);

/* catalog_put_removing: from now on the managed database is being removed,
 * until it is deleted or put again. */
int catalog_put_removing(struct catalog *c, const char *name, struct err *e);

/* ---- the current database ---- */

/* catalog_get_current: a new string, or NULL in *out when none is set. */
int catalog_get_current(struct catalog *c, char **out, struct err *e);
int catalog_put_current(struct catalog *c, const char *name, struct err *e);

/* ---- the newest name of a database that a delete has taken away ---- */

/* catalog_get_mark: seconds since the epoch; 0 if there is none. */
int catalog_get_mark(struct catalog *c, const char *database, int64_t *t,
                     struct err *e);
int catalog_put_mark(struct catalog *c, const char *database, int64_t t,
                     struct err *e);

/* ---- facts about adopted backups ---- */

/* An adopted backup is known by name, size and mtime: a file that changes is
 * another one. */
struct catalog_key {
    const char *database;
    const char *filename;
    uint64_t size_bytes;
    int64_t mtime_ns;
};

/* catalog_get_adopted: the facts' text, new; NULL in *out when not known. */
int catalog_get_adopted(struct catalog *c, const struct catalog_key *k,
                        char **out, struct err *e);

/* catalog_put_adopted: `good` is what a list needs to know of the facts. */
int catalog_put_adopted(struct catalog *c, const struct catalog_key *k,
                        bool good, const char *facts, struct err *e);

/* One row for each adopted backup of a database, by filename. */
struct catalog_adopted {
    char filename[32];
    uint64_t size_bytes;
    int64_t mtime_ns;
    bool good;
};
int catalog_list_adopted(struct catalog *c, const char *database,
                         struct catalog_adopted **out, size_t *n,
                         struct err *e);

#endif
