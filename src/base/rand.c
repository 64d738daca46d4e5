/* Random bytes: see rand.h. */
#include "base/rand.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void rand_bytes(void *out, size_t n)
{
    unsigned char *p = out;

    while (n > 0) {
        ssize_t r = getrandom(p, n, 0);

        if (r < 0 && errno != EINTR)
            abort(); /* no randomness: going on would be worse */
        if (r > 0) {
            p += r;
            n -= (size_t)r;
        }
    }
}

void rand_hex(char *out, size_t n_bytes)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char b;

    for (size_t i = 0; i < n_bytes; i++) {
        rand_bytes(&b, 1);
        out[2 * i] = hex[b >> 4];
        out[2 * i + 1] = hex[b & 15];
    }
    out[2 * n_bytes] = '\0';
}
