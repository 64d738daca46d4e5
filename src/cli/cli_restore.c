/* holdfast restore: put a backup into the database in use. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/cli_client.h"
#include "cli/cli_confirm.h"
#include "cli/cli_options.h"

struct args {
    struct cli_options o;
    bool force;
    bool yes;
};

enum { KEY_FORCE = 0x300 };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;

    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->o;
        break;
    case KEY_FORCE:
        a->force = true;
        break;
    case 'y':
        a->yes = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int ask(const struct args *a, struct err *e)
{
    struct buf question = {0};
    int rc;

    if (a->yes)
        return 0;
    buf_puts(&question, "Restore ");
    if (a->o.database != NULL) {
        buf_puts(&question, "database ");
        cli_put_text(&question, a->o.database);
    } else {
        buf_puts(&question, "the current database");
    }
    buf_puts(&question, " from ");
    cli_put_text(&question, a->o.filename);
    buf_puts(&question, "?  Its state before is kept as a backup.");
    rc = cli_confirm(question.data, e);
    buf_fini(&question);
    return rc;
}

/* What was done, and the command that undoes it. */
static void print(const struct args *a, const json_t *v,
                  const struct backup_name *safety)
{
    const char *database = cli_field(v, "database");
    struct buf out = {0};

    buf_puts(&out, "restored database ");
    cli_put_text(&out, database);
    buf_puts(&out, " from ");
    cli_put_text(&out, cli_field(v, "restored_from"));
    if (safety->s[0] != '\0') {
        buf_puts(&out, "\nto undo it: ");
        cli_put_command(&out, &a->o, "restore", database);
        buf_printf(&out, "%s %s", a->force ? " --force" : "", safety->s);
    } else {
        buf_puts(&out, "\nthere was no earlier state to keep");
    }
    /* With --json stdout is for the document alone. */
    (void)fprintf(a->o.json ? stderr : stdout, "%s\n", out.data);
    buf_fini(&out);
}

static int run(struct cli_client *c, void *arg, struct err *e)
{
    const struct args *a = arg;
    struct backup_name safety = {0};
    json_t *v;

    if (ask(a, e) != 0 || c->ops->restore(c, a->o.database, a->o.filename,
                                          a->force, &safety, &v, e) != 0)
        return -1;
    if (a->o.json)
        cli_print_json(v);
    if (!a->o.quiet)
        print(a, v, &safety);
    else if (!a->o.json && safety.s[0] != '\0')
        (void)puts(safety.s);
    json_decref(v);
    return 0;
}

int cli_restore(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"force", KEY_FORCE, NULL, 0,
         "Restore also where the text encoding is another", 0},
        {"yes", 'y', NULL, 0,
         "Do not ask (nobody is asked where there is no terminal)", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .doc = "Restore a database in use from the backup FILE, in one "
               "transaction.  The state before it is kept as a backup of its "
               "own; the command that undoes the restore is printed.",
        .children = cli_file_child};
    struct args a = {0};

    cli_parse(&argp, argc, argv, &a, &a.o);
    return cli_client_run(
        &a.o,
        (struct cli_client_act){.run = run, .arg = &a, .doing = "restoring"});
}
