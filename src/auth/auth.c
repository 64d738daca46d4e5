/* Who is asking: see auth.h. */
#include "auth/auth.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "auth/auth_internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define LOOK_EVERY_S 1
#define WRITE_EVERY_MS 60000

/* ---- scopes ---- */

static const struct {
    enum auth_scope scope;
    const char *word;
} scopes[] = {
    {AUTH_LIST, "list"},         {AUTH_CREATE, "create"},
    {AUTH_DOWNLOAD, "download"}, {AUTH_RESTORE, "restore"},
    {AUTH_DELETE, "delete"},     {AUTH_IMPORT, "import"},
    {AUTH_METRICS, "metrics"},   {AUTH_ADMIN, "admin"},
};
#define N_SCOPES (sizeof scopes / sizeof *scopes)

const char *auth_scope_name(enum auth_scope scope)
{
    for (size_t i = 0; i < N_SCOPES; i++) {
        if (scopes[i].scope == scope)
            return scopes[i].word;
    }
    return "";
}

unsigned auth_scope_parse(const char *word)
{
    for (size_t i = 0; i < N_SCOPES; i++) {
        if (strcmp(scopes[i].word, word) == 0)
            return scopes[i].scope;
    }
    return 0;
}

/* Whether `name` is one of the names in `list`, with commas between. */
static bool in_list(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = list; *p != '\0'; p += *p == ',' ? 1 : 0) {
        size_t len = strcspn(p, ",");

        if (len == n && memcmp(p, name, n) == 0)
            return true;
        p += len;
    }
    return false;
}

bool auth_may_database(const struct auth_caller *who, const char *database)
{
    return who->databases[0] == '\0' || in_list(who->databases, database);
}

/* ---- secrets ---- */

void auth_hash(const char *secret, uint8_t hash[HASH_BYTES],
               char hex[CATALOG_HASH_SIZE])
{
    (void)crypto_hash_sha256(hash, (const unsigned char *)secret,
                             strlen(secret));
    (void)sodium_bin2hex(hex, CATALOG_HASH_SIZE, hash, HASH_BYTES);
}

