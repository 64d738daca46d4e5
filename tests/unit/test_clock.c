/* Time, through src/base/clock.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "dbutil.h"

#define DAY 86400
#define YEAR_10000 INT64_C(253402300800)

/* What the C library makes of t. */
static void expect_formats(int64_t t)
{
    time_t tt = (time_t)t;
    struct tm tm;
    char want[64];
    char stamp[CLOCK_STAMP_SIZE];
    char iso[CLOCK_ISO_SIZE];
    char http[CLOCK_HTTP_SIZE];
    int64_t back = -1;

    (void)gmtime_r(&tt, &tm);
    (void)strftime(want, sizeof want, "%Y%m%d_%H%M%S", &tm);
    clock_format_stamp(t, stamp);
    assert_string_equal(stamp, want);
    (void)strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S.000000", &tm);
    clock_format_iso(t, iso);
    assert_string_equal(iso, want);
    (void)strftime(want, sizeof want, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    clock_format_http(t, http);
    assert_string_equal(http, want);
    assert_true(clock_parse_stamp(stamp, &back));
    assert_int_equal(back, t);
}

static void every_day(void **state)
{
    (void)state;
    /* Every day until 2400, then one a week; at odd times of day. */
    for (int64_t day = 0; day * DAY < YEAR_10000;
         day += day * DAY < INT64_C(13569465600) ? 1 : 7)
        expect_formats(day * DAY + day * 7919 % DAY);
    expect_formats(0);
    expect_formats(DAY - 1);
    expect_formats(951782399);  /* before 29 February 2000 */
    expect_formats(951868799);  /* its last second */
    expect_formats(4107542400); /* 1 March 2100 */
    expect_formats(YEAR_10000 - 1);
}

static void examples(void **state)
{
    char iso[CLOCK_ISO_SIZE];
    char http[CLOCK_HTTP_SIZE];
    int64_t t;

    (void)state;
    assert_true(clock_parse_stamp("20260413_142530", &t));
    assert_int_equal(t, 1776090330);
    clock_format_iso(t, iso);
    assert_string_equal(iso, "2026-04-13T14:25:30.000000");
    clock_format_http(784111777, http);
    assert_string_equal(http, "Sun, 06 Nov 1994 08:49:37 GMT");
    /* What follows the 15 characters is the caller's affair. */
    assert_true(clock_parse_stamp("20260413_142530.db", &t));
}

static void unreal(void **state)
{
    static const char *const wrong[] = {
        "",
        "2026",
        "20260413_14253",
        "20260413-142530",
        "20260413 142530",
        "2026041a_142530",
        "2026+413_142530",
        "2026 413_142530",
        "-0260413_142530",
        "20260013_142530",
        "20261313_142530",
        "20260400_142530",
        "20260431_142530",
        "20260230_142530",
        "20250229_142530",
        "21000229_142530",
        "20260413_242530",
        "20260413_146030",
        "20260413_142560",
        "19691231_235959",
        "00000101_000000",
    };
    int64_t t = 7;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (clock_parse_stamp(wrong[i], &t))
            fail_msg("taken: %s", wrong[i]);
    }
    assert_int_equal(t, 7);
    assert_true(clock_parse_stamp("20240229_000000", &t));
    assert_true(clock_parse_stamp("20000229_000000", &t));
}

static int64_t real_now_s(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec;
}

static void set_offset(const char *text)
{
    bytes_write(scratch_path("clock"),
                (struct bytes){(uint8_t *)(uintptr_t)text, strlen(text)});
}

/* now + offset, where a second may pass between the two looks. */
static void expect_offset(int64_t offset)
{
    int64_t before = real_now_s();
    int64_t got = clock_now_s();

    assert_in_range(got, before + offset, real_now_s() + offset);
}

static void test_clock(void **state)
{
    int64_t began_ms = clock_monotonic_ms();
    int64_t then;

    (void)state;
    expect_offset(0);
    assert_int_equal(setenv("HOLDFAST_TEST_CLOCK", scratch_path("clock"), 1),
                     0);
    expect_offset(0); /* no such file yet */
    set_offset("1000\n");
    expect_offset(1000);
    set_offset("-1000");
    expect_offset(-1000);
    set_offset("");
    expect_offset(0);
    /* Waiting raises the offset and takes no time. */
    set_offset("500\n");
    then = clock_now_s() + 3600;
    clock_wait_until(then, 1000000);
    assert_in_range(clock_now_s(), then, then + 5);
    clock_wait_until(then - 10, 1000000); /* past already */
    assert_in_range(clock_now_s(), then, then + 5);
    assert_int_equal(unsetenv("HOLDFAST_TEST_CLOCK"), 0);
    assert_true(clock_monotonic_ms() - began_ms < 3600000);
}

/* Without a test's clock: until then, or until the patience ends. */
static void waiting(void **state)
{
    int64_t began_ms = clock_monotonic_ms();

    (void)state;
    clock_wait_until(clock_now_s() - 1, 1000000);
    clock_wait_until(clock_now_s() + 3600, 20);
    assert_true(clock_monotonic_ms() - began_ms >= 20);
    clock_sleep_ms(0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"clock: dates of all years go out and come back", every_day, NULL,
         NULL, NULL},
        {"clock: the examples of the formats", examples, NULL, NULL, NULL},
        {"clock: what is no real date is refused", unreal, NULL, NULL, NULL},
        {"clock: a test sets it, and waiting costs no time", test_clock, NULL,
         scratch_clear, NULL},
        {"clock: waits no longer than it is allowed to", waiting, NULL, NULL,
         NULL},
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
