/* Digests and page hashes, through src/crypto. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "crypto/pagehash.h"
#include "crypto/sha256.h"

/* FIPS 180-4 examples, and a million of the letter a. */
static void known_answers(void **state)
{
    static const char *const pairs[][2] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb924"
             "27ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223"
                "b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    struct sha256 *s = sha256_new();
    char hex[SHA256_HEX_SIZE];
    char *many = xmalloc(1000);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        sha256_update(s, pairs[i][0], strlen(pairs[i][0]));
        sha256_final(s, hex); /* and begins anew */
        assert_string_equal(hex, pairs[i][1]);
    }
    memset(many, 'a', 1000);
    for (int i = 0; i < 1000; i++)
        sha256_update(s, many, 1000);
    sha256_final(s, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67"
                             "f1809a48a497200e046d39ccc7112cd0");
    /* However it is cut. */
    for (int i = 0; i < 1000000; i += 777)
        sha256_update(s, many, i + 777 <= 1000000 ? 777 : 1000000 - (size_t)i);
    sha256_final(s, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67"
                             "f1809a48a497200e046d39ccc7112cd0");
    free(many);
    sha256_free(s);
    sha256_free(NULL);
}

static void page_hashes(void **state)
{
    struct pagehash_key k;
    struct pagehash_key other;
    uint8_t page[65536] = {0};
    uint8_t a[PAGEHASH_SIZE];
    uint8_t b[PAGEHASH_SIZE];

    (void)state;
    pagehash_key_init(&k);
    pagehash_key_init(&other);
    assert_memory_not_equal(&k, &other, sizeof k);
    for (size_t n = 512; n <= sizeof page; n *= 2) {
        pagehash(&k, page, n, a);
        pagehash(&k, page, n, b);
        assert_memory_equal(a, b, sizeof a);
        pagehash(&other, page, n, b);
        assert_memory_not_equal(a, b, sizeof a);
        for (size_t at = 0; at < n; at += n / 16 + 1) {
            page[at] ^= 1;
            pagehash(&k, page, n, b);
            assert_memory_not_equal(a, b, sizeof a);
            page[at] ^= 1;
        }
    }
}

static void checksums(void **state)
{
    char hex[33];
    char again[33];

    (void)state;
    /* XXH3, 128 bits, of nothing: a published value. */
    checksum128("", 0, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    checksum128("abc", 3, hex);
    assert_int_equal(strlen(hex), 32);
    assert_int_equal(strspn(hex, "0123456789abcdef"), 32);
    checksum128("abc", 3, again);
    assert_string_equal(hex, again);
    checksum128("abd", 3, again);
    assert_string_not_equal(hex, again);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"sha256: known answers, however the bytes are cut", known_answers,
         NULL, NULL, NULL},
        {"pagehash: depends on every byte and on the key", page_hashes, NULL,
         NULL, NULL},
        {"checksum128: known answers", checksums, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
