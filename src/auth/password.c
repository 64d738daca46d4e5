/* Passwords: see password.h. */
#include "auth/password.h"

#include <sodium.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The second of the parameter choices that RFC 9106 and OWASP hold equal: in
 * memory it stays far below what the process may use. */
#define PASSES 2
#define MEMORY_BYTES ((size_t)19 << 20)

/* Some password's hash with the same parameters, for names that do not
 * exist. */
static char nobodys[crypto_pwhash_STRBYTES];

static int hash(const char *password, char *out, struct err *e)
{
    if (crypto_pwhash_str_alg(out, password, strlen(password), PASSES,
                              MEMORY_BYTES, crypto_pwhash_ALG_ARGON2ID13) != 0)
        return err_set_reason(e, ERR_BUSY, "memory",
                              "there is no memory to check a password with");
    return 0;
}

int password_init(struct err *e)
{
    char random[33];

    if (sodium_init() < 0)
        return err_set(e, ERR_INTERNAL, "libsodium cannot be set up");
    randombytes_buf(random, sizeof random);
    for (size_t i = 0; i < sizeof random - 1; i++)
        random[i] = (char)('a' + (unsigned char)random[i] % 26);
    random[sizeof random - 1] = '\0';
    return hash(random, nobodys, e);
}

/* Characters of s, or SIZE_MAX where it is no text: json_parse has seen that
 * it is UTF-8, so that every byte but a continuation begins one. */
static size_t length(const char *s)
{
    size_t n = 0;

    for (; *s != '\0'; s++) {
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return SIZE_MAX;
        if (((unsigned char)*s & 0xc0) != 0x80)
            n++;
    }
    return n;
}

int password_check(const char *field, const char *password, struct err *e)
{
    size_t n = length(password);

    if (n < 8 || n > 128)
        return err_set_reason(e, ERR_INVALID, field,
                              "%s must have 8 to 128 characters, none of them "
                              "a control character",
                              field);
    return 0;
}

int username_check(const char *username, struct err *e)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz"
                                  "0123456789._@+-";
    size_t n = strlen(username);

    if (n < 3 || n > 64 || strspn(username, allowed) != n)
        return err_set_reason(e, ERR_INVALID, "username",
                              "a username has 3 to 64 characters, of letters, "
                              "digits and . _ @ + -");
    return 0;
}

int password_hash(const char *password, char out[PASSWORD_HASH_SIZE],
                  struct err *e)
{
    _Static_assert(PASSWORD_HASH_SIZE >= crypto_pwhash_STRBYTES,
                   "room for a hash");
    return hash(password, out, e);
}

bool password_matches(const char *hash_text, const char *password)
{
    const char *known = hash_text != NULL ? hash_text : nobodys;
    bool same =
        crypto_pwhash_str_verify(known, password, strlen(password)) == 0;

    return same && hash_text != NULL;
}
