/* A configuration file, and its text as the values of flags. */
#include "fuzz.h"

#include <string.h>

#include "cli/cli_settings.h"

/* Nothing is taken that a server could not work with. */
static void check(const struct cli_settings *s)
{
    require(s->listen.host[0] != '\0');
    require(memchr(s->listen.host, '\0', sizeof s->listen.host) != NULL);
    require(s->busy_timeout_ms <= 24u * 60 * 60 * 1000);
    require(s->max_stall_ms <= 24u * 60 * 60 * 1000);
    require(s->wal_limit_bytes <= INT64_MAX);
    require(s->data == NULL || s->data[0] != '\0');
    for (size_t i = 0; i < s->hosts.n; i++)
        require(s->hosts.items[i][0] != '\0');
    require(s->log_level >= LOG_DEBUG && s->log_level <= LOG_ERROR);
}

static void try_file(const uint8_t *data, size_t size)
{
    struct cli_settings s;
    struct err e = {0};

    cli_settings_init(&s);
    if (cli_settings_file(&s, input_file(data, size), &e) != 0)
        require_error(&e);
    else
        check(&s);
    cli_settings_fini(&s);
}

static void try_flags(const char *text)
{
    for (int i = 0; i < CLI_SETTINGS; i++) {
        struct cli_settings s;
        struct err e = {0};

        cli_settings_init(&s);
        if (cli_settings_flag(&s, CLI_SETTINGS_KEY + i, text, &e) != 0)
            require_error(&e);
        else
            check(&s);
        cli_settings_fini(&s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    char *line;

    try_file(data, size);
    line = input_line(&in);
    try_flags(line);
    free(line);
    return 0;
}
