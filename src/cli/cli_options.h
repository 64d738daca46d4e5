/* The options that commands share, and how they say what they have to say. */
#ifndef HOLDFAST_CLI_OPTIONS_H
#define HOLDFAST_CLI_OPTIONS_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

#define CLI_DEFAULT_SERVER "http://127.0.0.1:8080"

/* Strings are borrowed from argv and the environment. */
struct cli_options {
    const char *server; /* set, or `data` is, after cli_parse */
    const char *data;
    bool assumed;         /* neither was given: the default server */
    const char *database; /* NULL: the current one */
    const char *filename; /* of a backup; NULL where the command has none */
    bool json;
    bool quiet;
};

/*
 * For a command's children; each has the one before it in it.  Their input is
 * a struct cli_options: where to work and how to answer (--server, --data,
 * --json, -q); --database; the argument FILE.
 */
extern const struct argp_child cli_target_child[];
extern const struct argp_child cli_database_child[];
extern const struct argp_child cli_file_child[];

/*
 * cli_parse: parse a command's arguments by its argp, then settle the target
 * from the environment (HOLDFAST_SERVER, then HOLDFAST_DATA) and the default.
 * Wrong usage ends the program with CLI_USAGE, --help with 0.
 */
void cli_parse(const struct argp *argp, int argc, char **argv, void *input,
               struct cli_options *o);

/* cli_report: say *e on stderr, with --json also as the API's error body on
 * stdout, with these details (borrowed; NULL: what *e says itself); returns
 * the exit status. */
int cli_report(const struct cli_options *o, const struct err *e,
               json_t *details);

/* cli_print_json: one document and a newline on stdout. */
void cli_print_json(const json_t *v);

/* cli_field: a string member of a JSON object, "" where there is none. */
const char *cli_field(const json_t *object, const char *key);
/* cli_number: an integer member, 0 where there is none or it is negative. */
unsigned long long cli_number(const json_t *object, const char *key);

/* cli_put_text: append s with every control character as '?': what others
 * wrote must not steer the terminal. */
void cli_put_text(struct buf *out, const char *s);

/* cli_put_time: append "2026-04-13T14:25:30.000000" as 2026-04-13 14:25:30. */
void cli_put_time(struct buf *out, const char *iso);

/* cli_put_command: append "holdfast VERB …" with this target and database
 * (NULL: none), each word quoted for a shell where it must be. */
void cli_put_command(struct buf *out, const struct cli_options *o,
                     const char *verb, const char *database);
void cli_put_word(struct buf *out, const char *word);

#endif
