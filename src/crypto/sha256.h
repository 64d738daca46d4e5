/* SHA-256 (FIPS 180-4) by OpenSSL. */
#ifndef HOLDFAST_CRYPTO_SHA256_H
#define HOLDFAST_CRYPTO_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX_SIZE 65

struct sha256;

struct sha256 *sha256_new(void);
void sha256_update(struct sha256 *s, const void *bytes, size_t n);

/* sha256_final: the digest as lowercase hex; s starts anew. */
void sha256_final(struct sha256 *s, char hex[SHA256_HEX_SIZE]);

void sha256_free(struct sha256 *s); /* accepts NULL */

#endif
