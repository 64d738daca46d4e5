/* holdfast backup: make a backup now. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/cli_client.h"
#include "cli/cli_options.h"
#include "cli/cli_value.h"

static void print(const struct cli_options *o, const json_t *v)
{
    struct buf out = {0};
    char size[CLI_SIZE_SIZE];

    cli_put_text(&out, cli_field(v, "filename"));
    if (!o->quiet) {
        cli_format_size(cli_number(v, "size"), size);
        buf_printf(&out, ": %llu bytes (%s) of database ",
                   cli_number(v, "size"), size);
        cli_put_text(&out, cli_field(v, "database"));
    }
    (void)puts(out.data);
    buf_fini(&out);
}

static int run(struct cli_client *c, void *arg, struct err *e)
{
    const struct cli_options *o = arg;
    json_t *v;

    if (c->ops->create(c, o->database, &v, e) != 0)
        return -1;
    if (o->json)
        cli_print_json(v);
    else
        print(o, v);
    json_decref(v);
    return 0;
}

int cli_backup(int argc, char **argv)
{
    static const struct argp argp = {
        .doc = "Make a backup of a database in use, and print its name.",
        .children = cli_database_child};
    struct cli_options o = {0};

    cli_parse(&argp, argc, argv, &o, &o);
    return cli_client_run(
        &o, (struct cli_client_act){.run = run, .arg = &o, .doing = "copying"});
}
