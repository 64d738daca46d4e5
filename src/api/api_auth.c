/* The operator's account and its sessions. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_error.h"
#include "api/api_request.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

static const char *const no_query[] = {NULL};

static struct auth_peer peer_of(const struct http_request *rq)
{
    return (struct auth_peer){.address = http_peer(rq),
                              .client = http_header(rq, "User-Agent")};
}

/* ---- what takes a password, and so a worker's time ---- */

struct password_job {
    struct api_call c;
    json_t *body;
    struct api_field f[3];
    int (*work)(struct password_job *j, struct err *e); /* on the worker */
    void (*reply)(struct password_job *j);
    char token[AUTH_TOKEN_SIZE];
};

static void free_job(struct password_job *j)
{
    explicit_bzero(j->token, sizeof j->token);
    json_decref(j->body);
    free(j);
}

static void run_job(void *arg)
{
    struct password_job *j = arg;
    struct err e = {0};

    if (j->work(j, &e) == 0)
        j->reply(j);
    else
        api_call_fail(&j->c, &e);
    free_job(j);
}

static void reply_throttled(struct http_request *rq, unsigned after_s,
                            const struct err *e)
{
    struct http_headers *h = http_headers_new();
    char text[16];

    (void)snprintf(text, sizeof text, "%u", after_s);
    http_headers_put(h, "Retry-After", text);
    http_reply_error(rq, 429, "TOO_MANY_REQUESTS", e->message,
                     json_pack("{s:s}", "reason", e->reason), h);
}

/* Whether one more guess may be made from here; else it has been answered. */
static bool may_try(const struct api_call *c)
{
    struct auth_peer peer = peer_of(c->rq);
    unsigned after_s = 0;
    struct err e;

    if (auth_admit(c->api->auth, &peer, &after_s, &e) == 0)
        return true;
    reply_throttled(c->rq, after_s, &e);
    return false;
}

/*
 * start_job: begin the call with the n fields of j->f; on failure it has been
 * answered and the job is gone.  `guess`: the call holds a password that may
 * be wrong.
 */
static void start_job(struct password_job *j, struct http_request *rq,
                      void *ctx, const struct api_operation *op, size_t n,
                      bool guess)
{
    struct err e;

    if (api_call_begin(&j->c, rq, ctx, op) != 0 || api_auth_is_off(&j->c)) {
        free_job(j);
        return;
    }
    if (api_body_fields(rq, j->f, n, &j->body, &e) != 0) {
        api_call_fail(&j->c, &e);
        free_job(j);
        return;
    }
    if (guess && !may_try(&j->c)) {
        free_job(j);
        return;
    }
    if (strand_put(j->c.api->passwords, run_job, j, &e) != 0) {
        api_call_fail(&j->c, &e);
        free_job(j);
    }
}

static struct http_headers *cookie(const char *token, int max_age_s)
{
    struct http_headers *h = http_headers_new();
    char text[160];

    (void)snprintf(text, sizeof text,
                   AUTH_COOKIE "=%s; Path=/; Max-Age=%d; HttpOnly; "
                               "SameSite=Strict",
                   token, max_age_s);
    http_headers_put(h, "Set-Cookie", text);
    explicit_bzero(text, sizeof text);
    return h;
}

static void reply_username(struct http_request *rq, struct api *api, int status,
                           struct http_headers *h)
{
    char *name = auth_username(api->auth);

    http_reply_json(rq, status,
                    json_pack("{s:s}", "username", name != NULL ? name : ""),
                    h);
    free(name);
}

/* ---- set up and log in ---- */

/* From this machine itself, and not through a proxy on it. */
static bool is_local(const struct http_request *rq)
{
    const char *peer = http_peer(rq);

    return (strncmp(peer, "127.", 4) == 0 || strcmp(peer, "::1") == 0) &&
           http_header(rq, "X-Forwarded-For") == NULL &&
           http_header(rq, "Forwarded") == NULL;
}

