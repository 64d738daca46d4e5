/* The values of options: see cli_value.h. */
#include "cli/cli_value.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/*
 * The number at the beginning of text, as a whole part and thousandths;
 * returns what follows it, or NULL if there is none or it is too big.
 */
static const char *parse_number(const char *text, uint64_t *whole,
                                unsigned *thousandths)
{
    const char *p = text;
    unsigned place = 100;

    *whole = 0;
    *thousandths = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (*whole > (UINT64_MAX - 9) / 10)
            return NULL;
        *whole = *whole * 10 + (uint64_t)(*p - '0');
    }
    if (p == text || *p != '.')
        return p == text ? NULL : p;
    for (p++; *p >= '0' && *p <= '9'; p++, place /= 10) {
        if (place == 0)
            return NULL;
        *thousandths += place * (unsigned)(*p - '0');
    }
    return p[-1] == '.' ? NULL : p;
}

struct unit {
    const char *name;
    uint64_t factor;
};

/* `text` in the smallest of the units; -1 unless it is a number and one of
 * them (the empty name is the unit of a bare number). */
static int parse_quantity(const char *text, const struct unit *units,
                          size_t n_units, uint64_t *out)
{
    uint64_t whole, part;
    unsigned thousandths;
    const char *name = parse_number(text, &whole, &thousandths);

    for (size_t i = 0; name != NULL && i < n_units; i++) {
        uint64_t factor = units[i].factor;

        if (strcmp(units[i].name, name) != 0)
            continue;
        if (factor == 1 && thousandths != 0)
            return -1;
        part = factor < 1000000 ? factor * thousandths / 1000
                                : factor / 1000 * thousandths +
                                      factor % 1000 * thousandths / 1000;
        return __builtin_mul_overflow(whole, factor, out) ||
                       __builtin_add_overflow(*out, part, out)
                   ? -1
                   : 0;
    }
    return -1;
}

int cli_parse_duration(const char *text, unsigned *out_ms, struct err *e)
{
    static const struct unit units[] = {
        {"", 1000}, {"ms", 1}, {"s", 1000}, {"min", 60000}};
    uint64_t ms;

    if (parse_quantity(text, units, sizeof units / sizeof units[0], &ms) != 0)
        return err_set(e, ERR_BAD_REQUEST,
                       "'%s' is not a time such as 10, 0.5, 500ms or 2min",
                       text);
    if (ms > UINT64_C(24) * 60 * 60 * 1000)
        return err_set(e, ERR_BAD_REQUEST, "'%s' is longer than a day", text);
    *out_ms = (unsigned)ms;
    return 0;
}

int cli_parse_size(const char *text, uint64_t *out_bytes, struct err *e)
{
    static const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"K", UINT64_C(1) << 10},
        {"M", UINT64_C(1) << 20},
        {"G", UINT64_C(1) << 30},
        {"T", UINT64_C(1) << 40},
        {"KiB", UINT64_C(1) << 10},
        {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30},
        {"TiB", UINT64_C(1) << 40},
        {"kB", UINT64_C(1000)},
        {"MB", UINT64_C(1000000)},
        {"GB", UINT64_C(1000000000)},
        {"TB", UINT64_C(1000000000000)},
    };
    uint64_t bytes;

    if (parse_quantity(text, units, sizeof units / sizeof units[0], &bytes) !=
            0 ||
        bytes > INT64_MAX)
        return err_set(e, ERR_BAD_REQUEST,
                       "'%s' is not a size such as 512MiB, 4GiB or 1000000",
                       text);
    *out_bytes = bytes;
    return 0;
}

static int parse_port(const char *text, uint16_t *port)
{
    unsigned v = 0;

    if (text[0] == '\0' || strlen(text) > 5)
        return -1;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        v = v * 10 + (unsigned)(*text - '0');
    }
    if (v > UINT16_MAX)
        return -1;
    *port = (uint16_t)v;
    return 0;
}

/* Whether host is a numeric address; *loopback as it is. */
static bool parse_address(const char *host, bool bracketed, bool *loopback)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (!bracketed && inet_pton(AF_INET, host, &v4) == 1) {
        *loopback = ntohl(v4.s_addr) >> 24 == 127;
        return true;
    }
    if (bracketed && inet_pton(AF_INET6, host, &v6) == 1) {
        *loopback = IN6_IS_ADDR_LOOPBACK(&v6) ||
                    (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
        return true;
    }
    return false;
}

int cli_parse_listen(const char *text, struct cli_listen *out, struct err *e)
{
    const char *colon = strrchr(text, ':');
    const char *host = text;
    bool bracketed = text[0] == '[';
    size_t n;

    if (colon == NULL || parse_port(colon + 1, &out->port) != 0)
        goto bad;
    n = (size_t)(colon - text);
    if (bracketed) {
        if (n < 2 || text[n - 1] != ']')
            goto bad;
        host++;
        n -= 2;
    }
    if (n == 0 || n >= sizeof out->host)
        goto bad;
    memcpy(out->host, host, n);
    out->host[n] = '\0';
    if (!bracketed && strcmp(out->host, "localhost") == 0)
        (void)snprintf(out->host, sizeof out->host, "127.0.0.1");
    if (parse_address(out->host, bracketed, &out->loopback))
        return 0;
bad:
    return err_set(e, ERR_BAD_REQUEST,
                   "'%s' is not HOST:PORT, with a HOST such as 127.0.0.1, "
                   "[::1] or localhost",
                   text);
}

int cli_parse_switch(const char *text, bool *out, struct err *e)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        return err_set(e, ERR_BAD_REQUEST, "'%s' is neither on nor off", text);
    *out = strcmp(text, "on") == 0;
    return 0;
}

int cli_check_host(const char *text, struct err *e)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    size_t n = strlen(text);
    char v6[64];
    bool loopback;

    if (n > 0 && n <= 253 && strspn(text, name) == n)
        return 0;
    if (n > 2 && n < sizeof v6 && text[0] == '[' && text[n - 1] == ']') {
        memcpy(v6, text + 1, n - 2);
        v6[n - 2] = '\0';
        if (parse_address(v6, true, &loopback))
            return 0;
    }
    return err_set(e, ERR_BAD_REQUEST,
                   "'%s' is not a host name (give it without a port)", text);
}

void cli_format_size(uint64_t bytes, char out[CLI_SIZE_SIZE])
{
    static const char *const units[] = {"KiB", "MiB", "GiB",
                                        "TiB", "PiB", "EiB"};
    double v = (double)bytes / 1024;
    size_t i = 0;

    if (bytes < 1024) {
        (void)snprintf(out, CLI_SIZE_SIZE, "%u B", (unsigned)bytes);
        return;
    }
    /* 1023.95 would be written as 1024.0. */
    for (; v >= 1023.95 && i + 1 < sizeof units / sizeof units[0]; i++)
        v /= 1024;
    (void)snprintf(out, CLI_SIZE_SIZE, "%.1f %s", v, units[i]);
}
