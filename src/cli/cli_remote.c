/* Commands by way of a server: its HTTP API. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli_client.h"
#include "cli/cli_error.h"
#include "net/fetch.h"

/* Some 500,000 backups in one list. */
#define ANSWER_MAX ((size_t)64 << 20)

struct remote {
    struct cli_client client; /* first: the ops get a pointer to it */
    struct fetch *fetch;
    char *server; /* without a slash at its end */
    const char *key;
};

static struct remote *remote_of(struct cli_client *c)
{
    return (struct remote *)c;
}

/* ---- one call ---- */

/* "SERVER/api/v1" + path, and ?database= where db is not NULL. */
static void put_url(struct buf *url, const struct remote *r, const char *path,
                    const char *db)
{
    buf_printf(url, "%s/api/v1%s", r->server, path);
    if (db != NULL) {
        buf_puts(url, "?database=");
        fetch_escape(url, db);
    }
}

/* "SERVER/api/v1/backup/FILENAME" + rest, and ?database=. */
static void put_backup_url(struct buf *url, const struct remote *r,
                           const char *filename, const char *rest,
                           const char *db)
{
    struct buf path = {0};

    buf_puts(&path, "/backup/");
    fetch_escape(&path, filename);
    buf_puts(&path, rest);
    put_url(url, r, path.data, db);
    buf_fini(&path);
}

static void put_query(struct buf *url, const char *name_and_value)
{
    buf_puts(url, strchr(url->data, '?') == NULL ? "?" : "&");
    buf_puts(url, name_and_value);
}

/* The error that an answer means; its body may be anybody's. */
static int refused(struct remote *r, const struct fetch_answer *a,
                   struct err *e)
{
    struct err ignored;
    json_t *body = json_parse(a->body.data != NULL ? a->body.data : "",
                              a->body.len, &ignored);
    const char *word = json_string_value(json_object_get(body, "error"));
    const char *message = json_string_value(json_object_get(body, "message"));
    json_t *details = json_object_get(body, "details");
    const char *id = json_string_value(json_object_get(details, "request_id"));
    enum err_code code = cli_error_code(a->status, word);

    if (a->status >= 300 && a->status < 400)
        (void)err_set(e, ERR_BAD_REQUEST,
                      "%s redirects to %s; give the server's own URL",
                      r->server, a->location);
    else if (word == NULL || message == NULL)
        (void)err_set(e, code,
                      "%s answered with HTTP status %d and no word of "
                      "Holdfast's; is it the right server?",
                      r->server, a->status);
    else if (strcmp(cli_field(details, "resource_type"), "route") == 0)
        (void)err_set(e, code, "%s knows no such call; is it the server's URL?",
                      r->server);
    else
        (void)err_set_reason(e, code, cli_field(details, "reason"),
                             id != NULL ? "%s (request %s)" : "%s", message,
                             id);
    if (word != NULL && json_is_object(details)) {
        json_decref(r->client.details);
        r->client.details = json_incref(details);
    }
    json_decref(body);
    return -1;
}

static int run(struct remote *r, struct fetch_request *rq,
               struct fetch_answer *a, struct err *e)
{
    rq->bearer = r->key;
    rq->max_body = ANSWER_MAX;
    if (fetch_run(r->fetch, rq, a, e) == 0)
        return 0;
    if (e->code == ERR_UNREACHABLE)
        return err_wrap(e, "no answer from %s", r->server);
    return -1;
}

/* Send it and take the answer's JSON; out NULL where the answer has none. */
static int call(struct remote *r, struct fetch_request rq,
                struct fetch_answer *a, json_t **out, struct err *e)
{
    json_t *v;

    if (run(r, &rq, a, e) != 0)
        return -1;
    if (a->status < 200 || a->status > 299)
        return refused(r, a, e);
    if (out == NULL)
        return 0;
    v = json_parse(a->body.data != NULL ? a->body.data : "", a->body.len, e);
    if (!json_is_object(v)) {
        json_decref(v);
        return err_set(e, ERR_INTERNAL,
                       "%s answered with something else than Holdfast's "
                       "JSON; is it the right server?",
                       r->server);
    }
    *out = v;
    return 0;
}

static int call_url(struct cli_client *c, const char *method, struct buf *url,
                    json_t **out, struct err *e)
{
    struct fetch_answer a = {0};
    int rc = call(remote_of(c),
                  (struct fetch_request){.method = method, .url = url->data},
                  &a, out, e);

    fetch_answer_fini(&a);
    buf_fini(url);
    return rc;
}

/* ---- backups ---- */

static int create(struct cli_client *c, const char *db, json_t **out,
                  struct err *e)
{
    struct buf url = {0};

