/*
 * Time.  One clock for everything that gets a name or a stamp.  In a test
 * build (-DHOLDFAST_TEST) a file named by HOLDFAST_TEST_CLOCK holds an offset
 * in seconds (decimal text) that is added to real time, and clock_wait_until
 * raises that offset instead of sleeping; a release build has no such door.
 */
#ifndef HOLDFAST_BASE_CLOCK_H
#define HOLDFAST_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* clock_now_s: seconds since the epoch, UTC. */
int64_t clock_now_s(void);

/* clock_monotonic_ms: milliseconds of a clock that never steps. */
int64_t clock_monotonic_ms(void);

/* clock_wait_until: return once clock_now_s() >= t, or after `max_ms`. */
void clock_wait_until(int64_t t, int64_t max_ms);

/* clock_sleep_ms: sleep; used only between retries with a deadline. */
void clock_sleep_ms(int64_t ms);

#define CLOCK_STAMP_SIZE 17 /* "20260413_142530" and the NUL, rounded up */
#define CLOCK_ISO_SIZE 32   /* "2026-04-13T14:25:30.000000" and the NUL */

/* clock_format_stamp: t as YYYYMMDD_HHMMSS (UTC, years 1970 to 9999). */
void clock_format_stamp(int64_t t, char out[CLOCK_STAMP_SIZE]);

/* clock_format_iso: t as ISO 8601 without a zone, fraction .000000. */
void clock_format_iso(int64_t t, char out[CLOCK_ISO_SIZE]);

/* clock_format_http: t as an HTTP date (RFC 9110, 5.6.7). */
#define CLOCK_HTTP_SIZE 40
void clock_format_http(int64_t t, char out[CLOCK_HTTP_SIZE]);

/*
 * clock_parse_stamp: the 15 characters at s as YYYYMMDD_HHMMSS; false unless
 * they are a real date and time (no 30 February, no second 60).
 */
bool clock_parse_stamp(const char *s, int64_t *t);

#endif