static bool same_code(const char *a, const char *b)
{
    size_t n = strlen(b);
    unsigned char other = 0;

    if (strlen(a) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        other |= (unsigned char)(a[i] ^ b[i]);
    return other == 0;
}

static int set_up(struct password_job *j, struct err *e)
{
    struct api *api = j->c.api;
    struct auth_peer peer = peer_of(j->c.rq);
    const char *code = j->f[2].value;
    bool right = code != NULL && api->setup_code != NULL &&
                 same_code(code, api->setup_code);

    if (!auth_is_set_up(api->auth) && !right && !is_local(j->c.rq))
        return err_set_reason(e, ERR_FORBIDDEN, "setup_code",
                              "to set up from another machine give the code "
                              "that the server printed at its start, as "
                              "\"code\"");
    return auth_setup(api->auth, j->f[0].value, j->f[1].value, &peer, j->token,
                      e);
}

static void reply_set_up(struct password_job *j)
{
    log_event(LOG_INFO, "auth.set_up", "request", http_request_id(j->c.rq),
              "address", http_peer(j->c.rq), NULL);
    reply_username(j->c.rq, j->c.api, 201,
                   cookie(j->token, AUTH_SESSION_MAX_S));
}

void api_auth_setup(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.setup",
                                            .query = no_query};
    struct password_job *j = xcalloc(1, sizeof *j);

    j->f[0] = (struct api_field){.name = "username", .required = true};
    j->f[1] = (struct api_field){.name = "password", .required = true};
    j->f[2] = (struct api_field){.name = "code"};
    j->work = set_up;
    j->reply = reply_set_up;
    start_job(j, rq, ctx, &op, 3, false);
}

static int log_in(struct password_job *j, struct err *e)
{
    struct auth_peer peer = peer_of(j->c.rq);
    int rc = auth_login(j->c.api->auth, j->f[0].value, j->f[1].value, &peer,
                        j->token, e);

    if (rc != 0)
        log_event(LOG_WARN, "auth.login_failed", "request",
                  http_request_id(j->c.rq), "address", peer.address, NULL);
    return rc;
}

static void reply_logged_in(struct password_job *j)
{
    log_event(LOG_INFO, "auth.login", "request", http_request_id(j->c.rq),
              "address", http_peer(j->c.rq), NULL);
    reply_username(j->c.rq, j->c.api, 200,
                   cookie(j->token, AUTH_SESSION_MAX_S));
}

void api_auth_login(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.login",
                                            .query = no_query};
    struct password_job *j = xcalloc(1, sizeof *j);

    j->f[0] = (struct api_field){.name = "username", .required = true};
    j->f[1] = (struct api_field){.name = "password", .required = true};
    j->work = log_in;
    j->reply = reply_logged_in;
    start_job(j, rq, ctx, &op, 2, true);
}

/* ---- another password, another name ---- */

static int change_password(struct password_job *j, struct err *e)
{
    struct auth_peer peer = peer_of(j->c.rq);

    return auth_change(j->c.api->auth, j->f[0].value, NULL, j->f[1].value,
                       &peer, e);
}

static void reply_changed(struct password_job *j)
{
    log_event(LOG_INFO, "auth.changed", "request", http_request_id(j->c.rq),
              "address", http_peer(j->c.rq), NULL);
    http_reply_empty(j->c.rq, 204, cookie("", 0));
}

void api_auth_password(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.password",
                                            .query = no_query};
    struct password_job *j = xcalloc(1, sizeof *j);

    j->f[0] = (struct api_field){.name = "old_password", .required = true};
    j->f[1] = (struct api_field){.name = "new_password", .required = true};
    j->work = change_password;
    j->reply = reply_changed;
    start_job(j, rq, ctx, &op, 2, true);
}

static int change_username(struct password_job *j, struct err *e)
{
    struct auth_peer peer = peer_of(j->c.rq);

    return auth_change(j->c.api->auth, j->f[0].value, j->f[1].value, NULL,
                       &peer, e);
}

