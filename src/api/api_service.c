/* The service itself: whether it lives, whether it is ready, what it says. */
#include <jansson.h>

#include "api/api_request.h"
#include "openapi.h"

static const char *const no_query[] = {NULL};

static void reply_status(struct http_request *rq, const char *status)
{
    http_reply_json(rq, 200, json_pack("{s:s}", "status", status), NULL);
}

void api_service_health(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.health",
                                            .query = no_query};
    struct api_call c;

    if (api_call_begin(&c, rq, ctx, &op) == 0)
        reply_status(rq, "ok");
}

/*
 * Ready means that what a crash interrupted has been finished, and that the
 * data directory is there.  Once it is to
 * end the server answers 503 with the reason "stopping" by itself.
 */
void api_service_ready(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.ready",
                                            .query = no_query};
    struct api_call c;
    struct err e = {0};

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    if (service_ready(c.api->service, &e) == 0)
        reply_status(rq, "ready");
    else
        api_call_fail(&c, &e);
}

void api_service_openapi(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.openapi",
                                            .query = no_query};
    struct api_call c;

    if (api_call_begin(&c, rq, ctx, &op) == 0)
        http_reply_static(rq, 200, "application/json", openapi_json,
                          openapi_json_len, NULL);
}
