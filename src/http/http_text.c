/* The small grammars of HTTP: see http_internal.h and http.h. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http/http_internal.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* utf8_length: bytes of the well-formed character at s (RFC 3629), 0 if it is
 * none.  A NUL ends s, and no continuation byte is one. */
static size_t utf8_length(const unsigned char *s)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t n;

    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        n = 2;
    else if ((s[0] & 0xf0) == 0xe0)
        n = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        n = 4;
    else
        return 0;
    /* No overlong forms, no surrogates, nothing above U+10FFFF. */
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

static bool is_utf8(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    while (*p != '\0') {
        size_t n = utf8_length(p);

        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

const char *text_unescape(char *s)
{
    char *out = s;

    for (const char *p = s; *p != '\0'; p++) {
        int high, low;

        if (*p != '%') {
            *out++ = *p;
            continue;
        }
        high = hex_value(p[1]);
        low = high < 0 ? -1 : hex_value(p[2]);
        if (low < 0)
            return "a '%' is not followed by two hexadecimal digits";
        if (high == 0 && low == 0)
            return "%00 is not accepted";
        *out++ = (char)(high * 16 + low);
        p += 2;
    }
    *out = '\0';
    return is_utf8(s) ? NULL : "its percent escapes are not UTF-8";
}

bool http_unescape(char *s)
{
    return text_unescape(s) == NULL;
}

bool text_is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = s[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') ||
              (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL)))
            return false;
    }
    return n > 0;
}

bool text_equal_nocase(const char *a, size_t a_len, const char *b)
{
    return strlen(b) == a_len && strncasecmp(a, b, a_len) == 0;
}

static bool parse_port(const char *s, size_t n, int *port)
{
    int v = 0;

    *port = -1;
    if (n == 0)
        return true; /* "host:" is allowed, and is no port */
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        v = v * 10 + (s[i] - '0');
        if (v > 65535)
            return false;
    }
    *port = v;
    return true;
}

static bool parse_ipv6(const char *s, size_t n, struct authority *a)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr in6;

    if (n >= sizeof text)
        return false;
    memcpy(text, s, n);
    text[n] = '\0';
    if (inet_pton(AF_INET6, text, &in6) != 1 ||
        inet_ntop(AF_INET6, &in6, text, sizeof text) == NULL)
        return false;
    (void)snprintf(a->host, sizeof a->host, "[%s]", text);
    return true;
}

bool text_parse_authority(const char *s, size_t n, struct authority *a)
{
    const char *end;
    size_t host_len;

    if (n > 0 && s[0] == '[') {
        end = memchr(s, ']', n);
        if (end == NULL || !parse_ipv6(s + 1, (size_t)(end - s) - 1, a))
            return false;
        end++;
    } else {
        end = memchr(s, ':', n);
        if (end == NULL)
            end = s + n;
        host_len = (size_t)(end - s);
        if (host_len == 0 || host_len > HTTP_MAX_HOST)
            return false;
        for (size_t i = 0; i < host_len; i++) {
            char c = s[i];

            if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
                return false;
        }
        memcpy(a->host, s, host_len);
        a->host[host_len] = '\0';
    }
    a->port = -1;
    if (end == s + n)
        return true;
    return *end == ':' &&
           parse_port(end + 1, (size_t)(s + n - end) - 1, &a->port);
}

/* skip_weak: an entity tag without the mark of a weak one. */
static const char *skip_weak(const char *etag)
{
    return strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
}

bool text_etag_matches(const char *list, const char *etag)
{
    const char *want = skip_weak(etag);
    const char *p = list + strspn(list, " \t");
    size_t n = strlen(want);

    if (p[0] == '*' && p[1 + strspn(p + 1, " \t")] == '\0')
        return true;
    while (*p != '\0') {
        const char *end;

        p += strspn(p, " \t,");
        p = skip_weak(p);
        if (*p != '"')
            return false; /* not of the grammar: matches nothing more */
        end = strchr(p + 1, '"');
        if (end == NULL)
            return false;
        end++;
        if ((size_t)(end - p) == n && memcmp(p, want, n) == 0)
            return true;
        p = end;
    }
    return false;
}
