/* Who may come in: see http_admit in http.h, and api_internal.h. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/api_internal.h"
#include "base/mem.h"

/* With authentication off whoever comes is the operator. */
static const struct auth_caller operator_off = {.kind = AUTH_SESSION,
                                                .scopes = AUTH_ALL_SCOPES};

const struct auth_caller *api_caller(const struct http_request *rq)
{
    const struct auth_caller *who = http_kept(rq);

    return who != NULL ? who : &operator_off;
}

static void refuse_unknown(struct http_request *rq)
{
    struct http_headers *h = http_headers_new();

    http_headers_put(h, "WWW-Authenticate", "Bearer realm=\"holdfast\"");
    http_reply_error(rq, 401, "AUTH_REQUIRED",
                     "this needs a session or a key: log in, or send "
                     "Authorization: Bearer hf_live_...",
                     NULL, h);
}

static void refuse_scope(struct http_request *rq, unsigned access)
{
    char message[96];

    if (access == API_OPERATOR)
        (void)snprintf(message, sizeof message,
                       "this needs a session, or a key with the scope admin");
    else
        (void)snprintf(message, sizeof message,
                       "this key does not have the scope %s",
                       auth_scope_name((enum auth_scope)access));
    http_reply_error(rq, 403, "FORBIDDEN", message,
                     json_pack("{s:s}", "reason", "scope"), NULL);
}

static bool has_access(const struct auth_caller *who, unsigned access)
{
    if ((access & (API_PUBLIC | API_ANYONE)) != 0)
        return true;
    if (access == API_OPERATOR)
        return (who->scopes & AUTH_ADMIN) != 0 && who->databases[0] == '\0';
    return (who->scopes & (access | AUTH_ADMIN)) != 0;
}

bool api_admit(struct http_request *rq, void *ctx)
{
    struct api *api = ctx;
    const struct http_route *route = http_request_route(rq);
    struct auth_caller *who;
    bool known;

    if (api->auth == NULL)
        return true;
    who = xmalloc(sizeof *who);
    known = auth_identify(api->auth, http_header(rq, "Authorization"),
                          http_header(rq, "Cookie"), who);
    http_keep(rq, who, free);
    if (!known && (route == NULL || (route->access & API_PUBLIC) == 0)) {
        refuse_unknown(rq);
        return false;
    }
    if (route != NULL && !has_access(who, route->access)) {
        refuse_scope(rq, route->access);
        return false;
    }
    return true;
}
