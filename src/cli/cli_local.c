/*
 * Commands straight on a data directory: the service inside this process, and
 * a wait around each of its asynchronous calls.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/api_error.h"
#include "api/api_list.h"
#include "backup/backup.h"
#include "backup/databases.h"
#include "backup/service.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli_client.h"
#include "cli/cli_guard.h"
#include "cli/cli_settings.h"

struct local {
    struct cli_client client; /* first: the ops get a pointer to it */
    struct cli_settings settings;
    struct guard *guard;
    struct service *service;
};

static struct local *local_of(struct cli_client *c)
{
    return (struct local *)c;
}

/* ---- waiting ---- */

/* One call under way.  What the answer lends is copied before `done`. */
struct wait {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    bool failed;
    struct err error;
    struct backup_answer answer; /* facts is NULL */
    json_t *facts;               /* NULL where the answer has none */
    char sha256[SHA256_HEX_SIZE];
    struct cli_progress *progress;
};

static void wait_init(struct wait *w, struct cli_progress *progress)
{
    *w = (struct wait){.answer.fd = -1, .progress = progress};
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->ended, NULL);
}

static void wait_fini(struct wait *w)
{
    (void)pthread_mutex_destroy(&w->lock);
    (void)pthread_cond_destroy(&w->ended);
    file_close(&w->answer.fd);
    json_decref(w->facts);
}

static void end(struct wait *w, const struct err *e)
{
    (void)pthread_mutex_lock(&w->lock);
    w->done = true;
    w->failed = e != NULL;
    if (e != NULL)
        w->error = *e;
    (void)pthread_cond_signal(&w->ended);
    (void)pthread_mutex_unlock(&w->lock);
}

static void on_done(void *arg, const struct err *e,
                    const struct backup_answer *a)
{
    struct wait *w = arg;

    if (e == NULL) {
        w->answer = *a;
        w->answer.facts = NULL;
        if (a->facts != NULL) {
            w->facts = facts_to_json(a->facts);
            memcpy(w->sha256, a->facts->sha256, sizeof w->sha256);
        }
    }
    end(w, e);
}

static void on_removed(void *arg, const struct err *e)
{
    end(arg, e);
}

static void on_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct wait *w = arg;

    if (w->progress != NULL)
        cli_progress_update(w->progress, done_bytes, total_bytes);
}

static struct backup_call call_of(struct wait *w)
{
    return (struct backup_call){
        .done = on_done, .arg = w, .progress = on_progress};
}

static int wait_for(struct wait *w, struct err *e)
{
    (void)pthread_mutex_lock(&w->lock);
    while (!w->done)
        (void)pthread_cond_wait(&w->ended, &w->lock);
    (void)pthread_mutex_unlock(&w->lock);
    if (w->progress != NULL)
        cli_progress_end(w->progress);
    if (w->failed)
        *e = w->error;
    return w->failed ? -1 : 0;
}

/* ---- backups ---- */

static int create(struct cli_client *c, const char *db, json_t **out,
                  struct err *e)
{
    char created_at[CLOCK_ISO_SIZE];
    struct backup_call call;
    struct wait w;
    int rc;

    wait_init(&w, c->progress);
    call = call_of(&w);
    backup_create(local_of(c)->service, db, &call);
    rc = wait_for(&w, e);
    if (rc == 0) {
        clock_format_iso(w.answer.created_at, created_at);
        *out = json_pack("{s:s, s:s, s:I, s:s}", "database", w.answer.database,
                         "filename", w.answer.name.s, "size",
                         (json_int_t)w.answer.size_bytes, "created_at",
                         created_at);
    }
    wait_fini(&w);
    return rc;
}

static int list(struct cli_client *c, const char *db, json_t **out,
                struct err *e)
{
    const struct backup_list *l;
    struct buf text = {0};

    if (backup_list_get(local_of(c)->service, db, &l, e) != 0)
        return -1;
    api_list_render(l, &text);
    backup_list_put(l);
    *out = json_parse(text.data, text.len, e);
    buf_fini(&text);
    return *out == NULL ? -1 : 0;
}

