/* The values of options: what is taken, as what, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "cli/cli_value.h"

#define N(array) (sizeof(array) / sizeof(array)[0])

static void durations(void **state)
{
    static const struct {
        const char *text;
        unsigned ms;
    } good[] = {
        {"10", 10000},       {"0.5", 500},      {"500ms", 500}, {"10s", 10000},
        {"1.25s", 1250},     {"2min", 120000},  {"0", 0},       {"0.001", 1},
        {"86400", 86400000}, {"0.5min", 30000},
    };
    static const char *const bad[] = {
        "",     " ",     "-1",  "1.",    ".5",      "1.2345",
        "10 s", "1e3",   "0x1", "10sec", "0.5ms",   "86400.001",
        "1h",   "10s10", "inf", "+1",    "1441min", "99999999999999999999999"};
    struct err e;
    unsigned ms;

    (void)state;
    for (size_t i = 0; i < N(good); i++) {
        assert_int_equal(cli_parse_duration(good[i].text, &ms, &e), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < N(bad); i++) {
        if (cli_parse_duration(bad[i], &ms, &e) == 0)
            fail_msg("'%s' was taken as %u ms", bad[i], ms);
        assert_int_equal(e.code, ERR_BAD_REQUEST);
    }
}

static void sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"1000", 1000},
        {"12B", 12},
        {"4KiB", 4096},
        {"4K", 4096},
        {"4kB", 4000},
        {"512MiB", UINT64_C(536870912)},
        {"4GiB", UINT64_C(4294967296)},
        {"4G", UINT64_C(4294967296)},
        {"1.5GiB", UINT64_C(1610612736)},
        {"0.001GB", 1000000},
        {"2TB", UINT64_C(2000000000000)},
        {"1.999TiB", UINT64_C(2197923743924)},
        {"9223372036854775807", INT64_MAX},
    };
    static const char *const bad[] = {"",
                                      "GiB",
                                      "4 GiB",
                                      "4gib",
                                      "4GiBs",
                                      "-4",
                                      "1.5",
                                      "1.5B",
                                      "4kb",
                                      "4KB",
                                      "1..5K",
                                      "9223372036854775808",
                                      "9223372036854775807K",
                                      "18446744073709551616",
                                      "8388608TiB"};
    struct err e;
    uint64_t bytes;

    (void)state;
    for (size_t i = 0; i < N(good); i++) {
        assert_int_equal(cli_parse_size(good[i].text, &bytes, &e), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < N(bad); i++) {
        if (cli_parse_size(bad[i], &bytes, &e) == 0)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(e.code, ERR_BAD_REQUEST);
    }
}

static void listen_addresses(void **state)
{
    static const struct {
        const char *text;
        const char *host;
        unsigned port;
        bool loopback;
    } good[] = {
        {"127.0.0.1:8080", "127.0.0.1", 8080, true},
        {"localhost:80", "127.0.0.1", 80, true},
        {"127.255.0.9:1", "127.255.0.9", 1, true},
        {"0.0.0.0:8080", "0.0.0.0", 8080, false},
        {"128.0.0.1:8080", "128.0.0.1", 8080, false},
        {"[::1]:8080", "::1", 8080, true},
        {"[::]:8080", "::", 8080, false},
        {"[::ffff:127.0.0.1]:8080", "::ffff:127.0.0.1", 8080, true},
        {"[::ffff:10.0.0.1]:8080", "::ffff:10.0.0.1", 8080, false},
        {"127.0.0.1:0", "127.0.0.1", 0, true},
        {"127.0.0.1:65535", "127.0.0.1", 65535, true},
    };
    static const char *const bad[] = {
        "",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:100000",
        "127.0.0.1:80x",
        "127.0.0.1:-1",
        "::1:8080",
        "[::1]",
        "[]:80",
        "[127.0.0.1]:80",
        "[localhost]:80",
        "example.org:80",
        "127.1:80",
        "127.0.0.01:80x",
        "[::1%lo]:80",
        "[00000000000000000000000000000000000000000000000000000000000::1]:80"};
    struct cli_listen l;
    struct err e;

    (void)state;
    for (size_t i = 0; i < N(good); i++) {
        assert_int_equal(cli_parse_listen(good[i].text, &l, &e), 0);
        assert_string_equal(l.host, good[i].host);
        assert_int_equal(l.port, good[i].port);
        assert_int_equal(l.loopback, good[i].loopback);
    }
    for (size_t i = 0; i < N(bad); i++) {
        if (cli_parse_listen(bad[i], &l, &e) == 0)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(e.code, ERR_BAD_REQUEST);
    }
}

static void hosts(void **state)
{
    static const char *const good[] = {"backup", "db.example.org", "10.0.0.1",
                                       "[::1]", "my_service-1"};
    static const char *const bad[] = {
        "", "a:80", "a/b", "a b", "[::1", "[x]", "http://", "a,b", "[::1]:80"};
    struct err e;

    (void)state;
    for (size_t i = 0; i < N(good); i++)
        assert_int_equal(cli_check_host(good[i], &e), 0);
    for (size_t i = 0; i < N(bad); i++)
        assert_int_equal(cli_check_host(bad[i], &e), -1);
}

static void forms(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {5242880, "5.0 MiB"},
        {1048575, "1.0 MiB"},
        {1023 * 1024 + 900, "1023.9 KiB"},
        {UINT64_C(1) << 40, "1.0 TiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    char text[CLI_SIZE_SIZE];

    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        cli_format_size(rows[i].bytes, text);
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"cli: times are seconds, or have a unit", durations, NULL, NULL, NULL},
        {"cli: sizes are bytes, or have a unit of 1024 or 1000", sizes, NULL,
         NULL, NULL},
        {"cli: an address to listen on is numeric or localhost, with a port",
         listen_addresses, NULL, NULL, NULL},
        {"cli: a host is a name or an address without a port", hosts, NULL,
         NULL, NULL},
        {"cli: sizes in a form for people", forms, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("cli_value", tests, NULL, NULL);
}
