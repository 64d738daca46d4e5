/* holdfast user, holdfast key: the account and its keys, straight in the
 * catalog of a data directory, also while a server works there. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "auth/auth.h"
#include "backup/databases.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "sqlite/sq.h"

#define MAX_LINE 4096

struct args {
    struct cli_options o; /* what messages need */
    const char *words[2];
    unsigned n_words;
    const char *scopes;    /* with commas between; NULL: not given */
    const char *databases; /* likewise */
    const char *expires;
};

/* ---- the catalog ---- */

struct opened {
    struct catalog *catalog;
    struct auth *auth;
};

static int open_auth(const char *data, struct opened *out, struct err *e)
{
    int dir;

    if (data == NULL)
        return err_set(e, ERR_BAD_REQUEST,
                       "this needs the data directory: --data DIR");
    dir = file_open_dir(data, e);
    if (dir < 0)
        return -1;
    file_close(&dir);
    if (sq_init(e) != 0 || catalog_open(data, &out->catalog, e) != 0)
        return -1;
    return auth_open(out->catalog, &out->auth, e);
}

static void close_auth(struct opened *o)
{
    auth_close(o->auth);
    catalog_close(o->catalog);
}

/* ---- holdfast user set ---- */

/* A line from the terminal without showing it, or from a pipe as it is. */
static int read_password(const char *prompt, struct buf *out, struct err *e)
{
    struct termios shown, hidden;
    bool terminal = tcgetattr(STDIN_FILENO, &shown) == 0;
    char line[MAX_LINE];
    bool got;

    if (terminal) {
        (void)fputs(prompt, stderr);
        hidden = shown;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    }
    got = fgets(line, sizeof line, stdin) != NULL;
    if (terminal) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
        (void)fputs("\n", stderr);
    }
    if (got)
        buf_put(out, line, strcspn(line, "\n"));
    explicit_bzero(line, sizeof line);
    return got ? 0
               : err_set(e, ERR_BAD_REQUEST,
                         "a password is needed on standard input");
}

static const char *text(const struct buf *b)
{
    return b->data != NULL ? b->data : "";
}

/* On a terminal twice, since nobody sees what is typed. */
static int ask_password(struct buf *out, struct err *e)
{
    struct buf again = {0};
    int rc = read_password("New password: ", out, e);

    if (rc == 0 && isatty(STDIN_FILENO)) {
        rc = read_password("The same again: ", &again, e);
        if (rc == 0 && strcmp(text(out), text(&again)) != 0)
            rc = err_set(e, ERR_BAD_REQUEST, "they are not the same");
    }
    buf_fini(&again);
    return rc;
}

static int user_set(const struct args *a, struct err *e)
{
    struct opened o = {0};
    struct buf password = {0};
    int rc = open_auth(a->o.data, &o, e);

    if (rc == 0)
        rc = ask_password(&password, e);
    if (rc == 0)
        rc = auth_reset(o.auth, a->words[1], text(&password), e);
    if (rc == 0 && !a->o.quiet)
        (void)printf("The account is now %s; every session has ended.\n",
                     a->words[1]);
    if (password.data != NULL)
        explicit_bzero(password.data, password.len);
    buf_fini(&password);
    close_auth(&o);
    return rc;
}

/* ---- holdfast key ---- */

static int take_scopes(const char *list, unsigned *out, struct err *e)
{
    char *copy = xstrdup(list);
    char *rest = NULL;
    int rc = 0;

    for (char *word = strtok_r(copy, ",", &rest); rc == 0 && word != NULL;
         word = strtok_r(NULL, ",", &rest)) {
        unsigned scope = auth_scope_parse(word);

        *out |= scope;
        if (scope == 0)
            rc = err_set(e, ERR_BAD_REQUEST,
                         "\"%.32s\" is no scope; there are list, create, "
                         "download, restore, delete, import, metrics, admin",
                         word);
    }
    free(copy);
    if (rc == 0 && *out == 0)
        rc = err_set(e, ERR_BAD_REQUEST, "--scopes needs one or more words");
    return rc;
}

static int check_databases(const char *list, struct err *e)
{
    char *copy = xstrdup(list);
    char *rest = NULL;
    int rc = 0;

    for (char *name = strtok_r(copy, ",", &rest); rc == 0 && name != NULL;
         name = strtok_r(NULL, ",", &rest))
        rc = database_name_check(name, e);
    free(copy);
    return rc;
}

