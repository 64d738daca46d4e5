/* Keys: what programs call with. */
#include <stdlib.h>
#include <string.h>

#include "api/api_error.h"
#include "api/api_request.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

static const char *const no_query[] = {NULL};

static json_t *entry(const struct catalog_api_key *k)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "id", k->id, "name",
                     api_text(k->name), "scopes", api_scopes(k->scopes),
                     "databases", api_names(k->databases), "created_at",
                     api_time(k->created_at), "expires_at",
                     api_time(k->expires_at), "last_used_at",
                     api_time(k->last_used_at));
}

void api_keys_list(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.keys.list",
                                            .query = no_query};
    struct catalog_api_key *list = NULL;
    json_t *entries;
    struct api_call c;
    size_t n;

    if (api_call_begin(&c, rq, ctx, &op) != 0 || api_auth_is_off(&c))
        return;
    n = auth_keys(c.api->auth, &list);
    entries = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(entries, entry(&list[i]));
    catalog_keys_free(list, n);
    http_reply_json(rq, 200, json_pack("{s:o}", "keys", entries), NULL);
}

/* ---- a new one ---- */

static int take_scopes(const json_t *v, unsigned *out, struct err *e)
{
    size_t i;
    json_t *word;

    *out = 0;
    if (v == NULL || json_is_null(v))
        return 0;
    if (!json_is_array(v) || json_array_size(v) == 0)
        return err_set_reason(e, ERR_INVALID, "scopes",
                              "scopes must be a list of one or more words");
    json_array_foreach(v, i, word)
    {
        unsigned scope = json_is_string(word)
                             ? auth_scope_parse(json_string_value(word))
                             : 0;

        if (scope == 0)
            return err_set_reason(e, ERR_INVALID, "scopes",
                                  "the scopes are list, create, download, "
                                  "restore, delete, import, metrics and admin");
        *out |= scope;
    }
    return 0;
}

static int take_databases(const json_t *v, struct buf *out, struct err *e)
{
    size_t i;
    json_t *name;

    if (v == NULL || json_is_null(v))
        return 0;
    if (!json_is_array(v) || json_array_size(v) == 0)
        return err_set_reason(e, ERR_INVALID, "databases",
                              "databases must be a list of one or more names");
    json_array_foreach(v, i, name)
    {
        if (!json_is_string(name))
            return err_set_reason(e, ERR_INVALID, "databases",
                                  "a database's name must be a string");
        if (database_name_check(json_string_value(name), e) != 0)
            return -1;
        if (out->len > 0)
            buf_puts(out, ",");
        buf_puts(out, json_string_value(name));
    }
    return 0;
}

/* "2026-04-13T14:25:30", with or without a fraction, UTC. */
static int take_time(const json_t *v, int64_t *out, struct err *e)
{
    const char *s;
    char stamp[CLOCK_STAMP_SIZE];
    char iso[CLOCK_ISO_SIZE];

    *out = 0;
    if (v == NULL || json_is_null(v))
        return 0;
    s = json_is_string(v) ? json_string_value(v) : "";
    if (strlen(s) >= 19) {
        (void)snprintf(stamp, sizeof stamp, "%.4s%.2s%.2s_%.2s%.2s%.2s", s,
                       s + 5, s + 8, s + 11, s + 14, s + 17);
        if (clock_parse_stamp(stamp, out)) {
            clock_format_iso(*out, iso);
            if (strncmp(iso, s, 19) == 0 &&
                (s[19] == '\0' || strcmp(s + 19, "Z") == 0 ||
                 strcmp(s + 19, ".000000") == 0))
                return 0;
        }
    }
    return err_set_reason(e, ERR_INVALID, "expires_at",
                          "expires_at must be a time in UTC such as "
                          "2026-04-13T14:25:30");
}

/* Everything of the body that is not in `known` is refused. */
static int check_members(const json_t *body, struct err *e)
{
    static const char *const known[] = {"name", "scopes", "databases",
                                        "expires_at"};
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)body, key, v)
    {
        size_t i = 0;

        (void)v;
        while (i < 4 && strcmp(known[i], key) != 0)
            i++;
        if (i == 4)
            return err_set(e, ERR_INVALID, "unknown field \"%.64s\"", key);
    }
    return 0;
}

static int take(const json_t *body, struct auth_key_opts *o,
                struct buf *databases, struct err *e)
{
    const json_t *name = json_object_get(body, "name");

    if (!json_is_object(body))
        return err_set(e, ERR_BAD_REQUEST, "the body must be a JSON object");
    if (check_members(body, e) != 0)
        return -1;
    if (!json_is_string(name))
        return err_set_reason(e, ERR_INVALID, "name",
                              "field \"name\" is missing or no string");
    o->name = json_string_value(name);
    if (take_scopes(json_object_get(body, "scopes"), &o->scopes, e) != 0 ||
        take_databases(json_object_get(body, "databases"), databases, e) != 0)
        return -1;
    o->databases = databases->len > 0 ? databases->data : NULL;
    return take_time(json_object_get(body, "expires_at"), &o->expires_at, e);
}

static int create(struct api_call *c, const json_t *body, struct err *e)
{
    struct auth_key_opts o = {0};
    struct buf databases = {0};
    char key[AUTH_KEY_SIZE];
    char id[CATALOG_ID_SIZE];
    int64_t created_at = 0;
    int rc = -1;

    if (take(body, &o, &databases, e) == 0 &&
        auth_key_create(c->api->auth, &o, key, id, &created_at, e) == 0) {
        http_reply_json(c->rq, 201,
                        json_pack("{s:s, s:s, s:s, s:o}", "id", id, "name",
                                  o.name, "key", key, "created_at",
                                  api_time(created_at)),
                        NULL);
        explicit_bzero(key, sizeof key);
        rc = 0;
    }
    buf_fini(&databases);
    return rc;
}

void api_keys_create(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.keys.create",
                                            .query = no_query};
    json_t *body = NULL;
    struct api_call c;
    const char *text;
    struct err e;
    size_t len;

    if (api_call_begin(&c, rq, ctx, &op) != 0 || api_auth_is_off(&c))
        return;
    text = http_body(rq, &len);
    body = json_parse(text, len, &e);
    if (body == NULL || create(&c, body, &e) != 0)
        api_call_fail(&c, &e);
    json_decref(body);
}

void api_keys_revoke(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.keys.revoke",
                                            .query = no_query};
    const char *id = http_param(rq, "id");
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0 || api_auth_is_off(&c))
        return;
    if (auth_key_revoke(c.api->auth, id, &e) == 0)
        http_reply_empty(rq, 204, NULL);
    else
        api_error_reply(rq, &e, (struct api_subject){"key", id});
}
