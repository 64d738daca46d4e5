/* Outgoing HTTP: see fetch.h. */
#include "net/fetch.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

struct fetch {
    CURL *curl;
};

/* One request under way. */
struct transfer {
    CURL *curl;
    const struct fetch_request *rq;
    struct fetch_answer *a;
    struct err *e;
    bool failed; /* a callback has filled *e */
};

struct fetch *fetch_new(void)
{
    struct fetch *f = xcalloc(1, sizeof *f);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        (f->curl = curl_easy_init()) == NULL)
        abort(); /* only for want of memory */
    return f;
}

void fetch_free(struct fetch *f)
{
    if (f == NULL)
        return;
    curl_easy_cleanup(f->curl);
    curl_global_cleanup();
    free(f);
}

void fetch_answer_fini(struct fetch_answer *a)
{
    buf_fini(&a->body);
}

void fetch_escape(struct buf *out, const char *s)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *s != '\0'; s++) {
        if (strchr(plain, *s) != NULL)
            buf_put(out, s, 1);
        else
            buf_printf(out, "%%%02X", (unsigned char)*s);
    }
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    const struct fetch_request *rq = t->rq;
    curl_off_t total = -1;
    long status = 0;

    n *= size;
    (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (rq->sink != NULL && status == 200) {
        (void)curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T,
                                &total);
        t->failed = rq->sink(rq->arg, bytes, n, total > 0 ? (uint64_t)total : 0,
                             t->e) != 0;
        return t->failed ? CURL_WRITEFUNC_ERROR : n;
    }
    if (n > rq->max_body - t->a->body.len) {
        (void)err_set(t->e, ERR_TOO_LARGE,
                      "the server's answer is longer than %zu bytes",
                      rq->max_body);
        t->failed = true;
        return CURL_WRITEFUNC_ERROR;
    }
    buf_put(&t->a->body, bytes, n);
    return n;
}

/* The value of the header line if it is `name`'s, without blanks around. */
static bool header_is(const char *line, size_t n, const char *name,
                      char out[FETCH_HEADER_SIZE])
{
    size_t len = strlen(name);

    if (n <= len || strncasecmp(line, name, len) != 0 || line[len] != ':')
        return false;
    line += len + 1;
    n -= len + 1;
    while (n > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        n--;
    }
    while (n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL)
        n--;
    if (n >= FETCH_HEADER_SIZE)
        n = 0; /* longer than anything that makes sense here */
    memcpy(out, line, n);
    out[n] = '\0';
    return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    struct fetch_answer *a = t->a;

    n *= size;
    if (n > 5 && strncmp(line, "HTTP/", 5) == 0) {
        /* A new answer begins (an earlier one was 100 Continue). */
        a->etag[0] = a->content_type[0] = '\0';
        a->location[0] = a->safety_backup[0] = '\0';
        return n;
    }
    (void)(header_is(line, n, "ETag", a->etag) ||
           header_is(line, n, "Content-Type", a->content_type) ||
           header_is(line, n, "Location", a->location) ||
           header_is(line, n, "Holdfast-Safety-Backup", a->safety_backup));
    return n;
}

static int on_tick(void *arg, curl_off_t down_total, curl_off_t down,
                   curl_off_t up_total, curl_off_t up)
{
    struct transfer *t = arg;

    (void)down_total;
    (void)down;
    (void)up_total;
    (void)up;
    if (t->failed || t->rq->tick == NULL)
        return 0;
    t->failed = t->rq->tick(t->rq->arg, t->e) != 0;
    return t->failed ? 1 : 0;
}

/* Whether the URL's host is this machine, which no proxy can reach for us. */
static bool is_loopback(const char *url)
{
    CURLU *u = curl_url();
    char *host = NULL;
    bool yes = false;

    if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK)
        yes = strcasecmp(host, "localhost") == 0 ||
              strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
    curl_free(host);
    curl_url_cleanup(u);
    return yes;
}

static void set_up(CURL *c, struct transfer *t)
{
    const struct fetch_request *rq = t->rq;

    curl_easy_reset(c);
    (void)curl_easy_setopt(c, CURLOPT_URL, rq->url);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 10000L);
    (void)curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "holdfast");
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_tick);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    if (is_loopback(rq->url))
        (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    if (rq->body != NULL) {
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, rq->body);
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)rq->body_len);
    } else if (strcmp(rq->method, "POST") == 0) {
        /* With a length, which some proxies insist on. */
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, "");
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
    }
    (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
}

static struct curl_slist *headers_of(const struct fetch_request *rq)
{
    struct curl_slist *list = NULL, *more;
    char *lines[3] = {xstrdup("Expect:"), NULL, NULL};

    if (rq->bearer != NULL)
        lines[1] = xasprintf("Authorization: Bearer %s", rq->bearer);
    lines[2] = rq->content_type != NULL
                   ? xasprintf("Content-Type: %s", rq->content_type)
                   : xstrdup("Content-Type:");
    for (size_t i = 0; i < 3; i++) {
        if (lines[i] == NULL)
            continue;
        more = curl_slist_append(list, lines[i]);
        if (more == NULL)
            abort();
        list = more;
        free(lines[i]);
    }
    return list;
}

static int transfer_error(struct transfer *t, CURLcode rc, const char *text)
{
    if (t->failed)
        return -1;
    if (text[0] == '\0')
        text = curl_easy_strerror(rc);
    if (rc == CURLE_URL_MALFORMAT)
        return err_set(t->e, ERR_BAD_REQUEST, "%s is not a URL to reach: %s",
                       t->rq->url, text);
    return err_set(t->e, ERR_UNREACHABLE, "%s", text);
}

int fetch_run(struct fetch *f, const struct fetch_request *rq,
              struct fetch_answer *a, struct err *e)
{
    struct transfer t = {.curl = f->curl, .rq = rq, .a = a, .e = e};
    char text[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers;
    long status = 0;
    CURLcode rc;

    *a = (struct fetch_answer){0};
    if (strncasecmp(rq->url, "http://", 7) != 0 &&
        strncasecmp(rq->url, "https://", 8) != 0)
        return err_set(e, ERR_BAD_REQUEST, "%s is not an http or https URL",
                       rq->url);
    headers = headers_of(rq);
    set_up(f->curl, &t);
    (void)curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, text);
    rc = curl_easy_perform(f->curl);
    (void)curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, NULL);
    (void)curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (rc != CURLE_OK || t.failed) {
        fetch_answer_fini(a);
        *a = (struct fetch_answer){0};
        return transfer_error(&t, rc, text);
    }
    a->status = (int)status;
    return 0;
}
