/* The settings of a server: see cli_settings.h. */
#include "cli/cli_settings.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ini.h"
#include "base/mem.h"

enum kind {
    TEXT,     /* char *, not empty */
    HOSTS,    /* struct cli_strings of host names */
    FOLDERS,  /* struct cli_strings of paths */
    LISTEN,   /* struct cli_listen */
    SWITCH,   /* bool: on or off */
    FLAG,     /* bool: as a flag without a value, else on or off */
    DURATION, /* unsigned, milliseconds */
    SIZE,     /* uint64_t, bytes */
    LEVEL     /* enum log_level */
};

struct setting {
    const char *option;
    enum kind kind;
    size_t offset;
    const char *value; /* its name in --help */
    const char *help;
};

#define AT(member) offsetof(struct cli_settings, member)

static const struct setting table[CLI_SETTINGS] = {
    {"data", TEXT, AT(data), "DIR",
     "The data directory, made if it is not there; required"},
    {"config", TEXT, AT(config), "FILE",
     "Take settings from FILE too, an INI file"},
    {"listen", LISTEN, AT(listen), "HOST:PORT",
     "Listen there; default 127.0.0.1:8080"},
    {"auth", SWITCH, AT(auth), "on|off",
     "Whether requests need credentials; default on"},
    {"allow-plain-http", FLAG, AT(allow_plain_http), NULL,
     "Listen beyond this machine without TLS: what is sent can be read and "
     "changed on the way"},
    {"host", HOSTS, AT(hosts), "NAME",
     "Answer requests for the host NAME too; repeatable"},
    {"database-root", FOLDERS, AT(database_roots), "DIR",
     "Let the API register databases below DIR; repeatable"},
    {"busy-timeout", DURATION, AT(busy_timeout_ms), "TIME",
     "Wait so long for a locked database; default 10"},
    {"wal-limit", SIZE, AT(wal_limit_bytes), "SIZE",
     "Give a copy up when it would hold a WAL beyond SIZE; default the "
     "smaller of 4GiB and half the free space"},
    {"max-stall", DURATION, AT(max_stall_ms), "TIME",
     "Refuse a restore that would make writers wait longer; default 0, no "
     "limit"},
    {"allow-network-fs", FLAG, AT(allow_network_fs), NULL,
     "Accept live databases on NFS, SMB and FUSE"},
    {"log-level", LEVEL, AT(log_level), "LEVEL",
     "debug, info (default), warn or error"},
};

static void *member(struct cli_settings *s, size_t i)
{
    return (char *)s + table[i].offset;
}

static void strings_fini(struct cli_strings *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct cli_strings){0};
}

static void strings_add(struct cli_strings *l, const char *text)
{
    l->items = xrealloc(l->items, (l->n + 1) * sizeof *l->items);
    l->items[l->n++] = xstrdup(text);
}

void cli_settings_init(struct cli_settings *s)
{
    *s = (struct cli_settings){
        .listen = {.host = "127.0.0.1", .port = 8080, .loopback = true},
        .auth = true,
        .log_level = LOG_INFO};
}

void cli_settings_fini(struct cli_settings *s)
{
    free(s->data);
    free(s->config);
    strings_fini(&s->hosts);
    strings_fini(&s->database_roots);
    *s = (struct cli_settings){0};
}

