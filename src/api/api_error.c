/* From an error to an answer: see api_error.h. */
#include "api/api_error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct row {
    int status;
    const char *code;
};

static const struct row rows[] = {
    [ERR_BAD_REQUEST] = {400, "BAD_REQUEST"},
    [ERR_UNAUTHORIZED] = {401, "INVALID_CREDENTIALS"},
    [ERR_FORBIDDEN] = {403, "FORBIDDEN"},
    [ERR_NOT_FOUND] = {404, "NOT_FOUND"},
    [ERR_CONFLICT] = {409, "CONFLICT"},
    [ERR_INVALID] = {422, "VALIDATION_FAILED"},
    [ERR_TOO_LARGE] = {413, "PAYLOAD_TOO_LARGE"},
    [ERR_DAMAGED] = {422, "OPERATION_FAILED"},
    [ERR_NOT_DATABASE] = {422, "OPERATION_FAILED"},
    [ERR_ENCRYPTED] = {422, "OPERATION_FAILED"},
    [ERR_THROTTLED] = {429, "TOO_MANY_REQUESTS"},
    [ERR_BUSY] = {503, "BUSY"},
    [ERR_NO_SPACE] = {507, "INSUFFICIENT_STORAGE"},
    [ERR_CANCELLED] = {503, "BUSY"},
    [ERR_LIMIT] = {422, "OPERATION_FAILED"},
    [ERR_UNREACHABLE] = {500, "INTERNAL_ERROR"},
    [ERR_IO] = {500, "INTERNAL_ERROR"},
    [ERR_INTERNAL] = {500, "INTERNAL_ERROR"},
};

static const struct row *row_of(enum err_code code)
{
    size_t i = (size_t)code;

    if (i >= sizeof rows / sizeof rows[0] || rows[i].code == NULL)
        return &rows[ERR_INTERNAL];
    return &rows[i];
}

/* A word for every 503, so that a client need not read the message. */
static const char *busy_reason(const struct err *e)
{
    if (e->reason[0] != '\0')
        return e->reason;
    return e->code == ERR_CANCELLED ? "stopping" : "locked";
}

/* These last; anything else is over in moments. */
static unsigned retry_after_s(const char *reason)
{
    static const char *const lasting[] = {"exclusive", "wal_limit",
                                          "max_stall"};

    for (size_t i = 0; i < sizeof lasting / sizeof lasting[0]; i++) {
        if (strcmp(reason, lasting[i]) == 0)
            return 30;
    }
    return 5;
}

static void put_ascii(char *s)
{
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s > 0x7f)
            *s = '?';
    }
}

json_t *api_text(const char *s)
{
    json_t *v = json_string(s);
    char *copy;

    if (v != NULL)
        return v;
    copy = strdup(s);
    if (copy == NULL)
        return json_null();
    put_ascii(copy);
    v = json_string(copy);
    free(copy);
    return v;
}

static void put_message(struct api_error *out, const char *message)
{
    json_t *v;

    (void)snprintf(out->message, sizeof out->message, "%s", message);
    v = json_string(out->message);
    if (v == NULL)
        put_ascii(out->message);
    json_decref(v);
}

void api_error_plan(const struct err *e, struct api_subject subject,
                    const char *request_id, struct api_error *out)
{
    const struct row *row = row_of(e->code);

    *out = (struct api_error){.status = row->status, .code = row->code};
    out->internal = row->status == 500 || err_is_private(e);
    if (out->internal) {
        put_message(out, "something went wrong inside the service; its log "
                         "tells more under this request id");
        out->details = json_pack("{s:s}", "request_id", request_id);
        return;
    }
    put_message(out, e->message);
    if (row->status == 404) {
        out->details = json_pack(
            "{s:s, s:o}", "resource_type", subject.type, "identifier",
            api_text(subject.identifier != NULL ? subject.identifier : ""));
    } else if (row->status == 503) {
        const char *reason = busy_reason(e);

        out->retry_after_s = retry_after_s(reason);
        out->details = json_pack("{s:s}", "reason", reason);
    } else if (e->reason[0] != '\0') {
        out->details = json_pack("{s:s}", "reason", e->reason);
    }
}

void api_error_reply(struct http_request *rq, const struct err *e,
                     struct api_subject subject)
{
    struct http_headers *h = NULL;
    struct api_error a;

    api_error_plan(e, subject, http_request_id(rq), &a);
    if (a.internal)
        log_error("api.failed", e, http_request_id(rq));
    if (a.retry_after_s != 0) {
        char text[16];

        (void)snprintf(text, sizeof text, "%u", a.retry_after_s);
        h = http_headers_new();
        http_headers_put(h, "Retry-After", text);
    }
    http_reply_error(rq, a.status, a.code, a.message, a.details, h);
}
