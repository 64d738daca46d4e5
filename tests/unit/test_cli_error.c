/* How a command ends: one exit status per error, whoever reports it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_error.h"

static void statuses(void **state)
{
    static const struct {
        enum err_code code;
        enum cli_exit status;
    } rows[] = {
        {ERR_NONE, CLI_OK},
        {ERR_BAD_REQUEST, CLI_USAGE},
        {ERR_UNAUTHORIZED, CLI_NOT_ALLOWED},
        {ERR_FORBIDDEN, CLI_NOT_ALLOWED},
        {ERR_NOT_FOUND, CLI_NOT_FOUND},
        {ERR_CONFLICT, CLI_CONFLICT},
        {ERR_INVALID, CLI_USAGE},
        {ERR_TOO_LARGE, CLI_USAGE},
        {ERR_DAMAGED, CLI_DAMAGED},
        {ERR_NOT_DATABASE, CLI_DAMAGED},
        {ERR_ENCRYPTED, CLI_DAMAGED},
        {ERR_THROTTLED, CLI_BUSY},
        {ERR_BUSY, CLI_BUSY},
        {ERR_NO_SPACE, CLI_NO_SPACE},
        {ERR_CANCELLED, CLI_FAILED},
        {ERR_LIMIT, CLI_FAILED},
        {ERR_UNREACHABLE, CLI_UNREACHABLE},
        {ERR_IO, CLI_FAILED},
        {ERR_INTERNAL, CLI_FAILED},
    };

    (void)state;
    /* ERR_INTERNAL is the last of them: none is missing here. */
    assert_int_equal(sizeof rows / sizeof rows[0], ERR_INTERNAL + 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(cli_exit_status(rows[i].code), rows[i].status);
        assert_true(i == 0 || cli_error_word(rows[i].code)[0] != '\0');
    }
}

static void words(void **state)
{
    static const struct {
        int http_status;
        const char *word;
        enum cli_exit status;
    } rows[] = {
        {400, "BAD_REQUEST", CLI_USAGE},
        {401, "AUTH_REQUIRED", CLI_NOT_ALLOWED},
        {401, "INVALID_CREDENTIALS", CLI_NOT_ALLOWED},
        {403, "FORBIDDEN", CLI_NOT_ALLOWED},
        {404, "NOT_FOUND", CLI_NOT_FOUND},
        {405, "METHOD_NOT_ALLOWED", CLI_USAGE},
        {409, "CONFLICT", CLI_CONFLICT},
        {413, "PAYLOAD_TOO_LARGE", CLI_USAGE},
        {414, "URI_TOO_LONG", CLI_USAGE},
        {415, "UNSUPPORTED_MEDIA_TYPE", CLI_USAGE},
        {422, "VALIDATION_FAILED", CLI_USAGE},
        {422, "OPERATION_FAILED", CLI_DAMAGED},
        {429, "TOO_MANY_REQUESTS", CLI_BUSY},
        {431, "HEADERS_TOO_LARGE", CLI_USAGE},
        {500, "INTERNAL_ERROR", CLI_FAILED},
        {503, "BUSY", CLI_BUSY},
        {507, "INSUFFICIENT_STORAGE", CLI_NO_SPACE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum err_code code = cli_error_code(rows[i].http_status, rows[i].word);

        assert_int_equal(cli_exit_status(code), rows[i].status);
    }
}

static void strange_answers(void **state)
{
    (void)state;
    assert_int_equal(cli_error_code(401, NULL), ERR_UNAUTHORIZED);
    assert_int_equal(cli_error_code(404, "NoSuchKey"), ERR_NOT_FOUND);
    assert_int_equal(cli_error_code(502, NULL), ERR_UNREACHABLE);
    assert_int_equal(cli_error_code(503, ""), ERR_BUSY);
    assert_int_equal(cli_error_code(504, NULL), ERR_UNREACHABLE);
    assert_int_equal(cli_error_code(507, NULL), ERR_NO_SPACE);
    assert_int_equal(cli_error_code(418, NULL), ERR_INTERNAL);
}

static void table(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    cli_exit_table(out);
    (void)fclose(out);
    for (int i = CLI_OK; i <= CLI_UNREACHABLE; i++) {
        char line[16];

        (void)snprintf(line, sizeof line, "%s  %d  ", i == 0 ? "" : "\n", i);
        assert_non_null(strstr(text, line));
    }
    assert_null(strstr(text, "(null)"));
    free(text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"cli: every error has its exit status and its word", statuses, NULL,
         NULL, NULL},
        {"cli: a server's word gives the same exit status", words, NULL, NULL,
         NULL},
        {"cli: an answer without a word of ours goes by its HTTP status",
         strange_answers, NULL, NULL, NULL},
        {"cli: the table for --help has every exit status", table, NULL, NULL,
         NULL},
    };

    return cmocka_run_group_tests_name("cli_error", tests, NULL, NULL);
}