    put_url(&url, remote_of(c), "/backup", db);
    return call_url(c, "POST", &url, out, e);
}

static int list(struct cli_client *c, const char *db, json_t **out,
                struct err *e)
{
    struct buf url = {0};

    put_url(&url, remote_of(c), "/backup", db);
    return call_url(c, "GET", &url, out, e);
}

static int current(struct cli_client *c, json_t **out, struct err *e)
{
    struct buf url = {0};

    put_url(&url, remote_of(c), "/databases/current", NULL);
    return call_url(c, "GET", &url, out, e);
}

static void put_database_url(struct buf *url, const struct remote *r,
                             const char *name, const char *rest)
{
    struct buf path = {0};

    buf_puts(&path, "/databases/");
    fetch_escape(&path, name);
    buf_puts(&path, rest);
    put_url(url, r, path.data, NULL);
    buf_fini(&path);
}

static int list_details(struct cli_client *c, const char *db,
                        struct cli_page page, json_t **out, struct err *e)
{
    struct buf url = {0}, query = {0};
    json_t *cur = NULL;

    /* This call has no way to say "the current one". */
    if (db == NULL && current(c, &cur, e) != 0)
        return -1;
    put_database_url(&url, remote_of(c),
                     db != NULL ? db : cli_field(cur, "current"), "/backups");
    json_decref(cur);
    buf_printf(&query, "limit=%u", page.limit);
    if (page.before != NULL) {
        buf_puts(&query, "&before=");
        fetch_escape(&query, page.before);
    }
    put_query(&url, query.data);
    buf_fini(&query);
    return call_url(c, "GET", &url, out, e);
}

static int restore(struct cli_client *c, const char *db, const char *filename,
                   bool force, struct backup_name *safety, json_t **out,
                   struct err *e)
{
    struct buf url = {0};
    struct fetch_answer a = {0};
    int64_t created_at;
    int rc;

    put_backup_url(&url, remote_of(c), filename, "/restore", db);
    if (force)
        put_query(&url, "force=true");
    rc = call(remote_of(c),
              (struct fetch_request){.method = "POST", .url = url.data}, &a,
              out, e);
    if (rc == 0 && !backup_name_parse(a.safety_backup, safety, &created_at))
        *safety = (struct backup_name){0};
    fetch_answer_fini(&a);
    buf_fini(&url);
    return rc;
}

static int delete_backup(struct cli_client *c, const char *db,
                         const char *filename, json_t **out, struct err *e)
{
    struct buf url = {0};

    put_backup_url(&url, remote_of(c), filename, "", db);
    return call_url(c, "DELETE", &url, out, e);
}

static int verify(struct cli_client *c, const char *db, const char *filename,
                  json_t **out, struct err *e)
{
    struct buf url = {0};

    put_backup_url(&url, remote_of(c), filename, "/verify", db);
    return call_url(c, "POST", &url, out, e);
}

/* ---- download ---- */

struct download {
    const struct remote *remote;
    const struct fetch_answer *answer; /* its headers, once there is a piece */
    const struct cli_sink *sink;
    uint64_t total_bytes;
};

/* A wrong server's page must not be kept as a backup. */
static int check_type(const struct download *d, struct err *e)
{
    if (strcasecmp(d->answer->content_type, "application/x-sqlite3") == 0)
        return 0;
    return err_set(e, ERR_INTERNAL,
                   "%s answered with something else than a SQLite database; "
                   "is it the right server?",
                   d->remote->server);
}

static int take_piece(void *arg, const void *bytes, size_t n,
                      uint64_t total_bytes, struct err *e)
{
    struct download *d = arg;

    if (check_type(d, e) != 0)
        return -1;
    d->total_bytes = total_bytes;
    return d->sink->write(d->sink->arg, bytes, n, total_bytes, e);
}

static int tick(void *arg, struct err *e)
{
    struct download *d = arg;

    return d->sink->tick(d->sink->arg, e);
}

/* The digest in a strong ETag of ours: 64 hex digits in quotes. */
static void digest_of(const char *etag, char sha256[SHA256_HEX_SIZE])
{
    static const char hex[] = "0123456789abcdef";

    sha256[0] = '\0';
    if (strlen(etag) == 66 && etag[0] == '"' && etag[65] == '"' &&
        strspn(etag + 1, hex) == 64) {
        memcpy(sha256, etag + 1, 64);
        sha256[64] = '\0';
    }
}

static int download(struct cli_client *c, const char *db, const char *filename,
                    bool suspect, const struct cli_sink *sink,
                    struct cli_download_facts *said, struct err *e)
{
    struct buf url = {0};
    struct fetch_answer a = {0};
    struct download d = {.remote = remote_of(c), .answer = &a, .sink = sink};
    int rc;

