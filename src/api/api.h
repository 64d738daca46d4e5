/*
 * The HTTP API: what each route answers.  The service does the work, the
 * HTTP server carries it, and openapi.json is the exact description of all
 * that leaves here; GET /api/v1/openapi.json hands it out.
 */
#ifndef HOLDFAST_API_API_H
#define HOLDFAST_API_API_H

#include <stddef.h>

#include "auth/auth.h"
#include "backup/service.h"
#include "http/http.h"

struct api;

/* The routes, for http_opts.routes; their ctx is a struct api. */
extern const struct http_route api_routes[];
extern const size_t api_n_routes;

/* api_admit: for http_opts.admit. */
http_admit api_admit;

struct api_opts {
    struct service *service; /* borrowed, as is auth */
    struct auth *auth;       /* NULL: authentication is off */
    const char *setup_code;  /* lets set up from elsewhere; NULL: none */
};

/* api_new: what is borrowed must outlive the server. */
struct api *api_new(const struct api_opts *o);

/* api_free: only after http_server_stop; accepts NULL. */
void api_free(struct api *api);

#endif
