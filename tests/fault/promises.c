/* Whether the promises hold: see world.h. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/mem.h"
#include "crypto/sha256.h"
#include "fault.h"
#include "world.h"

struct look {
    const struct scenario *sc;
    const struct world *w;
    const char *root;
    const struct result *r;
    bool died;
    bool acked;
    char live[DIGEST]; /* after the start */
    struct facts *facts;
    size_t n;
    size_t n_new;      /* good backups that were not there before */
    size_t n_new_live; /* of those, with the state before */
    size_t n_suspect;
};

/* ----------------------------------------------------------- temporary files
 */

static bool is_temporary(const char *folder, const char *name)
{
    size_t n = strlen(name);

    if (strcmp(strrchr(folder, '/') + 1, "tmp") == 0 || name[0] == '.')
        return true;
    return n > 8 && strcmp(name + n - 8, ".pending") == 0;
}

/* Facts belong to a backup. */
static bool is_orphan(const char *folder, const char *name)
{
    size_t n = strlen(name);
    char *db;
    struct stat st;
    bool orphan;

    if (n < 5 || strcmp(name + n - 5, ".json") != 0)
        return false;
    db = xasprintf("%s/%.*s.db", folder, (int)n - 5, name);
    orphan = lstat(db, &st) != 0;
    free(db);
    return orphan;
}

void world_leftovers(const char *folder)
{
    DIR *d = opendir(folder);
    const struct dirent *ent;

    while (d != NULL && (ent = readdir(d)) != NULL) {
        char *path;
        struct stat st;

        if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
            continue;
        path = xasprintf("%s/%s", folder, ent->d_name);
        if (is_temporary(folder, ent->d_name) || is_orphan(folder, ent->d_name))
            complain("left behind: %s", strstr(path, "/data/"));
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            world_leftovers(path);
        free(path);
    }
    if (d != NULL)
        (void)closedir(d);
}

/* ------------------------------------------------------------------- backups
 */

static char *backup_path(const struct look *l, const char *db,
                         const struct facts *f)
{
    return xasprintf("%s/data/backups/%s/%s%s", l->root, db,
                     f->state == BACKUP_SUSPECT ? "suspect/" : "", f->name.s);
}

static void *read_whole(const char *path, size_t *n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *p = NULL;

    *n = 0;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        p = xmalloc((size_t)st.st_size);
        if (read(fd, p, (size_t)st.st_size) == st.st_size)
            *n = (size_t)st.st_size;
    }
    file_close(&fd);
    return p;
}

static void check_bytes(const struct facts *f, const char *path)
{
    struct sha256 *sha = sha256_new();
    char hex[SHA256_HEX_SIZE];
    size_t n;
    void *p = read_whole(path, &n);

    sha256_update(sha, p, n);
    sha256_final(sha, hex);
    if (n != f->size_bytes ||
        (f->sha256[0] != '\0' && strcmp(hex, f->sha256) != 0))
        complain("backup %s is listed and its bytes are others", f->name.s);
    if (f->sha256[0] == '\0')
        complain("backup %s is listed without a SHA-256", f->name.s);
    sha256_free(sha);
    free(p);
}

static const struct known *find_known(const struct look *l, const char *name)
{
    for (size_t i = 0; i < l->w->n_backups; i++) {
        if (strcmp(l->w->backup[i].name, name) == 0)
            return &l->w->backup[i];
    }
    return NULL;
}

static bool spoiled(const struct look *l, const char *name)
{
    return (l->sc->with & WITH_BAD_BACKUP) != 0 &&
           strcmp(name, l->w->backup[0].name) == 0;
}

static void look_at_suspect(struct look *l, const struct facts *f,
                            const char *path)
{
    char sum[DIGEST];
    size_t n;
    void *p = read_whole(path, &n);

    (void)snprintf(sum, sizeof sum, "%llx",
                   (unsigned long long)XXH3_64bits(p, n));
    free(p);
    l->n_suspect++;
    if (!spoiled(l, f->name.s) && strcmp(sum, l->w->raw) != 0)
        complain("backup %s is called suspect", f->name.s);
}

