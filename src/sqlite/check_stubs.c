/* Stand-ins for an application's functions and collations: see
 * check_stubs.h. */
#include "sqlite/check_stubs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sqlite3.h"

struct stub {
    struct stubs *owner;
    const char *kind; /* "function" or "collation" */
    bool used;
    char name[]; /* at most 255 bytes, SQLite's own limit */
};

static void use(struct stub *stub)
{
    stub->used = true;
    stub->owner->n_uses++;
    if (stub->owner->stop)
        sqlite3_interrupt(stub->owner->db);
}

static void call_function(sqlite3_context *ctx, int n, sqlite3_value **args)
{
    (void)n;
    (void)args;
    use(sqlite3_user_data(ctx));
    sqlite3_result_null(ctx);
}

static int call_collation(void *arg, int n_a, const void *a, int n_b,
                          const void *b)
{
    int order = memcmp(a, b, (size_t)(n_a < n_b ? n_a : n_b));

    use(arg);
    return order != 0 ? order : n_a - n_b;
}

static struct stub *add(struct stubs *s, const char *kind, const char *name,
                        size_t len)
{
    struct stub *stub;

    for (unsigned i = 0; i < s->n; i++)
        if (s->list[i]->kind[0] == kind[0] &&
            sqlite3_strnicmp(s->list[i]->name, name, (int)len) == 0 &&
            s->list[i]->name[len] == '\0')
            return NULL;
    if (s->n == STUBS_MAX || len == 0 || len > 255)
        return NULL;
    stub = xcalloc(1, sizeof *stub + len + 1);
    stub->owner = s;
    stub->kind = kind;
    memcpy(stub->name, name, len);
    s->list[s->n++] = stub;
    return stub;
}

static void need_collation(void *arg, sqlite3 *db, int encoding,
                           const char *name)
{
    struct stub *stub = add(arg, "collation", name, strlen(name));

    (void)encoding;
    if (stub != NULL)
        (void)sqlite3_create_collation_v2(db, stub->name, SQLITE_UTF8, stub,
                                          call_collation, NULL);
}

void stubs_init(struct stubs *s, struct sqlite3 *db)
{
    memset(s, 0, sizeof *s);
    s->db = db;
    (void)sqlite3_collation_needed(db, s, need_collation);
}

void stubs_fini(struct stubs *s)
{
    for (unsigned i = 0; i < s->n; i++)
        free(s->list[i]);
    s->n = 0;
}

/* The name that follows one of SQLite's words for a missing function. */
static const char *missing_name(const char *message, size_t *len)
{
    static const char *const words[] = {
        "no such function: ", "unknown function: ",
        "wrong number of arguments to function "};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *at = strstr(message, words[i]);

        if (at == NULL)
            continue;
        at += strlen(words[i]);
        *len = strlen(at);
        if (*len > 2 && strcmp(at + *len - 2, "()") == 0)
            *len -= 2;
        return at;
    }
    return NULL;
}

bool stubs_supply(struct stubs *s)
{
    size_t len = 0;
    const char *name = missing_name(sqlite3_errmsg(s->db), &len);
    struct stub *stub = name == NULL ? NULL : add(s, "function", name, len);

    if (stub == NULL)
        return false;
    return sqlite3_create_function_v2(
               s->db, stub->name, -1,
               SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, stub,
               call_function, NULL, NULL, NULL) == SQLITE_OK;
}

int stubs_prepare(struct stubs *s, const char *sql, struct sqlite3_stmt **out)
{
    int rc;

    do
        rc = sqlite3_prepare_v2(s->db, sql, -1, out, NULL);
    while (rc != SQLITE_OK && stubs_supply(s));
    return rc;
}

void stubs_put_used(const struct stubs *s, struct buf *out)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->list[i]->used)
            buf_printf(out, "%s%s %s", out->len > 0 ? ", " : "",
                       s->list[i]->kind, s->list[i]->name);
}
