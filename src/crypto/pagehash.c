/* Page hashes: see pagehash.h. */
#include "crypto/pagehash.h"

#include <stdio.h>
#include <xxhash.h>

#include "base/rand.h"

void pagehash_key_init(struct pagehash_key *k)
{
    rand_bytes(k->secret, sizeof k->secret);
}

void pagehash(const struct pagehash_key *k, const void *page, size_t n,
              uint8_t out[PAGEHASH_SIZE])
{
    XXH128_canonical_t c;

    XXH128_canonicalFromHash(
        &c, XXH3_128bits_withSecret(page, n, k->secret, sizeof k->secret));
    for (int i = 0; i < PAGEHASH_SIZE; i++)
        out[i] = c.digest[i];
}

void checksum128(const void *bytes, size_t n, char hex[33])
{
    XXH128_canonical_t c;

    XXH128_canonicalFromHash(&c, XXH3_128bits(bytes, n));
    for (size_t i = 0; i < 16; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", c.digest[i]);
}
