/* The log: see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static enum log_level threshold = LOG_INFO;

void log_set_level(enum log_level level)
{
    threshold = level;
}

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

/* One byte is always kept for the newline. */
static void put(struct line *l, const char *s, size_t n)
{
    size_t room = sizeof l->text - 1 - l->len;

    if (n > room)
        n = room;
    memcpy(l->text + l->len, s, n);
    l->len += n;
}

static int is_plain(const char *s)
{
    if (*s == '\0')
        return 0;
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' ||
            *s == 127)
            return 0;
    }
    return 1;
}

static void put_value(struct line *l, const char *s)
{
    if (is_plain(s)) {
        put(l, s, strlen(s));
        return;
    }
    put(l, "\"", 1);
    for (; *s != '\0' && l->len + 8 < sizeof l->text; s++) {
        unsigned char c = (unsigned char)*s;
        char esc[8];

        if (c == '"' || c == '\\')
            (void)snprintf(esc, sizeof esc, "\\%c", c);
        else if (c == '\n')
            (void)snprintf(esc, sizeof esc, "\\n");
        else if (c < ' ' || c == 127)
            (void)snprintf(esc, sizeof esc, "\\x%02x", c);
        else
            (void)snprintf(esc, sizeof esc, "%c", c);
        put(l, esc, strlen(esc));
    }
    put(l, "\"", 1);
}

static void put_pair(struct line *l, const char *key, const char *value)
{
    if (value == NULL || l->len + strlen(key) + 16 > sizeof l->text)
        return;
    put(l, " ", 1);
    put(l, key, strlen(key));
    put(l, "=", 1);
    put_value(l, value);
}

static void begin(struct line *l, enum log_level level, const char *event)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    struct timespec ts;
    struct tm tm;
    time_t t;
    char stamp[40];

    /* Real time, also in a test build: the log tells what really happened. */
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    t = ts.tv_sec;
    (void)gmtime_r(&t, &tm);
    (void)strftime(stamp, sizeof stamp, "time=%Y-%m-%dT%H:%M:%S", &tm);
    l->len = 0;
    put(l, stamp, strlen(stamp));
    (void)snprintf(stamp, sizeof stamp, ".%03dZ", (int)(ts.tv_nsec / 1000000));
    put(l, stamp, strlen(stamp));
    put_pair(l, "level", names[level]);
    put_pair(l, "event", event);
}

static void end(struct line *l)
{
    ssize_t r;

    l->text[l->len++] = '\n';
    r = write(STDERR_FILENO, l->text, l->len);
    (void)r; /* nobody to tell when the log itself is gone */
}

void log_event(enum log_level level, const char *event, ...)
{
    struct line l;
    const char *key;
    va_list ap;

    if (level < threshold || level >= LOG_OFF)
        return;
    begin(&l, level, event);
    va_start(ap, event);
    while ((key = va_arg(ap, const char *)) != NULL) {
        const char *value = va_arg(ap, const char *);

        put_pair(&l, key, value);
    }
    va_end(ap);
    end(&l);
}

void log_error(const char *event, const struct err *e, const char *request_id)
{
    log_event(LOG_ERROR, event, "request", request_id, "reason",
              e->reason[0] != '\0' ? e->reason : NULL, "message", e->message,
              NULL);
}

char *log_i64(char buf[24], long long v)
{
    (void)snprintf(buf, 24, "%lld", v);
    return buf;
}
