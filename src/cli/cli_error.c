/* How a command ends: see cli_error.h. */
#include "cli/cli_error.h"

#include <stddef.h>
#include <string.h>

/* One row per error; the first row with a word is what the word means. */
static const struct {
    enum err_code code;
    enum cli_exit status;
    const char *word;
} errors[] = {
    {ERR_NONE, CLI_OK, ""},
    {ERR_BAD_REQUEST, CLI_USAGE, "BAD_REQUEST"},
    {ERR_UNAUTHORIZED, CLI_NOT_ALLOWED, "INVALID_CREDENTIALS"},
    {ERR_FORBIDDEN, CLI_NOT_ALLOWED, "FORBIDDEN"},
    {ERR_NOT_FOUND, CLI_NOT_FOUND, "NOT_FOUND"},
    {ERR_CONFLICT, CLI_CONFLICT, "CONFLICT"},
    {ERR_INVALID, CLI_USAGE, "VALIDATION_FAILED"},
    {ERR_TOO_LARGE, CLI_USAGE, "PAYLOAD_TOO_LARGE"},
    {ERR_DAMAGED, CLI_DAMAGED, "OPERATION_FAILED"},
    {ERR_NOT_DATABASE, CLI_DAMAGED, "OPERATION_FAILED"},
    {ERR_ENCRYPTED, CLI_DAMAGED, "OPERATION_FAILED"},
    {ERR_THROTTLED, CLI_BUSY, "TOO_MANY_REQUESTS"},
    {ERR_BUSY, CLI_BUSY, "BUSY"},
    {ERR_NO_SPACE, CLI_NO_SPACE, "INSUFFICIENT_STORAGE"},
    {ERR_CANCELLED, CLI_FAILED, "CANCELLED"},
    {ERR_LIMIT, CLI_FAILED, "OPERATION_FAILED"},
    {ERR_UNREACHABLE, CLI_UNREACHABLE, "UNREACHABLE"},
    {ERR_IO, CLI_FAILED, "INTERNAL_ERROR"},
    {ERR_INTERNAL, CLI_FAILED, "INTERNAL_ERROR"},
};

/* Further words of a server, and what a status means without one. */
static const struct {
    int http_status;
    const char *word;
    enum err_code code;
} answers[] = {
    {400, "", ERR_BAD_REQUEST},
    {401, "AUTH_REQUIRED", ERR_UNAUTHORIZED},
    {403, "", ERR_FORBIDDEN},
    {404, "", ERR_NOT_FOUND},
    {405, "METHOD_NOT_ALLOWED", ERR_BAD_REQUEST},
    {409, "", ERR_CONFLICT},
    {413, "", ERR_TOO_LARGE},
    {414, "URI_TOO_LONG", ERR_TOO_LARGE},
    {415, "UNSUPPORTED_MEDIA_TYPE", ERR_BAD_REQUEST},
    {422, "", ERR_INVALID},
    {429, "", ERR_THROTTLED},
    {431, "HEADERS_TOO_LARGE", ERR_TOO_LARGE},
    {500, "INTERNAL_ERROR", ERR_INTERNAL},
    {502, "", ERR_UNREACHABLE},
    {503, "", ERR_BUSY},
    {504, "", ERR_UNREACHABLE},
    {507, "", ERR_NO_SPACE},
};

static const char *const meanings[] = {
    [CLI_OK] = "done",
    [CLI_FAILED] = "failed for another reason than those below",
    [CLI_USAGE] = "wrong usage: an option, a name, the configuration",
    [CLI_NOT_FOUND] = "no such backup or database",
    [CLI_CONFLICT] = "exists already, or the state does not allow it",
    [CLI_DAMAGED] = "damaged, encrypted or no SQLite database",
    [CLI_BUSY] = "busy: try again",
    [CLI_NO_SPACE] = "the disk is full, or would be",
    [CLI_NOT_ALLOWED] = "not allowed: no or too weak a key",
    [CLI_UNREACHABLE] = "the server does not answer",
};

#define N(array) (sizeof(array) / sizeof(array)[0])

enum cli_exit cli_exit_status(enum err_code code)
{
    for (size_t i = 0; i < N(errors); i++) {
        if (errors[i].code == code)
            return errors[i].status;
    }
    return CLI_FAILED;
}

const char *cli_error_word(enum err_code code)
{
    for (size_t i = 0; i < N(errors); i++) {
        if (errors[i].code == code)
            return errors[i].word;
    }
    return "INTERNAL_ERROR";
}

enum err_code cli_error_code(int http_status, const char *word)
{
    for (size_t i = 0; word != NULL && i < N(answers); i++) {
        if (answers[i].word[0] != '\0' && strcmp(answers[i].word, word) == 0)
            return answers[i].code;
    }
    for (size_t i = 1; word != NULL && i < N(errors); i++) {
        if (strcmp(errors[i].word, word) == 0)
            return errors[i].code;
    }
    for (size_t i = 0; i < N(answers); i++) {
        if (answers[i].http_status == http_status)
            return answers[i].code;
    }
    return ERR_INTERNAL;
}

void cli_exit_table(FILE *out)
{
    for (size_t i = 0; i < N(meanings); i++)
        (void)fprintf(out, "  %zu  %s\n", i, meanings[i]);
}