/* "2026-04-13", the start of that day, or "2026-04-13T14:25:30". */
static int take_time(const char *s, int64_t *out, struct err *e)
{
    char stamp[CLOCK_STAMP_SIZE];
    char iso[CLOCK_ISO_SIZE];
    size_t n = strlen(s);

    if (n == 10)
        (void)snprintf(stamp, sizeof stamp, "%.4s%.2s%.2s_000000", s, s + 5,
                       s + 8);
    else if (n == 19)
        (void)snprintf(stamp, sizeof stamp, "%.4s%.2s%.2s_%.2s%.2s%.2s", s,
                       s + 5, s + 8, s + 11, s + 14, s + 17);
    if ((n == 10 || n == 19) && clock_parse_stamp(stamp, out)) {
        clock_format_iso(*out, iso);
        if (strncmp(iso, s, n) == 0)
            return 0;
    }
    return err_set(e, ERR_BAD_REQUEST,
                   "--expires needs a time in UTC, 2027-04-13 or "
                   "2027-04-13T14:25:30");
}

static int key_create(const struct args *a, struct err *e)
{
    struct auth_key_opts k = {.name = a->words[1], .databases = a->databases};
    struct opened o = {0};
    char key[AUTH_KEY_SIZE];
    char id[CATALOG_ID_SIZE];
    int64_t at = 0;
    int rc = 0;

    if ((a->scopes != NULL && take_scopes(a->scopes, &k.scopes, e) != 0) ||
        (a->databases != NULL && check_databases(a->databases, e) != 0) ||
        (a->expires != NULL && take_time(a->expires, &k.expires_at, e) != 0))
        return -1;
    rc = open_auth(a->o.data, &o, e);
    if (rc == 0)
        rc = auth_key_create(o.auth, &k, key, id, &at, e);
    if (rc == 0 && a->o.json) {
        json_t *v =
            json_pack("{s:s, s:s, s:s}", "id", id, "name", k.name, "key", key);

        cli_print_json(v);
        json_decref(v);
    } else if (rc == 0) {
        (void)puts(key);
        if (!a->o.quiet)
            (void)fprintf(stderr,
                          "Keep it now, it is not shown again.  Its id "
                          "is %s.\n",
                          id);
    }
    explicit_bzero(key, sizeof key);
    close_auth(&o);
    return rc;
}

static void put_scopes(struct buf *out, unsigned scopes)
{
    for (unsigned bit = 1; bit < AUTH_ALL_SCOPES; bit <<= 1) {
        if ((scopes & bit) != 0)
            buf_printf(out, "%s%s", out->len > 0 ? "," : "",
                       auth_scope_name((enum auth_scope)bit));
    }
}

static void put_time(struct buf *out, int64_t t)
{
    char iso[CLOCK_ISO_SIZE];

    clock_format_iso(t, iso);
    if (t == 0)
        buf_printf(out, "%-19s", "never");
    else
        cli_put_time(out, iso);
}

static void print_key(const struct catalog_api_key *k, const struct args *a)
{
    struct buf line = {0}, scopes = {0};

    if (a->o.quiet) {
        (void)puts(k->id);
        return;
    }
    put_scopes(&scopes, k->scopes);
    buf_printf(&line, "%s  ", k->id);
    put_time(&line, k->last_used_at);
    buf_puts(&line, "  ");
    put_time(&line, k->expires_at);
    buf_printf(&line, "  %s  %s  ", scopes.len > 0 ? scopes.data : "-",
               k->databases != NULL ? k->databases : "all");
    cli_put_text(&line, k->name);
    (void)puts(line.data);
    buf_fini(&line);
    buf_fini(&scopes);
}

static json_t *key_json(const struct catalog_api_key *k)
{
    char created[CLOCK_ISO_SIZE], used[CLOCK_ISO_SIZE], end[CLOCK_ISO_SIZE];
    struct buf scopes = {0};
    json_t *v;

    clock_format_iso(k->created_at, created);
    clock_format_iso(k->last_used_at, used);
    clock_format_iso(k->expires_at, end);
    put_scopes(&scopes, k->scopes);
    v = json_pack("{s:s, s:s, s:s, s:s?, s:s, s:s?, s:s?}", "id", k->id, "name",
                  k->name, "scopes", scopes.len > 0 ? scopes.data : "",
                  "databases", k->databases, "created_at", created,
                  "expires_at", k->expires_at != 0 ? end : NULL, "last_used_at",
                  k->last_used_at != 0 ? used : NULL);
    buf_fini(&scopes);
    return v;
}

