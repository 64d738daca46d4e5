/* The account and its sessions: see auth.h. */
#include "auth/auth.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "auth/auth_internal.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"

static bool is_session(const struct record *r, const void *arg)
{
    (void)arg;
    return r->kind == AUTH_SESSION;
}

static bool is_over(const struct record *r, const void *now)
{
    return r->kind == AUTH_SESSION &&
           !auth_session_valid(&r->is.session, *(const int64_t *)now);
}

static bool has_id(const struct record *r, const void *id)
{
    return r->kind == AUTH_SESSION && strcmp(r->is.session.id, id) == 0;
}

/* The account in memory; with a->lock not held. */
static void remember(struct auth *a, const char *username, const char *hash)
{
    (void)pthread_mutex_lock(&a->lock);
    free(a->username);
    free(a->password);
    a->username = xstrdup(username);
    a->password = xstrdup(hash);
    a->generation++;
    (void)auth_remove(a, is_session, NULL);
    (void)pthread_mutex_unlock(&a->lock);
}

bool auth_is_set_up(struct auth *a)
{
    bool yes;

    (void)pthread_mutex_lock(&a->lock);
    yes = a->username != NULL;
    (void)pthread_mutex_unlock(&a->lock);
    return yes;
}

char *auth_username(struct auth *a)
{
    char *name;

    (void)pthread_mutex_lock(&a->lock);
    name = a->username != NULL ? xstrdup(a->username) : NULL;
    (void)pthread_mutex_unlock(&a->lock);
    return name;
}

/* ---- sessions ---- */

static const struct catalog_session *oldest_session(struct auth *a)
{
    const struct catalog_session *oldest = NULL;

    for (size_t i = 0; i < N_BUCKETS; i++) {
        for (const struct record *r = a->bucket[i]; r != NULL; r = r->next) {
            if (r->kind == AUTH_SESSION &&
                (oldest == NULL || r->is.session.seen_at < oldest->seen_at))
                oldest = &r->is.session;
        }
    }
    return oldest;
}

/* End a session by its id, there and in memory; with a->changing held. */
static int end_session(struct auth *a, const char *id, struct err *e)
{
    size_t n;

    if (catalog_delete_session(a->catalog, id, e) != 0)
        return -1;
    (void)pthread_mutex_lock(&a->lock);
    n = auth_remove(a, has_id, id);
    (void)pthread_mutex_unlock(&a->lock);
    if (n == 0)
        return err_set_reason(e, ERR_NOT_FOUND, "session",
                              "there is no session %.16s", id);
    return 0;
}

/* Forget those that are over, and where there are too many the one that was
 * longest not seen; with a->changing held. */
static int make_room(struct auth *a, int64_t now, struct err *e)
{
    char id[CATALOG_ID_SIZE];

    for (;;) {
        const struct catalog_session *s;
        bool full;

        (void)pthread_mutex_lock(&a->lock);
        s = oldest_session(a);
        full = a->n_sessions >= MAX_SESSIONS;
        if (s != NULL)
            memcpy(id, s->id, sizeof id);
        if (s != NULL && !full)
            full = !auth_session_valid(s, now);
        (void)pthread_mutex_unlock(&a->lock);
        if (s == NULL || !full)
            return 0;
        if (end_session(a, id, e) != 0)
            return -1;
    }
}

static struct record *new_session(const struct auth_peer *peer, int64_t now,
                                  char token[AUTH_TOKEN_SIZE])
{
    struct record *r = xcalloc(1, sizeof *r);
    struct catalog_session *s = &r->is.session;

    auth_token(token);
    r->kind = AUTH_SESSION;
    auth_hash(token, r->hash, s->hash);
    rand_hex(s->id, (CATALOG_ID_SIZE - 1) / 2);
    s->created_at = now;
    s->seen_at = now;
    s->address = xstrdup(peer->address);
    s->client = peer->client != NULL ? xasprintf("%.200s", peer->client) : NULL;
    return r;
}

