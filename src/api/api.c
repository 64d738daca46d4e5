/* The routes of the API: see api.h. */
#include "api/api.h"

#include <stdlib.h>

#include "api/api_internal.h"
#include "base/mem.h"

/*
 * Bodies.  A call that needs none accepts an empty object too, since many
 * clients send one with every POST.  A path has at most 4095 bytes, each of
 * which JSON may spell with six.
 */
#define NO_FIELDS_MAX 1024
#define NAME_MAX_BODY 4096
#define PATH_MAX_BODY 32768

#define BACKUP "/api/v1/backup"
#define DATABASES "/api/v1/databases"

const struct http_route api_routes[] = {
    {"POST", BACKUP, api_backup_create, NO_FIELDS_MAX},
    {"GET", BACKUP, api_backup_list, 0},
    {"GET", BACKUP "/{filename}", api_backup_details, 0},
    {"DELETE", BACKUP "/{filename}", api_backup_delete, 0},
    {"POST", BACKUP "/{filename}/restore", api_backup_restore, NO_FIELDS_MAX},
    {"GET", BACKUP "/{filename}/download", api_backup_download, 0},
    {"POST", BACKUP "/{filename}/verify", api_backup_verify, NO_FIELDS_MAX},

    {"GET", DATABASES, api_databases_list, 0},
    {"POST", DATABASES, api_databases_create, PATH_MAX_BODY},
    {"GET", DATABASES "/current", api_databases_current, 0},
    {"PATCH", DATABASES "/current", api_databases_switch, NAME_MAX_BODY},
    {"GET", DATABASES "/{name}", api_databases_get, 0},
    {"DELETE", DATABASES "/{name}", api_databases_delete, 0},
    {"GET", DATABASES "/{name}/backups", api_databases_backups, 0},

    {"GET", "/api/v1/openapi.json", api_service_openapi, 0},
    {"GET", "/healthz", api_service_health, 0},
    {"GET", "/readyz", api_service_ready, 0},
};
const size_t api_n_routes = sizeof api_routes / sizeof api_routes[0];

struct api *api_new(struct service *s)
{
    struct api *api = xcalloc(1, sizeof *api);

    api->service = s;
    api->lists = api_lists_new();
    return api;
}

void api_free(struct api *api)
{
    if (api == NULL)
        return;
    api_lists_free(api->lists);
    free(api);
}
