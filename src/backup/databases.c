/* The databases that the service looks after: see databases.h. */
#include "backup/databases.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backup/backup_internal.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/procs.h"

#define MAX_WAL_LIMIT ((uint64_t)4 << 30)

int database_name_check(const char *name, struct err *e)
{
    size_t n = strlen(name);
    bool ok = n >= 1 && n < DATABASE_NAME_SIZE &&
              strspn(name, "abcdefghijklmnopqrstuvwxyz"
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == n;

    if (ok && strcmp(name, "current") != 0)
        return 0;
    return err_set_reason(e, ERR_INVALID, "database_name",
                          "a database's name has 1 to 64 letters, digits, _ "
                          "or -, and is not \"current\"");
}

void database_info_fini(struct database_info *d)
{
    free(d->path);
    d->path = NULL;
}

/* ---- the registry: the catalog's, held in memory ---- */

static void put_registered(struct service *s, const char *name,
                           const char *path)
{
    struct registered *r = xcalloc(1, sizeof *r);

    (void)snprintf(r->name, sizeof r->name, "%s", name);
    r->path = path == NULL ? NULL : xstrdup(path);
    r->next = s->registered;
    s->registered = r;
}

/* A name becomes part of paths: one that breaks the rule was never ours. */
static int check_loaded(const char *name, struct err *e)
{
    if (database_name_check(name, e) == 0)
        return 0;
    return err_set(e, ERR_DAMAGED,
                   "the catalog is damaged: it has a database name that "
                   "breaks the rule for names");
}

static char *managed_path(const struct service *s, const char *name)
{
    return xasprintf("%s/databases/%s/app.db", s->data_path, name);
}

/* The backup of a managed database stays; nothing else of it does. */
static int remove_files(const char *path, struct err *e)
{
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    char *folder = xasprintf("%.*s", (int)(strrchr(path, '/') - path), path);
    int dir = file_open_dir(folder, e);
    int rc = dir < 0 ? -1 : 0;

    if (dir < 0 && e->code == ERR_NOT_FOUND) {
        free(folder);
        return 0;
    }
    for (size_t i = 0; rc == 0 && i < 4; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "app.db%s", endings[i]);
        rc = file_unlink(dir, name, e);
    }
    if (rc == 0)
        rc = file_sync(dir, e);
    file_close(&dir);
    free(folder);
    return rc;
}

/* A crash came between the decision to remove a database and its end. */
static int finish_removal(struct service *s, const char *name, struct err *e)
{
    char *path = managed_path(s, name);
    int rc = remove_files(path, e);

    if (rc == 0)
        rc = catalog_delete_database(s->catalog, name, e);
    free(path);
    if (rc != 0)
        return err_wrap(e, "removing database %s", name);
    log_event(LOG_INFO, "database.removed", "database", name, NULL);
    return 0;
}

int databases_load(struct service *s, struct err *e)
{
    struct catalog_database *list = NULL;
    size_t n = 0;
    char *current = NULL;
    int rc = -1;

    if (catalog_list_databases(s->catalog, &list, &n, e) != 0 ||
        catalog_get_current(s->catalog, &current, e) != 0 ||
        (current != NULL && check_loaded(current, e) != 0))
        goto done;
    for (size_t i = 0; i < n; i++) {
        if (check_loaded(list[i].name, e) != 0 ||
            (list[i].removing && finish_removal(s, list[i].name, e) != 0))
            goto done;
        if (!list[i].removing)
            put_registered(s, list[i].name, list[i].path);
    }
    (void)snprintf(s->current, sizeof s->current, "%s",
                   current != NULL ? current : "default");
    rc = 0;
done:
    free(current);
    catalog_databases_free(list, n);
    return rc;
}

void databases_unload(struct service *s)
{
    while (s->registered != NULL) {
        struct registered *r = s->registered;

        s->registered = r->next;
        free(r->path);
        free(r);
    }
}

