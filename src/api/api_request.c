/* What every call does first: see api_request.h. */
#include "api/api_request.h"

#include <stdlib.h>
#include <string.h>

#include "api/api_error.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/phase.h"

static int check_query(const struct http_request *rq, const char *const *known,
                       struct err *e)
{
    const char *unknown = http_query_unknown(rq, known);

    if (unknown != NULL)
        return err_set(e, ERR_BAD_REQUEST,
                       "unknown query parameter \"%.64s\"; see "
                       "/api/v1/openapi.json for those of this call",
                       unknown);
    for (size_t i = 0; known[i] != NULL; i++) {
        if (http_query_repeated(rq, known[i]))
            return err_set(e, ERR_BAD_REQUEST,
                           "query parameter \"%s\" is given more than once",
                           known[i]);
    }
    return 0;
}

/* database_name_check refuses what would not fit. */
static int take_database(struct api_call *c, const char *name, struct err *e)
{
    if (database_name_check(name, e) != 0)
        return -1;
    (void)strncpy(c->database, name, sizeof c->database - 1);
    return 0;
}

static int take_filename(struct api_call *c, struct err *e)
{
    const char *s = http_param(c->rq, "filename");
    int64_t created_at;

    if (backup_name_parse(s, &c->filename, &created_at))
        return 0;
    return err_set_reason(e, ERR_INVALID, "filename",
                          "\"%.64s\" is not the name of a backup: expected "
                          "app_YYYYMMDD_HHMMSS.db with a real date and time",
                          s);
}

static int check_no_fields(const struct http_request *rq, struct err *e)
{
    json_t *body;
    size_t len;

    (void)http_body(rq, &len);
    if (len == 0)
        return 0;
    if (api_body_fields(rq, NULL, 0, &body, e) != 0)
        return -1;
    json_decref(body);
    return 0;
}

/* A key for some databases may not even learn whether others exist. */
static int check_database(const struct api_call *c, struct err *e)
{
    if (auth_may_database(api_caller(c->rq), c->database))
        return 0;
    return err_set_reason(e, ERR_FORBIDDEN, "database",
                          "this key is not for database %s", c->database);
}

static int check(struct api_call *c, const struct api_operation *op,
                 struct err *e)
{
    const char *query;

    if (phase_enter(op->step, e) != 0)
        return -1;
    if (check_query(c->rq, op->query, e) != 0)
        return -1;
    if (op->named && take_database(c, http_param(c->rq, "name"), e) != 0)
        return -1;
    if (op->backups) {
        query = http_query(c->rq, "database");
        if (query == NULL)
            databases_current(c->api->service, c->database);
        else if (take_database(c, query, e) != 0)
            return -1;
    }
    if ((op->named || op->backups) && check_database(c, e) != 0)
        return -1;
    if (op->filename && take_filename(c, e) != 0)
        return -1;
    if (op->no_fields && check_no_fields(c->rq, e) != 0)
        return -1;
    return 0;
}

int api_call_begin(struct api_call *c, struct http_request *rq, void *ctx,
                   const struct api_operation *op)
{
    struct err e;

    *c = (struct api_call){.api = ctx, .rq = rq};
    if (check(c, op, &e) == 0)
        return 0;
    api_call_fail(c, &e);
    return -1;
}

struct api_call *api_call_keep(const struct api_call *c)
{
    struct api_call *kept = xmalloc(sizeof *kept);

    *kept = *c;
    return kept;
}

void api_call_fail(const struct api_call *c, const struct err *e)
{
    struct api_subject subject = {"backup", c->filename.s};

    /* Without the database there is no backup either: its reason says so. */
    if (c->filename.s[0] == '\0' || strcmp(e->reason, "database") == 0)
        subject = (struct api_subject){"database", c->database};
    api_error_reply(c->rq, e, subject);
}

int api_query_bool(const struct http_request *rq, const char *name, bool *out,
                   struct err *e)
{
    const char *s = http_query(rq, name);

