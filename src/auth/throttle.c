/* Throttling: see throttle.h. */
#include "auth/throttle.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define FREE_ATTEMPTS 3
#define MAX_WAIT_MS 300000
#define FORGET_MS 3600000

/* The bucket, in thousandths of an attempt. */
#define BUCKET_FULL 30000
#define BUCKET_PER_MINUTE 10000

/* What counts as one address: 16 bytes, an IPv4 one mapped into IPv6. */
struct origin {
    uint8_t bytes[16];
};

struct entry {
    struct origin origin;
    int64_t last_ms; /* the last attempt that was admitted */
    unsigned failures;
    bool known; /* a login from here has succeeded */
    bool used;
};

struct throttle {
    pthread_mutex_t lock;
    int64_t bucket; /* attempts left, in thousandths */
    int64_t bucket_ms;
    struct entry entry[THROTTLE_ADDRESSES];
};

struct throttle *throttle_new(void)
{
    struct throttle *t = xcalloc(1, sizeof *t);

    (void)pthread_mutex_init(&t->lock, NULL);
    t->bucket = BUCKET_FULL;
    return t;
}

void throttle_free(struct throttle *t)
{
    if (t == NULL)
        return;
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

/* What is no address at all counts as one and the same. */
static struct origin origin_of(const char *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct origin o = {{0}};

    if (inet_pton(AF_INET, address, o.bytes + 12) == 1) {
        memcpy(o.bytes, mapped, sizeof mapped);
        return o;
    }
    if (inet_pton(AF_INET6, address, o.bytes) != 1)
        memset(&o, 0, sizeof o);
    else if (memcmp(o.bytes, mapped, sizeof mapped) != 0 &&
             !IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)&o))
        memset(o.bytes + 8, 0, 8);
    return o;
}

static bool is_loopback(const struct origin *o)
{
    static const struct origin v6 = {{[15] = 1}};

    return memcmp(o, &v6, sizeof v6) == 0 ||
           (o->bytes[10] == 0xff && o->bytes[11] == 0xff &&
            o->bytes[12] == 127);
}

/* Who gives way first: an unused entry, one never known, the quietest. */
static bool goes_before(const struct entry *a, const struct entry *b)
{
    if (a->used != b->used)
        return !a->used;
    if (a->known != b->known)
        return !a->known;
    return a->last_ms < b->last_ms;
}

static struct entry *entry_of(struct throttle *t, const struct origin *o)
{
    struct entry *first = &t->entry[0];

    for (size_t i = 0; i < THROTTLE_ADDRESSES; i++) {
        struct entry *en = &t->entry[i];

        if (en->used && memcmp(&en->origin, o, sizeof *o) == 0)
            return en;
        if (goes_before(en, first))
            first = en;
    }
    *first = (struct entry){.origin = *o, .used = true};
    return first;
}

static int64_t wait_ms(unsigned failures)
{
    int64_t ms = 1000;

    if (failures < FREE_ATTEMPTS)
        return 0;
    for (unsigned i = FREE_ATTEMPTS; i < failures && ms < MAX_WAIT_MS; i++)
        ms *= 2;
    return ms < MAX_WAIT_MS ? ms : MAX_WAIT_MS;
}

static void refill(struct throttle *t, int64_t now_ms)
{
    t->bucket += (now_ms - t->bucket_ms) * BUCKET_PER_MINUTE / 60000;
    if (t->bucket > BUCKET_FULL)
        t->bucket = BUCKET_FULL;
    t->bucket_ms = now_ms;
}

/* Milliseconds until an attempt may go on. */
static int64_t admit(struct throttle *t, struct entry *en, int64_t now_ms)
{
    int64_t left = en->last_ms + wait_ms(en->failures) - now_ms;
    bool draws = !en->known && !is_loopback(&en->origin);

    if (en->failures > 0 && now_ms - en->last_ms > FORGET_MS)
        en->failures = 0;
    else if (en->failures >= FREE_ATTEMPTS && left > 0)
        return left;
    refill(t, now_ms);
    if (draws && t->bucket < 1000)
        return (1000 - t->bucket) * 60000 / BUCKET_PER_MINUTE;
    if (draws)
        t->bucket -= 1000;
    en->failures++;
    en->last_ms = now_ms;
    return 0;
}

unsigned throttle_admit(struct throttle *t, const char *address, int64_t now_ms)
{
    struct origin o = origin_of(address);
    int64_t ms;

    (void)pthread_mutex_lock(&t->lock);
    ms = admit(t, entry_of(t, &o), now_ms);
    (void)pthread_mutex_unlock(&t->lock);
    return (unsigned)((ms + 999) / 1000);
}

void throttle_succeeded(struct throttle *t, const char *address, int64_t now_ms)
{
    struct origin o = origin_of(address);
    struct entry *en;

    (void)pthread_mutex_lock(&t->lock);
    en = entry_of(t, &o);
    if (!en->known && !is_loopback(&en->origin))
        t->bucket += 1000;
    en->failures = 0;
    en->known = true;
    en->last_ms = now_ms;
    (void)pthread_mutex_unlock(&t->lock);
}