static void look_at_good(struct look *l, const struct facts *f,
                         const char *path)
{
    const struct known *k = find_known(l, f->name.s);
    char digest[DIGEST];

    if (spoiled(l, f->name.s))
        return; /* its damage has not been looked for yet */
    check_bytes(f, path);
    world_digest(path, true, digest);
    if (k != NULL) {
        if (strcmp(digest, k->digest) != 0)
            complain("backup %s has become %s", f->name.s, digest);
        return;
    }
    l->n_new++;
    if (strcmp(digest, l->w->live) == 0)
        l->n_new_live++;
    else if (l->sc->action != DO_RESTORE ||
             strcmp(digest, l->w->backup[0].digest) != 0)
        complain("a backup is %s and not %s", digest, l->w->live);
}

static bool is_listed(const struct look *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->facts[i].name.s, name) == 0)
            return true;
    }
    return false;
}

static void check_backups(struct look *l, struct service *s)
{
    struct err e = {0};

    if (backup_details_list(s, "default", 100, NULL, &l->facts, &l->n, &e) !=
        0) {
        complain("the list fails: %s", e.message);
        return;
    }
    for (size_t i = 0; i < l->n; i++) {
        char *path = backup_path(l, "default", &l->facts[i]);

        if (l->facts[i].state == BACKUP_SUSPECT)
            look_at_suspect(l, &l->facts[i], path);
        else
            look_at_good(l, &l->facts[i], path);
        free(path);
    }
    for (size_t i = 0; i < l->w->n_backups; i++) {
        const char *name = l->w->backup[i].name;
        bool there = is_listed(l, name);
        bool target = l->sc->action == DO_DELETE && i == 0;

        if (target && l->acked && there)
            complain("backup %s is deleted and there", name);
        if (!target && !there)
            complain("backup %s is lost", name);
    }
    if (l->acked && l->sc->action == DO_CREATE && !is_listed(l, l->r->name.s))
        complain("backup %s is acknowledged and lost", l->r->name.s);
    if (l->acked && l->sc->action == DO_VERIFY &&
        (l->sc->with & WITH_BAD_BACKUP) != 0 && l->n_suspect == 0)
        complain("damage is acknowledged and forgotten");
    for (size_t i = 0; i < l->n; i++)
        facts_fini(&l->facts[i]);
}

/* The list of the contract is that of the good ones. */
static void check_list(const struct look *l, struct service *s)
{
    const struct backup_list *list = NULL;
    struct err e = {0};

    if (backup_list_get(s, "default", &list, &e) != 0)
        complain("the list fails: %s", e.message);
    else if (list->n != l->n - l->n_suspect)
        complain("%zu backups are listed and %zu are there", list->n,
                 l->n - l->n_suspect);
    backup_list_put(list);
}

/* ------------------------------------------------------------ live databases
 */

static void check_live(struct look *l)
{
    char *path = xasprintf("%s/data/databases/default/app.db", l->root);
    const char *old = l->w->live;
    const char *restored = l->w->backup[0].digest;
    bool broken = (l->sc->with & WITH_BAD_LIVE) != 0;
    bool is_old;
    bool is_new;

    world_digest(path, false, l->live);
    free(path);
    is_new = strcmp(l->live, restored) == 0;
    is_old =
        broken ? strncmp(l->live, "broken", 6) == 0 : strcmp(l->live, old) == 0;
    if (l->sc->action != DO_RESTORE || (l->sc->with & WITH_BAD_BACKUP) != 0) {
        if (!is_old)
            complain("the live database is %s and not %s", l->live, old);
        return;
    }
    if (!is_old && !is_new)
        complain("the live database is %s, neither %s nor %s", l->live, old,
                 restored);
    if (l->acked && !is_new)
        complain("a restore is acknowledged and lost");
    if (is_new && broken && l->n_suspect == 0)
        complain("the bytes before the restore were not kept");
    if (is_new && !broken &&
        (l->sc->with & (WITHOUT_LIVE | WITH_EMPTY_LIVE)) == 0 &&
        l->n_new_live == 0)
        complain("the state before the restore is lost");
}

static bool known_database(struct service *s, const char *name,
                           struct database_info *info)
{
    struct err e;

    return databases_get(s, name, info, &e) == 0;
}

