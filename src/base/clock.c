/* Time: see clock.h. */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef HOLDFAST_TEST
/* The test build's offset, read anew at every call: a test may change it. */
static int64_t test_offset_s(void)
{
    const char *path = getenv("HOLDFAST_TEST_CLOCK");
    char text[32] = "";
    FILE *f;

    if (path == NULL || (f = fopen(path, "re")) == NULL)
        return 0;
    if (fgets(text, sizeof text, f) == NULL)
        text[0] = '\0';
    (void)fclose(f);
    return strtoll(text, NULL, 10);
}

static bool test_advance(int64_t by_s)
{
    const char *path = getenv("HOLDFAST_TEST_CLOCK");
    int64_t offset = test_offset_s();
    char tmp[4096];
    FILE *f;

    if (path == NULL)
        return false;
    (void)snprintf(tmp, sizeof tmp, "%s.new", path);
    f = fopen(tmp, "we");
    if (f == NULL)
        return false;
    (void)fprintf(f, "%lld\n", (long long)(offset + by_s));
    return fclose(f) == 0 && rename(tmp, path) == 0;
}
#endif

int64_t clock_now_s(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
#ifdef HOLDFAST_TEST
    return (int64_t)ts.tv_sec + test_offset_s();
#else
    return (int64_t)ts.tv_sec;
#endif
}

int64_t clock_monotonic_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void clock_sleep_ms(int64_t ms)
{
    struct timespec ts = {.tv_sec = (time_t)(ms / 1000),
                          .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
        ;
}

void clock_wait_until(int64_t t, int64_t max_ms)
{
    int64_t end = clock_monotonic_ms() + max_ms;

#ifdef HOLDFAST_TEST
    if (clock_now_s() < t && test_advance(t - clock_now_s()))
        return;
#endif
    while (clock_now_s() < t && clock_monotonic_ms() < end)
        clock_sleep_ms(2);
}

static void split(int64_t t, struct tm *tm)
{
    time_t tt = (time_t)t;

    memset(tm, 0, sizeof *tm);
    (void)gmtime_r(&tt, tm);
}

void clock_format_stamp(int64_t t, char out[CLOCK_STAMP_SIZE])
{
    struct tm tm;

    split(t, &tm);
    (void)strftime(out, CLOCK_STAMP_SIZE, "%Y%m%d_%H%M%S", &tm);
}

void clock_format_iso(int64_t t, char out[CLOCK_ISO_SIZE])
{
    struct tm tm;

    split(t, &tm);
    (void)strftime(out, CLOCK_ISO_SIZE, "%Y-%m-%dT%H:%M:%S.000000", &tm);
}

void clock_format_http(int64_t t, char out[CLOCK_HTTP_SIZE])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed",
                                    "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr",
                                       "May", "Jun", "Jul", "Aug",
                                       "Sep", "Oct", "Nov", "Dec"};
    struct tm tm;

    split(t, &tm);
    (void)snprintf(out, CLOCK_HTTP_SIZE, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                   days[tm.tm_wday % 7], tm.tm_mday, months[tm.tm_mon % 12],
                   tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static bool digits(const char *s, size_t n, int *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *out = *out * 10 + (s[i] - '0');
    }
    return true;
}

bool clock_parse_stamp(const char *s, int64_t *t)
{
    struct tm tm = {0};
    char again[CLOCK_STAMP_SIZE];
    int64_t v;

    if (strnlen(s, 15) < 15 || s[8] != '_' || !digits(s, 4, &tm.tm_year) ||
        !digits(s + 4, 2, &tm.tm_mon) || !digits(s + 6, 2, &tm.tm_mday) ||
        !digits(s + 9, 2, &tm.tm_hour) || !digits(s + 11, 2, &tm.tm_min) ||
        !digits(s + 13, 2, &tm.tm_sec))
        return false;
    if (tm.tm_year < 1970)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    v = (int64_t)timegm(&tm);
    /* A real date is one that comes back as it went in. */
    clock_format_stamp(v, again);
    if (strncmp(again, s, 15) != 0)
        return false;
    *t = v;
    return true;
}
