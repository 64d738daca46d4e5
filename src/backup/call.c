/* Small things that every operation needs: see backup_internal.h. */
#include <stdio.h>
#include <string.h>

#include "backup/backup_internal.h"

void call_init(struct call *k, const struct backup_call *c)
{
    k->c = *c;
    (void)snprintf(k->request_id, sizeof k->request_id, "%s",
                   c->request_id != NULL ? c->request_id : "");
    k->c.request_id = NULL;
}

const char *call_request(const struct call *k)
{
    return k->request_id[0] != '\0' ? k->request_id : NULL;
}

void call_fail(const struct call *k, const struct err *e)
{
    k->c.done(k->c.arg, e, NULL);
}

int parse_filename(const char *filename, struct backup_name *name, int64_t *t,
                   struct err *e)
{
    if (backup_name_parse(filename, name, t))
        return 0;
    return err_set_reason(e, ERR_INVALID, "filename",
                          "a backup's filename is app_YYYYMMDD_HHMMSS.db with "
                          "a real date and time");
}
