/* The settings of a server: flags, environment, file, defaults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ini.h"
#include "cli/cli_settings.h"

#define FILE_NAME "test.ini"

static const char *const variables[] = {
    "HOLDFAST_DATA",         "HOLDFAST_CONFIG",
    "HOLDFAST_LISTEN",       "HOLDFAST_AUTH",
    "HOLDFAST_HOST",         "HOLDFAST_DATABASE_ROOT",
    "HOLDFAST_BUSY_TIMEOUT", "HOLDFAST_WAL_LIMIT",
    "HOLDFAST_MAX_STALL",    "HOLDFAST_ALLOW_NETWORK_FS",
    "HOLDFAST_LOG_LEVEL",
};
#define N_VARIABLES (sizeof variables / sizeof variables[0])

/* Every test begins with the defaults and an empty environment. */
static int begin(void **state)
{
    static struct cli_settings s;

    for (size_t i = 0; i < N_VARIABLES; i++)
        (void)unsetenv(variables[i]);
    cli_settings_init(&s);
    *state = &s;
    return 0;
}

static int finish(void **state)
{
    cli_settings_fini(*state);
    (void)remove(FILE_NAME);
    return 0;
}

static void flag(struct cli_settings *s, const char *name, const char *value)
{
    const struct argp_option *o = cli_settings_options();
    struct err e;

    while (o->name != NULL && strcmp(o->name, name) != 0)
        o++;
    assert_non_null(o->name);
    if (cli_settings_flag(s, o->key, value, &e) != 0)
        fail_msg("--%s %s: %s", name, value, e.message);
}

static void environment(struct cli_settings *s)
{
    struct err e;

    if (cli_settings_environment(s, &e) != 0)
        fail_msg("%s", e.message);
}

static int read_text(struct cli_settings *s, const char *text, struct err *e)
{
    FILE *f = fopen(FILE_NAME, "w");

    assert_non_null(f);
    (void)fputs(text, f);
    assert_int_equal(fclose(f), 0);
    return cli_settings_file(s, FILE_NAME, e);
}

static void file(struct cli_settings *s, const char *text)
{
    struct err e;

    if (read_text(s, text, &e) != 0)
        fail_msg("%s", e.message);
}

static void defaults(void **state)
{
    struct cli_settings *s = *state;

    environment(s);
    assert_null(s->data);
    assert_string_equal(s->listen.host, "127.0.0.1");
    assert_int_equal(s->listen.port, 8080);
    assert_true(s->listen.loopback);
    assert_true(s->auth);
    assert_int_equal(s->hosts.n, 0);
    assert_int_equal(s->database_roots.n, 0);
    assert_false(s->allow_network_fs);
    assert_int_equal(s->log_level, LOG_INFO);
}

static void all_from_file(void **state)
{
    struct cli_settings *s = *state;

    file(s, "# all of them\n"
            "[server]\n"
            "data = /srv/holdfast data\n"
            "listen = [::1]:9000   ; a comment\n"
            "auth = off\n"
            "host = one.example\n"
            "host = two.example\n"
            "database_root = /srv/a\n"
            "    /srv/b\n"
            "busy_timeout = 500ms\n"
            "wal_limit = 1GiB\n"
            "max_stall = 2\n"
            "allow_network_fs = on\n"
            "log_level = debug\n");
    assert_string_equal(s->data, "/srv/holdfast data");
    assert_string_equal(s->listen.host, "::1");
    assert_int_equal(s->listen.port, 9000);
    assert_false(s->auth);
    assert_int_equal(s->hosts.n, 2);
    assert_string_equal(s->hosts.items[1], "two.example");
    assert_int_equal(s->database_roots.n, 2);
    assert_string_equal(s->database_roots.items[1], "/srv/b");
    assert_int_equal(s->busy_timeout_ms, 500);
    assert_int_equal(s->wal_limit_bytes, 1 << 30);
    assert_int_equal(s->max_stall_ms, 2000);
    assert_true(s->allow_network_fs);
    assert_int_equal(s->log_level, LOG_DEBUG);
}

static void all_from_environment(void **state)
{
    static const char *const values[N_VARIABLES] = {
        "/srv/d", "/etc/h.ini", "127.0.0.1:1", "off",   "a,b.example,[::1]",
        "/a:/b",  "1.5",        "10MB",        "750ms", "on",
        "warn"};
    struct cli_settings *s = *state;

    for (size_t i = 0; i < N_VARIABLES; i++)
        (void)setenv(variables[i], values[i], 1);
    environment(s);
    assert_string_equal(s->data, "/srv/d");
    assert_string_equal(s->config, "/etc/h.ini");
    assert_int_equal(s->listen.port, 1);
    assert_false(s->auth);
    assert_int_equal(s->hosts.n, 3);
    assert_string_equal(s->hosts.items[2], "[::1]");
    assert_int_equal(s->database_roots.n, 2);
    assert_string_equal(s->database_roots.items[0], "/a");
    assert_int_equal(s->busy_timeout_ms, 1500);
    assert_int_equal(s->wal_limit_bytes, 10000000);
    assert_int_equal(s->max_stall_ms, 750);
    assert_true(s->allow_network_fs);
    assert_int_equal(s->log_level, LOG_WARN);
}

