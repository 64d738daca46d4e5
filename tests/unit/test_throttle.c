/* Throttling, through src/auth/throttle.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "auth/throttle.h"

#define MINUTE (60 * (int64_t)1000)

static struct throttle *t;

static int set_up(void **state)
{
    (void)state;
    t = throttle_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    throttle_free(t);
    return 0;
}

/* How many of the attempts made every ms from `from` on are admitted. */
static unsigned admitted(const char *address, int64_t from, int64_t ms)
{
    unsigned n = 0;

    for (int64_t i = 0; i < ms; i += 10)
        n += throttle_admit(t, address, from + i) == 0;
    return n;
}

static void growing_waits(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(throttle_admit(t, "192.0.2.1", 1000), 0);
    assert_int_equal(throttle_admit(t, "192.0.2.1", 1000), 1);
    assert_int_equal(throttle_admit(t, "192.0.2.1", 1999), 1);
    assert_int_equal(throttle_admit(t, "192.0.2.1", 2000), 0);
    assert_int_equal(throttle_admit(t, "192.0.2.1", 2000), 2);
    assert_int_equal(throttle_admit(t, "192.0.2.1", 4000), 0);
    assert_int_equal(throttle_admit(t, "192.0.2.1", 4000), 4);
    /* Another address does not wait. */
    assert_int_equal(throttle_admit(t, "192.0.2.2", 4000), 0);
}

static void at_most_ten_a_minute(void **state)
{
    (void)state;
    assert_in_range(admitted("192.0.2.1", 0, MINUTE), 3, 10);
    assert_in_range(admitted("192.0.2.1", MINUTE, 60 * MINUTE), 10, 15);
}

static void waits_end(void **state)
{
    int64_t now = 0;

    (void)state;
    for (int i = 0; i < 40; i++) {
        unsigned s = throttle_admit(t, "192.0.2.1", now);

        assert_in_range(s, 0, 300);
        now += (int64_t)s * 1000;
    }
    now += 61 * MINUTE;
    for (int i = 0; i < 3; i++)
        assert_int_equal(throttle_admit(t, "192.0.2.1", now), 0);
}

static void success_resets(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 100; i++) {
        assert_int_equal(throttle_admit(t, "192.0.2.1", i), 0);
        throttle_succeeded(t, "192.0.2.1", i);
    }
}

static void one_network_is_one(void **state)
{
    (void)state;
    (void)admitted("2001:db8:0:1::1", 0, 1000);
    assert_true(throttle_admit(t, "2001:db8:0:1:ffff::2", 1000) > 0);
    assert_int_equal(throttle_admit(t, "2001:db8:0:2::1", 1000), 0);
    /* IPv4 in IPv6 is the same IPv4. */
    (void)admitted("192.0.2.1", 0, 1000);
    assert_true(throttle_admit(t, "::ffff:192.0.2.1", 1000) > 0);
    assert_int_equal(throttle_admit(t, "::ffff:192.0.2.2", 1000), 0);
}

/* n different addresses in turn, ten a second. */
static unsigned from_many(int64_t from, unsigned n)
{
    unsigned in = 0;
    char address[32];

    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(address, sizeof address, "10.%u.%u.%u", (i >> 16) & 255,
                       (i >> 8) & 255, i & 255);
        in += throttle_admit(t, address, from + (int64_t)i * 100) == 0;
    }
    return in;
}

static void many_addresses_are_no_way_round(void **state)
{
    (void)state;
    assert_int_equal(throttle_admit(t, "198.51.100.7", 0), 0);
    throttle_succeeded(t, "198.51.100.7", 0);
    /* 6,000 attempts in ten minutes: the bucket, and ten for each minute. */
    assert_in_range(from_many(1000, 6000), 100, 131);
    /* The owner is not locked out: not here, not where he was before. */
    assert_int_equal(throttle_admit(t, "198.51.100.7", 600000), 0);
    assert_int_equal(throttle_admit(t, "127.0.0.1", 600000), 0);
    assert_int_equal(throttle_admit(t, "::1", 600000), 0);
    assert_true(throttle_admit(t, "203.0.113.1", 600000) > 0);
    assert_int_equal(throttle_admit(t, "203.0.113.1", 660000), 0);
}

static void what_is_no_address(void **state)
{
    (void)state;
    (void)admitted("", 0, 1000);
    assert_true(throttle_admit(t, "nonsense", 1000) > 0);
}

#define T(name, f)                       \
    {                                    \
        name, f, set_up, tear_down, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T("throttle: each failure doubles the wait", growing_waits),
        T("throttle: at most ten attempts a minute", at_most_ten_a_minute),
        T("throttle: no wait is longer than five minutes, and all end",
          waits_end),
        T("throttle: success resets", success_resets),
        T("throttle: a /64 is one address", one_network_is_one),
        T("throttle: many addresses are no way round, and lock nobody out",
          many_addresses_are_no_way_round),
        T("throttle: what is no address counts as one", what_is_no_address),
    };

    return cmocka_run_group_tests_name("throttle", tests, NULL, NULL);
}
