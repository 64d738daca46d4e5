/* Byte ranges (RFC 9110 14.1.2): see http.h. */
#include <string.h>
#include <strings.h>

#include "http/http.h"

/*
 * parse_number: the digits at *p, which is moved behind them.  A number that
 * is too large for 64 bits is the largest of them: no file is that long.
 * False if there is no digit.
 */
static bool parse_number(const char **p, uint64_t *v)
{
    const char *s = *p;

    for (*v = 0; *s >= '0' && *s <= '9'; s++) {
        uint64_t digit = (uint64_t)(*s - '0');

        *v = *v > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *v * 10 + digit;
    }
    if (s == *p)
        return false;
    *p = s;
    return true;
}

static int suffix(const char *p, uint64_t size, uint64_t *first, uint64_t *n)
{
    uint64_t want;

    if (!parse_number(&p, &want) || *p != '\0')
        return 200;
    if (want == 0 || size == 0)
        return 416;
    *n = want < size ? want : size;
    *first = size - *n;
    return 206;
}

int http_range_parse(const char *header, uint64_t size, uint64_t *first,
                     uint64_t *n)
{
    uint64_t from, to = UINT64_MAX;
    const char *p = header;

    if (p == NULL || strncasecmp(p, "bytes=", 6) != 0)
        return 200;
    p += 6;
    if (*p == '-')
        return suffix(p + 1, size, first, n);
    if (!parse_number(&p, &from) || *p++ != '-')
        return 200;
    if (*p != '\0' && (!parse_number(&p, &to) || *p != '\0' || to < from))
        return 200;
    if (from >= size)
        return 416;
    if (to > size - 1)
        to = size - 1;
    *first = from;
    *n = to - from + 1;
    return 206;
}
