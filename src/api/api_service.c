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
 * The server listens only once the service is open, and answers 503 with the
 * reason "stopping" by itself once it is to end; between the two it is ready.
 */
void api_service_ready(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.ready",
                                            .query = no_query};
    struct api_call c;

    if (api_call_begin(&c, rq, ctx, &op) == 0)
        reply_status(rq, "ready");
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
