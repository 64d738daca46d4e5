/*
 * Between the caller's side of a check (check.c) and the child's
 * (check_child.c), which are one program.
 */
#ifndef HOLDFAST_SQLITE_CHECK_INTERNAL_H
#define HOLDFAST_SQLITE_CHECK_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "sqlite/check.h"

#define CHECK_SNAPSHOT_BYTES 48
#define CHECK_NOT_CHECKED_BYTES 4096

struct check_request {
    bool live;
    bool wal;
    bool deep;
    bool has_snapshot;
    unsigned char snapshot[CHECK_SNAPSHOT_BYTES];
    char path[PATH_MAX];
};

struct check_reply {
    uint32_t result; /* enum check_result */
    uint32_t n_problems;
    char problem[512];
    char not_checked[CHECK_NOT_CHECKED_BYTES];
};

/*
 * check_take_report: the child's reply as a report, which check_report_fini
 * empties.  The child may be hostile: ERR_INTERNAL for what none of ours
 * would send, and whatever text it sends comes out clean.
 */
int check_take_report(const struct buf *bytes, struct check_report *r,
                      struct err *e);

/*
 * check_clean_text: the len bytes at src as text of less than `size` bytes
 * in dst: valid UTF-8 without control characters; what is neither becomes
 * '?', and it is never cut inside a character.
 */
void check_clean_text(char *dst, size_t size, const char *src, size_t len);

#endif
