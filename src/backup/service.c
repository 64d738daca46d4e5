/* The service: see service.h. */
#include "backup/service.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup_internal.h"
#include "backup/list.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "sqlite/sq.h"

#define LOCK_NAME "holdfast.lock"
#define LONG_THREADS 4
#define QUICK_THREADS 2

/* ---- the data directory ---- */

/* Make it, durably, unless it is there. */
static int make_data_dir(const char *path, struct err *e)
{
    char *above = xasprintf("%s/..", path);
    int dir = -1;
    int rc = 0;

    if (mkdir(path, 0700) == 0) {
        dir = file_open_dir(above, e);
        rc = dir < 0 ? -1 : file_sync(dir, e);
    } else if (errno != EEXIST) {
        rc = err_sys(e, "cannot make the data directory %s", path);
    }
    file_close(&dir);
    free(above);
    return rc;
}

static int open_data_dir(struct service *s, const char *path, struct err *e)
{
    char real[PATH_MAX];

    if (make_data_dir(path, e) != 0)
        return -1;
    if (realpath(path, real) == NULL)
        return err_sys(e, "cannot find the data directory %s", path);
    s->data_path = xstrdup(real);
    s->data_dir = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->data_dir < 0)
        return err_sys(e, "cannot use the data directory %s", real);
    return 0;
}

static int take_lock(struct service *s, struct err *e)
{
    s->lock_fd = file_open_at(s->data_dir, LOCK_NAME, O_RDWR | O_CREAT, e);
    if (s->lock_fd < 0)
        return err_wrap(e, "the data directory %s", s->data_path);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return err_sys(e, "cannot lock the data directory");
    return err_set_reason(e, ERR_CONFLICT, "in_use",
                          "another holdfast works on this data directory");
}