static int list_details(struct cli_client *c, const char *db,
                        struct cli_page page, json_t **out, struct err *e)
{
    struct facts *facts;
    struct backup_name before = {0};
    int64_t created_at;
    json_t *entries;
    size_t n;

    if (page.before != NULL &&
        !backup_name_parse(page.before, &before, &created_at))
        return err_set(e, ERR_INVALID, "%s is not a backup's name",
                       page.before);
    if (backup_details_list(local_of(c)->service, db, page.limit,
                            page.before != NULL ? &before : NULL, &facts, &n,
                            e) != 0)
        return -1;
    entries = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(entries, facts_to_json(&facts[i]));
        facts_fini(&facts[i]);
    }
    free(facts);
    *out = json_pack("{s:o}", "backups", entries);
    return 0;
}

static int restore(struct cli_client *c, const char *db, const char *filename,
                   bool force, struct backup_name *safety, json_t **out,
                   struct err *e)
{
    struct backup_call call;
    struct wait w;
    int rc;

    wait_init(&w, c->progress);
    call = call_of(&w);
    backup_restore(local_of(c)->service, db, filename, force, &call);
    rc = wait_for(&w, e);
    if (rc == 0) {
        *safety = w.answer.safety;
        *out = json_pack("{s:s, s:s}", "database", w.answer.database,
                         "restored_from", w.answer.name.s);
    }
    wait_fini(&w);
    return rc;
}

static int delete_backup(struct cli_client *c, const char *db,
                         const char *filename, json_t **out, struct err *e)
{
    struct backup_call call;
    struct wait w;
    int rc;

    wait_init(&w, c->progress);
    call = call_of(&w);
    backup_delete(local_of(c)->service, db, filename, &call);
    rc = wait_for(&w, e);
    if (rc == 0)
        *out = json_pack("{s:s}", "status", "deleted");
    wait_fini(&w);
    return rc;
}

static int verify(struct cli_client *c, const char *db, const char *filename,
                  json_t **out, struct err *e)
{
    struct backup_call call;
    struct wait w;
    int rc;

    wait_init(&w, c->progress);
    call = call_of(&w);
    backup_verify(local_of(c)->service, db, filename, &call);
    rc = wait_for(&w, e);
    if (rc == 0)
        *out = json_incref(w.facts);
    wait_fini(&w);
    return rc;
}

#define PIECE ((size_t)1 << 20)

static int pump(int fd, uint64_t size, const struct cli_sink *sink,
                struct err *e)
{
    char *piece = xmalloc(PIECE);
    uint64_t at = 0;
    size_t n;
    int rc = 0;

    while (rc == 0 && at < size) {
        rc = file_pread_some(fd, piece, PIECE, at, &n, e);
        if (rc == 0 && n == 0)
            rc = err_set(e, ERR_DAMAGED, "the backup is shorter than it was");
        if (rc == 0)
            rc = sink->write(sink->arg, piece, n, size, e);
        if (rc == 0)
            rc = sink->tick(sink->arg, e);
        at += n;
    }
    free(piece);
    return rc;
}

static int download(struct cli_client *c, const char *db, const char *filename,
                    bool suspect, const struct cli_sink *sink,
                    struct cli_download_facts *said, struct err *e)
{
    struct backup_call call;
    struct wait w;
    int rc;

    wait_init(&w, NULL);
    call = call_of(&w);
    backup_fetch(local_of(c)->service, db, filename, suspect, &call);
    rc = wait_for(&w, e);
    if (rc == 0) {
        said->size_bytes = w.answer.size_bytes;
        memcpy(said->sha256, w.sha256, sizeof said->sha256);
        rc = pump(w.answer.fd, w.answer.size_bytes, sink, e);
    }
    wait_fini(&w);
    return rc;
}

/* ---- databases ---- */

static json_t *entry(const struct database_info *d)
{
    char modified[CLOCK_ISO_SIZE];

    clock_format_iso(d->last_modified, modified);
    return json_pack("{s:s, s:o, s:b, s:I, s:o}", "name", d->name, "path",
                     api_text(d->path), "exists", (int)d->exists, "size",
                     (json_int_t)d->size_bytes, "last_modified",
                     d->exists ? json_string(modified) : json_null());
}

