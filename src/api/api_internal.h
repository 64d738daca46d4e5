/* What the files of the API share.  Nobody else includes this. */
#ifndef HOLDFAST_API_API_INTERNAL_H
#define HOLDFAST_API_API_INTERNAL_H

#include "api/api_list.h"
#include "backup/service.h"
#include "http/http.h"

struct api {
    struct service *service;
    struct api_lists *lists;
};

/* api_backup.c: what is done with the backups of one database */
http_handler api_backup_create;
http_handler api_backup_list;
http_handler api_backup_restore;
http_handler api_backup_download;
http_handler api_backup_delete;
http_handler api_backup_details;
http_handler api_backup_verify;

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
