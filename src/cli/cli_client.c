/* A server or a data directory: see cli_client.h. */
#include "cli/cli_client.h"

#include <stdio.h>
#include <string.h>

/* Nobody named the server that does not answer. */
static void say_where(struct err *e)
{
    size_t n = strlen(e->message);

    (void)snprintf(e->message + n, sizeof e->message - n,
                   "; --server URL or --data DIR says where else to work");
}

int cli_client_run(const struct cli_options *o, struct cli_client_act act)
{
    struct cli_client *c = NULL;
    struct cli_progress progress;
    json_t *details = NULL;
    struct err e;
    int rc;

    rc = o->data != NULL ? cli_local_open(o->data, act.make, &c, &e)
                         : cli_remote_open(o->server, &c, &e);
    if (rc == 0 && act.doing != NULL) {
        cli_progress_init(&progress, act.doing, o);
        c->progress = &progress;
    }
    if (rc == 0)
        rc = act.run(c, act.arg, &e);
    if (c != NULL) {
        details = c->details;
        c->ops->close(c);
    }
    if (rc != 0 && e.code == ERR_UNREACHABLE && o->assumed)
        say_where(&e);
    if (rc != 0)
        rc = cli_report(o, &e, details);
    json_decref(details);
    return rc;
}