    put_backup_url(&url, remote_of(c), filename, "/download", db);
    if (suspect)
        put_query(&url, "suspect=true");
    rc = call(remote_of(c),
              (struct fetch_request){.method = "GET",
                                     .url = url.data,
                                     .sink = take_piece,
                                     .tick = tick,
                                     .arg = &d},
              &a, NULL, e);
    if (rc == 0)
        rc = check_type(&d, e);
    if (rc == 0) {
        said->size_bytes = d.total_bytes;
        digest_of(a.etag, said->sha256);
    }
    fetch_answer_fini(&a);
    buf_fini(&url);
    return rc;
}

/* ---- databases ---- */

static int databases(struct cli_client *c, json_t **out, struct err *e)
{
    struct buf url = {0};

    put_url(&url, remote_of(c), "/databases", NULL);
    return call_url(c, "GET", &url, out, e);
}

/* Send an object, which is taken over, to a path below /api/v1. */
static int send_json(struct cli_client *c, const char *method, const char *path,
                     json_t *v, json_t **out, struct err *e)
{
    struct buf url = {0}, body = {0};
    struct fetch_answer a = {0};
    int rc;

    if (v == NULL)
        return err_set(e, ERR_BAD_REQUEST, "a name or path is not UTF-8");
    json_put(&body, v);
    json_decref(v);
    put_url(&url, remote_of(c), path, NULL);
    rc = call(remote_of(c),
              (struct fetch_request){.method = method,
                                     .url = url.data,
                                     .content_type = "application/json",
                                     .body = body.data,
                                     .body_len = body.len},
              &a, out, e);
    fetch_answer_fini(&a);
    buf_fini(&body);
    buf_fini(&url);
    return rc;
}

static int add(struct cli_client *c, const char *name, const char *path,
               json_t **out, struct err *e)
{
    return send_json(c, "POST", "/databases",
                     path == NULL
                         ? json_pack("{s:s}", "name", name)
                         : json_pack("{s:s, s:s}", "name", name, "path", path),
                     out, e);
}

static int remove_database(struct cli_client *c, const char *name,
                           struct err *e)
{
    struct buf url = {0};

    put_database_url(&url, remote_of(c), name, "");
    return call_url(c, "DELETE", &url, NULL, e);
}

static int use(struct cli_client *c, const char *name, json_t **out,
               struct err *e)
{
    return send_json(c, "PATCH", "/databases/current",
                     json_pack("{s:s}", "name", name), out, e);
}

/* ---- opening ---- */

static void remote_close(struct cli_client *c)
{
    struct remote *r = remote_of(c);

    fetch_free(r->fetch);
    free(r->server);
    free(r);
}

static const struct cli_client_ops ops = {.create = create,
                                          .list = list,
                                          .list_details = list_details,
                                          .restore = restore,
                                          .download = download,
                                          .delete_backup = delete_backup,
                                          .verify = verify,
                                          .databases = databases,
                                          .current = current,
                                          .add = add,
                                          .remove = remove_database,
                                          .use = use,
                                          .close = remote_close};

/* A key that could not stand in a header line would forge others. */
static int check_key(const char *key, struct err *e)
{
    for (; key != NULL && *key != '\0'; key++) {
        if (*key <= ' ' || *key > '~')
            return err_set(e, ERR_BAD_REQUEST,
                           "HOLDFAST_API_KEY holds a character that no key "
                           "has");
    }
    return 0;
}

int cli_remote_open(const char *server, struct cli_client **out, struct err *e)
{
    const char *key = getenv("HOLDFAST_API_KEY");
    struct remote *r;
    size_t n;

    if (strncmp(server, "http://", 7) != 0 &&
        strncmp(server, "https://", 8) != 0)
        return err_set(e, ERR_BAD_REQUEST,
                       "'%s' is not the URL of a server, such as "
                       "http://127.0.0.1:8080",
                       server);
    if (strpbrk(server, "?#") != NULL)
        return err_set(e, ERR_BAD_REQUEST,
                       "the URL of a server ends before '?' and '#': %s",
                       server);
    if (check_key(key, e) != 0)
        return -1;
    r = xcalloc(1, sizeof *r);
    r->client.ops = &ops;
    r->fetch = fetch_new();
    r->key = key != NULL && key[0] != '\0' ? key : NULL;
    r->server = xstrdup(server);
    for (n = strlen(server); n > 0 && r->server[n - 1] == '/'; n--)
        r->server[n - 1] = '\0';
    *out = &r->client;
    return 0;
}
