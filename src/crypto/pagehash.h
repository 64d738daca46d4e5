/*
 * A fast 128-bit hash of pages, keyed with random bytes that never leave the
 * process: whoever writes the pages' content cannot make two of them collide,
 * since he sees neither the key nor a hash.  XXH3 with a secret.
 */
#ifndef HOLDFAST_CRYPTO_PAGEHASH_H
#define HOLDFAST_CRYPTO_PAGEHASH_H

#include <stddef.h>
#include <stdint.h>

#define PAGEHASH_SIZE 16

struct pagehash_key {
    uint8_t secret[192];
};

void pagehash_key_init(struct pagehash_key *k);
void pagehash(const struct pagehash_key *k, const void *page, size_t n,
              uint8_t out[PAGEHASH_SIZE]);

/* checksum128: the unkeyed hash, against bit rot only; 32 hex digits, NUL. */
void checksum128(const void *bytes, size_t n, char hex[33]);

#endif
