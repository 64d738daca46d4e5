/* A server or a data directory: see cli_client.h. */
#include "cli/cli_client.h"

int cli_client_run(const struct cli_options *o, struct cli_client_act act)
{
    struct cli_client *c = NULL;
    struct cli_progress progress;
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
    if (c != NULL)
        c->ops->close(c);
    return rc == 0 ? 0 : cli_report(o, &e);
}
