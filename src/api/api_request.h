/*
 * What every call does first: look at its query, its names and its body, and
 * refuse what it does not know.  A misspelt parameter must not fall back to
 * the current database.
 */
#ifndef HOLDFAST_API_API_REQUEST_H
#define HOLDFAST_API_API_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "api/api_internal.h"
#include "backup/databases.h"
#include "base/err.h"
#include "http/http.h"
#include "store/facts.h"

/* What a call takes besides its body. */
struct api_operation {
    const char *step;         /* its name for phase_enter: "api.create" */
    const char *const *query; /* known parameters, NULL-terminated */
    bool backups;   /* works on the database that ?database= names, or else
                       the current one */
    bool named;     /* works on the database that {name} in the path names */
    bool filename;  /* works on the backup that {filename} names */
    bool no_fields; /* its body is empty, or an empty JSON object */
};

/* One request under way.  Plain data; api_call_keep makes it outlive the
 * handler. */
struct api_call {
    struct api *api;
    struct http_request *rq;
    char database[DATABASE_NAME_SIZE]; /* "" if the call has none */
    struct backup_name filename;       /* "" if the call has none */
};

/*
 * api_call_begin: check rq against *op and fill *c.  On -1 the request has
 * been answered:
 *   400  an unknown or repeated query parameter; a body that is no JSON
 *        object
 *   422  a database name or filename that breaks its rule; a field in the
 *        body where none are known
 */
int api_call_begin(struct api_call *c, struct http_request *rq, void *ctx,
                   const struct api_operation *op);

/* api_call_keep: a copy for a callback, which frees it. */
struct api_call *api_call_keep(const struct api_call *c);

/* api_call_fail: answer with *e.  A 404 names the database where the reason
 * says so or the call has no backup, else the backup. */
void api_call_fail(const struct api_call *c, const struct err *e);

/* api_query_bool: `true` or `false`; false when it is not there.
 * ERR_BAD_REQUEST otherwise. */
int api_query_bool(const struct http_request *rq, const char *name, bool *out,
                   struct err *e);

/* api_query_size: a decimal number from min to max; `otherwise` when it is
 * not there.  ERR_BAD_REQUEST otherwise. */
int api_query_size(const struct http_request *rq, const char *name, size_t min,
                   size_t max, size_t otherwise, size_t *out, struct err *e);

/* A field of a body; all that we take are strings. */
struct api_field {
    const char *name;
    bool required;
    const char *value; /* set by api_body_fields; NULL if it is not there */
};

/*
 * api_body_fields: the body as a JSON object of these fields and no others.
 * The values are borrowed from *body, which the caller gives back (it is set
 * on success only).  ERR_BAD_REQUEST for what is no JSON object; ERR_INVALID
 * for an unknown field, a wrong type, or a missing one.
 */
int api_body_fields(const struct http_request *rq, struct api_field *fields,
                    size_t n, json_t **body, struct err *e);

/* api_auth_is_off: true where authentication is off, which is answered with a
 * 409 then: the calls about accounts and keys make no sense. */
bool api_auth_is_off(const struct api_call *c);

/* ---- values of answers, new references ---- */

/* api_time: as ISO 8601, null for 0. */
json_t *api_time(int64_t t);

/* api_scopes: the words of a set of scopes. */
json_t *api_scopes(unsigned scopes);

/* api_names: of a list with commas between an array; null for an empty one. */
json_t *api_names(const char *list);

#endif
