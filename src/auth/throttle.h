/*
 * Throttling of attempts to log in.
 *
 * Each address (IPv6: each /64) has three free attempts; after every further
 * failure it waits twice as long, from one second up to five minutes.  All
 * addresses together that never succeeded share a bucket of 30 attempts that
 * refills at ten a minute, so that many addresses are no way around.  This
 * machine (loopback) and addresses from where a login has succeeded do not
 * draw from the bucket: nobody can lock the owner out.
 *
 * An attempt counts as a failure from the moment it is admitted until it has
 * succeeded.  Memory is bounded: at most THROTTLE_ADDRESSES are remembered;
 * of those that never succeeded the longest quiet is forgotten first.
 */
#ifndef HOLDFAST_AUTH_THROTTLE_H
#define HOLDFAST_AUTH_THROTTLE_H

#include <stdint.h>

#define THROTTLE_ADDRESSES 4096

struct throttle;

struct throttle *throttle_new(void);
void throttle_free(struct throttle *t); /* accepts NULL */

/*
 * throttle_admit: whether an attempt from `address` (numeric, as text) may go
 * on at now_ms (clock_monotonic_ms).  Returns 0, or after how many seconds it
 * is worth trying again.
 */
unsigned throttle_admit(struct throttle *t, const char *address,
                        int64_t now_ms);

/* throttle_succeeded: an admitted attempt was right. */
void throttle_succeeded(struct throttle *t, const char *address,
                        int64_t now_ms);

#endif