/* Begin a session; with a->changing held. */
static int begin_session(struct auth *a, const struct auth_peer *peer,
                         char token[AUTH_TOKEN_SIZE], struct err *e)
{
    int64_t now = clock_now_s();
    struct record *r;

    if (make_room(a, now, e) != 0)
        return -1;
    r = new_session(peer, now, token);
    if (catalog_add_session(a->catalog, &r->is.session, e) != 0) {
        free(r->is.session.address);
        free(r->is.session.client);
        free(r);
        sodium_memzero(token, AUTH_TOKEN_SIZE);
        return -1;
    }
    (void)pthread_mutex_lock(&a->lock);
    auth_add(a, r);
    (void)pthread_mutex_unlock(&a->lock);
    return 0;
}

size_t auth_sessions(struct auth *a, struct catalog_session **out)
{
    int64_t now = clock_now_s();
    size_t n = 0;

    (void)pthread_mutex_lock(&a->lock);
    (void)auth_remove(a, is_over, &now);
    *out = xcalloc(a->n_sessions + 1, sizeof **out);
    for (size_t i = 0; i < N_BUCKETS; i++) {
        for (const struct record *r = a->bucket[i]; r != NULL; r = r->next) {
            struct catalog_session *s = &(*out)[n];

            if (r->kind != AUTH_SESSION)
                continue;
            *s = r->is.session;
            s->address = xstrdup(s->address);
            s->client = s->client != NULL ? xstrdup(s->client) : NULL;
            n++;
        }
    }
    (void)pthread_mutex_unlock(&a->lock);
    return n;
}

int auth_end_session(struct auth *a, const char *id, struct err *e)
{
    int rc;

    (void)pthread_mutex_lock(&a->changing);
    rc = end_session(a, id, e);
    (void)pthread_mutex_unlock(&a->changing);
    return rc;
}

int auth_logout(struct auth *a, struct err *e)
{
    int rc;

    (void)pthread_mutex_lock(&a->changing);
    rc = catalog_delete_session(a->catalog, NULL, e);
    if (rc == 0) {
        (void)pthread_mutex_lock(&a->lock);
        (void)auth_remove(a, is_session, NULL);
        /* A login that is being checked right now began before. */
        a->generation++;
        (void)pthread_mutex_unlock(&a->lock);
    }
    (void)pthread_mutex_unlock(&a->changing);
    return rc;
}

/* ---- name and password ---- */

/* The account as it is; the strings are the caller's. */
struct present {
    char *username;
    char *password;
    uint64_t generation;
};

static void get_present(struct auth *a, struct present *p)
{
    (void)pthread_mutex_lock(&a->lock);
    p->username = a->username != NULL ? xstrdup(a->username) : NULL;
    p->password = a->password != NULL ? xstrdup(a->password) : NULL;
    p->generation = a->generation;
    (void)pthread_mutex_unlock(&a->lock);
}

static void present_fini(struct present *p)
{
    free(p->username);
    free(p->password);
}

/* Whether nobody has changed the account since; with a->changing held. */
static bool is_present(struct auth *a, const struct present *p)
{
    bool same;

    (void)pthread_mutex_lock(&a->lock);
    same = a->generation == p->generation;
    (void)pthread_mutex_unlock(&a->lock);
    return same;
}

int auth_admit(struct auth *a, const struct auth_peer *peer,
               unsigned *retry_after_s, struct err *e)
{
    *retry_after_s =
        throttle_admit(a->throttle, peer->address, clock_monotonic_ms());
    if (*retry_after_s == 0)
        return 0;
    return err_set_reason(e, ERR_THROTTLED, "attempts",
                          "too many attempts with a wrong name or password; "
                          "try again in %u s",
                          *retry_after_s);
}

/* Both are compared whatever the other says, for the sake of time. */
static bool is_right(const struct present *p, const char *username,
                     const char *password)
{
    bool name = p->username != NULL &&
                (username == NULL || strcmp(p->username, username) == 0);

    return password_matches(name ? p->password : NULL, password);
}

static int wrong(struct err *e)
{
    return err_set_reason(e, ERR_UNAUTHORIZED, "credentials",
                          "wrong username or password");
}

