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

#define AUTH_MAX_BODY 4096
#define PASSWORDS_WAITING 16

#define BACKUP "/api/v1/backup"
#define DATABASES "/api/v1/databases"
#define AUTH "/api/v1/auth"

const struct http_route api_routes[] = {
    {"POST", BACKUP, api_backup_create, NO_FIELDS_MAX, AUTH_CREATE},
    {"GET", BACKUP, api_backup_list, 0, AUTH_LIST},
    {"GET", BACKUP "/{filename}", api_backup_details, 0, AUTH_LIST},
    {"DELETE", BACKUP "/{filename}", api_backup_delete, 0, AUTH_DELETE},
    {"POST", BACKUP "/{filename}/restore", api_backup_restore, NO_FIELDS_MAX,
     AUTH_RESTORE},
    {"GET", BACKUP "/{filename}/download", api_backup_download, 0,
     AUTH_DOWNLOAD},
    {"POST", BACKUP "/{filename}/verify", api_backup_verify, NO_FIELDS_MAX,
     AUTH_CREATE},

    {"GET", DATABASES, api_databases_list, 0, AUTH_LIST},
    {"POST", DATABASES, api_databases_create, PATH_MAX_BODY, API_OPERATOR},
    {"GET", DATABASES "/current", api_databases_current, 0, AUTH_LIST},
    {"PATCH", DATABASES "/current", api_databases_switch, NAME_MAX_BODY,
     API_OPERATOR},
    {"GET", DATABASES "/{name}", api_databases_get, 0, AUTH_LIST},
    {"DELETE", DATABASES "/{name}", api_databases_delete, 0, API_OPERATOR},
    {"GET", DATABASES "/{name}/backups", api_databases_backups, 0, AUTH_LIST},

    {"GET", AUTH "/status", api_auth_status, 0, API_PUBLIC},
    {"POST", AUTH "/setup", api_auth_setup, AUTH_MAX_BODY, API_PUBLIC},
    {"POST", AUTH "/login", api_auth_login, AUTH_MAX_BODY, API_PUBLIC},
    {"POST", AUTH "/logout", api_auth_logout, NO_FIELDS_MAX, API_OPERATOR},
    {"GET", AUTH "/me", api_auth_me, 0, API_ANYONE},
    {"GET", AUTH "/verify", api_auth_verify, 0, API_ANYONE},
    {"POST", AUTH "/password", api_auth_password, AUTH_MAX_BODY, API_OPERATOR},
    {"POST", AUTH "/username", api_auth_username, AUTH_MAX_BODY, API_OPERATOR},
    {"GET", AUTH "/sessions", api_auth_sessions, 0, API_OPERATOR},
    {"DELETE", AUTH "/sessions/{id}", api_auth_end_session, 0, API_OPERATOR},
    {"GET", AUTH "/keys", api_keys_list, 0, API_OPERATOR},
    {"POST", AUTH "/keys", api_keys_create, AUTH_MAX_BODY, API_OPERATOR},
    {"DELETE", AUTH "/keys/{id}", api_keys_revoke, 0, API_OPERATOR},

    {"GET", "/api/v1/openapi.json", api_service_openapi, 0, API_PUBLIC},
    {"GET", "/healthz", api_service_health, 0, API_PUBLIC},
    {"GET", "/readyz", api_service_ready, 0, API_PUBLIC},
};
const size_t api_n_routes = sizeof api_routes / sizeof api_routes[0];

struct api *api_new(const struct api_opts *o)
{
    struct api *api = xcalloc(1, sizeof *api);

    api->service = o->service;
    api->lists = api_lists_new();
    api->auth = o->auth;
    if (o->setup_code != NULL)
        api->setup_code = xstrdup(o->setup_code);
    if (o->auth != NULL) {
        /* One password is checked at a time: a flood of logins must not
         * starve backups. */
        api->slow = pool_new(1);
        api->passwords = strand_new(api->slow, PASSWORDS_WAITING);
    }
    return api;
}

void api_free(struct api *api)
{
    if (api == NULL)
        return;
    if (api->slow != NULL) {
        strand_drain(api->passwords);
        strand_free(api->passwords);
        pool_free(api->slow);
    }
    api_lists_free(api->lists);
    free(api->setup_code);
    free(api);
}
