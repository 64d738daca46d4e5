/* holdfast serve: the server. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "api/api.h"
#include "backup/service.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "cli/cli.h"
#include "cli/cli_error.h"
#include "cli/cli_guard.h"
#include "cli/cli_options.h"
#include "cli/cli_settings.h"
#include "http/http.h"

#define MAX_DESCRIPTORS 65536

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct cli_settings *s = state->input;
    struct err e;

    if (key < CLI_SETTINGS_KEY || key >= CLI_SETTINGS_KEY + CLI_SETTINGS)
        return ARGP_ERR_UNKNOWN;
    if (cli_settings_flag(s, key, arg, &e) != 0)
        argp_error(state, "%s", e.message);
    return 0;
}

/* Flags have been taken; add the environment and the file. */
static int settle(struct cli_settings *s, struct err *e)
{
    if (cli_settings_environment(s, e) != 0)
        return -1;
    if (s->config != NULL && cli_settings_file(s, s->config, e) != 0) {
        /* Whatever is wrong with it, it is a matter of how we were called. */
        e->code = ERR_BAD_REQUEST;
        return -1;
    }
    return 0;
}

/* P10: closed by default. */
static int check(const struct cli_settings *s, struct err *e)
{
    if (s->data == NULL)
        return err_set(e, ERR_BAD_REQUEST,
                       "serve needs a data directory: --data DIR");
    if (s->listen.loopback)
        return 0;
    if (!s->auth)
        return err_set(e, ERR_BAD_REQUEST,
                       "will not listen on %s without authentication; give a "
                       "loopback address such as 127.0.0.1 or [::1], or leave "
                       "out --auth off",
                       s->listen.host);
    if (!s->allow_plain_http)
        return err_set(e, ERR_BAD_REQUEST,
                       "will not listen on %s without TLS: passwords and "
                       "backups could be read on the way; give a loopback "
                       "address and put a proxy with TLS before it, or accept "
                       "that with --allow-plain-http",
                       s->listen.host);
    return 0;
}

/* ---- the process ---- */

static void raise_descriptor_limit(void)
{
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) != 0)
        return;
    if (l.rlim_cur >= MAX_DESCRIPTORS)
        return;
    l.rlim_cur = l.rlim_max < MAX_DESCRIPTORS ? l.rlim_max : MAX_DESCRIPTORS;
    (void)setrlimit(RLIMIT_NOFILE, &l);
}

/*
 * What must be so before the first thread: the signals that stop the server
 * are blocked in all of them and waited for in this one; two malloc arenas are
 * enough for few threads and keep memory small (P9); what is made is private.
 */
static void prepare(sigset_t *stopping)
{
    (void)umask(077);
    (void)mallopt(M_ARENA_MAX, 2);
    raise_descriptor_limit();
    (void)sigemptyset(stopping);
    (void)sigaddset(stopping, SIGTERM);
    (void)sigaddset(stopping, SIGINT);
    (void)sigaddset(stopping, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, stopping, NULL);
}

/* ---- the server ---- */

struct server {
    struct guard *guard;
    struct service *service;
    struct auth *auth;   /* NULL: off */
    char setup_code[33]; /* "" when there is an account */
    struct api *api;
    struct http_server *http;
};

static int auth_start(struct server *sv, struct err *e)
{
    if (auth_open(service_catalog(sv->service), &sv->auth, e) != 0)
        return -1;
    if (!auth_is_set_up(sv->auth))
        rand_hex(sv->setup_code, (sizeof sv->setup_code - 1) / 2);
    return 0;
}

static int server_start(struct server *sv, const struct cli_settings *s,
                        struct err *e)
{
    const struct service_opts service = {
        .data_dir = s->data,
        .database_roots = (const char *const *)s->database_roots.items,
        .n_database_roots = s->database_roots.n,
        .busy_timeout_ms = s->busy_timeout_ms,
        .wal_limit_bytes = s->wal_limit_bytes,
        .max_stall_ms = s->max_stall_ms,
        .allow_network_fs = s->allow_network_fs,
        .background = true,
        .guard = sv->guard};
    struct http_opts http = {.host = s->listen.host,
                             .port = s->listen.port,
                             .routes = api_routes,
                             .n_routes = api_n_routes,
                             .admit = api_admit,
                             .hosts = (const char *const *)s->hosts.items,
                             .n_hosts = s->hosts.n};
    struct api_opts api = {0};

