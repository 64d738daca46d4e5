/* holdfast databases: the databases that are looked after. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/cli_client.h"
#include "cli/cli_confirm.h"
#include "cli/cli_options.h"
#include "cli/cli_value.h"

struct args {
    struct cli_options o;
    const struct verb *verb;
    const char *words[2]; /* what follows the verb */
    unsigned n_words;
    bool yes;
};

struct verb {
    const char *name;
    unsigned min_words, max_words;
    int (*run)(struct cli_client *c, const struct args *a, struct err *e);
};

/* ---- list ---- */

/* Names are at most 64 characters; the column is as wide as the widest. */
static int name_width(const json_t *databases)
{
    size_t width = strlen("NAME");

    for (size_t i = 0; i < json_array_size(databases); i++) {
        size_t n = strlen(cli_field(json_array_get(databases, i), "name"));

        width = n > width ? n : width;
    }
    return width > 64 ? 64 : (int)width;
}

static void print_line(const json_t *d, int width, const char *current)
{
    struct buf line = {0}, name = {0};
    char size[CLI_SIZE_SIZE];

    cli_put_text(&name, cli_field(d, "name"));
    buf_printf(&line, "%c %-*s  ", strcmp(name.data, current) == 0 ? '*' : ' ',
               width, name.data);
    if (json_is_true(json_object_get(d, "exists"))) {
        cli_format_size(cli_number(d, "size"), size);
        buf_printf(&line, "%15llu  %10s  ", cli_number(d, "size"), size);
        cli_put_time(&line, cli_field(d, "last_modified"));
    } else {
        buf_printf(&line, "%15s  %10s  %-19s", "missing", "", "");
    }
    buf_puts(&line, "  ");
    cli_put_text(&line, cli_field(d, "path"));
    (void)puts(line.data);
    buf_fini(&name);
    buf_fini(&line);
}

static void print_name(const json_t *d)
{
    struct buf name = {0};

    cli_put_text(&name, cli_field(d, "name"));
    (void)puts(name.data);
    buf_fini(&name);
}

static int run_list(struct cli_client *c, const struct args *a, struct err *e)
{
    json_t *v, *cur = NULL;
    const json_t *all;
    int width;

    if (c->ops->databases(c, &v, e) != 0)
        return -1;
    all = json_object_get(v, "databases");
    if (a->o.json) {
        cli_print_json(v);
    } else if (a->o.quiet) {
        for (size_t i = 0; i < json_array_size(all); i++)
            print_name(json_array_get(all, i));
    } else if (c->ops->current(c, &cur, e) == 0) {
        width = name_width(all);
        (void)printf("  %-*s  %15s  %10s  %-19s  %s\n", width, "NAME", "BYTES",
                     "SIZE", "MODIFIED (UTC)", "PATH");
        for (size_t i = 0; i < json_array_size(all); i++)
            print_line(json_array_get(all, i), width,
                       cli_field(cur, "current"));
    } else {
        json_decref(v);
        return -1;
    }
    json_decref(cur);
    json_decref(v);
    return 0;
}

/* ---- the others ---- */

static void print_sentence(const char *before, const char *name,
                           const char *after, const char *path)
{
    struct buf out = {0};

    buf_puts(&out, before);
    cli_put_text(&out, name);
    buf_puts(&out, after);
    cli_put_text(&out, path);
    (void)puts(out.data);
    buf_fini(&out);
}

static int run_current(struct cli_client *c, const struct args *a,
                       struct err *e)
{
    json_t *v;

    if (c->ops->current(c, &v, e) != 0)
        return -1;
    if (a->o.json)
        cli_print_json(v);
    else
        print_sentence("", cli_field(v, "current"), "", "");
    json_decref(v);
    return 0;
}

/* A path means what it does here; a server has another "here". */
static int absolute(const struct args *a, const char *path, char **out,
                    struct err *e)
{
    char *here;

    if (path == NULL || path[0] == '/') {
        *out = path == NULL ? NULL : xstrdup(path);
        return 0;
    }
    if (a->o.data == NULL)
        return err_set(e, ERR_BAD_REQUEST,
                       "'%s' must begin with /: it is a path on the server's "
                       "machine",
                       path);
    here = getcwd(NULL, 0);
    if (here == NULL)
        return err_sys(e, "cannot find the current folder");
    *out = xasprintf("%s/%s", here, path);
    free(here);
    return 0;
}

static int run_add(struct cli_client *c, const struct args *a, struct err *e)
{
    char *path = NULL;
    json_t *v = NULL;
    int rc = absolute(a, a->words[1], &path, e);

    if (rc == 0)
        rc = c->ops->add(c, a->words[0], path, &v, e);
    if (rc == 0 && a->o.json)
        cli_print_json(v);
    else if (rc == 0 && !a->o.quiet)
        print_sentence("added database ", cli_field(v, "name"), ": ",
                       cli_field(v, "path"));
    json_decref(v);
    free(path);
    return rc;
}

static int run_remove(struct cli_client *c, const struct args *a, struct err *e)
{
    struct buf question = {0};
    int rc = 0;

    buf_puts(&question, "Remove database ");
    cli_put_text(&question, a->words[0]);
    buf_puts(&question, "?  Its backups stay, and a managed one gets a last "
                        "one before its file goes.");
    if (!a->yes)
        rc = cli_confirm(question.data, e);
    buf_fini(&question);
    if (rc == 0)
        rc = c->ops->remove(c, a->words[0], e);
    if (rc == 0 && !a->o.json && !a->o.quiet)
        print_sentence("removed database ", a->words[0], "; its backups stay",
                       "");
    return rc;
}

static int run_use(struct cli_client *c, const struct args *a, struct err *e)
{
    json_t *v;

    if (c->ops->use(c, a->words[0], &v, e) != 0)
        return -1;
    if (a->o.json)
        cli_print_json(v);
    else if (!a->o.quiet)
        print_sentence("the current database is now ", cli_field(v, "database"),
                       "", "");
    json_decref(v);
    return 0;
}

static const struct verb verbs[] = {
    {"list", 0, 0, run_list}, {"current", 0, 0, run_current},
    {"add", 1, 2, run_add},   {"remove", 1, 1, run_remove},
    {"use", 1, 1, run_use},
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->o;
        break;
    case 'y':
        a->yes = true;
        break;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0) {
            a->verb = find_verb(arg);
            if (a->verb == NULL)
                argp_error(state,
                           "'%s' is none of list, current, add, remove "
                           "and use",
                           arg);
            break;
        }
        if (a->n_words == a->verb->max_words)
            argp_error(state, "too many words after %s: '%s'", a->verb->name,
                       arg);
        a->words[a->n_words++] = arg;
        break;
    case ARGP_KEY_END:
        if (a->verb == NULL)
            a->verb = find_verb("list");
        if (a->n_words < a->verb->min_words)
            argp_error(state, "%s needs the name of a database", a->verb->name);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int run(struct cli_client *c, void *arg, struct err *e)
{
    const struct args *a = arg;

    return a->verb->run(c, a, e);
}

int cli_databases(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"yes", 'y', NULL, 0, "Do not ask before remove", 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "[list]\ncurrent\nadd NAME [PATH]\nremove NAME\nuse NAME",
        .doc = "List the databases that are looked after, name the current "
               "one, add one (the file at PATH, or a new one in the data "
               "directory), remove one, or make one the current one.",
        .children = cli_target_child};
    struct args a = {0};

    cli_parse(&argp, argc, argv, &a, &a.o);
    return cli_client_run(
        &a.o, (struct cli_client_act){
                  .run = run, .arg = &a, .make = a.verb->run == run_add});
}
