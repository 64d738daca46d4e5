/* Errors: see err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set_message(struct err *e, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void set_message(struct err *e, const char *fmt, va_list ap)
{
    (void)vsnprintf(e->message, sizeof e->message, fmt, ap);
}

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    e->code = code;
    e->sys = 0;
    e->reason[0] = '\0';
    va_start(ap, fmt);
    set_message(e, fmt, ap);
    va_end(ap);
    return -1;
}

int err_set_reason(struct err *e, enum err_code code, const char *reason,
                   const char *fmt, ...)
{
    va_list ap;

    e->code = code;
    e->sys = 0;
    (void)snprintf(e->reason, sizeof e->reason, "%s", reason);
    va_start(ap, fmt);
    set_message(e, fmt, ap);
    va_end(ap);
    return -1;
}

/* Neither the disk nor a file is at fault, and it passes. */
static int err_descriptors(struct err *e, int sys)
{
    (void)err_set_reason(e, ERR_BUSY, "descriptors",
                         "too many files are open just now (%s)",
                         strerror(sys));
    e->sys = sys;
    return -1;
}

int err_sys(struct err *e, const char *fmt, ...)
{
    int sys = errno;
    size_t n;
    va_list ap;

    if (sys == EMFILE || sys == ENFILE)
        return err_descriptors(e, sys);
    e->code = sys == ENOSPC || sys == EDQUOT ? ERR_NO_SPACE : ERR_IO;
    e->sys = sys;
    e->reason[0] = '\0';
    va_start(ap, fmt);
    set_message(e, fmt, ap);
    va_end(ap);
    n = strlen(e->message);
    (void)snprintf(e->message + n, sizeof e->message - n, ": %s",
                   strerror(sys));
    if (e->code == ERR_NO_SPACE)
        (void)snprintf(e->message, sizeof e->message, "the disk is full (%s)",
                       strerror(sys));
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    char was[sizeof e->message];
    size_t n;
    va_list ap;

    (void)snprintf(was, sizeof was, "%s", e->message);
    va_start(ap, fmt);
    set_message(e, fmt, ap);
    va_end(ap);
    n = strlen(e->message);
    (void)snprintf(e->message + n, sizeof e->message - n, ": %s", was);
    return -1;
}

int err_is_private(const struct err *e)
{
    return e->code == ERR_IO || e->code == ERR_INTERNAL;
}
