/* Accounts, sessions and keys, through src/auth/auth.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "auth/password.h"
#include "base/mem.h"
#include "dbutil.h"
#include "sqlite/sq.h"

static const struct auth_peer here = {.address = "127.0.0.1", .client = "t"};

static struct catalog *catalog;
static struct auth *auth;

static void set_clock(int64_t offset_s)
{
    FILE *f = fopen(getenv("HOLDFAST_TEST_CLOCK"), "w");

    assert_non_null(f);
    (void)fprintf(f, "%lld\n", (long long)offset_s);
    assert_int_equal(fclose(f), 0);
}

static void begin(void)
{
    struct err e = {0};

    if (catalog_open(scratch_path("."), &catalog, &e) != 0 ||
        auth_open(catalog, &auth, &e) != 0)
        fail_msg("%s", e.message);
}

static void end(void)
{
    auth_close(auth);
    catalog_close(catalog);
    auth = NULL;
    catalog = NULL;
}

/* As after a restart of the service. */
static void again(void)
{
    end();
    begin();
}

static int set_up(void **state)
{
    int rc = scratch_clear(state);

    (void)setenv("HOLDFAST_TEST_CLOCK", scratch_path("clock"), 1);
    set_clock(0);
    begin();
    return rc;
}

static int tear_down(void **state)
{
    end();
    return scratch_clear(state);
}

/* ---- helpers ---- */

static bool who(const char *token, struct auth_caller *out)
{
    char *cookie = xasprintf("a=b; holdfast=%s; c=d", token);
    bool known = auth_identify(auth, NULL, cookie, out);

    free(cookie);
    return known;
}

static bool bears(const char *key, struct auth_caller *out)
{
    char *header = xasprintf("Bearer %s", key);
    bool known = auth_identify(auth, header, NULL, out);

    free(header);
    return known;
}

static void made_account(char token[AUTH_TOKEN_SIZE])
{
    struct err e = {0};

    if (auth_setup(auth, "operator", "correct horse", &here, token, &e) != 0)
        fail_msg("%s", e.message);
}

static int log_in(const char *password, char token[AUTH_TOKEN_SIZE],
                  struct err *e)
{
    return auth_login(auth, "operator", password, &here, token, e);
}

static void new_key(const struct auth_key_opts *o, char key[AUTH_KEY_SIZE],
                    char id[CATALOG_ID_SIZE])
{
    struct err e = {0};
    int64_t at = 0;

    if (auth_key_create(auth, o, key, id, &at, &e) != 0)
        fail_msg("%s", e.message);
    assert_true(at > 0);
}

/* ---- the account ---- */

