/*
 * Passwords: the rules for them, and Argon2id by libsodium (RFC 9106).  A hash
 * costs some 40 ms and 19 MiB, so callers see to it that few are made at once.
 */
#ifndef HOLDFAST_AUTH_PASSWORD_H
#define HOLDFAST_AUTH_PASSWORD_H

#include <stdbool.h>

#include "base/err.h"

/* password_init: before any other call; fails only where the system has no
 * random numbers. */
int password_init(struct err *e);

/* password_check: 8 to 128 characters of UTF-8; ERR_INVALID. */
int password_check(const char *field, const char *password, struct err *e);

/* username_check: 3 to 64 of A-Z a-z 0-9 . _ @ + -; ERR_INVALID.  So it can
 * stand in a header (X-Auth-User) as it is. */
int username_check(const char *username, struct err *e);

#define PASSWORD_HASH_SIZE 128

/* password_hash: the hash with its parameters and salt, as text. */
int password_hash(const char *password, char out[PASSWORD_HASH_SIZE],
                  struct err *e);

/* password_matches: whether `hash` is that of the password.  A NULL hash
 * matches nothing, and takes as long to say so. */
bool password_matches(const char *hash, const char *password);

#endif
