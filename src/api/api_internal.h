/* What the files of the API share.  Nobody else includes this. */
#ifndef HOLDFAST_API_API_INTERNAL_H
#define HOLDFAST_API_API_INTERNAL_H

#include "api/api_list.h"
#include "auth/auth.h"
#include "backup/service.h"
#include "base/pool.h"
#include "http/http.h"

struct api {
    struct service *service;
    struct api_lists *lists;
    struct auth *auth; /* NULL: authentication is off */
    char *setup_code;
    struct pool *slow; /* one thread, for what takes a password */
    struct strand *passwords;
};

/*
 * http_route.access: the scope that a key needs, or one of these.  A route
 * that says nothing is the operator's.
 */
#define API_OPERATOR 0u       /* a session, or a key with the scope admin */
#define API_PUBLIC (1u << 16) /* anybody */
#define API_ANYONE (1u << 17) /* whoever is known, whatever the scopes */

/* api_caller: who is asking; with authentication off that is the operator. */
const struct auth_caller *api_caller(const struct http_request *rq);

/* api_backup.c: what is done with the backups of one database */
http_handler api_backup_create;
http_handler api_backup_list;
http_handler api_backup_restore;
http_handler api_backup_download;
http_handler api_backup_delete;
http_handler api_backup_details;
http_handler api_backup_verify;

/* api_auth.c: the account, its sessions */
http_handler api_auth_status;
http_handler api_auth_setup;
http_handler api_auth_login;
http_handler api_auth_logout;
http_handler api_auth_me;
http_handler api_auth_verify;
http_handler api_auth_password;
http_handler api_auth_username;
http_handler api_auth_sessions;
http_handler api_auth_end_session;

/* api_keys.c: keys */
http_handler api_keys_list;
http_handler api_keys_create;
http_handler api_keys_revoke;

/* api_databases.c: the databases that the service looks after */
http_handler api_databases_list;
http_handler api_databases_create;
http_handler api_databases_get;
http_handler api_databases_delete;
http_handler api_databases_current;
http_handler api_databases_switch;
http_handler api_databases_backups;

/* api_service.c: the service itself */
http_handler api_service_health;
http_handler api_service_ready;
http_handler api_service_openapi;

#endif