static int make_account(const char *username, const char *password,
                        char hash[PASSWORD_HASH_SIZE],
                        struct catalog_account *out, struct err *e)
{
    if (username_check(username, e) != 0 ||
        password_check("password", password, e) != 0 ||
        password_hash(password, hash, e) != 0)
        return -1;
    *out = (struct catalog_account){.username = (char *)(uintptr_t)username,
                                    .password = hash,
                                    .changed_at = clock_now_s()};
    return 0;
}

int auth_setup(struct auth *a, const char *username, const char *password,
               const struct auth_peer *peer, char token[AUTH_TOKEN_SIZE],
               struct err *e)
{
    struct catalog_account account;
    char hash[PASSWORD_HASH_SIZE];
    int rc = -1;

    if (auth_is_set_up(a))
        return err_set_reason(e, ERR_CONFLICT, "set_up",
                              "there is an account already");
    if (make_account(username, password, hash, &account, e) != 0)
        return -1;
    (void)pthread_mutex_lock(&a->changing);
    if (catalog_add_account(a->catalog, &account, e) == 0) {
        remember(a, username, hash);
        rc = begin_session(a, peer, token, e);
    }
    (void)pthread_mutex_unlock(&a->changing);
    sodium_memzero(hash, sizeof hash);
    return rc;
}

int auth_login(struct auth *a, const char *username, const char *password,
               const struct auth_peer *peer, char token[AUTH_TOKEN_SIZE],
               struct err *e)
{
    struct present p;
    int rc = -1;

    get_present(a, &p);
    if (!is_right(&p, username, password)) {
        present_fini(&p);
        return wrong(e);
    }
    throttle_succeeded(a->throttle, peer->address, clock_monotonic_ms());
    (void)pthread_mutex_lock(&a->changing);
    /* Whoever changed the account meanwhile ended this session too. */
    if (is_present(a, &p))
        rc = begin_session(a, peer, token, e);
    else
        (void)wrong(e);
    (void)pthread_mutex_unlock(&a->changing);
    present_fini(&p);
    return rc;
}

/* Replace the account; with a->changing held. */
static int put_account(struct auth *a, const struct catalog_account *account,
                       struct err *e)
{
    if (catalog_put_account(a->catalog, account, e) != 0)
        return -1;
    remember(a, account->username, account->password);
    return 0;
}

static int change(struct auth *a, const struct present *p,
                  const char *new_username, const char *new_password,
                  struct err *e)
{
    struct catalog_account account = {.username = p->username,
                                      .password = p->password,
                                      .changed_at = clock_now_s()};
    char hash[PASSWORD_HASH_SIZE];
    int rc;

    if (new_username != NULL)
        account.username = (char *)(uintptr_t)new_username;
    if (new_password != NULL) {
        if (password_hash(new_password, hash, e) != 0)
            return -1;
        account.password = hash;
    }
    (void)pthread_mutex_lock(&a->changing);
    rc = is_present(a, p) ? put_account(a, &account, e)
                          : err_set(e, ERR_CONFLICT,
                                    "the account has been changed meanwhile");
    (void)pthread_mutex_unlock(&a->changing);
    sodium_memzero(hash, sizeof hash);
    return rc;
}

int auth_change(struct auth *a, const char *password, const char *new_username,
                const char *new_password, const struct auth_peer *peer,
                struct err *e)
{
    struct present p;
    int rc;

    if ((new_username != NULL && username_check(new_username, e) != 0) ||
        (new_password != NULL &&
         password_check("new_password", new_password, e) != 0))
        return -1;
    get_present(a, &p);
    if (is_right(&p, NULL, password)) {
        throttle_succeeded(a->throttle, peer->address, clock_monotonic_ms());
        rc = change(a, &p, new_username, new_password, e);
    } else {
        rc = err_set_reason(e, ERR_FORBIDDEN, "password",
                            "the present password is another one");
    }
    present_fini(&p);
    return rc;
}

int auth_reset(struct auth *a, const char *username, const char *password,
               struct err *e)
{
    struct catalog_account account;
    char hash[PASSWORD_HASH_SIZE];
    int rc;

    if (make_account(username, password, hash, &account, e) != 0)
        return -1;
    (void)pthread_mutex_lock(&a->changing);
    rc = put_account(a, &account, e);
    (void)pthread_mutex_unlock(&a->changing);
    sodium_memzero(hash, sizeof hash);
    return rc;
}