/* DATA/tmp holds work in progress of a process that is no more. */
static int empty_tmp(struct service *s, struct err *e)
{
    int again = openat(s->tmp_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    const char *name;
    int rc;

    if (d == NULL) {
        file_close(&again);
        return err_sys(e, "cannot read the folder tmp");
    }
    while ((rc = file_next_name(d, &name, e)) == 1)
        (void)unlinkat(s->tmp_dir, name, 0);
    (void)closedir(d);
    return rc;
}

static int take_data_dir(struct service *s, const char *path, struct err *e)
{
    if (open_data_dir(s, path, e) != 0 || take_lock(s, e) != 0)
        return -1;
    s->tmp_dir = file_make_dir_at(s->data_dir, "tmp", e);
    if (s->tmp_dir < 0 || empty_tmp(s, e) != 0)
        return -1;
    return catalog_open(s->data_path, &s->catalog, e);
}

/* ---- options ---- */

static int take_roots(struct service *s, const struct service_opts *o,
                      struct err *e)
{
    char real[PATH_MAX];

    /* Each as it was given and without symlinks: callers may use either. */
    s->roots = xcalloc(2 * o->n_database_roots, sizeof *s->roots);
    for (size_t i = 0; i < o->n_database_roots; i++) {
        if (realpath(o->database_roots[i], real) == NULL)
            return err_sys(e, "cannot find the database root %s",
                           o->database_roots[i]);
        s->roots[s->n_roots++] = xstrdup(real);
        if (o->database_roots[i][0] == '/')
            s->roots[s->n_roots++] = xstrdup(o->database_roots[i]);
    }
    return 0;
}

/* ---- databases at run time ---- */

struct database *service_get(struct service *s, const char *name)
{
    struct database *db;

    (void)pthread_mutex_lock(&s->lock);
    for (db = s->databases; db != NULL; db = db->next) {
        if (strcmp(db->name, name) == 0)
            break;
    }
    if (db == NULL) {
        db = xcalloc(1, sizeof *db);
        db->service = s;
        (void)snprintf(db->name, sizeof db->name, "%s", name);
        db->store = store_new(s->data_dir, s->tmp_dir, s->data_path, name);
        db->work = strand_new(s->long_pool, MAX_WAITING);
        db->reads = strand_new(s->long_pool, MAX_WAITING);
        db->quick = strand_new(s->quick_pool, MAX_WAITERS);
        (void)pthread_mutex_init(&db->lock, NULL);
        (void)pthread_cond_init(&db->list_read, NULL);
        db->next = s->databases;
        s->databases = db;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return db;
}

int service_check_data_dir(struct service *s, struct err *e)
{
    struct stat ours;
    struct stat there;

    if (fstat(s->data_dir, &ours) == 0 && stat(s->data_path, &there) == 0 &&
        ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
        return 0;
    return err_set_reason(e, ERR_BUSY, "data_directory",
                          "the data directory is not where it was: mount it "
                          "again, or put it back");
}

struct database *service_database(struct service *s, const char *name,
                                  struct err *e)
{
    char current[DATABASE_NAME_SIZE];

    if (service_check_data_dir(s, e) != 0)
        return NULL;
    if (name == NULL) {
        databases_current(s, current);
        name = current;
    }
    if (database_name_check(name, e) != 0)
        return NULL;
    if (!database_known(s, name)) {
        (void)err_set_reason(e, ERR_NOT_FOUND, "database",
                             "there is no database %s", name);
        return NULL;
    }
    return service_get(s, name);
}

bool service_stopping(struct service *s)
{
    return __atomic_load_n(&s->stopping, __ATOMIC_ACQUIRE);
}

/* ---- start and stop ---- */

static void settle_job(void *arg)
{
    struct database *db = arg;

    settle_all(db);
    (void)__atomic_sub_fetch(&db->service->n_settling, 1, __ATOMIC_ACQ_REL);
}

struct catalog *service_catalog(struct service *s)
{
    return s->catalog;
}

int service_ready(struct service *s, struct err *e)
{
    if (__atomic_load_n(&s->n_settling, __ATOMIC_ACQUIRE) != 0)
        return err_set_reason(e, ERR_BUSY, "starting",
                              "the service is finishing what was interrupted");
    return service_check_data_dir(s, e);
}

/* Every folder of backups is cleaned, and restores that a crash interrupted
 * are brought to their end, before other work on that database. */
static int queue_settling(struct service *s, struct err *e)
{
    int fd = file_open_dir_at(s->data_dir, "backups", e);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    const char *name;
    struct err ignored;
    int rc;

    if (fd < 0 && e->code == ERR_NOT_FOUND)
        return 0;
    if (d == NULL) {
        file_close(&fd);
        return err_sys(e, "cannot read the folder backups");
    }
    while ((rc = file_next_name(d, &name, e)) == 1) {
        struct database *db;

        if (database_name_check(name, &ignored) != 0)
            continue;
        db = service_get(s, name);
        (void)__atomic_add_fetch(&s->n_settling, 1, __ATOMIC_ACQ_REL);
        if (strand_put(db->work, settle_job, db, &ignored) != 0)
            (void)__atomic_sub_fetch(&s->n_settling, 1, __ATOMIC_ACQ_REL);
    }
    (void)closedir(d);
    return rc;
}

int service_open(const struct service_opts *o, struct service **out,
                 struct err *e)
{
    struct service *s = xcalloc(1, sizeof *s);

    s->data_dir = -1;
    s->tmp_dir = -1;
    s->lock_fd = -1;
    s->guard = o->guard;
    s->busy_timeout_ms = o->busy_timeout_ms != 0 ? o->busy_timeout_ms : 10000;
    s->wal_limit_bytes = o->wal_limit_bytes;
    s->max_stall_ms = o->max_stall_ms;
    s->allow_network_fs = o->allow_network_fs;
    s->background = o->background;
    (void)pthread_mutex_init(&s->lock, NULL);
    if (sq_init(e) != 0 || take_data_dir(s, o->data_dir, e) != 0 ||
        take_roots(s, o, e) != 0 || databases_load(s, e) != 0)
        goto fail;
    s->long_pool = pool_new(LONG_THREADS);
    s->quick_pool = pool_new(QUICK_THREADS);
    if (queue_settling(s, e) != 0)
        goto fail;
    for (struct database *db = s->databases; !s->background && db != NULL;
         db = db->next)
        strand_drain(db->work);
    *out = s;
    return 0;
fail:
    service_close(s);
    return -1;
}

void service_stop(struct service *s)
{
    struct database *first;

    __atomic_store_n(&s->stopping, true, __ATOMIC_RELEASE);
    (void)pthread_mutex_lock(&s->lock);
    first = s->databases;
    (void)pthread_mutex_unlock(&s->lock);
    for (struct database *db = first; db != NULL; db = db->next) {
        /* In this order: a delete may pass from quick to work. */
        strand_drain(db->quick);
        strand_drain(db->work);
        strand_drain(db->reads);
    }
}

static void free_databases(struct service *s)
{
    while (s->databases != NULL) {
        struct database *db = s->databases;

        s->databases = db->next;
        strand_free(db->work);
        strand_free(db->reads);
        strand_free(db->quick);
        store_free(db->store);
        list_box_put(db->list);
        (void)pthread_cond_destroy(&db->list_read);
        (void)pthread_mutex_destroy(&db->lock);
        free(db);
    }
}

void service_close(struct service *s)
{
    if (s == NULL)
        return;
    service_stop(s);
    pool_free(s->quick_pool);
    pool_free(s->long_pool);
    free_databases(s);
    databases_unload(s);
    catalog_close(s->catalog);
    for (size_t i = 0; i < s->n_roots; i++)
        free(s->roots[i]);
    free(s->roots);
    file_close(&s->tmp_dir);
    file_close(&s->data_dir);
    file_close(&s->lock_fd);
    free(s->data_path);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}
