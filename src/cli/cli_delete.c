/* holdfast delete: delete one backup. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/cli_client.h"
#include "cli/cli_options.h"

static int run(struct cli_client *c, void *arg, struct err *e)
{
    const struct cli_options *o = arg;
    json_t *v;

    if (c->ops->delete_backup(c, o->database, o->filename, &v, e) != 0)
        return -1;
    if (o->json)
        cli_print_json(v);
    else if (!o->quiet)
        (void)printf("deleted %s\n", o->filename);
    json_decref(v);
    return 0;
}

int cli_delete(int argc, char **argv)
{
    static const struct argp argp = {.doc = "Delete the backup FILE, for good.",
                                     .children = cli_file_child};
    struct cli_options o = {0};

    cli_parse(&argp, argc, argv, &o, &o);
    return cli_client_run(&o, (struct cli_client_act){.run = run, .arg = &o});
}
