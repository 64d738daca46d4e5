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

/*
 * The calendar by arithmetic, not by the C library: a folder of 10,000 backups
 * has as many names to read and as many dates to write.
 */
struct civil {
    int year, month, day, hour, minute, second;
};

/* Days since 1970-01-01 of a date in the Gregorian calendar; the year begins
 * in March here, so that a leap day is its last. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t m = (month + 9) % 12;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 -
           719468;
}

static void split(int64_t t, struct civil *c)
{
    int64_t days = t / 86400 + 719468;
    int64_t rest = t % 86400;
    int64_t era = days / 146097;
    int64_t doe = days % 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t m = (5 * doy + 2) / 153;

    c->day = (int)(doy - (153 * m + 2) / 5 + 1);
    c->month = (int)(m < 10 ? m + 3 : m - 9);
    c->year = (int)(yoe + era * 400 + (c->month <= 2 ? 1 : 0));
    c->hour = (int)(rest / 3600);
    c->minute = (int)(rest / 60 % 60);
    c->second = (int)(rest % 60);
}

/* v as n digits. */
static char *put(char *p, int v, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        p[i] = (char)('0' + v % 10);
        v /= 10;
    }
    return p + n;
}

void clock_format_stamp(int64_t t, char out[CLOCK_STAMP_SIZE])
{
    struct civil c;
    char *p = out;

    split(t, &c);
    p = put(p, c.year, 4);
    p = put(p, c.month, 2);
    p = put(p, c.day, 2);
    *p++ = '_';
    p = put(p, c.hour, 2);
    p = put(p, c.minute, 2);
    p = put(p, c.second, 2);
    *p = '\0';
}

void clock_format_iso(int64_t t, char out[CLOCK_ISO_SIZE])
{
    struct civil c;
    char *p = out;

    split(t, &c);
    p = put(p, c.year, 4);
    *p++ = '-';
    p = put(p, c.month, 2);
    *p++ = '-';
    p = put(p, c.day, 2);
    *p++ = 'T';
    p = put(p, c.hour, 2);
    *p++ = ':';
    p = put(p, c.minute, 2);
    *p++ = ':';
    p = put(p, c.second, 2);
    memcpy(p, ".000000", 8);
}

void clock_format_http(int64_t t, char out[CLOCK_HTTP_SIZE])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed",
                                    "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr",
                                       "May", "Jun", "Jul", "Aug",
                                       "Sep", "Oct", "Nov", "Dec"};
    struct tm tm;
    time_t tt = (time_t)t;

    memset(&tm, 0, sizeof tm);
    (void)gmtime_r(&tt, &tm);
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

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

bool clock_parse_stamp(const char *s, int64_t *t)
{
    struct civil c;

    if (strnlen(s, 15) < 15 || s[8] != '_' || !digits(s, 4, &c.year) ||
        !digits(s + 4, 2, &c.month) || !digits(s + 6, 2, &c.day) ||
        !digits(s + 9, 2, &c.hour) || !digits(s + 11, 2, &c.minute) ||
        !digits(s + 13, 2, &c.second))
        return false;
    if (c.year < 1970 || c.month < 1 || c.month > 12 || c.day < 1 ||
        c.day > days_in_month(c.year, c.month) || c.hour > 23 ||
        c.minute > 59 || c.second > 59)
        return false;
    *t =
        ((days_of(c.year, c.month, c.day) * 24 + c.hour) * 60 + c.minute) * 60 +
        c.second;
    return true;
}
