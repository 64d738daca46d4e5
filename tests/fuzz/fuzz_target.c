/*
 * The small grammars of a request, each on a line of its own: the target, the
 * Host, a list of entity tags, a Range, a backup's name.
 */
#include "fuzz.h"

#include <string.h>

#include "backup/databases.h"
#include "base/clock.h"
#include "http/http_internal.h"
#include "store/facts.h"

#define SIZE 1000

static void handle(struct http_request *rq, void *ctx)
{
    (void)ctx;
    http_reply_empty(rq, 204, NULL);
}

static const struct http_route routes[] = {
    {"GET", "/api/v1/backup", handle, 0, 0},
    {"POST", "/api/v1/backup", handle, 4096, 0},
    {"GET", "/api/v1/backup/{filename}", handle, 0, 0},
    {"POST", "/api/v1/backup/{filename}/restore", handle, 4096, 0},
    {"GET", "/api/v1/databases/current", handle, 0, 0},
    {"GET", "/api/v1/databases/{name}", handle, 0, 0},
    {"DELETE", "/{a}/{b}/{c}/{d}", handle, 0, 0},
};

/* A request knows its server. */
static struct http_server *server(void)
{
    static struct http_server *s;
    struct err e;

    if (s == NULL)
        require(http_server_start((struct http_opts){.host = "127.0.0.1",
                                                     .routes = routes,
                                                     .n_routes = 7},
                                  &s, &e) == 0);
    return s;
}

static void try_route(struct http_request *rq, const char *method)
{
    static const char *const known[] = {"database", "limit", NULL};
    struct buf allow = {0};
    int status;

    (void)snprintf(rq->method, sizeof rq->method, "%s", method);
    rq->head = strcmp(method, "HEAD") == 0;
    status = router_match(rq, routes, 7, &allow);
    require(status == 0 || status == 404 || status == 405);
    require(status != 405 || allow.len > 0);
    require(status != 404 || allow.len == 0);
    for (size_t i = 0; status == 0 && i < rq->n_params; i++) {
        require(rq->params[i].value[0] != '\0');
        require(strchr(rq->params[i].value, '/') == NULL);
    }
    buf_fini(&allow);
    (void)http_param(rq, "filename");
    (void)http_query(rq, "database");
    (void)http_query_repeated(rq, "database");
    (void)http_query_unknown(rq, known);
}

static void try_target(const char *line)
{
    struct http_request *rq = request_new(server(), line);
    const char *wrong;

    require(strlen(rq->id) == 16);
    wrong =
        rq->target_len > HTTP_MAX_TARGET ? "long" : request_parse_target(rq);
    if (wrong == NULL) {
        require(rq->path[0] == '/');
        for (size_t i = 0; i < rq->n_segments; i++)
            require_utf8(rq->segments[i]);
        for (size_t i = 0; i < rq->n_query; i++) {
            require_utf8(rq->query[i].name);
            require_utf8(rq->query[i].value);
        }
        try_route(rq, "GET");
        try_route(rq, "HEAD");
        try_route(rq, "POST");
        try_route(rq, "DELETE");
    }
    request_free(rq);
}

static void try_authority(const char *line)
{
    struct authority a, again;

    if (!text_parse_authority(line, strlen(line), &a))
        return;
    require(strlen(a.host) <= HTTP_MAX_HOST && a.host[0] != '\0');
    require(a.port >= -1 && a.port <= 65535);
    require(text_parse_authority(a.host, strlen(a.host), &again));
    require(strcmp(a.host, again.host) == 0 && again.port == -1);
}

static void try_etags(const char *line)
{
    (void)text_etag_matches(line, "\"abc\"");
    (void)text_etag_matches(line, "W/\"\"");
    require(text_etag_matches(" * ", "\"abc\""));
    (void)text_is_token(line, strlen(line));
}

static void try_range(const char *line)
{
    uint64_t first = 0, n = 0;
    int status = http_range_parse(line, SIZE, &first, &n);

    require(status == 200 || status == 206 || status == 416);
    if (status == 206)
        require(n > 0 && first < SIZE && n <= SIZE - first);
    status = http_range_parse(line, UINT64_MAX, &first, &n);
    if (status == 206)
        require(n > 0 && n <= UINT64_MAX - first);
    require(http_range_parse(line, 0, &first, &n) != 206);
}

static void try_name(const char *line)
{
    struct backup_name name, again;
    struct err e = {0};
    int64_t t;

    if (backup_name_parse(line, &name, &t)) {
        require(strcmp(name.s, line) == 0);
        backup_name_format(t, &again);
        require(strcmp(name.s, again.s) == 0);
    }
    if (database_name_check(line, &e) == 0)
        require(strlen(line) < DATABASE_NAME_SIZE && line[0] != '\0' &&
                strpbrk(line, "/.") == NULL);
    else
        require_error(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const char *) = {
        try_target, try_authority, try_etags, try_range, try_name};
    struct input in = {data, size};

    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        char *line = input_line(&in);

        tries[i](line);
        free(line);
    }
    return 0;
}
