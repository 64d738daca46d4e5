/*
 * The databases that the service looks after.  Names match
 * [A-Za-z0-9_-]{1,64} and are not "current".  A managed database lives at
 * DATA/databases/NAME/app.db; a registered one anywhere else, by path.  A
 * folder DATA/databases/NAME with an app.db is known without registration.
 */
#ifndef HOLDFAST_BACKUP_DATABASES_H
#define HOLDFAST_BACKUP_DATABASES_H

#include "backup/service.h"

#define DATABASE_NAME_SIZE 65

struct database_info {
    char name[DATABASE_NAME_SIZE];
    char *path; /* absolute; the info's own */
    bool managed;
    bool exists;           /* the file is there */
    uint64_t size_bytes;   /* 0 if not */
    int64_t last_modified; /* seconds since the epoch, UTC; 0 if not */
};

void database_info_fini(struct database_info *d);

/* database_name_check: ERR_INVALID with the rule unless name is one. */
int database_name_check(const char *name, struct err *e);

/* databases_list: sorted by name; the array and each info are the caller's
 * (databases_list_free). */
int databases_list(struct service *s, struct database_info **out, size_t *n,
                   struct err *e);
void databases_list_free(struct database_info *list, size_t n);

/* databases_get: ERR_INVALID or ERR_NOT_FOUND; NULL means the current one. */
int databases_get(struct service *s, const char *name,
                  struct database_info *out, struct err *e);

/*
 * databases_add: without a path create an empty valid managed database unless
 * its file is there; with a path register the file (or an empty valid one is
 * created there).  `trusted`: the caller is on the machine itself; otherwise
 * the path must lie below a database root (ERR_INVALID).  ERR_CONFLICT when
 * the name, or that file under another name, is taken.
 */
int databases_add(struct service *s, const char *name, const char *path,
                  bool trusted, struct database_info *out, struct err *e);

/*
 * databases_remove: forget it.  ERR_CONFLICT for the current one, for
 * "default", and while another process has it open.  A managed one gets a
 * last backup first, then app.db, -wal and -shm go; its backups stay.  A
 * registered one's file is never touched.  Asynchronous (see service.h).
 */
void databases_remove(struct service *s, const char *name,
                      void (*done)(void *arg, const struct err *e), void *arg);

/* databases_current: the name that requests without a name mean. */
void databases_current(struct service *s, char name[DATABASE_NAME_SIZE]);
int databases_switch(struct service *s, const char *name, struct err *e);

#endif
