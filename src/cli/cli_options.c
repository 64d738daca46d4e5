/* The options that commands share: see cli_options.h. */
#include "cli/cli_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_error.h"
#include "base/json.h"
#include "cli/cli_error.h"
#include "store/facts.h"

enum { KEY_SERVER = 0x100, KEY_DATA, KEY_DATABASE, KEY_JSON };

static error_t parse_target(int key, char *arg, struct argp_state *state)
{
    struct cli_options *o = state->input;

    switch (key) {
    case KEY_SERVER:
        if (arg[0] == '\0')
            argp_error(state, "--server needs a URL");
        o->server = arg;
        break;
    case KEY_DATA:
        if (arg[0] == '\0')
            argp_error(state, "--data needs a folder");
        o->data = arg;
        break;
    case KEY_JSON:
        o->json = true;
        break;
    case 'q':
        o->quiet = true;
        break;
    case ARGP_KEY_END:
        if (o->server != NULL && o->data != NULL)
            argp_error(state, "--server and --data exclude each other");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option target_options[] = {
    {"server", KEY_SERVER, "URL", 0,
     "Ask the server at URL (HOLDFAST_SERVER; " CLI_DEFAULT_SERVER "); the key "
     "in HOLDFAST_API_KEY goes with it",
     0},
    {"data", KEY_DATA, "DIR", 0,
     "Work on the data directory DIR without a server (HOLDFAST_DATA)", 0},
    {"json", KEY_JSON, NULL, 0, "Print the API's JSON", 0},
    {"quiet", 'q', NULL, 0, "Print names only, and no progress", 0},
    {0}};

static const struct argp target_argp = {.options = target_options,
                                        .parser = parse_target};
const struct argp_child cli_target_child[] = {{&target_argp, 0, NULL, 0}, {0}};

static error_t parse_database(int key, char *arg, struct argp_state *state)
{
    struct cli_options *o = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = o;
        break;
    case KEY_DATABASE:
        if (arg[0] == '\0')
            argp_error(state, "--database needs a name");
        o->database = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option database_options[] = {
    {"database", KEY_DATABASE, "NAME", 0,
     "The database NAME instead of the current one", 0},
    {0}};

static const struct argp database_argp = {.options = database_options,
                                          .parser = parse_database,
                                          .children = cli_target_child};
const struct argp_child cli_database_child[] = {{&database_argp, 0, NULL, 0},
                                                {0}};

static error_t parse_file(int key, char *arg, struct argp_state *state)
{
    struct cli_options *o = state->input;
    struct backup_name name;
    int64_t created_at;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = o;
        break;
    case ARGP_KEY_ARG:
        if (o->filename != NULL)
            argp_error(state, "one backup at a time, not '%s' too", arg);
        if (!backup_name_parse(arg, &name, &created_at))
            argp_error(state,
                       "'%s' is not a backup's name, app_YYYYMMDD_HHMMSS.db",
                       arg);
        o->filename = arg;
        break;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which backup? holdfast list names them");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp file_argp = {
    .parser = parse_file, .args_doc = "FILE", .children = cli_database_child};
const struct argp_child cli_file_child[] = {{&file_argp, 0, NULL, 0}, {0}};

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

void cli_parse(const struct argp *argp, int argc, char **argv, void *input,
               struct cli_options *o)
{
    /* argp ends the program itself where something is wrong. */
    if (argp_parse(argp, argc, argv, 0, NULL, input) != 0)
        exit(CLI_USAGE);
    if (o->server == NULL && o->data == NULL)
        o->server = from_environment("HOLDFAST_SERVER");
    if (o->server == NULL && o->data == NULL)
        o->data = from_environment("HOLDFAST_DATA");
    o->assumed = o->server == NULL && o->data == NULL;
    if (o->assumed)
        o->server = CLI_DEFAULT_SERVER;
}

void cli_print_json(const json_t *v)
{
    struct buf out = {0};

    json_put(&out, v);
    buf_puts(&out, "\n");
    (void)fwrite(out.data, 1, out.len, stdout);
    buf_fini(&out);
}

/* What the API would say of *e besides its message, or NULL. */
static json_t *details_of(const struct cli_options *o, const struct err *e)
{
    const char *identifier =
        strcmp(e->reason, "backup") == 0 ? o->filename : o->database;

    if (e->code == ERR_NOT_FOUND)
        return identifier == NULL || e->reason[0] == '\0'
                   ? NULL
                   : json_pack("{s:s, s:o}", "resource_type", e->reason,
                               "identifier", api_text(identifier));
    return e->reason[0] == '\0' ? NULL
                                : json_pack("{s:s}", "reason", e->reason);
}

static void print_error(const struct cli_options *o, const struct err *e,
                        const char *message, json_t *details)
{
    json_t *v = json_pack("{s:s, s:o}", "error", cli_error_word(e->code),
                          "message", api_text(message));

    details = details != NULL ? json_incref(details) : details_of(o, e);
    if (details != NULL)
        (void)json_object_set_new(v, "details", details);
    cli_print_json(v);
    json_decref(v);
}

int cli_report(const struct cli_options *o, const struct err *e,
               json_t *details)
{
    struct buf text = {0};

    cli_put_text(&text, e->message);
    (void)fflush(stdout);
    (void)fprintf(stderr, "holdfast: %s\n", text.data);
    if (o->json)
        print_error(o, e, text.data, details);
    buf_fini(&text);
    return (int)cli_exit_status(e->code);
}

const char *cli_field(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s != NULL ? s : "";
}

unsigned long long cli_number(const json_t *object, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(object, key));

    return v > 0 ? (unsigned long long)v : 0;
}

void cli_put_text(struct buf *out, const char *s)
{
    buf_puts(out, "");
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        /* U+0080 to U+009F are control characters too: C2 80 to C2 9F. */
        if (c == 0xc2 && (unsigned char)s[1] >= 0x80 &&
            (unsigned char)s[1] <= 0x9f) {
            s++;
            c = 0x7f;
        }
        buf_puts(out, c < 0x20 || c == 0x7f ? "?" : (char[]){(char)c, '\0'});
    }
}

void cli_put_time(struct buf *out, const char *iso)
{
    struct buf text = {0};

    cli_put_text(&text, iso);
    if (text.len > 19 && text.data[10] == 'T' && text.data[19] == '.') {
        text.data[10] = ' ';
        text.data[19] = '\0';
    }
    buf_puts(out, text.data);
    buf_fini(&text);
}

void cli_put_word(struct buf *out, const char *word)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz"
                                "0123456789%+,-./:=@_";

    if (word[0] != '\0' && strspn(word, plain) == strlen(word)) {
        buf_puts(out, word);
        return;
    }
    buf_puts(out, "'");
    for (; *word != '\0'; word++) {
        if (*word == '\'')
            buf_puts(out, "'\\''");
        else
            buf_put(out, word, 1);
    }
    buf_puts(out, "'");
}

void cli_put_command(struct buf *out, const struct cli_options *o,
                     const char *verb, const char *database)
{
    char *data = o->data != NULL ? realpath(o->data, NULL) : NULL;

    buf_printf(out, "holdfast %s", verb);
    if (!o->assumed) {
        buf_puts(out, o->data != NULL ? " --data " : " --server ");
        cli_put_word(out, data != NULL      ? data
                          : o->data != NULL ? o->data
                                            : o->server);
    }
    free(data);
    if (database != NULL) {
        buf_puts(out, " --database ");
        cli_put_word(out, database);
    }
}