static int key_list(const struct args *a, struct err *e)
{
    struct catalog_api_key *list = NULL;
    struct opened o = {0};
    size_t n;

    if (open_auth(a->o.data, &o, e) != 0) {
        close_auth(&o);
        return -1;
    }
    n = auth_keys(o.auth, &list);
    if (a->o.json) {
        json_t *all = json_array();

        for (size_t i = 0; i < n; i++)
            (void)json_array_append_new(all, key_json(&list[i]));
        all = json_pack("{s:o}", "keys", all);
        cli_print_json(all);
        json_decref(all);
    } else {
        if (!a->o.quiet)
            (void)printf("%-16s  %-19s  %-19s  SCOPES  DATABASES  NAME\n", "ID",
                         "LAST USED (UTC)", "EXPIRES (UTC)");
        for (size_t i = 0; i < n; i++)
            print_key(&list[i], a);
    }
    catalog_keys_free(list, n);
    close_auth(&o);
    return 0;
}

static int key_revoke(const struct args *a, struct err *e)
{
    struct opened o = {0};
    int rc = open_auth(a->o.data, &o, e);

    if (rc == 0)
        rc = auth_key_revoke(o.auth, a->words[1], e);
    if (rc == 0 && !a->o.quiet)
        (void)printf("Key %s is revoked.\n", a->words[1]);
    close_auth(&o);
    return rc;
}

/* ---- arguments ---- */

enum { KEY_DATA = 0x300, KEY_SCOPES, KEY_DATABASES, KEY_EXPIRES, KEY_JSON };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;

    switch (key) {
    case KEY_DATA:
        a->o.data = arg;
        break;
    case KEY_SCOPES:
        a->scopes = arg;
        break;
    case KEY_DATABASES:
        a->databases = arg;
        break;
    case KEY_EXPIRES:
        a->expires = arg;
        break;
    case KEY_JSON:
        a->o.json = true;
        break;
    case 'q':
        a->o.quiet = true;
        break;
    case ARGP_KEY_ARG:
        if (a->n_words == 2)
            argp_error(state, "too many arguments: %s", arg);
        a->words[a->n_words++] = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int finish(const struct args *a, int rc, const struct err *e)
{
    return rc == 0 ? 0 : cli_report(&a->o, e, NULL);
}

static void take(const struct argp *argp, int argc, char **argv, struct args *a)
{
    *a = (struct args){.o = {.data = getenv("HOLDFAST_DATA")}};
    (void)umask(077);
    (void)argp_parse(argp, argc, argv, 0, NULL, a);
}

int cli_user(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"data", KEY_DATA, "DIR", 0, "The data directory; or HOLDFAST_DATA", 0},
        {"quiet", 'q', NULL, 0, "Say nothing but errors", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "set NAME",
        .doc = "Set the name and password of the account, without knowing the "
               "present ones.  The password is asked for, or is the first line "
               "of standard input.  A server that works on the data directory "
               "knows within a second; every session ends."};
    struct args a;
    struct err e;

    take(&argp, argc, argv, &a);
    if (a.n_words != 2 || strcmp(a.words[0], "set") != 0)
        return finish(
            &a,
            err_set(&e, ERR_BAD_REQUEST, "holdfast user set NAME --data DIR"),
            &e);
    return finish(&a, user_set(&a, &e), &e);
}

int cli_key(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"data", KEY_DATA, "DIR", 0, "The data directory; or HOLDFAST_DATA", 0},
        {"scopes", KEY_SCOPES, "WORDS", 0,
         "What a new key may do, with commas between: list, create, download, "
         "restore, delete, import, metrics, admin; default all but admin",
         0},
        {"databases", KEY_DATABASES, "NAMES", 0,
         "With which databases, with commas between; default all", 0},
        {"expires", KEY_EXPIRES, "TIME", 0,
         "Until when, in UTC: 2027-04-13 or 2027-04-13T14:25:30; default never",
         0},
        {"json", KEY_JSON, NULL, 0, "Answer in JSON", 0},
        {"quiet", 'q', NULL, 0, "Print keys or ids only", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "list\ncreate NAME\nrevoke ID",
        .doc = "Keys, with which programs call the server.  A server that "
               "works on the data directory knows within a second."};
    static const struct {
        const char *name;
        unsigned n_words;
        int (*run)(const struct args *a, struct err *e);
    } verbs[] = {
        {"list", 1, key_list},
        {"create", 2, key_create},
        {"revoke", 2, key_revoke},
    };
    struct args a;
    struct err e;

    take(&argp, argc, argv, &a);
    for (size_t i = 0; i < 3; i++) {
        const char *verb = a.n_words == 0 ? "list" : a.words[0];

        if (strcmp(verb, verbs[i].name) == 0 &&
            (a.n_words == verbs[i].n_words || a.n_words == 0))
            return finish(&a, verbs[i].run(&a, &e), &e);
    }
    return finish(&a,
                  err_set(&e, ERR_BAD_REQUEST,
                          "holdfast key list, create NAME or revoke ID"),
                  &e);
}
