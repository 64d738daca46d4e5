/* What is done with the backups of one database. */
#include "backup/backup.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/api_error.h"
#include "api/api_request.h"
#include "base/clock.h"

static const char *const database_query[] = {"database", NULL};

/* The call of a handler that answers later: `kept` is freed by `done`. */
static struct backup_call later(struct api_call *kept, backup_done *done)
{
    return (struct backup_call){
        .done = done, .arg = kept, .request_id = http_request_id(kept->rq)};
}

/* The first lines of every callback: true if it ended in an error, which has
 * been answered then. */
static bool failed(struct api_call *c, const struct err *e)
{
    if (e == NULL)
        return false;
    api_call_fail(c, e);
    free(c);
    return true;
}

static void created(void *arg, const struct err *e,
                    const struct backup_answer *a)
{
    struct api_call *c = arg;
    char created_at[CLOCK_ISO_SIZE];

    if (failed(c, e))
        return;
    clock_format_iso(a->created_at, created_at);
    http_reply_json(c->rq, 200,
                    json_pack("{s:s, s:s, s:I, s:s}", "database", a->database,
                              "filename", a->name.s, "size",
                              (json_int_t)a->size_bytes, "created_at",
                              created_at),
                    NULL);
    free(c);
}

void api_backup_create(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.create",
                                            .query = database_query,
                                            .backups = true,
                                            .no_fields = true};
    struct backup_call call;
    struct api_call *kept;
    struct api_call c;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    kept = api_call_keep(&c);
    call = later(kept, created);
    backup_create(c.api->service, c.database, &call);
}

void api_backup_list(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {
        .step = "api.list", .query = database_query, .backups = true};
    const struct backup_list *l;
    struct http_shared *body;
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (backup_list_get(c.api->service, c.database, &l, &e) != 0) {
        api_call_fail(&c, &e);
        return;
    }
    body = api_lists_get(c.api->lists, c.database, l);
    backup_list_put(l);
    http_reply_shared(rq, 200, "application/json", body, NULL);
}

static void restored(void *arg, const struct err *e,
                     const struct backup_answer *a)
{
    struct http_headers *h = NULL;
    struct api_call *c = arg;

    if (failed(c, e))
        return;
    if (a->safety.s[0] != '\0') {
        h = http_headers_new();
        http_headers_put(h, "Holdfast-Safety-Backup", a->safety.s);
    }
    http_reply_json(c->rq, 200,
                    json_pack("{s:s, s:s}", "database", a->database,
                              "restored_from", a->name.s),
                    h);
    free(c);
}

void api_backup_restore(struct http_request *rq, void *ctx)
{
    static const char *const query[] = {"database", "force", NULL};
    static const struct api_operation op = {.step = "api.restore",
                                            .query = query,
                                            .backups = true,
                                            .filename = true,
                                            .no_fields = true};
    struct backup_call call;
    struct api_call *kept;
    struct api_call c;
    struct err e;
    bool force;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (api_query_bool(rq, "force", &force, &e) != 0) {
        api_call_fail(&c, &e);
        return;
    }
    kept = api_call_keep(&c);
    call = later(kept, restored);
    backup_restore(c.api->service, c.database, c.filename.s, force, &call);
}

static void fetched(void *arg, const struct err *e,
                    const struct backup_answer *a)
{
    struct api_call *c = arg;
    char etag[80];

    if (failed(c, e))
        return;
    (void)snprintf(etag, sizeof etag, "\"%s\"", a->facts->sha256);
    http_reply_file(
        c->rq,
        (struct http_file){.fd = a->fd,
                           .size_bytes = a->size_bytes,
                           .content_type = "application/x-sqlite3",
                           .etag = a->facts->sha256[0] != '\0' ? etag : NULL,
                           .last_modified = a->created_at,
                           .filename = a->name.s});
    free(c);
}

void api_backup_download(struct http_request *rq, void *ctx)
{
    static const char *const query[] = {"database", "suspect", NULL};
    static const struct api_operation op = {.step = "api.download",
                                            .query = query,
                                            .backups = true,
                                            .filename = true};
    struct backup_call call;
    struct api_call *kept;
    struct api_call c;
    bool suspect;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (api_query_bool(rq, "suspect", &suspect, &e) != 0) {
        api_call_fail(&c, &e);
        return;
    }
    kept = api_call_keep(&c);
    call = later(kept, fetched);
    backup_fetch(c.api->service, c.database, c.filename.s, suspect, &call);
}

static void deleted(void *arg, const struct err *e,
                    const struct backup_answer *a)
{
    struct api_call *c = arg;

    (void)a;
    if (failed(c, e))
        return;
    http_reply_json(c->rq, 200, json_pack("{s:s}", "status", "deleted"), NULL);
    free(c);
}

void api_backup_delete(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.delete",
                                            .query = database_query,
                                            .backups = true,
                                            .filename = true};
    struct backup_call call;
    struct api_call *kept;
    struct api_call c;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    kept = api_call_keep(&c);
    call = later(kept, deleted);
    backup_delete(c.api->service, c.database, c.filename.s, &call);
}

void api_backup_details(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.details",
                                            .query = database_query,
                                            .backups = true,
                                            .filename = true};
    struct facts f = {0};
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (backup_details(c.api->service, c.database, c.filename.s, &f, &e) != 0) {
        api_call_fail(&c, &e);
        return;
    }
    http_reply_json(rq, 200, facts_to_json(&f), NULL);
    facts_fini(&f);
}

/* A backup that proves damaged is an answer too: its state says so. */
static void verified(void *arg, const struct err *e,
                     const struct backup_answer *a)
{
    struct api_call *c = arg;

    if (failed(c, e))
        return;
    http_reply_json(c->rq, 200, facts_to_json(a->facts), NULL);
    free(c);
}

void api_backup_verify(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.verify",
                                            .query = database_query,
                                            .backups = true,
                                            .filename = true,
                                            .no_fields = true};
    struct backup_call call;
    struct api_call *kept;
    struct api_call c;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    kept = api_call_keep(&c);
    call = later(kept, verified);
    backup_verify(c.api->service, c.database, c.filename.s, &call);
}
