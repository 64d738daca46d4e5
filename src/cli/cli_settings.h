/*
 * The settings of a server.  One table says what there is; each setting can
 * stand as a flag, in the environment and in the configuration file:
 *
 *   --busy-timeout 5     HOLDFAST_BUSY_TIMEOUT=5     busy_timeout = 5
 *
 * A flag goes before the environment, that before the file, that before the
 * default.  A setting that may be repeated is taken whole from the first of
 * these that has it.
 */
#ifndef HOLDFAST_CLI_SETTINGS_H
#define HOLDFAST_CLI_SETTINGS_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/cli_value.h"

#define CLI_SETTINGS 12

enum cli_source {
    CLI_FROM_DEFAULT,
    CLI_FROM_FILE,
    CLI_FROM_ENVIRONMENT,
    CLI_FROM_FLAG
};

struct cli_strings {
    char **items;
    size_t n;
};

struct cli_settings {
    char *data; /* NULL: not given */
    char *config;
    struct cli_listen listen;
    bool auth;
    bool allow_plain_http;
    struct cli_strings hosts;
    struct cli_strings database_roots;
    unsigned busy_timeout_ms; /* 0: the service's default */
    uint64_t wal_limit_bytes; /* 0: the service's default */
    unsigned max_stall_ms;    /* 0: no limit */
    bool allow_network_fs;
    enum log_level log_level;
    /* Where each has its value from, by its place in the table. */
    enum cli_source source[CLI_SETTINGS];
};

/* cli_settings_init: the defaults. */
void cli_settings_init(struct cli_settings *s);
void cli_settings_fini(struct cli_settings *s);

/* cli_settings_options: the table as options of argp, ended by a zero one;
 * the keys are CLI_SETTINGS_KEY and up.  Static memory. */
#define CLI_SETTINGS_KEY 0x200
const struct argp_option *cli_settings_options(void);

/* cli_settings_flag: take an option by its key. */
int cli_settings_flag(struct cli_settings *s, int key, const char *value,
                      struct err *e);

/*
 * cli_settings_environment: take what stands in the environment; an empty
 * variable counts as none.  Fails with ERR_BAD_REQUEST naming the variable.
 */
int cli_settings_environment(struct cli_settings *s, struct err *e);

/*
 * cli_settings_file: take what stands in the configuration file at path.  An
 * unknown section or key, a key twice, and a bad value are ERR_BAD_REQUEST
 * naming file and line.
 */
int cli_settings_file(struct cli_settings *s, const char *path, struct err *e);

#endif