static int databases(struct cli_client *c, json_t **out, struct err *e)
{
    struct database_info *all;
    json_t *entries;
    size_t n;

    if (databases_list(local_of(c)->service, &all, &n, e) != 0)
        return -1;
    entries = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(entries, entry(&all[i]));
    databases_list_free(all, n);
    *out = json_pack("{s:o}", "databases", entries);
    return 0;
}

static int current(struct cli_client *c, json_t **out, struct err *e)
{
    struct database_info info;

    if (databases_get(local_of(c)->service, NULL, &info, e) != 0)
        return -1;
    *out = json_pack("{s:s, s:o}", "current", info.name, "info", entry(&info));
    database_info_fini(&info);
    return 0;
}

static int add(struct cli_client *c, const char *name, const char *path,
               json_t **out, struct err *e)
{
    struct database_info info;

    if (databases_add(local_of(c)->service, name, path, true, &info, e) != 0)
        return -1;
    *out = entry(&info);
    database_info_fini(&info);
    return 0;
}

static int remove_database(struct cli_client *c, const char *name,
                           struct err *e)
{
    struct wait w;
    int rc;

    wait_init(&w, NULL);
    databases_remove(local_of(c)->service, name, on_removed, &w);
    rc = wait_for(&w, e);
    wait_fini(&w);
    return rc;
}

static int use(struct cli_client *c, const char *name, json_t **out,
               struct err *e)
{
    if (databases_switch(local_of(c)->service, name, e) != 0)
        return -1;
    *out = json_pack("{s:b, s:o, s:s}", "success", 1, "message",
                     json_sprintf("the current database is now %s", name),
                     "database", name);
    return 0;
}

/* ---- opening ---- */

static void local_close(struct cli_client *c)
{
    struct local *l = local_of(c);

    service_close(l->service);
    guard_stop(l->guard);
    cli_settings_fini(&l->settings);
    free(l);
}

static const struct cli_client_ops ops = {.create = create,
                                          .list = list,
                                          .list_details = list_details,
                                          .restore = restore,
                                          .download = download,
                                          .delete_backup = delete_backup,
                                          .verify = verify,
                                          .databases = databases,
                                          .current = current,
                                          .add = add,
                                          .remove = remove_database,
                                          .use = use,
                                          .close = local_close};

/* The settings of a server in the environment count here too; of the log only
 * what was asked for, as the command itself says how it went. */
static int take_settings(struct local *l, struct err *e)
{
    cli_settings_init(&l->settings);
    l->settings.log_level = LOG_OFF;
    if (cli_settings_environment(&l->settings, e) != 0)
        return -1;
    log_set_level(l->settings.log_level);
    return 0;
}

static int open_service(struct local *l, const char *data_dir, struct err *e)
{
    const struct service_opts opts = {
        .data_dir = data_dir,
        .busy_timeout_ms = l->settings.busy_timeout_ms,
        .wal_limit_bytes = l->settings.wal_limit_bytes,
        .max_stall_ms = l->settings.max_stall_ms,
        .allow_network_fs = l->settings.allow_network_fs,
        .guard = l->guard};

    if (service_open(&opts, &l->service, e) == 0)
        return 0;
    if (strcmp(e->reason, "in_use") == 0)
        return err_set_reason(e, ERR_CONFLICT, "in_use",
                              "a server (or another command) works on the data "
                              "directory %s; ask the server, with --server URL",
                              data_dir);
    return -1;
}

int cli_local_open(const char *data_dir, bool make, struct cli_client **out,
                   struct err *e)
{
    struct local *l;
    struct stat st;

    /* A misspelt name must not become a data directory. */
    if (!make && (stat(data_dir, &st) != 0 || !S_ISDIR(st.st_mode)))
        return err_set(e, ERR_NOT_FOUND, "no data directory %s", data_dir);
    (void)umask(077);
    l = xcalloc(1, sizeof *l);
    l->client.ops = &ops;
    if (take_settings(l, e) != 0 || cli_guard_start(&l->guard, e) != 0 ||
        open_service(l, data_dir, e) != 0) {
        local_close(&l->client);
        return -1;
    }
    *out = &l->client;
    return 0;
}
