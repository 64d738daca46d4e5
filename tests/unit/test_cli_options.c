/* How commands say what they have to say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli_options.h"

static void text(void **state)
{
    struct buf out = {0};

    (void)state;
    cli_put_text(&out, "");
    assert_string_equal(out.data, "");
    cli_put_text(&out, "a\033[2Jb\r\n\x7f caf\xc3\xa9 \xc2\x9b!");
    assert_string_equal(out.data, "a?[2Jb??? caf\xc3\xa9 ?!");
    buf_fini(&out);
}

static void times(void **state)
{
    struct buf out = {0};

    (void)state;
    cli_put_time(&out, "2026-04-13T14:25:30.000000");
    assert_string_equal(out.data, "2026-04-13 14:25:30");
    cli_put_time(&out, "");
    cli_put_time(&out, "!");
    assert_string_equal(out.data, "2026-04-13 14:25:30!");
    buf_fini(&out);
}

static void assert_command(const struct cli_options *o, const char *database,
                           const char *expected)
{
    struct buf out = {0};

    cli_put_command(&out, o, "restore", database);
    assert_string_equal(out.data, expected);
    buf_fini(&out);
}

static void commands(void **state)
{
    struct cli_options o = {.server = CLI_DEFAULT_SERVER, .assumed = true};

    (void)state;
    assert_command(&o, "default", "holdfast restore --database default");
    o.assumed = false;
    assert_command(&o, NULL, "holdfast restore --server http://127.0.0.1:8080");
    o.server = "https://example.org/x?a&b";
    assert_command(&o, NULL,
                   "holdfast restore --server 'https://example.org/x?a&b'");
    o.server = NULL;
    o.data = "/no/such/it's here";
    assert_command(&o, NULL,
                   "holdfast restore --data '/no/such/it'\\''s here'");
}

static void folders(void **state)
{
    struct cli_options o = {.data = "here"};
    char *path;
    char expected[4096];

    (void)state;
    assert_int_equal(mkdir("here", 0700), 0);
    path = realpath("here", NULL);
    assert_non_null(path);
    (void)snprintf(expected, sizeof expected, "holdfast restore --data %s",
                   path);
    assert_command(&o, NULL, expected);
    free(path);
    assert_int_equal(rmdir("here"), 0);
}

static void members(void **state)
{
    json_t *v =
        json_pack("{s:s, s:i, s:i, s:n}", "s", "text", "n", 5, "m", -5, "null");

    (void)state;
    assert_string_equal(cli_field(v, "s"), "text");
    assert_string_equal(cli_field(v, "n"), "");
    assert_string_equal(cli_field(v, "null"), "");
    assert_string_equal(cli_field(NULL, "s"), "");
    assert_int_equal(cli_number(v, "n"), 5);
    assert_int_equal(cli_number(v, "m"), 0);
    assert_int_equal(cli_number(v, "absent"), 0);
    json_decref(v);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"cli: what others wrote does not steer the terminal", text, NULL, NULL,
         NULL},
        {"cli: times are written without zone and fraction", times, NULL, NULL,
         NULL},
        {"cli: a command to type again is quoted for a shell", commands, NULL,
         NULL, NULL},
        {"cli: a command to type again works from another folder", folders,
         NULL, NULL, NULL},
        {"cli: members of a JSON object that are not there are empty", members,
         NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("cli_options", tests, NULL, NULL);
}