/* With s->lock held. */
static struct registered *find_registered(struct service *s, const char *name)
{
    struct registered *r = s->registered;

    while (r != NULL && strcmp(r->name, name) != 0)
        r = r->next;
    return r;
}

static bool file_is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

bool database_known(struct service *s, const char *name)
{
    char *path;
    bool known;

    if (strcmp(name, "default") == 0)
        return true;
    (void)pthread_mutex_lock(&s->lock);
    known = find_registered(s, name) != NULL;
    (void)pthread_mutex_unlock(&s->lock);
    if (known)
        return true;
    path = managed_path(s, name);
    known = file_is_there(path);
    free(path);
    return known;
}

/* ---- where a database is ---- */

static char *path_of(struct service *s, const char *name, bool *managed)
{
    struct registered *r;
    char *path = NULL;

    (void)pthread_mutex_lock(&s->lock);
    r = find_registered(s, name);
    if (r != NULL && r->path != NULL)
        path = xstrdup(r->path);
    (void)pthread_mutex_unlock(&s->lock);
    *managed = path == NULL;
    return path != NULL ? path : managed_path(s, name);
}

/* SQLite is given a path without symlinks; the file itself must not be one. */
static char *resolve_folder(char *path)
{
    char real[PATH_MAX];
    char *slash = strrchr(path, '/');
    char *out;

    *slash = '\0';
    if (realpath(path, real) == NULL) {
        *slash = '/';
        return path;
    }
    out = xasprintf("%s/%s", strcmp(real, "/") == 0 ? "" : real, slash + 1);
    free(path);
    return out;
}

char *database_path(struct database *db, bool *managed, struct err *e)
{
    (void)e;
    return resolve_folder(path_of(db->service, db->name, managed));
}

/*
 * The smaller of 4 GiB and half the free space; but what the application's WAL
 * has already grown to is not our doing, and on a full disk it grows no more.
 */
static uint64_t wal_limit(const struct service *s, const char *path)
{
    char *wal = xasprintf("%s-wal", path);
    uint64_t limit = MAX_WAL_LIMIT;
    struct statvfs v;
    struct stat st;

    if (statvfs(path, &v) == 0)
        limit = (uint64_t)v.f_bavail * v.f_frsize / 2;
    if (stat(wal, &st) == 0 && limit < (uint64_t)st.st_size)
        limit = (uint64_t)st.st_size;
    free(wal);
    if (s->wal_limit_bytes != 0)
        return s->wal_limit_bytes;
    return limit < MAX_WAL_LIMIT ? limit : MAX_WAL_LIMIT;
}

int database_live(struct database *db, struct live_opts *o, struct err *e)
{
    struct service *s = db->service;
    bool managed;
    char *path = database_path(db, &managed, e);

    *o = (struct live_opts){
        .path = path,
        .label = db->name,
        .busy_timeout_ms = s->busy_timeout_ms,
        .wal_limit_bytes = wal_limit(s, path),
        .allow_network_fs = s->allow_network_fs,
        .cancel = &s->stopping,
    };
    return 0;
}

/* ---- info ---- */

static void fill_info(struct service *s, const char *name,
                      struct database_info *d)
{
    struct stat st;

    memset(d, 0, sizeof *d);
    (void)snprintf(d->name, sizeof d->name, "%s", name);
    d->path = path_of(s, name, &d->managed);
    if (stat(d->path, &st) == 0 && S_ISREG(st.st_mode)) {
        d->exists = true;
        d->size_bytes = (uint64_t)st.st_size;
        d->last_modified = (int64_t)st.st_mtime;
    }
}

int databases_get(struct service *s, const char *name,
                  struct database_info *out, struct err *e)
{
    const struct database *db = service_database(s, name, e);

    if (db == NULL)
        return -1;
    fill_info(s, db->name, out);
    return 0;
}

