/* Shared by the files of src/auth; nobody else includes it. */
#ifndef HOLDFAST_AUTH_AUTH_INTERNAL_H
#define HOLDFAST_AUTH_AUTH_INTERNAL_H

#include <pthread.h>

#include "auth/auth.h"
#include "auth/password.h"
#include "auth/throttle.h"

#define HASH_BYTES 32
#define N_BUCKETS 256
#define MAX_KEYS 1000
#define MAX_SESSIONS 1000

/* A key or a session, found by the hash of its secret. */
struct record {
    struct record *next; /* in its bucket */
    uint8_t hash[HASH_BYTES];
    enum auth_kind kind;
    bool seen; /* since it was last written */
    union {
        struct catalog_api_key key;
        struct catalog_session session;
    } is;
};

/*
 * Who changes anything holds `changing`, and takes `lock` only to change what
 * is in memory, so that no request ever waits for a disk to find out who is
 * asking.  A thread looks once a second whether another process has changed
 * the catalog.
 */
struct auth {
    struct catalog *catalog;
    struct throttle *throttle;
    pthread_mutex_t changing; /* guards this: */
    int64_t version;          /* of the catalog, when it was read */
    pthread_mutex_t lock;     /* guards all that follows */
    struct record *bucket[N_BUCKETS];
    size_t n_keys;
    size_t n_sessions;
    char *username;      /* NULL before set-up */
    char *password;      /* the hash */
    uint64_t generation; /* of name and password */
    pthread_t writer;    /* writes down what was seen when */
    pthread_cond_t wake;
    bool stopping;
};

/* ---- auth.c ---- */

/* auth_hash: the SHA-256 of a secret as it is sent. */
void auth_hash(const char *secret, uint8_t hash[HASH_BYTES],
               char hex[CATALOG_HASH_SIZE]);

/* auth_token: a new secret. */
void auth_token(char token[AUTH_TOKEN_SIZE]);

/* auth_add: takes the record over; with a->lock held. */
void auth_add(struct auth *a, struct record *r);

/* auth_remove: all records that `which` says yes to; with a->lock held.
 * Returns how many. */
typedef bool auth_which(const struct record *r, const void *arg);
size_t auth_remove(struct auth *a, auth_which *which, const void *arg);

/* auth_session_valid: whether a session is neither idle nor too old. */
bool auth_session_valid(const struct catalog_session *s, int64_t now);

#endif
