/* The pure parsers of HTTP: byte ranges and percent escapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "http/http.h"

static void partial(const char *header, uint64_t size, uint64_t first,
                    uint64_t n)
{
    uint64_t got_first = 0, got_n = 0;

    if (http_range_parse(header, size, &got_first, &got_n) != 206)
        fail_msg("not 206: %s", header);
    assert_int_equal(got_first, first);
    assert_int_equal(got_n, n);
}

static void status(int want, const char *header, uint64_t size)
{
    uint64_t first = 0, n = 0;
    int got = http_range_parse(header, size, &first, &n);

    if (got != want)
        fail_msg("%d and not %d: %s", got, want, header ? header : "none");
}

static void one_range(void **state)
{
    (void)state;
    partial("bytes=0-0", 1000, 0, 1);
    partial("bytes=0-999", 1000, 0, 1000);
    partial("bytes=10-19", 1000, 10, 10);
    partial("Bytes=10-19", 1000, 10, 10);
    partial("bytes=990-", 1000, 990, 10);
    partial("bytes=999-999", 1000, 999, 1);
}

static void past_the_end(void **state)
{
    (void)state;
    partial("bytes=990-5000", 1000, 990, 10);
    partial("bytes=0-99999999999999999999999999", 1000, 0, 1000);
    partial("bytes=-5000", 1000, 0, 1000);
    partial("bytes=-99999999999999999999999999", 1000, 0, 1000);
    partial("bytes=1-", UINT64_MAX, 1, UINT64_MAX - 1);
}

static void last_bytes(void **state)
{
    (void)state;
    partial("bytes=-1", 1000, 999, 1);
    partial("bytes=-1000", 1000, 0, 1000);
}

static void outside(void **state)
{
    (void)state;
    status(416, "bytes=1000-", 1000);
    status(416, "bytes=1000-2000", 1000);
    status(416, "bytes=99999999999999999999999999-", 1000);
    status(416, "bytes=-0", 1000);
    status(416, "bytes=0-", 0);
    status(416, "bytes=-5", 0);
}

static void ignored(void **state)
{
    static const char *const headers[] = {"",
                                          "bytes",
                                          "bytes=",
                                          "bytes=-",
                                          "bytes=a-b",
                                          "bytes=5-4",
                                          "bytes= 0-1",
                                          "bytes=0-1 ",
                                          "bytes=0 -1",
                                          "bytes=0-1,3-4",
                                          "bytes=0-,-",
                                          "bytes=--5",
                                          "bytes=+1-2",
                                          "bytes=0x1-2",
                                          "items=0-1",
                                          "bytes 0-1",
                                          "bytes=1-2-3",
                                          "bytes=0-1;",
                                          "bytes=,0-1",
                                          " bytes=0-1"};

    (void)state;
    status(200, NULL, 1000);
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        status(200, headers[i], 1000);
}

static void decoded(const char *text, const char *want)
{
    char s[64];

    (void)snprintf(s, sizeof s, "%s", text);
    if (!http_unescape(s))
        fail_msg("refused: %s", text);
    assert_string_equal(s, want);
}

static void undecodable(const char *text)
{
    char s[64];

    (void)snprintf(s, sizeof s, "%s", text);
    if (http_unescape(s))
        fail_msg("taken: %s", text);
}

static void escapes(void **state)
{
    (void)state;
    decoded("", "");
    decoded("plain", "plain");
    decoded("a%20b+c%2Bd", "a b+c+d");
    decoded("%2e%2E%2f", "../");
    decoded("%c3%A9", "\xc3\xa9");
    decoded("%25%32%35", "%25");
    decoded("%f0%9f%98%80", "\xf0\x9f\x98\x80");
    decoded("%f4%8f%bf%bf", "\xf4\x8f\xbf\xbf");
}

static void broken_escapes(void **state)
{
    (void)state;
    undecodable("%");
    undecodable("%4");
    undecodable("a%4gb");
    undecodable("%g4");
    undecodable("%-1");
    undecodable("%u0041");
    undecodable("100%");
}

static void nul(void **state)
{
    (void)state;
    undecodable("%00");
    undecodable("app.db%00.txt");
}

static void not_utf8(void **state)
{
    (void)state;
    undecodable("%ff");
    undecodable("%80");
    undecodable("%c3");
    undecodable("%c3%28");
    undecodable("%c0%af");       /* overlong '/' */
    undecodable("%e0%80%af");    /* overlong '/' */
    undecodable("%f0%80%80%af"); /* overlong '/' */
    undecodable("%ed%a0%80");    /* a surrogate */
    undecodable("%f4%90%80%80"); /* above U+10FFFF */
    undecodable("%f5%80%80%80");
    undecodable("%e2%82");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"range: one range is honoured", one_range, NULL, NULL, NULL},
        {"range: a range past the end is cut there, however large its numbers",
         past_the_end, NULL, NULL, NULL},
        {"range: a suffix means the last bytes", last_bytes, NULL, NULL, NULL},
        {"range: a range outside of the file is 416", outside, NULL, NULL,
         NULL},
        {"range: several ranges, other units and broken headers are ignored",
         ignored, NULL, NULL, NULL},
        {"unescape: percent escapes are decoded once and '+' stays", escapes,
         NULL, NULL, NULL},
        {"unescape: a broken escape is refused", broken_escapes, NULL, NULL,
         NULL},
        {"unescape: %00 is refused", nul, NULL, NULL, NULL},
        {"unescape: what is not UTF-8 is refused, overlong forms too", not_utf8,
         NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("http_parse", tests, NULL, NULL);
}