static int parse_level(const char *text, enum log_level *out, struct err *e)
{
    static const char *const names[] = {[LOG_DEBUG] = "debug",
                                        [LOG_INFO] = "info",
                                        [LOG_WARN] = "warn",
                                        [LOG_ERROR] = "error"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    return err_set(e, ERR_BAD_REQUEST,
                   "'%s' is none of debug, info, warn and error", text);
}

/* Zero would mean the service's default, which is not what it says. */
static int more_than_zero(bool more, struct err *e)
{
    return more ? 0 : err_set(e, ERR_BAD_REQUEST, "must be more than 0");
}

static int parse_value(struct cli_settings *s, size_t i, const char *text,
                       struct err *e)
{
    void *out = member(s, i);

    if (text[0] == '\0')
        return err_set(e, ERR_BAD_REQUEST, "needs a value");
    switch (table[i].kind) {
    case TEXT:
        free(*(char **)out);
        *(char **)out = xstrdup(text);
        return 0;
    case HOSTS:
        if (cli_check_host(text, e) != 0)
            return -1;
        strings_add(out, text);
        return 0;
    case FOLDERS:
        strings_add(out, text);
        return 0;
    case LISTEN:
        return cli_parse_listen(text, out, e);
    case SWITCH:
    case FLAG:
        return cli_parse_switch(text, out, e);
    case DURATION:
        if (cli_parse_duration(text, out, e) != 0)
            return -1;
        return more_than_zero(out == &s->max_stall_ms || *(unsigned *)out > 0,
                              e);
    case SIZE:
        if (cli_parse_size(text, out, e) != 0)
            return -1;
        return more_than_zero(*(uint64_t *)out > 0, e);
    case LEVEL:
        return parse_level(text, out, e);
    }
    abort();
}

static bool is_list(size_t i)
{
    return table[i].kind == HOSTS || table[i].kind == FOLDERS;
}

/* Take a value unless a source that goes before has given one. */
static int take(struct cli_settings *s, size_t i, enum cli_source source,
                const char *text, struct err *e)
{
    if (s->source[i] > source)
        return 0;
    if (is_list(i) && s->source[i] < source)
        strings_fini(member(s, i));
    s->source[i] = source;
    return parse_value(s, i, text, e);
}

const struct argp_option *cli_settings_options(void)
{
    static struct argp_option options[CLI_SETTINGS + 1];

    for (size_t i = 0; i < CLI_SETTINGS; i++)
        options[i] = (struct argp_option){.name = table[i].option,
                                          .key = CLI_SETTINGS_KEY + (int)i,
                                          .arg = table[i].value,
                                          .doc = table[i].help};
    return options;
}

int cli_settings_flag(struct cli_settings *s, int key, const char *value,
                      struct err *e)
{
    size_t i = (size_t)(key - CLI_SETTINGS_KEY);

    assert(key >= CLI_SETTINGS_KEY && i < CLI_SETTINGS);
    if (take(s, i, CLI_FROM_FLAG, value == NULL ? "on" : value, e) != 0)
        return err_wrap(e, "--%s", table[i].option);
    return 0;
}

/* "busy-timeout" as HOLDFAST_BUSY_TIMEOUT or as busy_timeout. */
#define NAME_SIZE 64
static void spell(const char *option, const char *prefix, int (*letter)(int),
                  char out[NAME_SIZE])
{
    size_t n = strlen(prefix);

    (void)snprintf(out, NAME_SIZE, "%s%s", prefix, option);
    for (; out[n] != '\0'; n++)
        out[n] = out[n] == '-' ? '_' : (char)letter(out[n]);
}

/* Lists stand in one variable: hosts with commas, folders as in PATH. */
static int take_list(struct cli_settings *s, size_t i, char *text,
                     struct err *e)
{
    const char *separator = table[i].kind == HOSTS ? "," : ":";
    char *rest = NULL;

    for (char *item = strtok_r(text, separator, &rest); item != NULL;
         item = strtok_r(NULL, separator, &rest)) {
        if (take(s, i, CLI_FROM_ENVIRONMENT, item, e) != 0)
            return -1;
    }
    return 0;
}

int cli_settings_environment(struct cli_settings *s, struct err *e)
{
    for (size_t i = 0; i < CLI_SETTINGS; i++) {
        char name[NAME_SIZE];
        const char *value;
        char *copy;
        int rc;

        spell(table[i].option, "HOLDFAST_", toupper, name);
        value = getenv(name);
        if (value == NULL || value[0] == '\0')
            continue;
        copy = xstrdup(value);
        rc = is_list(i) ? take_list(s, i, copy, e)
                        : take(s, i, CLI_FROM_ENVIRONMENT, copy, e);
        free(copy);
        if (rc != 0)
            return err_wrap(e, "%s", name);
    }
    return 0;
}

struct reading {
    struct cli_settings *settings;
    bool seen[CLI_SETTINGS];
};

static int take_from_file(void *arg, const char *section, const char *key,
                          const char *value, struct err *e)
{
    struct reading *r = arg;
    char name[NAME_SIZE];

    if (section[0] == '\0')
        return err_set(e, ERR_BAD_REQUEST, "%s stands before [server]", key);
    if (strcmp(section, "server") != 0)
        return err_set(e, ERR_BAD_REQUEST,
                       "[%s] is not a section; the only one is [server]",
                       section);
    for (size_t i = 0; key != NULL && i < CLI_SETTINGS; i++) {
        spell(table[i].option, "", tolower, name);
        /* A file does not name another one. */
        if (strcmp(name, key) != 0 || table[i].offset == AT(config))
            continue;
        if (r->seen[i] && !is_list(i))
            return err_set(e, ERR_BAD_REQUEST, "%s stands here twice", key);
        r->seen[i] = true;
        return take(r->settings, i, CLI_FROM_FILE, value, e) != 0
                   ? err_wrap(e, "%s", key)
                   : 0;
    }
    return key == NULL ? 0 : err_set(e, ERR_BAD_REQUEST, "unknown key %s", key);
}

int cli_settings_file(struct cli_settings *s, const char *path, struct err *e)
{
    struct reading r = {.settings = s};

    return ini_read(path, take_from_file, &r, e);
}