static void check_added(const struct look *l, struct service *s)
{
    struct database_info info = {0};
    char digest[DIGEST];
    bool known = known_database(s, "new", &info);

    if (l->acked && !known)
        complain("a database is added and unknown");
    if (known) {
        world_digest(info.path, false, digest);
        /* A catalog that fails may have noted what was taken back. */
        if (strcmp(digest, "empty") != 0 &&
            (l->acked || strcmp(digest, "missing") != 0))
            complain("a new database is %s", digest);
    }
    database_info_fini(&info);
}

static void check_removed(const struct look *l, struct service *s)
{
    struct database_info info = {0};
    bool known = known_database(s, "extra", &info);
    char digest[DIGEST];

    if (l->acked && known)
        complain("a database is removed and known");
    if (known && info.exists) {
        world_digest(info.path, false, digest);
        if (strcmp(digest, l->w->extra) != 0)
            complain("a database to be removed is %s", digest);
    }
    database_info_fini(&info);
}

/* The backups of a removed database are files that anybody may look at. */
static void check_last_backup(const struct look *l)
{
    char *folder = xasprintf("%s/data/backups/extra", l->root);
    char *live = xasprintf("%s/data/databases/extra/app.db", l->root);
    DIR *d = opendir(folder);
    const struct dirent *ent;
    struct stat st;
    bool found = lstat(live, &st) == 0;

    while (d != NULL && (ent = readdir(d)) != NULL) {
        char *path = xasprintf("%s/%s", folder, ent->d_name);
        char digest[DIGEST];
        size_t n = strlen(ent->d_name);

        if (n > 3 && strcmp(ent->d_name + n - 3, ".db") == 0) {
            world_digest(path, true, digest);
            found = found || strcmp(digest, l->w->extra) == 0;
            if (strcmp(digest, l->w->extra) != 0)
                complain("the last backup is %s", digest);
        }
        free(path);
    }
    if (d != NULL)
        (void)closedir(d);
    if (!found)
        complain("a removed database has no last backup");
    free(folder);
    free(live);
}

static void check_databases(const struct look *l, struct service *s)
{
    char current[DATABASE_NAME_SIZE];
    bool chosen;

    databases_current(s, current);
    chosen = strcmp(current, "extra") == 0;
    if (l->sc->action == DO_CHOOSE && l->acked && !chosen)
        complain("a database is chosen and %s is the current one", current);
    if (!(l->sc->action == DO_CHOOSE && chosen) &&
        strcmp(current, "default") != 0)
        complain("%s is the current database", current);
    if (l->sc->action == DO_ADD || l->sc->action == DO_ADD_PATH)
        check_added(l, s);
    if (l->sc->action == DO_REMOVE) {
        check_removed(l, s);
        check_last_backup(l);
    }
}

/* -------------------------------------------------------------- and goes on */

static void check_next(struct look *l, struct service *s)
{
    const struct scenario create = {"next", DO_CREATE, 0, false};
    struct result r;
    char digest[DIGEST];
    char *path;

    if (strcmp(l->live, "missing") == 0 || strncmp(l->live, "broken", 6) == 0)
        return;
    fault_clock_advance(10);
    if (l->sc->action == DO_CHOOSE) {
        struct err e;

        (void)databases_switch(s, "default", &e);
    }
    world_act(&create, l->w, l->root, s, &r);
    if (r.failed) {
        complain("the next backup fails: %s", r.e.message);
        return;
    }
    path = xasprintf("%s/data/backups/default/%s", l->root, r.name.s);
    world_digest(path, true, digest);
    if (strcmp(digest, l->live) != 0)
        complain("the next backup is %s and not %s", digest, l->live);
    free(path);
}

void world_check(const struct scenario *sc, const struct world *w,
                 const char *root, const struct result *r, bool died)
{
    struct look l = {.sc = sc, .w = w, .root = root, .r = r, .died = died};
    struct service *s = NULL;
    struct err e = {0};
    char *data = xasprintf("%s/data", root);

    l.acked = r->answered && !r->failed;
    fault_clock_advance(500);
    world_start_helper();
    if (world_open(root, &s, &e) != 0) {
        complain("the next start fails: %s", e.message);
        goto done;
    }
    world_leftovers(data);
    check_backups(&l, s);
    check_list(&l, s);
    check_live(&l);
    check_databases(&l, s);
    check_next(&l, s);
    world_close(s);
done:
    world_stop_helper();
    free(l.facts);
    free(data);
}