static void precedence(void **state)
{
    struct cli_settings *s = *state;

    /* In the order in which serve takes them: the file comes last. */
    flag(s, "data", "/flag");
    flag(s, "host", "flag.example");
    flag(s, "host", "flag2.example");
    (void)setenv("HOLDFAST_DATA", "/environment", 1);
    (void)setenv("HOLDFAST_HOST", "environment.example", 1);
    (void)setenv("HOLDFAST_LISTEN", "127.0.0.1:1111", 1);
    (void)setenv("HOLDFAST_LOG_LEVEL", "", 1);
    environment(s);
    file(s, "[server]\n"
            "data = /file\n"
            "host = file.example\n"
            "listen = 127.0.0.1:2222\n"
            "log_level = error\n");
    assert_string_equal(s->data, "/flag");
    assert_int_equal(s->hosts.n, 2);
    assert_string_equal(s->hosts.items[0], "flag.example");
    assert_string_equal(s->hosts.items[1], "flag2.example");
    assert_int_equal(s->listen.port, 1111);
    assert_int_equal(s->log_level, LOG_ERROR);
    assert_true(s->auth);
}

static void last_flag_counts(void **state)
{
    struct cli_settings *s = *state;

    flag(s, "auth", "on");
    flag(s, "auth", "off");
    flag(s, "allow-network-fs", NULL);
    assert_false(s->auth);
    assert_true(s->allow_network_fs);
}

static void bad_variable(void **state)
{
    struct cli_settings *s = *state;
    struct err e;

    (void)setenv("HOLDFAST_BUSY_TIMEOUT", "soon", 1);
    assert_int_equal(cli_settings_environment(s, &e), -1);
    assert_int_equal(e.code, ERR_BAD_REQUEST);
    assert_string_equal(e.message,
                        "HOLDFAST_BUSY_TIMEOUT: 'soon' is not a time such as "
                        "10, 0.5, 500ms or 2min");
}

static void bad_files(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"[server]\nnonsense = 1\n", "test.ini:2: unknown key nonsense"},
        {"[server]\nconfig = x\n", "test.ini:2: unknown key config"},
        {"[server]\nbusy-timeout = 1\n",
         "test.ini:2: unknown key busy-timeout"},
        {"\n\n[other]\n",
         "test.ini:3: [other] is not a section; the only one is [server]"},
        {"[server]\n[other]\ndata = x\n",
         "test.ini:2: [other] is not a section; the only one is [server]"},
        {"data = x\n[server]\n", "test.ini:1: data stands before [server]"},
        {"[server]\nauth = off\n\nauth = on\n",
         "test.ini:4: auth stands here twice"},
        {"[server]\nauth = perhaps\nnonsense = 1\n",
         "test.ini:2: auth: 'perhaps' is neither on nor off"},
        {"[server]\ndata =\n", "test.ini:2: data: needs a value"},
        {"[server]\nwal_limit = 0\n",
         "test.ini:2: wal_limit: must be more than 0"},
        {"[server]\nno equals sign\n",
         "test.ini:2: neither a [section] nor key = value"},
        {"[server]\nno equals sign\nnonsense = 1\n",
         "test.ini:2: neither a [section] nor key = value"},
        {"[server\n", "test.ini:1: neither a [section] nor key = value"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {0};

        (void)begin(state);
        assert_int_equal(read_text(*state, rows[i].text, &e), -1);
        assert_string_equal(e.message, rows[i].message);
        assert_int_equal(e.code, ERR_BAD_REQUEST);
        cli_settings_fini(*state);
    }
}

static void long_lines(void **state)
{
    char text[512];
    struct err e;

    /* 197 bytes with their newline's room: the longest that is taken. */
    (void)snprintf(text, sizeof text, "[server]\ndata = %0190d\n", 7);
    file(*state, text);
    assert_int_equal(strlen(((struct cli_settings *)*state)->data), 190);
    (void)snprintf(text, sizeof text, "[server]\nhost = %0300d\n", 7);
    assert_int_equal(read_text(*state, text, &e), -1);
    assert_int_equal(e.code, ERR_BAD_REQUEST);
    assert_non_null(strstr(e.message, "test.ini:2: the line is longer than"));
}

static void no_file(void **state)
{
    struct err e;

    assert_int_equal(cli_settings_file(*state, "absent.ini", &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(cli_settings_file(*state, ".", &e), -1);
    assert_int_equal(e.code, ERR_IO);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"settings: the defaults are loopback and authentication", defaults,
         begin, finish, NULL},
        {"settings: each can stand in the file", all_from_file, begin, finish,
         NULL},
        {"settings: each can stand in the environment", all_from_environment,
         begin, finish, NULL},
        {"settings: flags go before the environment, that before the file",
         precedence, begin, finish, NULL},
        {"settings: of one flag given twice the last counts", last_flag_counts,
         begin, finish, NULL},
        {"settings: a bad variable is named", bad_variable, begin, finish,
         NULL},
        {"settings: what is wrong in a file is named with its line", bad_files,
         begin, finish, NULL},
        {"settings: a line too long for the parser is refused, not split",
         long_lines, begin, finish, NULL},
        {"settings: a file that cannot be read is an error", no_file, begin,
         finish, NULL},
    };

    return cmocka_run_group_tests_name("cli_settings", tests, NULL, NULL);
}
