/* holdfast verify: read a backup back and check it. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cli_client.h"
#include "cli/cli_error.h"
#include "cli/cli_options.h"

struct args {
    struct cli_options o;
    int status; /* what the check's result is as an exit status */
};

static void put_reason(struct buf *out, const char *before, const char *text)
{
    if (text[0] == '\0')
        return;
    buf_puts(out, before);
    cli_put_text(out, text);
}

static int print(const struct args *a, const json_t *v)
{
    const json_t *proof = json_object_get(v, "proof");
    const char *result = cli_field(proof, "result");
    struct buf out = {0};
    int status = CLI_FAILED;

    buf_printf(&out, "%s: ", a->o.filename);
    if (strcmp(result, "ok") == 0) {
        buf_puts(&out, "ok");
        status = CLI_OK;
    } else if (strcmp(result, "damaged") == 0) {
        buf_puts(&out, "DAMAGED, and set aside as suspect");
        status = CLI_DAMAGED;
    } else {
        buf_puts(&out, "not proven");
    }
    put_reason(&out, ": ", cli_field(proof, "problem"));
    put_reason(&out, "; not checked: ", cli_field(proof, "not_checked"));
    if (!a->o.json && !a->o.quiet)
        (void)puts(out.data);
    buf_fini(&out);
    return status;
}

static int run(struct cli_client *c, void *arg, struct err *e)
{
    struct args *a = arg;
    json_t *v;

    if (c->ops->verify(c, a->o.database, a->o.filename, &v, e) != 0)
        return -1;
    if (a->o.json)
        cli_print_json(v);
    a->status = print(a, v);
    json_decref(v);
    return 0;
}

int cli_verify(int argc, char **argv)
{
    static const struct argp argp = {
        .doc = "Read the backup FILE back, compare its digest and check the "
               "database in it.",
        .children = cli_file_child};
    struct args a = {0};
    int status;

    cli_parse(&argp, argc, argv, &a.o, &a.o);
    status = cli_client_run(
        &a.o,
        (struct cli_client_act){.run = run, .arg = &a, .doing = "reading"});
    return status != 0 ? status : a.status;
}