void auth_token(char token[AUTH_TOKEN_SIZE])
{
    uint8_t random[32];

    randombytes_buf(random, sizeof random);
    (void)sodium_bin2base64(token, AUTH_TOKEN_SIZE, random, sizeof random,
                            sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(random, sizeof random);
}

/* ---- what is in memory ---- */

void auth_add(struct auth *a, struct record *r)
{
    struct record **head = &a->bucket[r->hash[0] % N_BUCKETS];

    r->next = *head;
    *head = r;
    if (r->kind == AUTH_KEY)
        a->n_keys++;
    else
        a->n_sessions++;
}

static void free_record(struct record *r)
{
    if (r->kind == AUTH_KEY) {
        free(r->is.key.name);
        free(r->is.key.databases);
    } else {
        free(r->is.session.address);
        free(r->is.session.client);
    }
    free(r);
}

size_t auth_remove(struct auth *a, auth_which *which, const void *arg)
{
    size_t n = 0;

    for (size_t i = 0; i < N_BUCKETS; i++) {
        struct record **at = &a->bucket[i];

        while (*at != NULL) {
            struct record *r = *at;

            if (!which(r, arg)) {
                at = &r->next;
                continue;
            }
            *at = r->next;
            if (r->kind == AUTH_KEY)
                a->n_keys--;
            else
                a->n_sessions--;
            free_record(r);
            n++;
        }
    }
    return n;
}

static bool any(const struct record *r, const void *arg)
{
    (void)r;
    (void)arg;
    return true;
}

bool auth_session_valid(const struct catalog_session *s, int64_t now)
{
    return now < s->created_at + AUTH_SESSION_MAX_S &&
           now < s->seen_at + AUTH_SESSION_IDLE_S;
}

static bool is_valid(const struct record *r, int64_t now)
{
    if (r->kind == AUTH_SESSION)
        return auth_session_valid(&r->is.session, now);
    return r->is.key.expires_at == 0 || now < r->is.key.expires_at;
}

/* ---- reading it from the catalog ---- */

/* The hash of a record from its text; a row that is none is left out. */
static struct record *new_record(enum auth_kind kind, const char *hex)
{
    struct record *r = xcalloc(1, sizeof *r);
    size_t n = 0;

    r->kind = kind;
    if (sodium_hex2bin(r->hash, sizeof r->hash, hex, strlen(hex), NULL, &n,
                       NULL) != 0 ||
        n != sizeof r->hash) {
        free(r);
        return NULL;
    }
    return r;
}

static int load_keys(struct auth *a, struct err *e)
{
    struct catalog_api_key *list = NULL;
    size_t n = 0;

    if (catalog_list_keys(a->catalog, &list, &n, e) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct record *r = new_record(AUTH_KEY, list[i].hash);

        /* A list that was cut short would name other databases. */
        if (r == NULL || (list[i].databases != NULL &&
                          strlen(list[i].databases) >= AUTH_DATABASES)) {
            free(r);
            continue;
        }
        r->is.key = list[i];
        list[i].name = NULL;
        list[i].databases = NULL;
        auth_add(a, r);
    }
    catalog_keys_free(list, n);
    return 0;
}

static int load_sessions(struct auth *a, struct err *e)
{
    struct catalog_session *list = NULL;
    size_t n = 0;

    if (catalog_list_sessions(a->catalog, &list, &n, e) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct record *r = new_record(AUTH_SESSION, list[i].hash);

        if (r == NULL)
            continue;
        r->is.session = list[i];
        list[i].address = NULL;
        list[i].client = NULL;
        auth_add(a, r);
    }
    catalog_sessions_free(list, n);
    return 0;
}

static int load(struct auth *a, struct err *e)
{
    struct catalog_account account;

    if (catalog_get_account(a->catalog, &account, e) != 0)
        return -1;
    a->username = account.username;
    a->password = account.password;
    if (load_keys(a, e) != 0)
        return -1;
    return load_sessions(a, e);
}

/* ---- writing down what was seen ---- */

/* What was seen since it was last written, as rows; with a->lock held. */
static size_t take_seen(struct auth *a, struct catalog_seen **out)
{
    struct catalog_seen *list =
        xcalloc(a->n_keys + a->n_sessions + 1, sizeof *list);
    size_t n = 0;

    for (size_t i = 0; i < N_BUCKETS; i++) {
        for (struct record *r = a->bucket[i]; r != NULL; r = r->next) {
            struct catalog_seen *s = &list[n];

            if (!r->seen)
                continue;
            r->seen = false;
            n++;
            if (r->kind == AUTH_KEY) {
                memcpy(s->id, r->is.key.id, sizeof s->id);
                s->at = r->is.key.last_used_at;
                s->what = CATALOG_SEEN_KEY;
            } else {
                memcpy(s->id, r->is.session.id, sizeof s->id);
                s->at = r->is.session.seen_at;
                s->what = CATALOG_SEEN_SESSION;
            }
        }
    }
    *out = list;
    return n;
}

static void write_seen(struct auth *a)
{
    struct catalog_seen *list = NULL;
    struct err e;
    size_t n;

    (void)pthread_mutex_lock(&a->lock);
    n = take_seen(a, &list);
    (void)pthread_mutex_unlock(&a->lock);
    if (catalog_put_seen(a->catalog, list, n, &e) != 0)
        log_error("auth.seen", &e, NULL);
    free(list);
}

/* ---- what other processes change ---- */

/* Take over the account, keys and sessions of `fresh`, which gets ours. */
static void swap(struct auth *a, struct auth *fresh)
{
    struct auth old = *a;

    memcpy(a->bucket, fresh->bucket, sizeof a->bucket);
    a->n_keys = fresh->n_keys;
    a->n_sessions = fresh->n_sessions;
    a->username = fresh->username;
    a->password = fresh->password;
    a->generation++;
    memcpy(fresh->bucket, old.bucket, sizeof fresh->bucket);
    fresh->username = old.username;
    fresh->password = old.password;
}

static void empty(struct auth *a)
{
    (void)auth_remove(a, any, NULL);
    free(a->username);
    free(a->password);
}

/* The command line sets passwords and revokes keys under a running server. */
static void look(struct auth *a)
{
    struct auth fresh = {.catalog = a->catalog};
    int64_t version = 0;
    struct err e;

    (void)pthread_mutex_lock(&a->changing);
    if (catalog_version(a->catalog, &version, &e) != 0 ||
        version == a->version) {
        (void)pthread_mutex_unlock(&a->changing);
        return;
    }
    write_seen(a);
    if (load(&fresh, &e) == 0) {
        (void)pthread_mutex_lock(&a->lock);
        swap(a, &fresh);
        (void)pthread_mutex_unlock(&a->lock);
        a->version = version;
    } else {
        log_error("auth.reload", &e, NULL);
    }
    (void)pthread_mutex_unlock(&a->changing);
    empty(&fresh);
}

static void *writer(void *arg)
{
    struct auth *a = arg;
    struct timespec until;
    int64_t written_ms = clock_monotonic_ms();

    (void)pthread_mutex_lock(&a->lock);
    while (!a->stopping) {
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LOOK_EVERY_S;
        if (pthread_cond_timedwait(&a->wake, &a->lock, &until) != ETIMEDOUT)
            continue;
        (void)pthread_mutex_unlock(&a->lock);
        look(a);
        if (clock_monotonic_ms() - written_ms >= WRITE_EVERY_MS) {
            write_seen(a);
            written_ms = clock_monotonic_ms();
        }
        (void)pthread_mutex_lock(&a->lock);
    }
    (void)pthread_mutex_unlock(&a->lock);
    return NULL;
}

static void init_locks(struct auth *a)
{
    pthread_condattr_t monotonic;

    (void)pthread_mutex_init(&a->changing, NULL);
    (void)pthread_mutex_init(&a->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&a->wake, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
}

static void free_auth(struct auth *a)
{
    empty(a);
    (void)pthread_cond_destroy(&a->wake);
    (void)pthread_mutex_destroy(&a->lock);
    (void)pthread_mutex_destroy(&a->changing);
    throttle_free(a->throttle);
    free(a);
}

int auth_open(struct catalog *c, struct auth **out, struct err *e)
{
    struct auth *a;

    if (password_init(e) != 0)
        return -1;
    a = xcalloc(1, sizeof *a);
    a->catalog = c;
    a->throttle = throttle_new();
    init_locks(a);
    if (catalog_version(c, &a->version, e) != 0 || load(a, e) != 0) {
        free_auth(a);
        return -1;
    }
    if (pthread_create(&a->writer, NULL, writer, a) != 0) {
        free_auth(a);
        return err_set(e, ERR_BUSY, "cannot start a thread");
    }
    *out = a;
    return 0;
}

void auth_close(struct auth *a)
{
    if (a == NULL)
        return;
    (void)pthread_mutex_lock(&a->lock);
    a->stopping = true;
    (void)pthread_cond_signal(&a->wake);
    (void)pthread_mutex_unlock(&a->lock);
    (void)pthread_join(a->writer, NULL);
    write_seen(a);
    free_auth(a);
}

/* ---- who is asking ---- */

/* The key in "Bearer hf_live_…"; false where there is none of ours. */
static bool bearer(const char *header, char key[AUTH_KEY_SIZE])
{
    static const char scheme[] = "Bearer ";
    const char *s = header + sizeof scheme - 1;

    if (strncasecmp(header, scheme, sizeof scheme - 1) != 0)
        return false;
    s += strspn(s, " ");
    if (strlen(s) != AUTH_KEY_SIZE - 1 ||
        strncmp(s, AUTH_KEY_PREFIX, strlen(AUTH_KEY_PREFIX)) != 0)
        return false;
    memcpy(key, s, AUTH_KEY_SIZE);
    return true;
}

static bool is_our_cookie(const char *name, size_t n)
{
    static const char *const ours[] = {AUTH_COOKIE, AUTH_COOKIE_TLS};

    for (size_t i = 0; i < 2; i++) {
        if (n == strlen(ours[i]) && memcmp(name, ours[i], n) == 0)
            return true;
    }
    return false;
}

/* The value of our cookie among those of a Cookie header (RFC 6265, 4.2.1). */
static bool cookie_value(const char *header, char token[AUTH_TOKEN_SIZE])
{
    for (const char *p = header; *p != '\0';) {
        size_t n = strcspn(p, ";");
        size_t name = strcspn(p, "=;");

        if (name < n && n - name - 1 == AUTH_TOKEN_SIZE - 1 &&
            is_our_cookie(p, name)) {
            memcpy(token, p + name + 1, AUTH_TOKEN_SIZE - 1);
            token[AUTH_TOKEN_SIZE - 1] = '\0';
            return true;
        }
        p += n;
        p += strspn(p, "; ");
    }
    return false;
}

static void fill(const struct auth *a, const struct record *r,
                 struct auth_caller *out)
{
    bool key = r->kind == AUTH_KEY;
    const char *databases = key ? r->is.key.databases : NULL;

    out->kind = r->kind;
    out->scopes = key ? r->is.key.scopes : AUTH_ALL_SCOPES;
    memcpy(out->id, key ? r->is.key.id : r->is.session.id, sizeof out->id);
    (void)snprintf(out->name, sizeof out->name, "%s",
                   key ? r->is.key.name : a->username);
    (void)snprintf(out->databases, sizeof out->databases, "%s",
                   databases != NULL ? databases : "");
}

static void note_seen(struct record *r, int64_t now)
{
    r->seen = true;
    if (r->kind == AUTH_KEY)
        r->is.key.last_used_at = now;
    else
        r->is.session.seen_at = now;
}

static bool look_up(struct auth *a, enum auth_kind kind, const char *secret,
                    struct auth_caller *out)
{
    uint8_t hash[HASH_BYTES];
    char hex[CATALOG_HASH_SIZE];
    int64_t now = clock_now_s();
    bool found = false;
    struct record *r;

    auth_hash(secret, hash, hex);
    (void)pthread_mutex_lock(&a->lock);
    for (r = a->bucket[hash[0] % N_BUCKETS]; r != NULL; r = r->next) {
        if (r->kind == kind && sodium_memcmp(r->hash, hash, HASH_BYTES) == 0)
            break;
    }
    if (r != NULL && is_valid(r, now)) {
        note_seen(r, now);
        fill(a, r, out);
        found = true;
    }
    (void)pthread_mutex_unlock(&a->lock);
    return found;
}

bool auth_identify(struct auth *a, const char *authorization,
                   const char *cookie, struct auth_caller *out)
{
    char secret[AUTH_KEY_SIZE];
    bool found = false;

    memset(out, 0, sizeof *out);
    if (authorization != NULL &&
        strncasecmp(authorization, "Bearer ", 7) == 0) {
        if (bearer(authorization, secret))
            found = look_up(a, AUTH_KEY, secret, out);
    } else if (cookie != NULL && cookie_value(cookie, secret)) {
        found = look_up(a, AUTH_SESSION, secret, out);
    }
    sodium_memzero(secret, sizeof secret);
    return found;
}