static void setting_up(void **state)
{
    char token[AUTH_TOKEN_SIZE];
    struct auth_caller c;
    struct err e = {0};
    char *name;

    (void)state;
    assert_false(auth_is_set_up(auth));
    assert_null(auth_username(auth));
    assert_int_equal(log_in("correct horse", token, &e), -1);
    assert_int_equal(e.code, ERR_UNAUTHORIZED);
    assert_int_equal(auth_setup(auth, "no", "correct horse", &here, token, &e),
                     -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(auth_setup(auth, "operator", "short", &here, token, &e),
                     -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_false(auth_is_set_up(auth));
    made_account(token);
    assert_true(auth_is_set_up(auth));
    assert_true(who(token, &c));
    assert_int_equal(c.kind, AUTH_SESSION);
    assert_string_equal(c.name, "operator");
    assert_int_equal(c.scopes, AUTH_ALL_SCOPES);
    assert_int_equal(
        auth_setup(auth, "another", "correct horse", &here, token, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, "set_up");
    again();
    assert_true(auth_is_set_up(auth));
    name = auth_username(auth);
    assert_string_equal(name, "operator");
    free(name);
}

static void *set_up_too(void *arg)
{
    char token[AUTH_TOKEN_SIZE];
    struct err e = {0};

    return auth_setup(auth, arg, "correct horse", &here, token, &e) == 0 ? arg
                                                                         : NULL;
}

static void only_one_sets_up(void **state)
{
    char names[4][8] = {"one", "two", "three", "four"};
    pthread_t thread[4];
    int n = 0;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, set_up_too, names[i]),
                         0);
    for (int i = 0; i < 4; i++) {
        void *won = NULL;

        assert_int_equal(pthread_join(thread[i], &won), 0);
        n += won != NULL;
    }
    assert_int_equal(n, 1);
}

static void logging_in(void **state)
{
    char first[AUTH_TOKEN_SIZE];
    char second[AUTH_TOKEN_SIZE];
    struct auth_caller c;
    struct err e = {0};
    struct err other = {0};

    (void)state;
    made_account(first);
    assert_int_equal(log_in("correct horse", second, &e), 0);
    assert_string_not_equal(first, second);
    assert_true(who(first, &c) && who(second, &c));
    assert_int_equal(log_in("wrong horse", second, &e), -1);
    assert_int_equal(e.code, ERR_UNAUTHORIZED);
    assert_int_equal(
        auth_login(auth, "nobody", "correct horse", &here, second, &other), -1);
    assert_string_equal(e.message, other.message);
    assert_int_equal(e.code, other.code);
}

static void changing(void **state)
{
    char token[AUTH_TOKEN_SIZE];
    char other[AUTH_TOKEN_SIZE];
    struct auth_caller c;
    struct err e = {0};

    (void)state;
    made_account(token);
    assert_int_equal(log_in("correct horse", other, &e), 0);
    assert_int_equal(
        auth_change(auth, "wrong horse", NULL, "battery staple", &here, &e),
        -1);
    assert_int_equal(e.code, ERR_FORBIDDEN);
    assert_int_equal(auth_change(auth, "correct horse", NULL, "x", &here, &e),
                     -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(auth_change(auth, "correct horse", "?", NULL, &here, &e),
                     -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_true(who(token, &c) && who(other, &c));
    assert_int_equal(
        auth_change(auth, "correct horse", NULL, "battery staple", &here, &e),
        0);
    assert_false(who(token, &c) || who(other, &c));
    again();
    assert_false(who(token, &c));
    assert_int_equal(log_in("correct horse", token, &e), -1);
    assert_int_equal(log_in("battery staple", token, &e), 0);
    assert_int_equal(
        auth_change(auth, "battery staple", "keeper", NULL, &here, &e), 0);
    assert_false(who(token, &c));
    assert_int_equal(log_in("battery staple", token, &e), -1);
    assert_int_equal(
        auth_login(auth, "keeper", "battery staple", &here, token, &e), 0);
    assert_int_equal(auth_reset(auth, "operator", "correct horse", &e), 0);
    assert_false(who(token, &c));
    assert_int_equal(log_in("correct horse", token, &e), 0);
}

/* ---- sessions ---- */

static void sessions_last(void **state)
{
    char token[AUTH_TOKEN_SIZE];
    struct auth_caller c;

    (void)state;
    made_account(token);
    again();
    assert_true(who(token, &c));
    for (int64_t s = 0; s < AUTH_SESSION_MAX_S; s += 1500) {
        set_clock(s);
        assert_true(who(token, &c));
    }
    set_clock(AUTH_SESSION_MAX_S - 60);
    assert_true(who(token, &c));
    set_clock(AUTH_SESSION_MAX_S + 2);
    assert_false(who(token, &c));
}

static void sessions_idle(void **state)
{
    char token[AUTH_TOKEN_SIZE];
    struct catalog_session *list = NULL;
    struct auth_caller c;

    (void)state;
    made_account(token);
    set_clock(AUTH_SESSION_IDLE_S - 60);
    assert_true(who(token, &c));
    again();
    set_clock(2 * AUTH_SESSION_IDLE_S - 120);
    assert_true(who(token, &c));
    set_clock(3 * AUTH_SESSION_IDLE_S - 5);
    assert_false(who(token, &c));
    assert_int_equal(auth_sessions(auth, &list), 0);
    catalog_sessions_free(list, 0);
}

static void ending_sessions(void **state)
{
    char token[3][AUTH_TOKEN_SIZE];
    struct catalog_session *list = NULL;
    struct auth_caller c;
    struct err e = {0};
    size_t n;

    (void)state;
    made_account(token[0]);
    assert_int_equal(log_in("correct horse", token[1], &e), 0);
    assert_int_equal(log_in("correct horse", token[2], &e), 0);
    n = auth_sessions(auth, &list);
    assert_int_equal(n, 3);
    assert_string_equal(list[0].address, "127.0.0.1");
    assert_string_equal(list[0].client, "t");
    catalog_sessions_free(list, n);
    assert_true(who(token[1], &c));
    assert_int_equal(auth_end_session(auth, c.id, &e), 0);
    assert_false(who(token[1], &c));
    assert_true(who(token[0], &c) && who(token[2], &c));
    assert_int_equal(auth_end_session(auth, "0123456789abcdef", &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(auth_logout(auth, &e), 0);
    assert_false(who(token[0], &c) || who(token[2], &c));
    again();
    assert_false(who(token[0], &c) || who(token[1], &c) || who(token[2], &c));
}

static void cookies(void **state)
{
    static const char *const broken[] = {
        "",
        "holdfast",
        "holdfast=",
        "holdfast=x",
        "=;=;;;==;",
        "xholdfast=%s",
        "holdfastx=%s",
        "holdfast=%sx",
        "a=holdfast=%s",
        "Holdfast=%s",
    };
    char token[AUTH_TOKEN_SIZE];
    struct auth_caller c;

    (void)state;
    made_account(token);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char text[256];
        const char *at = strstr(broken[i], "%s");

        (void)snprintf(text, sizeof text, "%.*s%s%s",
                       at != NULL ? (int)(at - broken[i]) : 255, broken[i],
                       at != NULL ? token : "", at != NULL ? at + 2 : "");
        if (auth_identify(auth, NULL, text, &c))
            fail_msg("taken for a session: %s", text);
        assert_int_equal(c.kind, AUTH_NOBODY);
    }
    assert_false(auth_identify(auth, NULL, NULL, &c));
    /* A bearer token that is none is not looked at again as a cookie. */
    {
        char *cookie = xasprintf("__Host-holdfast=%s", token);

        assert_true(auth_identify(auth, NULL, cookie, &c));
        assert_true(auth_identify(auth, "Basic eDp5", cookie, &c));
        assert_false(auth_identify(auth, "Bearer x", cookie, &c));
        free(cookie);
    }
}

/* ---- keys ---- */

static void keys(void **state)
{
    const struct auth_key_opts all = {.name = "all"};
    const struct auth_key_opts cron = {
        .name = "cron", .scopes = AUTH_CREATE, .databases = "shop,blog"};
    struct catalog_api_key *list = NULL;
    char key[2][AUTH_KEY_SIZE];
    char id[2][CATALOG_ID_SIZE];
    struct auth_caller c;
    struct err e = {0};
    size_t n;

    (void)state;
    new_key(&all, key[0], id[0]);
    new_key(&cron, key[1], id[1]);
    assert_true(bears(key[0], &c));
    assert_int_equal(c.kind, AUTH_KEY);
    assert_int_equal(c.scopes, AUTH_ALL_SCOPES & ~AUTH_ADMIN);
    assert_true(auth_may_database(&c, "anything"));
    again();
    assert_true(bears(key[1], &c));
    assert_string_equal(c.name, "cron");
    assert_string_equal(c.id, id[1]);
    assert_int_equal(c.scopes, AUTH_CREATE);
    assert_true(auth_may_database(&c, "shop"));
    assert_true(auth_may_database(&c, "blog"));
    assert_false(auth_may_database(&c, "sho"));
    assert_false(auth_may_database(&c, "hop"));
    assert_false(auth_may_database(&c, "shop,blog"));
    assert_false(auth_may_database(&c, ""));
    n = auth_keys(auth, &list);
    assert_int_equal(n, 2);
    catalog_keys_free(list, n);
    assert_int_equal(auth_key_revoke(auth, id[0], &e), 0);
    assert_false(bears(key[0], &c));
    assert_int_equal(auth_key_revoke(auth, id[0], &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    again();
    assert_false(bears(key[0], &c));
    assert_true(bears(key[1], &c));
    key[1][20] = key[1][20] == 'x' ? 'y' : 'x';
    assert_false(bears(key[1], &c));
    assert_false(bears("hf_live_", &c));
    assert_false(bears("", &c));
}

static void keys_expire(void **state)
{
    const struct auth_key_opts past = {.name = "k", .expires_at = 1};
    struct auth_key_opts soon = {.name = "k"};
    char key[AUTH_KEY_SIZE];
    char id[CATALOG_ID_SIZE];
    struct auth_caller c;
    struct err e = {0};
    int64_t at = 0;

    (void)state;
    assert_int_equal(auth_key_create(auth, &past, key, id, &at, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    new_key(&soon, key, id);
    assert_int_equal(auth_key_create(auth, &soon, key, id, &at, &e), 0);
    soon.expires_at = at + 100;
    new_key(&soon, key, id);
    set_clock(90);
    assert_true(bears(key, &c));
    set_clock(101);
    assert_false(bears(key, &c));
}

static void refused_keys(void **state)
{
    char many[AUTH_DATABASES + 1];
    const struct auth_key_opts wrong[] = {
        {.name = ""},
        {.name = "a name that is far too long to be of any use to those who "
                 "have to read it"},
        {.name = "k", .databases = ""},
        {.name = "k", .databases = many},
    };
    char key[AUTH_KEY_SIZE];
    char id[CATALOG_ID_SIZE];
    struct err e = {0};
    int64_t at = 0;

    (void)state;
    memset(many, 'a', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(auth_key_create(auth, &wrong[i], key, id, &at, &e),
                         -1);
        assert_int_equal(e.code, ERR_INVALID);
    }
}

static void last_use_is_remembered(void **state)
{
    const struct auth_key_opts o = {.name = "k"};
    struct catalog_api_key *list = NULL;
    char key[AUTH_KEY_SIZE];
    char id[CATALOG_ID_SIZE];
    struct auth_caller c;
    int64_t used;
    size_t n;

    (void)state;
    new_key(&o, key, id);
    set_clock(1000);
    assert_true(bears(key, &c));
    n = auth_keys(auth, &list);
    used = list[0].last_used_at;
    assert_true(used >= list[0].created_at + 1000);
    catalog_keys_free(list, n);
    again();
    n = auth_keys(auth, &list);
    assert_int_equal(list[0].last_used_at, used);
    catalog_keys_free(list, n);
}

/* ---- what stands in the file ---- */

static bool file_has(const char *path, const char *needle)
{
    FILE *f = fopen(path, "rb");
    char *bytes = xcalloc(1, 1 << 20);
    size_t n = f != NULL ? fread(bytes, 1, 1 << 20, f) : 0;
    bool found = memmem(bytes, n, needle, strlen(needle)) != NULL;

    if (f != NULL)
        (void)fclose(f);
    free(bytes);
    return found;
}

static void no_secret_in_the_file(void **state)
{
    const struct auth_key_opts o = {.name = "findable"};
    char token[AUTH_TOKEN_SIZE];
    char key[AUTH_KEY_SIZE];
    char id[CATALOG_ID_SIZE];

    (void)state;
    made_account(token);
    new_key(&o, key, id);
    end();
    assert_true(file_has(scratch_path("holdfast.db"), "findable"));
    assert_false(file_has(scratch_path("holdfast.db"), token));
    assert_false(file_has(scratch_path("holdfast.db"), key + 8));
    assert_false(file_has(scratch_path("holdfast.db"), "correct horse"));
    begin();
}

static void older_format(void **state)
{
    struct sqlite3 *db = NULL;
    struct catalog_database *list = NULL;
    char token[AUTH_TOKEN_SIZE];
    struct err e = {0};
    int64_t v = 0;
    size_t n = 0;

    (void)state;
    end();
    assert_int_equal(remove(scratch_path("holdfast.db")), 0);
    assert_int_equal(sq_open(scratch_path("holdfast.db"), &db, &e), 0);
    assert_int_equal(
        sq_exec(db,
                "CREATE TABLE database(name TEXT PRIMARY KEY, path TEXT)"
                " WITHOUT ROWID;"
                "CREATE TABLE setting(key TEXT PRIMARY KEY, value TEXT NOT "
                "NULL) WITHOUT ROWID;"
                "CREATE TABLE adopted(database TEXT, filename TEXT, size "
                "INTEGER, mtime_ns INTEGER, good INTEGER, facts TEXT NOT "
                "NULL, PRIMARY KEY(database, filename)) WITHOUT ROWID;"
                "INSERT INTO database VALUES('shop', '/srv/shop.db');"
                "PRAGMA user_version=1",
                &e),
        0);
    sq_close(db);
    begin();
    assert_int_equal(catalog_list_databases(catalog, &list, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_string_equal(list[0].name, "shop");
    catalog_databases_free(list, n);
    made_account(token);
    assert_int_equal(sq_open(scratch_path("holdfast.db.format-1"), &db, &e), 0);
    assert_int_equal(sq_int(db, "PRAGMA user_version", &v, &e), 0);
    assert_int_equal(v, 1);
    assert_int_equal(sq_int(db, "SELECT count(*) FROM database", &v, &e), 0);
    assert_int_equal(v, 1);
    sq_close(db);
}

static void damaged_rows(void **state)
{
    static const char *const rows[] = {
        "PRAGMA ignore_check_constraints=ON; INSERT INTO api_key VALUES('short'"
        ", 'short', 'n', 1, NULL, 1, 0, 0)",
        "INSERT INTO session VALUES('short', 'short', 1, 1, 'a', NULL)",
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sqlite3 *db = NULL;
        struct err e = {0};

        end();
        assert_int_equal(sq_open(scratch_path("holdfast.db"), &db, &e), 0);
        assert_int_equal(sq_exec(db, rows[i], &e), 0);
        sq_close(db);
        assert_int_equal(catalog_open(scratch_path("."), &catalog, &e), 0);
        assert_int_equal(auth_open(catalog, &auth, &e), -1);
        assert_int_equal(e.code, ERR_DAMAGED);
        catalog_close(catalog);
        assert_int_equal(remove(scratch_path("holdfast.db")), 0);
        begin();
    }
}

/* ---- words ---- */

static void scope_words(void **state)
{
    (void)state;
    for (unsigned bit = 1; bit < AUTH_ALL_SCOPES; bit <<= 1)
        assert_int_equal(
            auth_scope_parse(auth_scope_name((enum auth_scope)bit)), bit);
    assert_int_equal(auth_scope_parse("everything"), 0);
    assert_int_equal(auth_scope_parse(""), 0);
}

static void password_rules(void **state)
{
    static const char *const names[] = {"ab",     "has blank", "tab\t12",
                                        "ü12345", "a\"bc",     ""};
    char hash[PASSWORD_HASH_SIZE];
    char text[140];
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(username_check(names[i], &e), -1);
    assert_int_equal(username_check("me@example.org", &e), 0);
    assert_int_equal(password_check("password", "1234567", &e), -1);
    assert_int_equal(password_check("password", "12345678", &e), 0);
    /* Characters count, not bytes. */
    assert_int_equal(password_check("password", "üüüüüüü", &e), -1);
    assert_int_equal(password_check("password", "üüüüüüüü", &e), 0);
    assert_int_equal(password_check("password", "12345678\n", &e), -1);
    memset(text, 'x', sizeof text);
    text[129] = '\0';
    assert_int_equal(password_check("password", text, &e), -1);
    text[128] = '\0';
    assert_int_equal(password_check("password", text, &e), 0);
    assert_int_equal(password_hash(text, hash, &e), 0);
    assert_true(password_matches(hash, text));
    text[127] = 'y';
    assert_false(password_matches(hash, text));
    assert_false(password_matches(NULL, text));
    assert_false(password_matches("nonsense", text));
}

#define T(name, f)                       \
    {                                    \
        name, f, set_up, tear_down, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T("account: is set up once", setting_up),
        T("account: of several at once one sets it up", only_one_sets_up),
        T("account: wrong name and wrong password are the same", logging_in),
        T("account: a change ends every session", changing),
        T("sessions: end after twelve hours", sessions_last),
        T("sessions: end after half an hour of silence", sessions_idle),
        T("sessions: are ended one by one, and all", ending_sessions),
        T("sessions: only our cookie, whole", cookies),
        T("keys: have scopes and databases, and are revoked", keys),
        T("keys: expire", keys_expire),
        T("keys: that make no sense are refused", refused_keys),
        T("keys: last use is written when the service stops",
          last_use_is_remembered),
        T("catalog: holds no secret", no_secret_in_the_file),
        T("catalog: of the older format is copied aside and brought up to date",
          older_format),
        T("catalog: with damaged rows is refused", damaged_rows),
        T("scopes: have words", scope_words),
        T("passwords: have rules, and are matched", password_rules),
    };
    struct err e;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    return cmocka_run_group_tests_name("auth", tests, scratch_setup,
                                       scratch_teardown);
}
