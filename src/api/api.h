/*
 * The HTTP API: what each route answers.  The service does the work, the
 * HTTP server carries it, and openapi.json is the exact description of all
 * that leaves here; GET /api/v1/openapi.json hands it out.
 */
#ifndef HOLDFAST_API_API_H
#define HOLDFAST_API_API_H

#include <stddef.h>

#include "backup/service.h"
#include "http/http.h"

struct api;

/* The routes, for http_opts.routes; their ctx is a struct api. */
extern const struct http_route api_routes[];
extern const size_t api_n_routes;

/* api_new: the service is borrowed and must outlive the server. */
struct api *api_new(struct service *s);

/* api_free: only after http_server_stop; accepts NULL. */
void api_free(struct api *api);

#endif
