/* SHA-256: see sha256.h. */
#include "crypto/sha256.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct sha256 {
    EVP_MD_CTX *ctx;
};

/* OpenSSL fails here only without memory or without SHA-256 in the build. */
static void must(int ok)
{
    if (ok != 1) {
        (void)fputs("holdfast: SHA-256 is not available\n", stderr);
        abort();
    }
}

struct sha256 *sha256_new(void)
{
    struct sha256 *s = xcalloc(1, sizeof *s);

    s->ctx = EVP_MD_CTX_new();
    must(s->ctx != NULL);
    must(EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL));
    return s;
}

void sha256_update(struct sha256 *s, const void *bytes, size_t n)
{
    must(EVP_DigestUpdate(s->ctx, bytes, n));
}

void sha256_final(struct sha256 *s, char hex[SHA256_HEX_SIZE])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    must(EVP_DigestFinal_ex(s->ctx, md, &n));
    must(EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL));
    for (unsigned i = 0; i < n; i++)
        (void)snprintf(hex + 2 * (size_t)i, 3, "%02x", md[i]);
}

void sha256_free(struct sha256 *s)
{
    if (s == NULL)
        return;
    EVP_MD_CTX_free(s->ctx);
    free(s);
}
