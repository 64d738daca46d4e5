/* Preparing and acting: see world.h. */
#include "world.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/mem.h"
#include "fault.h"
#include "guard/guard.h"
#include "sqlite/check.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

static struct guard *guard;

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "the sweep itself fails: %s\n", what);
    abort();
}

void world_start_helper(void)
{
    static struct guard_service services[2];
    struct err e;

    services[0] = check_service;
    services[1] = convert_service;
    log_set_level(LOG_OFF);
    if (guard_start(services, 2, &guard, &e) != 0)
        give_up(e.message);
}

void world_stop_helper(void)
{
    guard_stop(guard);
    guard = NULL;
}

int world_open(const char *root, struct service **out, struct err *e)
{
    char *data = xasprintf("%s/data", root);
    struct service_opts o = {
        .data_dir = data, .busy_timeout_ms = 400, .guard = guard};
    int rc = service_open(&o, out, e);

    free(data);
    return rc;
}

void world_close(struct service *s)
{
    service_close(s);
}

/* ------------------------------------------------------------------- states */

static int put_row(XXH3_state_t *h, sqlite3_stmt *st, long *sum, long *gen)
{
    for (int i = 0; i < 4; i++) {
        const void *p = sqlite3_column_blob(st, i);

        (void)XXH3_64bits_update(h, p, (size_t)sqlite3_column_bytes(st, i));
    }
    *sum += (long)sqlite3_column_int64(st, 2);
    if (*gen == 0)
        *gen = (long)sqlite3_column_int64(st, 1);
    return *gen == (long)sqlite3_column_int64(st, 1);
}

static bool whole(sqlite3 *db)
{
    sqlite3_stmt *st = NULL;
    bool ok = false;

    if (sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &st, NULL) ==
            SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        ok = strcmp((const char *)sqlite3_column_text(st, 0), "ok") == 0;
    (void)sqlite3_finalize(st);
    return ok;
}

static void digest_rows(sqlite3 *db, char out[DIGEST])
{
    XXH3_state_t *h = XXH3_createState();
    sqlite3_stmt *st = NULL;
    bool uniform = true;
    long sum = 0;
    long gen = 0;
    long n = 0;
    int rc =
        sqlite3_prepare_v2(db,
                           "SELECT id, gen, balance, pad FROM account ORDER "
                           "BY id",
                           -1, &st, NULL);

    (void)XXH3_64bits_reset(h);
    if (rc != SQLITE_OK) {
        (void)snprintf(out, DIGEST, "empty");
    } else {
        while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
            uniform = put_row(h, st, &sum, &gen) && uniform;
            n++;
        }
        (void)snprintf(out, DIGEST, "%s: %ld accounts of generation %ld, %llx",
                       rc != SQLITE_DONE             ? "broken"
                       : uniform && sum == n * 1000L ? "whole"
                                                     : "mixed",
                       n, gen, (unsigned long long)XXH3_64bits_digest(h));
    }
    (void)sqlite3_finalize(st);
    (void)XXH3_freeState(h);
}

void world_digest(const char *path, bool readonly, char out[DIGEST])
{
    sqlite3 *db = NULL;
    struct stat st;
    int rc;

    if (lstat(path, &st) != 0) {
        (void)snprintf(out, DIGEST, "missing");
        return;
    }
    rc = sqlite3_open_v2(
        path, &db, readonly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE,
        NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL,
                          NULL);
    if (rc != SQLITE_OK || !whole(db))
        (void)snprintf(out, DIGEST, "broken: %s", sqlite3_errmsg(db));
    else
        digest_rows(db, out);
    (void)sqlite3_close(db);
}

/* ---------------------------------------------------------------- preparing */

static void sql(sqlite3 *db, const char *fmt, ...)
{
    char *message = NULL;
    char *text;
    va_list ap;

    va_start(ap, fmt);
    text = sqlite3_vmprintf(fmt, ap);
    va_end(ap);
    if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK)
        give_up(message);
    sqlite3_free(text);
}

static void set_state(sqlite3 *db, int gen, int n)
{
    sql(db,
        "BEGIN; CREATE TABLE IF NOT EXISTS account(id INTEGER PRIMARY KEY, "
        "gen INTEGER, balance INTEGER, pad TEXT); DELETE FROM account;"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT "
        "%d) INSERT INTO account SELECT i, %d, 1000 + CASE i %% 2 WHEN 0 "
        "THEN %d ELSE -%d END, printf('%%0700d', i * %d) FROM n; COMMIT",
        n, gen, gen, gen, gen);
}

static sqlite3 *open_live(const char *path, bool wal, int page_size)
{
    sqlite3 *db = NULL;

    if (sqlite3_open(path, &db) != SQLITE_OK)
        give_up(path);
    sql(db, "PRAGMA page_size=%d; PRAGMA wal_autocheckpoint=0", page_size);
    sql(db, wal ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode=DELETE");
    return db;
}

static char *in(const char *root, const char *below)
{
    return xasprintf("%s/%s", root, below);
}

static void make_dir(const char *root, const char *below)
{
    char *path = in(root, below);

    if (mkdir(path, 0700) != 0)
        give_up(path);
    free(path);
}

static void put_file(const char *root, const char *below, const void *bytes,
                     size_t n)
{
    char *path = in(root, below);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || close(fd) != 0)
        give_up(path);
    free(path);
}

