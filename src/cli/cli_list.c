/* holdfast list: the backups of a database, newest first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/cli_client.h"
#include "cli/cli_options.h"
#include "cli/cli_value.h"

#define PAGE 1000

struct args {
    struct cli_options o;
    bool details;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;

    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->o;
        break;
    case 'l':
        a->details = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* The last check: "quick_check ok", or "-". */
static void put_proof(struct buf *line, const json_t *backup)
{
    const json_t *proof = json_object_get(backup, "proof");

    if (cli_field(proof, "checked")[0] == '\0') {
        buf_puts(line, "-");
        return;
    }
    cli_put_text(line, cli_field(proof, "checked"));
    buf_puts(line, " ");
    cli_put_text(line, cli_field(proof, "result"));
}

static void put_column(struct buf *line, const char *text, int width)
{
    struct buf clean = {0};

    cli_put_text(&clean, text);
    buf_printf(line, "  %-*s", width, clean.len > 0 ? clean.data : "");
    buf_fini(&clean);
}

static void print_line(const struct args *a, const json_t *backup)
{
    struct buf line = {0};
    char size[CLI_SIZE_SIZE];

    cli_put_text(&line, cli_field(backup, "filename"));
    if (!a->o.quiet) {
        cli_format_size(cli_number(backup, "size"), size);
        buf_printf(&line, "  %15llu  %10s  ", cli_number(backup, "size"), size);
        cli_put_time(&line, cli_field(backup, "created_at"));
    }
    if (!a->o.quiet && a->details) {
        put_column(&line, cli_field(backup, "origin"), 8);
        put_column(&line, cli_field(backup, "state"), 7);
        buf_puts(&line, "  ");
        put_proof(&line, backup);
    }
    (void)puts(line.data);
    buf_fini(&line);
}

static void print(const struct args *a, const json_t *v)
{
    const json_t *backups = json_object_get(v, "backups");
    size_t n = json_array_size(backups);

    if (n == 0 && !a->o.quiet)
        (void)fputs("no backups\n", stderr);
    if (n > 0 && !a->o.quiet)
        (void)printf("%-22s  %15s  %10s  CREATED (UTC)%s\n", "FILENAME",
                     "BYTES", "SIZE",
                     a->details ? "        ORIGIN    STATE    LAST CHECK" : "");
    for (size_t i = 0; i < n; i++)
        print_line(a, json_array_get(backups, i));
}

/* All pages of the rich list as one document. */
static int all_details(struct cli_client *c, const char *db, json_t **out,
                       struct err *e)
{
    json_t *all = json_array(), *v;
    char *before = NULL;
    size_t n;

    do {
        const struct cli_page page = {.limit = PAGE, .before = before};
        json_t *some;
        char *last;

        if (c->ops->list_details(c, db, page, &v, e) != 0) {
            free(before);
            json_decref(all);
            return -1;
        }
        some = json_object_get(v, "backups");
        n = json_array_size(some);
        (void)json_array_extend(all, some);
        last = xstrdup(
            n == 0 ? "" : cli_field(json_array_get(some, n - 1), "filename"));
        json_decref(v);
        /* Newest first: a page that does not go on would have no end. */
        if (before != NULL && strcmp(last, before) >= 0)
            n = 0;
        free(before);
        before = last;
    } while (n == PAGE);
    free(before);
    *out = json_pack("{s:o}", "backups", all);
    return 0;
}

static int run(struct cli_client *c, void *arg, struct err *e)
{
    const struct args *a = arg;
    json_t *v;
    int rc = a->details ? all_details(c, a->o.database, &v, e)
                        : c->ops->list(c, a->o.database, &v, e);

    if (rc != 0)
        return -1;
    if (a->o.json)
        cli_print_json(v);
    else
        print(a, v);
    json_decref(v);
    return 0;
}

int cli_list(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"long", 'l', NULL, 0,
         "Also how each came to be and what the last check said; with the "
         "suspect copies",
         0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .doc = "List the backups of a database, newest first.",
        .children = cli_database_child};
    struct args a = {0};

    cli_parse(&argp, argc, argv, &a, &a.o);
    return cli_client_run(&a.o, (struct cli_client_act){.run = run, .arg = &a});
}
