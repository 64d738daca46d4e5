/*
 * The log: one line per event on stderr, written with a single write so that
 * lines never mix:
 *
 *   time=2026-04-13T14:25:30.123Z level=info event=backup.created size=4096
 *
 * Values with blanks, quotes or control bytes are quoted and escaped (C
 * style); a line is at most 4 KiB, longer values are cut.  Callers never log
 * secrets or user data.
 */
#ifndef HOLDFAST_BASE_LOG_H
#define HOLDFAST_BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

/* log_set_level: lines below it are dropped.  Called once, at start. */
void log_set_level(enum log_level level);

/*
 * log_event: write a line.  `event` is a dotted word ("backup.created").  The
 * rest are pairs of key and value, all `const char *`, ended by NULL; a NULL
 * value is left out together with its key.
 */
void log_event(enum log_level level, const char *event, ...)
    __attribute__((sentinel));

/* log_error: log_event with the error's message, reason and errno. */
void log_error(const char *event, const struct err *e, const char *request_id);

/* log_i64: v as decimal text in buf (24 bytes); returns buf. */
char *log_i64(char buf[24], long long v);

#endif
