/*
 * Outgoing HTTP, by libcurl: http and https only, no redirects followed,
 * certificates checked, 10 s to connect and no limit on the whole (a backup
 * takes what it takes; a peer that has vanished is found by keepalive).
 * Proxies are taken from the environment as other programs do, but never for
 * a loopback address.
 */
#ifndef HOLDFAST_NET_FETCH_H
#define HOLDFAST_NET_FETCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct fetch;

/* fetch_new: one conversation at a time, connections kept between calls. */
struct fetch *fetch_new(void);
void fetch_free(struct fetch *f); /* accepts NULL */

struct fetch_request {
    const char *method;
    const char *url;
    const char *bearer;       /* a key for Authorization, or NULL */
    const char *content_type; /* of the body, or NULL */
    const void *body;         /* NULL is none */
    size_t body_len;
    size_t max_body; /* bytes of answer taken into memory */
    /*
     * Where a 200 answer's body goes piece by piece instead of into memory;
     * total_bytes is its Content-Length, or 0.  Not 0 ends the request:
     * *e is then what fetch_run gives back.
     */
    int (*sink)(void *arg, const void *bytes, size_t n, uint64_t total_bytes,
                struct err *e);
    /* Called at least once a second, to give up by returning -1 with *e. */
    int (*tick)(void *arg, struct err *e);
    void *arg;
};

#define FETCH_HEADER_SIZE 256

/* The headers of an answer that somebody wants; "" where it has none. */
struct fetch_answer {
    int status;
    struct buf body; /* "" when it went to the sink */
    char etag[FETCH_HEADER_SIZE];
    char content_type[FETCH_HEADER_SIZE];
    char location[FETCH_HEADER_SIZE];
    char safety_backup[FETCH_HEADER_SIZE]; /* Holdfast-Safety-Backup */
};

/*
 * fetch_run: send the request and take the answer, whatever its status.
 * ERR_UNREACHABLE when there is none or it breaks off, ERR_BAD_REQUEST for an
 * impossible URL, ERR_TOO_LARGE over max_body, and what sink and tick say.
 */
int fetch_run(struct fetch *f, const struct fetch_request *rq,
              struct fetch_answer *a, struct err *e);

void fetch_answer_fini(struct fetch_answer *a);

/* fetch_escape: append s percent-encoded: one path segment or query value. */
void fetch_escape(struct buf *out, const char *s);

#endif
