/*
 * From an error to an answer: one table decides status and code, and nothing
 * private leaves.  An error that may name paths (err_is_private), or that no
 * call should end in, is answered as INTERNAL_ERROR with a general message
 * and the request id; the real message goes to the log under the same id.
 */
#ifndef HOLDFAST_API_API_ERROR_H
#define HOLDFAST_API_API_ERROR_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "http/http.h"

/* What an ERR_NOT_FOUND is about: details.resource_type ("backup",
 * "database") and details.identifier.  Borrowed. */
struct api_subject {
    const char *type;
    const char *identifier;
};

struct api_error {
    int status;
    const char *code;
    char message[sizeof((struct err *)0)->message]; /* valid UTF-8 */
    json_t *details;        /* NULL is none; a reference */
    unsigned retry_after_s; /* 0 is none */
    bool internal;          /* the error itself belongs in the log */
};

/*
 * api_error_plan: fill *out from *e.  Pure.  details has
 *   resource_type, identifier  for a 404
 *   request_id                 for a 500
 *   reason                     for a 503 always, else where e has one
 * The caller gives back out->details.
 */
void api_error_plan(const struct err *e, struct api_subject subject,
                    const char *request_id, struct api_error *out);

/* api_error_reply: answer rq with *e, and log what is internal. */
void api_error_reply(struct http_request *rq, const struct err *e,
                     struct api_subject subject);

/*
 * api_text: s as a JSON string, a new reference.  Where s is not valid UTF-8
 * (a path of the system, a message cut in the middle of a character) every
 * byte above 0x7f becomes '?'.
 */
json_t *api_text(const char *s);

#endif
