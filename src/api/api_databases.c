/* The databases that the service looks after. */
#include "backup/databases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_error.h"
#include "api/api_request.h"
#include "backup/backup.h"
#include "base/clock.h"

#define RICH_LIST_MAX 1000
#define RICH_LIST_USUAL 100

static const char *const no_query[] = {NULL};

static json_t *entry(const struct database_info *d)
{
    char modified[CLOCK_ISO_SIZE];
    json_t *at = json_null();

    if (d->exists) {
        clock_format_iso(d->last_modified, modified);
        at = json_string(modified);
    }
    return json_pack("{s:s, s:o, s:b, s:I, s:o}", "name", d->name, "path",
                     api_text(d->path), "exists", (int)d->exists, "size",
                     (json_int_t)d->size_bytes, "last_modified", at);
}

void api_databases_list(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.databases.list",
                                            .query = no_query};
    struct database_info *list;
    json_t *entries;
    struct api_call c;
    struct err e;
    size_t n;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (databases_list(c.api->service, &list, &n, &e) != 0) {
        api_call_fail(&c, &e);
        return;
    }
    entries = json_array();
    for (size_t i = 0; i < n; i++) {
        if (auth_may_database(api_caller(rq), list[i].name))
            (void)json_array_append_new(entries, entry(&list[i]));
    }
    databases_list_free(list, n);
    http_reply_json(rq, 200, json_pack("{s:o}", "databases", entries), NULL);
}

static void reply_created(struct http_request *rq,
                          const struct database_info *d)
{
    struct http_headers *h = http_headers_new();
    char location[DATABASE_NAME_SIZE + 32];

    (void)snprintf(location, sizeof location, "/api/v1/databases/%s", d->name);
    http_headers_put(h, "Location", location);
    http_reply_json(rq, 201, entry(d), h);
}

void api_databases_create(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.databases.create",
                                            .query = no_query};
    struct api_field f[] = {{.name = "name", .required = true},
                            {.name = "path"}};
    struct database_info info = {0};
    json_t *body = NULL;
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (api_body_fields(rq, f, 2, &body, &e) != 0 ||
        database_name_check(f[0].value, &e) != 0 ||
        databases_add(c.api->service, f[0].value, f[1].value, false, &info,
                      &e) != 0) {
        api_call_fail(&c, &e);
        goto done;
    }
    reply_created(rq, &info);
done:
    database_info_fini(&info);
    json_decref(body);
}

void api_databases_get(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {
        .step = "api.databases.get", .query = no_query, .named = true};
    struct database_info info = {0};
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (databases_get(c.api->service, c.database, &info, &e) != 0) {
        api_call_fail(&c, &e);
        return;
    }
    http_reply_json(rq, 200, entry(&info), NULL);
    database_info_fini(&info);
}

static void removed(void *arg, const struct err *e)
{
    struct api_call *c = arg;

    if (e != NULL)
        api_call_fail(c, e);
    else
        http_reply_empty(c->rq, 204, NULL);
    free(c);
}

void api_databases_delete(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {
        .step = "api.databases.delete", .query = no_query, .named = true};
    struct api_call c;

    if (api_call_begin(&c, rq, ctx, &op) == 0)
        databases_remove(c.api->service, c.database, removed,
                         api_call_keep(&c));
}

void api_databases_current(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.databases.current",
                                            .query = no_query};
    struct database_info info = {0};
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (databases_get(c.api->service, NULL, &info, &e) != 0) {
        api_call_fail(&c, &e);
        return;
    }
    if (!auth_may_database(api_caller(rq), info.name)) {
        (void)err_set_reason(&e, ERR_FORBIDDEN, "database",
                             "this key is not for the current database");
        database_info_fini(&info);
        api_call_fail(&c, &e);
        return;
    }
    http_reply_json(
        rq, 200,
        json_pack("{s:s, s:o}", "current", info.name, "info", entry(&info)),
        NULL);
    database_info_fini(&info);
}

void api_databases_switch(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.databases.switch",
                                            .query = no_query};
    struct api_field f[] = {{.name = "name", .required = true}};
    json_t *body = NULL;
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (api_body_fields(rq, f, 1, &body, &e) != 0 ||
        database_name_check(f[0].value, &e) != 0) {
        api_call_fail(&c, &e);
        goto done;
    }
    (void)strncpy(c.database, f[0].value, sizeof c.database - 1);
    if (databases_switch(c.api->service, c.database, &e) != 0) {
        api_call_fail(&c, &e);
        goto done;
    }
    http_reply_json(
        rq, 200,
        json_pack("{s:b, s:o, s:s}", "success", 1, "message",
                  json_sprintf("the current database is now %s", c.database),
                  "database", c.database),
        NULL);
done:
    json_decref(body);
}

/* Where the rich list is to begin: `before` is a backup's filename. */
static int rich_query(const struct http_request *rq, size_t *limit,
                      struct backup_name *before, bool *has_before,
                      struct err *e)
{
    const char *s = http_query(rq, "before");
    int64_t created_at;

    if (api_query_size(rq, "limit", 1, RICH_LIST_MAX, RICH_LIST_USUAL, limit,
                       e) != 0)
        return -1;
    *has_before = s != NULL;
    if (s != NULL && !backup_name_parse(s, before, &created_at))
        return err_set(e, ERR_INVALID,
                       "query parameter \"before\" must be the filename of a "
                       "backup, app_YYYYMMDD_HHMMSS.db");
    return 0;
}

void api_databases_backups(struct http_request *rq, void *ctx)
{
    static const char *const query[] = {"limit", "before", NULL};
    static const struct api_operation op = {
        .step = "api.databases.backups", .query = query, .named = true};
    struct facts *list;
    struct backup_name before;
    json_t *entries;
    struct api_call c;
    size_t limit, n;
    bool has_before;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (rich_query(rq, &limit, &before, &has_before, &e) != 0 ||
        backup_details_list(c.api->service, c.database, limit,
                            has_before ? &before : NULL, &list, &n, &e) != 0) {
        api_call_fail(&c, &e);
        return;
    }
    entries = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(entries, facts_to_json(&list[i]));
        facts_fini(&list[i]);
    }
    free(list);
    http_reply_json(rq, 200, json_pack("{s:o}", "backups", entries), NULL);
}