static void *get_file(const char *root, const char *below, size_t *n)
{
    char *path = in(root, below);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *p;

    if (fd < 0 || fstat(fd, &st) != 0)
        give_up(path);
    p = xmalloc((size_t)st.st_size);
    if (read(fd, p, (size_t)st.st_size) != st.st_size || close(fd) != 0)
        give_up(path);
    *n = (size_t)st.st_size;
    free(path);
    return p;
}

static void copy_file(const char *root, const char *from, const char *to)
{
    size_t n;
    void *p = get_file(root, from, &n);

    put_file(root, to, p, n);
    free(p);
}

static void make_backup(struct service *s, struct known *k)
{
    const struct scenario create = {"prepare", DO_CREATE, 0, false};
    struct result r = {0};

    fault_clock_advance(10);
    world_act(&create, NULL, NULL, s, &r);
    if (r.failed)
        give_up(r.e.message);
    (void)snprintf(k->name, sizeof k->name, "%s", r.name.s);
}

/* What crashes leave behind, of each kind that there is. */
static void make_leftovers(const char *root, const struct world *w)
{
    static const char *const dirs[] = {"data/tmp/stage-0123456789abcdef",
                                       "data/tmp/stage-0123456789abcdef.h"};
    char *facts_of[2];
    char *path;
    size_t n;
    char *facts;

    for (int i = 0; i < 2; i++)
        facts_of[i] =
            xasprintf("data/backups/default/%.19s.json", w->backup[i].name);
    facts = get_file(root, facts_of[0], &n);
    for (int i = 0; i < 2; i++)
        put_file(root, dirs[i], "half", 4);
    put_file(root, "data/backups/default/.stage-0123456789abcdef", "half", 4);
    path = xasprintf("data/backups/default/.%.19s.json.0123456789abcdef.tmp",
                     w->backup[0].name);
    put_file(root, path, facts, n / 2);
    free(path);
    /* Facts whose backup never came, or has gone. */
    put_file(root, "data/backups/default/app_20200101_000000.json", facts, n);
    put_file(root, "data/backups/default/app_20200101_000001.pending", facts,
             n);
    make_dir(root, "data/backups/default/suspect");
    put_file(root, "data/backups/default/suspect/app_20200101_000002.json",
             facts, n);
    /* A safety copy that waits to be settled. */
    path = xasprintf("data/backups/default/%.19s.pending", w->backup[1].name);
    copy_file(root, facts_of[1], path);
    free(path);
    path = in(root, facts_of[1]);
    (void)unlink(path);
    free(path);
    for (int i = 0; i < 2; i++)
        free(facts_of[i]);
    free(facts);
}

static void finish_live(const struct scenario *sc, const char *root,
                        struct world *w)
{
    static const char live[] = "data/databases/default/app.db";
    char *path = in(root, live);
    uint8_t *p;
    size_t n;

    if ((sc->with & WITHOUT_LIVE) != 0)
        (void)unlink(path);
    if ((sc->with & WITH_EMPTY_LIVE) != 0)
        put_file(root, live, "", 0);
    if ((sc->with & WITH_BAD_LIVE) != 0) {
        p = get_file(root, live, &n);
        if ((sc->with & WITH_BAD_HEADER) != 0)
            memset(p + 16, 0xee, 100);
        else
            memset(p + 100, 0xee, 3000); /* the root of the schema */
        put_file(root, live, p, n);
        (void)snprintf(w->raw, sizeof w->raw, "%llx",
                       (unsigned long long)XXH3_64bits(p, n));
        free(p);
    }
    free(path);
}

/* A bit of the older backup turns. */
static void spoil_backup(const char *root, const struct world *w)
{
    char *below = xasprintf("data/backups/default/%s", w->backup[0].name);
    size_t n;
    uint8_t *p = get_file(root, below, &n);

    p[n - 5] ^= 1;
    put_file(root, below, p, n);
    free(p);
    free(below);
}

static void digest_backups(const char *root, struct world *w)
{
    for (size_t i = 0; i < w->n_backups; i++) {
        char *path =
            xasprintf("%s/data/backups/default/%s", root, w->backup[i].name);

        world_digest(path, true, w->backup[i].digest);
        free(path);
    }
}

static void make_extra(const char *root, struct world *w)
{
    char *path;
    sqlite3 *db;

    make_dir(root, "data/databases/extra");
    path = in(root, "data/databases/extra/app.db");
    db = open_live(path, false, 4096);
    set_state(db, 3, 20);
    (void)sqlite3_close(db);
    world_digest(path, false, w->extra);
    free(path);
}