    if (s != NULL && strcmp(s, "true") != 0 && strcmp(s, "false") != 0)
        return err_set(e, ERR_BAD_REQUEST,
                       "query parameter \"%s\" must be true or false", name);
    *out = s != NULL && strcmp(s, "true") == 0;
    return 0;
}

/* Nine digits cannot overflow, and no limit of ours needs more. */
static bool parse_size(const char *s, size_t *v)
{
    size_t n = strlen(s);

    if (n == 0 || n > 9 || strspn(s, "0123456789") != n)
        return false;
    *v = 0;
    for (size_t i = 0; i < n; i++)
        *v = *v * 10 + (size_t)(s[i] - '0');
    return true;
}

int api_query_size(const struct http_request *rq, const char *name, size_t min,
                   size_t max, size_t otherwise, size_t *out, struct err *e)
{
    const char *s = http_query(rq, name);
    size_t v = otherwise;

    if (s != NULL && (!parse_size(s, &v) || v < min || v > max))
        return err_set(e, ERR_BAD_REQUEST,
                       "query parameter \"%s\" must be a whole number from "
                       "%zu to %zu",
                       name, min, max);
    *out = v;
    return 0;
}

static int take_fields(json_t *body, struct api_field *fields, size_t n,
                       struct err *e)
{
    const char *key;
    json_t *v;
    size_t i;

    json_object_foreach(body, key, v)
    {
        for (i = 0; i < n && strcmp(fields[i].name, key) != 0; i++)
            ;
        if (i == n)
            return err_set(e, ERR_INVALID, "unknown field \"%.64s\"", key);
        if (!json_is_string(v))
            return err_set(e, ERR_INVALID, "field \"%s\" must be a string",
                           key);
        fields[i].value = json_string_value(v);
    }
    for (i = 0; i < n; i++) {
        if (fields[i].required && fields[i].value == NULL)
            return err_set(e, ERR_INVALID, "field \"%s\" is missing",
                           fields[i].name);
    }
    return 0;
}

int api_body_fields(const struct http_request *rq, struct api_field *fields,
                    size_t n, json_t **body, struct err *e)
{
    int ret = -1;
    size_t len;
    const char *text = http_body(rq, &len);
    json_t *v = NULL;

    if (len == 0) {
        (void)err_set(e, ERR_BAD_REQUEST, "a JSON object is needed as body");
        goto done;
    }
    v = json_parse(text, len, e);
    if (v == NULL)
        goto done;
    if (!json_is_object(v)) {
        (void)err_set(e, ERR_BAD_REQUEST, "the body must be a JSON object");
        goto done;
    }
    if (take_fields(v, fields, n, e) != 0)
        goto done;
    *body = v;
    v = NULL;
    ret = 0;
done:
    json_decref(v);
    return ret;
}

bool api_auth_is_off(const struct api_call *c)
{
    struct err e;

    if (c->api->auth != NULL)
        return false;
    (void)err_set_reason(&e, ERR_CONFLICT, "auth_off",
                         "authentication is off: the server was started with "
                         "--auth off");
    api_call_fail(c, &e);
    return true;
}

json_t *api_time(int64_t t)
{
    char iso[CLOCK_ISO_SIZE];

    if (t == 0)
        return json_null();
    clock_format_iso(t, iso);
    return json_string(iso);
}

json_t *api_scopes(unsigned scopes)
{
    json_t *list = json_array();

    for (unsigned bit = 1; bit < AUTH_ALL_SCOPES; bit <<= 1) {
        if ((scopes & bit) != 0)
            (void)json_array_append_new(
                list, json_string(auth_scope_name((enum auth_scope)bit)));
    }
    return list;
}

json_t *api_names(const char *list)
{
    json_t *names;

    if (list == NULL || list[0] == '\0')
        return json_null();
    names = json_array();
    for (const char *p = list; *p != '\0'; p += *p == ',' ? 1 : 0) {
        size_t n = strcspn(p, ",");

        (void)json_array_append_new(names, json_stringn(p, n));
        p += n;
    }
    return names;
}
