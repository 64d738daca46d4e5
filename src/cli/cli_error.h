/*
 * How a command ends: the one table of exit statuses, and the words of the
 * API's error bodies, in both directions.
 */
#ifndef HOLDFAST_CLI_ERROR_H
#define HOLDFAST_CLI_ERROR_H

#include <stdio.h>

#include "base/err.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_CONFLICT = 4,
    CLI_DAMAGED = 5,
    CLI_BUSY = 6,
    CLI_NO_SPACE = 7,
    CLI_NOT_ALLOWED = 8,
    CLI_UNREACHABLE = 9
};

/* cli_exit_status: the exit status of an error. */
enum cli_exit cli_exit_status(enum err_code code);

/* cli_error_word: "error" in the API's error body; never NULL. */
const char *cli_error_word(enum err_code code);

/*
 * cli_error_code: the error that a server's answer means, from the word in
 * its body (NULL if it has none of ours) and else from the HTTP status.
 */
enum err_code cli_error_code(int http_status, const char *word);

/* cli_exit_table: the exit statuses and what they mean, one a line. */
void cli_exit_table(FILE *out);

#endif