void world_make(const struct scenario *sc, const char *root, struct world *w)
{
    bool wal = (sc->with & WITH_WAL) != 0;
    int n_old = (sc->with & WITH_SHRINK) != 0 ? 30 : 90;
    char *live = in(root, "data/databases/default/app.db");
    struct service *s = NULL;
    struct err e = {0};
    sqlite3 *db;

    if ((sc->with & WITHOUT_ALL) != 0) {
        (void)snprintf(w->live, sizeof w->live, "missing");
        return;
    }
    fault_clock_advance(-1000);
    make_dir(root, "data");
    make_dir(root, "elsewhere");
    make_dir(root, "data/databases");
    make_dir(root, "data/databases/default");
    db = open_live(live, false, (sc->with & WITH_SIZE) != 0 ? 1024 : 4096);
    set_state(db, 2, n_old);
    (void)sqlite3_close(db);
    world_start_helper();
    if (world_open(root, &s, &e) != 0)
        give_up(e.message);
    make_backup(s, &w->backup[0]);
    if ((sc->with & WITH_SIZE) != 0)
        (void)unlink(live);
    db = open_live(live, wal, 4096);
    set_state(db, 1, 60);
    make_backup(s, &w->backup[1]);
    w->n_backups = 2;
    world_close(s);
    digest_backups(root, w);
    if ((sc->with & WITH_EXTRA) != 0)
        make_extra(root, w);
    /* A WAL stays behind as it does when an application is killed. */
    if (!wal) {
        (void)sqlite3_close(db);
        finish_live(sc, root, w);
        world_digest(live, false, w->live);
    } else {
        digest_rows(db, w->live);
    }
    if ((sc->with & WITH_BAD_BACKUP) != 0)
        spoil_backup(root, w);
    if ((sc->with & WITH_LEFTOVERS) != 0)
        make_leftovers(root, w);
    free(live);
}

/* ------------------------------------------------------------------- acting */

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    struct result *r;
};

static void take(struct waiting *w, const struct err *e)
{
    (void)pthread_mutex_lock(&w->lock);
    if (w->done)
        complain("an action was answered twice");
    w->done = true;
    w->r->failed = e != NULL;
    if (e != NULL)
        w->r->e = *e;
    __atomic_store_n(&w->r->answered, 1, __ATOMIC_RELEASE);
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
}

static void done(void *arg, const struct err *e, const struct backup_answer *a)
{
    struct waiting *w = arg;

    if (e == NULL) {
        w->r->name = a->name;
        w->r->safety = a->safety;
    }
    take(w, e);
}

static void removed(void *arg, const struct err *e)
{
    take(arg, e);
}

static void put_result(struct result *r, int rc, const struct err *e)
{
    r->failed = rc != 0;
    if (rc != 0)
        r->e = *e;
    __atomic_store_n(&r->answered, 1, __ATOMIC_RELEASE);
}

static void act_list(struct service *s, const struct world *w, struct result *r)
{
    const struct backup_list *l = NULL;
    struct err e = {0};
    int rc = backup_list_get(s, NULL, &l, &e);

    put_result(r, rc, &e);
    if (rc == 0 && l->n != w->n_backups)
        complain("a list has %zu backups of %zu", l->n, w->n_backups);
    backup_list_put(l);
}

static void act_add(struct service *s, const char *root, struct result *r)
{
    struct database_info info = {0};
    struct err e = {0};
    char *path = root == NULL ? NULL : in(root, "elsewhere/new.db");
    int rc = databases_add(s, "new", path, true, &info, &e);

    put_result(r, rc, &e);
    if (rc == 0)
        database_info_fini(&info);
    free(path);
}

static void act_start(const char *root, struct result *r)
{
    struct service *s = NULL;
    struct err e = {0};
    int rc = world_open(root, &s, &e);

    if (rc == 0)
        world_close(s);
    put_result(r, rc, &e);
}

void world_act(const struct scenario *sc, const struct world *w,
               const char *root, struct service *s, struct result *r)
{
    struct waiting wait = {.lock = PTHREAD_MUTEX_INITIALIZER,
                           .changed = PTHREAD_COND_INITIALIZER,
                           .r = r};
    struct backup_call call = {.done = done, .arg = &wait, .request_id = "r"};
    struct err e = {0};
    int rc = 0;

    memset(r, 0, sizeof *r);
    switch (sc->action) {
    case DO_CREATE:
        backup_create(s, NULL, &call);
        break;
    case DO_RESTORE:
        backup_restore(s, NULL, w->backup[0].name, false, &call);
        break;
    case DO_DELETE:
        backup_delete(s, NULL, w->backup[0].name, &call);
        break;
    case DO_VERIFY:
        backup_verify(s, NULL, w->backup[0].name, &call);
        break;
    case DO_REMOVE:
        databases_remove(s, "extra", removed, &wait);
        break;
    case DO_LIST:
        act_list(s, w, r);
        return;
    case DO_START:
        act_start(root, r);
        return;
    case DO_ADD:
        act_add(s, NULL, r);
        return;
    case DO_ADD_PATH:
        act_add(s, root, r);
        return;
    case DO_CHOOSE:
        rc = databases_switch(s, "extra", &e);
        put_result(r, rc, &e);
        return;
    }
    (void)pthread_mutex_lock(&wait.lock);
    while (!wait.done)
        (void)pthread_cond_wait(&wait.changed, &wait.lock);
    (void)pthread_mutex_unlock(&wait.lock);
}
