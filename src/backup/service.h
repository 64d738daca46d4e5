/*
 * The service: everything behind the API and the local command line.  It
 * holds the data directory (and its lock file), the catalog, the store, the
 * worker threads and the databases.  All functions are safe from any thread.
 *
 * Long work (create, restore, delete, verify) is asynchronous: the call
 * returns at once and `done` is called exactly once, from a worker thread or
 * before the call returns.  Work on one database that would collide runs one
 * at a time, in the order it came; different databases go on side by side.
 */
#ifndef HOLDFAST_BACKUP_SERVICE_H
#define HOLDFAST_BACKUP_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "catalog/catalog.h"
#include "guard/guard.h"

struct service;

struct service_opts {
    const char *data_dir;              /* made (0700) if it is not there */
    const char *const *database_roots; /* folders that registered paths from
                                          the API must lie below */
    size_t n_database_roots;
    unsigned busy_timeout_ms; /* 0: 10,000 */
    uint64_t wal_limit_bytes; /* 0: the smaller of 4 GiB and half the free
                                 space */
    unsigned max_stall_ms;    /* 0: no limit; else a restore is refused when
                                 writers would wait longer */
    bool allow_network_fs;
    bool background;     /* hash and check adopted backups (a server
                            does, a command does not) */
    struct guard *guard; /* borrowed */
};

/*
 * service_open: take the data directory (ERR_CONFLICT, reason "in_use", when
 * another process holds it), clear what a crash left, finish what a crash
 * interrupted, and make the database "default" known if none is.
 */
int service_open(const struct service_opts *opts, struct service **out,
                 struct err *e);

/*
 * service_ready: 0, or -1 with ERR_BUSY: reason "starting" while what a crash
 * interrupted is still being finished (other work on those databases waits
 * behind it; with opts.background false service_open has waited for that),
 * reason "data_directory" while the data directory is not where it was.
 */
int service_ready(struct service *s, struct err *e);

/* service_catalog: what it keeps things in; it lives as long as the service. */
struct catalog *service_catalog(struct service *s);

/* service_stop: refuse new work (ERR_BUSY, reason "stopping"); work that has
 * not begun is refused, work under way is brought to an end or given up where
 * nothing has happened yet; returns when none is left. */
void service_stop(struct service *s);

/* service_close: stop and free; accepts NULL. */
void service_close(struct service *s);

#endif
