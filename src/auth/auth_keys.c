/* Keys: see auth.h. */
#include "auth/auth.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/auth_internal.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"

static bool has_id(const struct record *r, const void *id)
{
    return r->kind == AUTH_KEY && strcmp(r->is.key.id, id) == 0;
}

static int check(const struct auth_key_opts *o, struct err *e)
{
    size_t n = strlen(o->name);

    if (n == 0 || n > 64)
        return err_set_reason(e, ERR_INVALID, "name",
                              "a key's name has 1 to 64 bytes");
    if (o->databases != NULL &&
        (o->databases[0] == '\0' || strlen(o->databases) >= AUTH_DATABASES))
        return err_set_reason(e, ERR_INVALID, "databases",
                              "a key is for all databases, or for some whose "
                              "names have %d bytes together",
                              AUTH_DATABASES - 1);
    if (o->expires_at != 0 && o->expires_at <= clock_now_s())
        return err_set_reason(e, ERR_INVALID, "expires_at",
                              "expires_at is in the past");
    return 0;
}

static struct record *new_key(const struct auth_key_opts *o,
                              char key[AUTH_KEY_SIZE])
{
    struct record *r = xcalloc(1, sizeof *r);
    struct catalog_api_key *k = &r->is.key;
    size_t n = strlen(AUTH_KEY_PREFIX);

    (void)snprintf(key, AUTH_KEY_SIZE, AUTH_KEY_PREFIX);
    auth_token(key + n);
    r->kind = AUTH_KEY;
    auth_hash(key, r->hash, k->hash);
    rand_hex(k->id, (CATALOG_ID_SIZE - 1) / 2);
    k->name = xstrdup(o->name);
    k->scopes =
        o->scopes != 0 ? o->scopes : AUTH_ALL_SCOPES & ~(unsigned)AUTH_ADMIN;
    k->databases = o->databases != NULL ? xstrdup(o->databases) : NULL;
    k->created_at = clock_now_s();
    k->expires_at = o->expires_at;
    return r;
}

static size_t count_keys(struct auth *a)
{
    size_t n;

    (void)pthread_mutex_lock(&a->lock);
    n = a->n_keys;
    (void)pthread_mutex_unlock(&a->lock);
    return n;
}

/* Make it known; with a->changing held. */
static int put_key(struct auth *a, struct record *r, struct err *e)
{
    if (count_keys(a) >= MAX_KEYS)
        return err_set_reason(e, ERR_CONFLICT, "limit",
                              "there are %d keys; revoke some", MAX_KEYS);
    if (catalog_add_key(a->catalog, &r->is.key, e) != 0)
        return -1;
    (void)pthread_mutex_lock(&a->lock);
    auth_add(a, r);
    (void)pthread_mutex_unlock(&a->lock);
    return 0;
}

int auth_key_create(struct auth *a, const struct auth_key_opts *o,
                    char key[AUTH_KEY_SIZE], char id[CATALOG_ID_SIZE],
                    int64_t *created_at, struct err *e)
{
    struct record *r;
    int rc;

    if (check(o, e) != 0)
        return -1;
    r = new_key(o, key);
    memcpy(id, r->is.key.id, CATALOG_ID_SIZE);
    *created_at = r->is.key.created_at;
    (void)pthread_mutex_lock(&a->changing);
    rc = put_key(a, r, e);
    (void)pthread_mutex_unlock(&a->changing);
    if (rc != 0) {
        sodium_memzero(key, AUTH_KEY_SIZE);
        free(r->is.key.name);
        free(r->is.key.databases);
        free(r);
    }
    return rc;
}

static int by_age(const void *x, const void *y)
{
    const struct catalog_api_key *a = x;
    const struct catalog_api_key *b = y;

    if (a->created_at != b->created_at)
        return a->created_at < b->created_at ? -1 : 1;
    return strcmp(a->id, b->id);
}

size_t auth_keys(struct auth *a, struct catalog_api_key **out)
{
    size_t n = 0;

    (void)pthread_mutex_lock(&a->lock);
    *out = xcalloc(a->n_keys + 1, sizeof **out);
    for (size_t i = 0; i < N_BUCKETS; i++) {
        for (const struct record *r = a->bucket[i]; r != NULL; r = r->next) {
            struct catalog_api_key *k = &(*out)[n];

            if (r->kind != AUTH_KEY)
                continue;
            *k = r->is.key;
            k->name = xstrdup(k->name);
            k->databases = k->databases != NULL ? xstrdup(k->databases) : NULL;
            n++;
        }
    }
    (void)pthread_mutex_unlock(&a->lock);
    if (n > 1)
        qsort(*out, n, sizeof **out, by_age);
    return n;
}

int auth_key_revoke(struct auth *a, const char *id, struct err *e)
{
    size_t n = 0;
    int rc;

    (void)pthread_mutex_lock(&a->changing);
    rc = catalog_delete_key(a->catalog, id, e);
    if (rc == 0) {
        (void)pthread_mutex_lock(&a->lock);
        n = auth_remove(a, has_id, id);
        (void)pthread_mutex_unlock(&a->lock);
    }
    (void)pthread_mutex_unlock(&a->changing);
    if (rc == 0 && n == 0)
        return err_set_reason(e, ERR_NOT_FOUND, "key", "there is no key %.16s",
                              id);
    return rc;
}