void api_auth_username(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.username",
                                            .query = no_query};
    struct password_job *j = xcalloc(1, sizeof *j);

    j->f[0] = (struct api_field){.name = "password", .required = true};
    j->f[1] = (struct api_field){.name = "new_username", .required = true};
    j->work = change_username;
    j->reply = reply_changed;
    start_job(j, rq, ctx, &op, 2, true);
}

/* ---- who is there ---- */

void api_auth_status(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.status",
                                            .query = no_query};
    const struct auth_caller *who = api_caller(rq);
    struct api_call c;
    char *name = NULL;
    bool known;

    if (api_call_begin(&c, rq, ctx, &op) != 0)
        return;
    known = who->kind != AUTH_NOBODY;
    /* Whoever is nobody does not learn the name. */
    if (c.api->auth != NULL && known)
        name = auth_username(c.api->auth);
    http_reply_json(
        rq, 200,
        json_pack("{s:b, s:b, s:s?}", "setup_needed",
                  c.api->auth != NULL && !auth_is_set_up(c.api->auth),
                  "authenticated", (int)known, "username", name),
        NULL);
    free(name);
}

void api_auth_me(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.me",
                                            .query = no_query};
    const struct auth_caller *who = api_caller(rq);
    struct api_call c;
    char *name;

    if (api_call_begin(&c, rq, ctx, &op) != 0 || api_auth_is_off(&c))
        return;
    name = auth_username(c.api->auth);
    http_reply_json(rq, 200,
                    json_pack("{s:s?, s:s?, s:o, s:o}", "username", name, "key",
                              who->kind == AUTH_KEY ? who->name : NULL,
                              "scopes", api_scopes(who->scopes), "databases",
                              api_names(who->databases)),
                    NULL);
    free(name);
}

void api_auth_verify(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.verify",
                                            .query = no_query};
    struct http_headers *h;
    struct api_call c;
    char *name;

    if (api_call_begin(&c, rq, ctx, &op) != 0 || api_auth_is_off(&c))
        return;
    name = auth_username(c.api->auth);
    h = http_headers_new();
    http_headers_put(h, "X-Auth-User", name != NULL ? name : "");
    http_reply_json(rq, 200, json_pack("{s:s?}", "username", name), h);
    free(name);
}

/* ---- sessions ---- */

void api_auth_logout(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {
        .step = "api.auth.logout", .query = no_query, .no_fields = true};
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0 || api_auth_is_off(&c))
        return;
    if (auth_logout(c.api->auth, &e) != 0)
        api_call_fail(&c, &e);
    else
        http_reply_empty(rq, 204, cookie("", 0));
}

void api_auth_sessions(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.sessions",
                                            .query = no_query};
    struct catalog_session *list = NULL;
    json_t *entries;
    struct api_call c;
    size_t n;

    if (api_call_begin(&c, rq, ctx, &op) != 0 || api_auth_is_off(&c))
        return;
    n = auth_sessions(c.api->auth, &list);
    entries = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct catalog_session *s = &list[i];

        (void)json_array_append_new(
            entries,
            json_pack("{s:s, s:o, s:o, s:s, s:o, s:b}", "id", s->id,
                      "created_at", api_time(s->created_at), "last_seen_at",
                      api_time(s->seen_at), "address", s->address, "client",
                      s->client != NULL ? api_text(s->client) : json_null(),
                      "current", strcmp(s->id, api_caller(rq)->id) == 0));
    }
    catalog_sessions_free(list, n);
    http_reply_json(rq, 200, json_pack("{s:o}", "sessions", entries), NULL);
}

void api_auth_end_session(struct http_request *rq, void *ctx)
{
    static const struct api_operation op = {.step = "api.auth.end_session",
                                            .query = no_query};
    const char *id = http_param(rq, "id");
    struct api_call c;
    struct err e;

    if (api_call_begin(&c, rq, ctx, &op) != 0 || api_auth_is_off(&c))
        return;
    if (auth_end_session(c.api->auth, id, &e) == 0)
        http_reply_empty(rq, 204, NULL);
    else
        api_error_reply(rq, &e, (struct api_subject){"session", id});
}