    if (service_open(&service, &sv->service, e) != 0) {
        if (strcmp(e->reason, "in_use") == 0)
            return err_set_reason(e, ERR_CONFLICT, "in_use",
                                  "another holdfast works on the data "
                                  "directory %s already",
                                  s->data);
        return -1;
    }
    if (s->auth && auth_start(sv, e) != 0)
        return -1;
    api.service = sv->service;
    api.auth = sv->auth;
    api.setup_code = sv->setup_code[0] != '\0' ? sv->setup_code : NULL;
    sv->api = api_new(&api);
    http.ctx = sv->api;
    return http_server_start(http, &sv->http, e);
}

/* Requests under way are brought to an end, or refused; then all goes. */
static void server_stop(struct server *sv)
{
    if (sv->http != NULL) {
        http_server_quiesce(sv->http);
        service_stop(sv->service);
        http_server_stop(sv->http);
    }
    api_free(sv->api);
    auth_close(sv->auth);
    service_close(sv->service);
    guard_stop(sv->guard);
}

static void announce(const struct server *sv, const struct cli_settings *s)
{
    bool v6 = strchr(s->listen.host, ':') != NULL;
    char *url = xasprintf("http://%s%s%s:%u", v6 ? "[" : "", s->listen.host,
                          v6 ? "]" : "", (unsigned)http_server_port(sv->http));
    char *data = realpath(s->data, NULL);

    log_event(LOG_INFO, "server.started", "version", HOLDFAST_VERSION, "url",
              url, "data", data, "landlock", guard_landlocked() ? "yes" : "no",
              NULL);
    if (!s->listen.loopback)
        log_event(LOG_WARN, "server.plain_http", "message",
                  "listening beyond this machine without TLS: passwords and "
                  "backups can be read on the way",
                  NULL);
    (void)printf("holdfast: listening on %s, data in %s\n", url,
                 data != NULL ? data : s->data);
    if (sv->setup_code[0] != '\0')
        (void)printf(
            "holdfast: there is no account yet; choose its name and password:\n"
            "  curl -s %s/api/v1/auth/setup -H 'Content-Type: "
            "application/json' \\\n"
            "    -d '{\"username\":\"...\",\"password\":\"...\"}'\n"
            "  From another machine add \"code\":\"%s\".\n",
            url, sv->setup_code);
    (void)fflush(stdout);
    free(data);
    free(url);
}

/* Wait for the first signal; from then on the next one ends us at once. */
static void wait_for_signal(const sigset_t *stopping)
{
    int signal = 0;

    while (sigwait(stopping, &signal) != 0)
        ;
    log_event(LOG_INFO, "server.stopping", "signal", sigabbrev_np(signal),
              NULL);
    (void)pthread_sigmask(SIG_UNBLOCK, stopping, NULL);
}

static int serve(const struct cli_settings *s, struct err *e)
{
    struct server sv = {0};
    sigset_t stopping;
    int rc;

    log_set_level(s->log_level);
    prepare(&stopping);
    rc = cli_guard_start(&sv.guard, e);
    if (rc == 0)
        rc = server_start(&sv, s, e);
    if (rc == 0) {
        announce(&sv, s);
        wait_for_signal(&stopping);
    }
    server_stop(&sv);
    if (rc == 0)
        log_event(LOG_INFO, "server.stopped", NULL);
    return rc;
}

int cli_serve(int argc, char **argv)
{
    const struct argp argp = {
        .options = cli_settings_options(),
        .parser = parse,
        .doc = "Serve the API for a data directory until SIGTERM or SIGINT."
               "\vEach option can also stand in the environment "
               "(--busy-timeout as HOLDFAST_BUSY_TIMEOUT) and in the [server] "
               "section of the configuration file (busy_timeout).  A flag "
               "goes before the environment, that before the file."};
    const struct cli_options o = {0};
    struct cli_settings s;
    struct err e;
    int status = CLI_OK;

    cli_settings_init(&s);
    if (argp_parse(&argp, argc, argv, 0, NULL, &s) != 0)
        exit(CLI_USAGE);
    if (settle(&s, &e) != 0 || check(&s, &e) != 0 || serve(&s, &e) != 0)
        status = cli_report(&o, &e, NULL);
    cli_settings_fini(&s);
    return status;
}