struct names {
    char (*s)[DATABASE_NAME_SIZE];
    size_t n;
};

static void add_name(struct names *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->s[i], name) == 0)
            return;
    }
    l->s = xrealloc(l->s, (l->n + 1) * sizeof *l->s);
    (void)snprintf(l->s[l->n++], sizeof *l->s, "%s", name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Folders below DATA/databases that have an app.db. */
static int add_managed(struct service *s, struct names *l, struct err *e)
{
    struct err ignored;
    const char *name;
    int fd = file_open_dir_at(s->data_dir, "databases", e);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    int rc;

    if (fd < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    if (d == NULL) {
        file_close(&fd);
        return err_sys(e, "cannot read the folder databases");
    }
    while ((rc = file_next_name(d, &name, e)) == 1) {
        if (database_name_check(name, &ignored) == 0 && database_known(s, name))
            add_name(l, name);
    }
    (void)closedir(d);
    return rc;
}

int databases_list(struct service *s, struct database_info **out, size_t *n,
                   struct err *e)
{
    struct names l = {0};

    add_name(&l, "default");
    (void)pthread_mutex_lock(&s->lock);
    for (const struct registered *r = s->registered; r != NULL; r = r->next)
        add_name(&l, r->name);
    (void)pthread_mutex_unlock(&s->lock);
    if (add_managed(s, &l, e) != 0) {
        free(l.s);
        return -1;
    }
    qsort(l.s, l.n, sizeof *l.s, by_name);
    *out = xcalloc(l.n, sizeof **out);
    for (size_t i = 0; i < l.n; i++)
        fill_info(s, l.s[i], &(*out)[i]);
    *n = l.n;
    free(l.s);
    return 0;
}

void databases_list_free(struct database_info *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        database_info_fini(&list[i]);
    free(list);
}

void databases_current(struct service *s, char name[DATABASE_NAME_SIZE])
{
    (void)pthread_mutex_lock(&s->lock);
    memcpy(name, s->current, DATABASE_NAME_SIZE);
    (void)pthread_mutex_unlock(&s->lock);
}

int databases_switch(struct service *s, const char *name, struct err *e)
{
    const struct database *db;

    if (database_name_check(name, e) != 0)
        return -1;
    db = service_database(s, name, e);
    if (db == NULL || catalog_put_current(s->catalog, name, e) != 0)
        return -1;
    (void)pthread_mutex_lock(&s->lock);
    (void)snprintf(s->current, sizeof s->current, "%s", name);
    (void)pthread_mutex_unlock(&s->lock);
    log_event(LOG_INFO, "database.current", "database", name, NULL);
    return 0;
}

/* ---- add ---- */

static bool below(const char *path, const char *root)
{
    size_t n = strlen(root);

    return strncmp(path, root, n) == 0 && (path[n] == '/' || n == 1);
}

static int check_root(const struct service *s, const char *path, struct err *e)
{
    for (size_t i = 0; i < s->n_roots; i++) {
        if (below(path, s->roots[i]))
            return 0;
    }
    return err_set_reason(e, ERR_INVALID, "path",
                          "path must lie below a folder given with "
                          "--database-root when the server was started");
}

/* Whether the words of a path, not yet looked up, lie below a root: a remote
 * caller learns nothing of other folders. */
static int check_words(const struct service *s, const char *path, struct err *e)
{
    if (strstr(path, "/../") != NULL || strstr(path, "/./") != NULL)
        return err_set_reason(e, ERR_INVALID, "path",
                              "path must not contain . or .. parts");
    return check_root(s, path, e);
}

/* The folder must exist; the file may be missing. */
static char *canonical(const char *path, struct err *e)
{
    char real[PATH_MAX];
    const char *slash = strrchr(path, '/');
    char *folder;
    char *out = NULL;

    if (path[0] != '/' || slash[1] == '\0' || strlen(path) >= PATH_MAX) {
        (void)err_set_reason(e, ERR_INVALID, "path",
                             "path must be the absolute path of a file");
        return NULL;
    }
    if (realpath(path, real) != NULL)
        return xstrdup(real);
    folder = xasprintf("%.*s", (int)(slash - path) + 1, path);
    if (realpath(folder, real) != NULL)
        out = xasprintf("%s/%s", strcmp(real, "/") == 0 ? "" : real, slash + 1);
    else
        (void)err_set_reason(e, ERR_INVALID, "path",
                             "the folder of path does not exist");
    free(folder);
    return out;
}

/* A file may be known under one name only, and none of our own files. */
static int check_free(struct service *s, const char *path, struct err *e)
{
    struct database_info *list = NULL;
    size_t n = 0;
    int rc = 0;

    if (below(path, s->data_path))
        return err_set_reason(e, ERR_INVALID, "path",
                              "path must not lie in the data directory");
    if (databases_list(s, &list, &n, e) != 0)
        return -1;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (strcmp(list[i].path, path) == 0)
            rc = err_set_reason(e, ERR_CONFLICT, "path",
                                "that file is database %s already",
                                list[i].name);
    }
    databases_list_free(list, n);
    return rc;
}

static int make_managed_folder(struct service *s, const char *name,
                               struct err *e)
{
    int databases = file_make_dir_at(s->data_dir, "databases", e);
    int dir = databases < 0 ? -1 : file_make_dir_at(databases, name, e);
    int rc = dir < 0 ? -1 : 0;

    file_close(&dir);
    file_close(&databases);
    return rc;
}

/* What registering checks of a file that is there already.  An empty one
 * beside the -wal of another would be that other one's. */
static int check_file(struct service *s, const char *name, const char *path,
                      bool *exists, struct err *e)
{
    struct live_opts o = {
        .path = path, .label = name, .allow_network_fs = s->allow_network_fs};
    struct live_file f;

    if (live_stat(&o, &f, e) != 0)
        return -1;
    *exists = f.exists;
    if (!f.exists && (f.wal_file || f.journal_file))
        return err_set_reason(e, ERR_CONFLICT, "leftovers",
                              "the file of database %s is missing but its "
                              "-wal or -journal is there: move that away "
                              "first",
                              name);
    return 0;
}

static int add_checked(struct service *s, const char *name, const char *path,
                       const char *live, struct database_info *out,
                       struct err *e)
{
    bool exists = false;

    if (check_file(s, name, live, &exists, e) != 0 ||
        (!exists && make_empty_database(live, e) != 0))
        return -1;
    if (catalog_put_database(s->catalog, name, path, e) != 0) {
        /* What failed may be noted all the same. */
        struct err ignored;

        (void)catalog_delete_database(s->catalog, name, &ignored);
        if (!exists)
            (void)unlink(live);
        return -1;
    }
    (void)pthread_mutex_lock(&s->lock);
    if (find_registered(s, name) == NULL)
        put_registered(s, name, path);
    (void)pthread_mutex_unlock(&s->lock);
    fill_info(s, name, out);
    log_event(LOG_INFO, "database.added", "database", name, NULL);
    return 0;
}

static bool name_taken(struct service *s, const char *name)
{
    char *path = managed_path(s, name);
    bool taken = file_is_there(path);

    free(path);
    (void)pthread_mutex_lock(&s->lock);
    taken = taken || find_registered(s, name) != NULL;
    (void)pthread_mutex_unlock(&s->lock);
    return taken;
}

int databases_add(struct service *s, const char *name, const char *path,
                  bool trusted, struct database_info *out, struct err *e)
{
    char *live = NULL;
    int rc = -1;

    if (database_name_check(name, e) != 0 || service_check_data_dir(s, e) != 0)
        return -1;
    if (name_taken(s, name))
        return err_set_reason(e, ERR_CONFLICT, "exists",
                              "there is a database %s already", name);
    if (path == NULL) {
        live = managed_path(s, name);
        if (make_managed_folder(s, name, e) == 0)
            rc = add_checked(s, name, NULL, live, out, e);
    } else {
        if (trusted || check_words(s, path, e) == 0)
            live = canonical(path, e);
        if (live != NULL && (trusted || check_root(s, live, e) == 0) &&
            check_free(s, live, e) == 0)
            rc = add_checked(s, name, live, live, out, e);
    }
    free(live);
    return rc;
}

/* ---- remove ---- */

struct removal {
    struct database *db;
    void (*done)(void *arg, const struct err *e);
    void *arg;
};

static int check_removable(struct database *db, const struct live_file *f,
                           struct err *e)
{
    char current[DATABASE_NAME_SIZE];

    databases_current(db->service, current);
    if (strcmp(db->name, "default") == 0)
        return err_set_reason(e, ERR_CONFLICT, "default",
                              "the database default cannot be removed");
    if (strcmp(db->name, current) == 0)
        return err_set_reason(e, ERR_CONFLICT, "current",
                              "database %s is the current one: switch to "
                              "another first",
                              db->name);
    if (f->exists && procs_have_open(f->dev, f->ino))
        return err_set_reason(e, ERR_CONFLICT, "open",
                              "another process has database %s open", db->name);
    return 0;
}

static int forget(struct service *s, const char *name, struct err *e)
{
    struct registered **at;

    if (catalog_delete_database(s->catalog, name, e) != 0)
        return -1;
    (void)pthread_mutex_lock(&s->lock);
    for (at = &s->registered; *at != NULL; at = &(*at)->next) {
        struct registered *r = *at;

        if (strcmp(r->name, name) == 0) {
            *at = r->next;
            free(r->path);
            free(r);
            break;
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

/* All files or none, also across a crash: the catalog notes that they are
 * being removed, and the next start goes on. */
static int remove_managed(struct database *db, const char *path, struct err *e)
{
    struct service *s = db->service;
    struct err ignored;

    if (catalog_put_removing(s->catalog, db->name, e) != 0)
        return -1;
    if (remove_files(path, e) == 0)
        return 0;
    if (file_is_there(path))
        (void)catalog_put_database(s->catalog, db->name, NULL, &ignored);
    return -1;
}

static int remove_now(struct database *db, struct err *e)
{
    struct live_opts o = {0};
    struct live_file f;
    bool managed;
    char *path = database_path(db, &managed, e);
    int rc = -1;

    o.path = path;
    o.label = db->name;
    o.allow_network_fs = true;
    if (live_stat(&o, &f, e) != 0 || check_removable(db, &f, e) != 0)
        goto done;
    /* Its last backup; then look again, somebody may have come. */
    if (managed && f.exists &&
        (create_now(db, e) != 0 || check_removable(db, &f, e) != 0))
        goto done;
    if (managed && remove_managed(db, path, e) != 0)
        goto done;
    rc = forget(db->service, db->name, e);
    if (rc == 0)
        log_event(LOG_INFO, "database.removed", "database", db->name, NULL);
done:
    free(path);
    return rc;
}

static void remove_job(void *arg)
{
    struct removal *r = arg;
    struct err e = {0};
    int rc = remove_now(r->db, &e);

    r->done(r->arg, rc == 0 ? NULL : &e);
    free(r);
}

void databases_remove(struct service *s, const char *name,
                      void (*done)(void *arg, const struct err *e), void *arg)
{
    struct err e = {0};
    struct database *db = service_database(s, name, &e);
    struct removal *r;

    if (db == NULL) {
        done(arg, &e);
        return;
    }
    r = xcalloc(1, sizeof *r);
    r->db = db;
    r->done = done;
    r->arg = arg;
    if (strand_put(db->work, remove_job, r, &e) != 0) {
        done(arg, &e);
        free(r);
    }
}
