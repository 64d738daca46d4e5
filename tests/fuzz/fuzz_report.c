/*
 * What a limited child says: the frame of its reply, its error, its report on
 * a file.  The child may have been taken over by the file that it looks at.
 * An input is the bytes from its pipe; one that begins with "*" is a payload
 * for which a right frame is made, so that what is inside gets its share.
 */
#include "fuzz.h"

#include <string.h>

#include "guard/guard_internal.h"
#include "sqlite/check.h"
#include "sqlite/check_internal.h"

static void try_report(const struct buf *payload)
{
    struct check_report r = {0};
    struct err e = {0};

    if (check_take_report(payload, &r, &e) != 0) {
        require_error(&e);
        require(e.code == ERR_INTERNAL);
    } else {
        require((int)r.result >= CHECK_OK && r.result <= CHECK_MOVED_ON);
        require(memchr(r.problem, '\0', sizeof r.problem) != NULL);
        require_utf8(r.problem);
        if (r.not_checked != NULL) {
            require(strlen(r.not_checked) < CHECK_NOT_CHECKED_BYTES);
            require_utf8(r.not_checked);
        }
    }
    check_report_fini(&r);
}

static void try_reply(const struct buf *bytes)
{
    struct buf payload = {0};
    struct err e = {0};

    if (guard_take_reply(bytes->data, bytes->len, &payload, &e) != 0) {
        require_error(&e);
        require_utf8(e.message);
        require_utf8(e.reason);
        require(payload.len == 0);
    } else {
        require(payload.len <= bytes->len);
        try_report(&payload);
    }
    buf_fini(&payload);
}

static void try_framed(const uint8_t *data, size_t size, bool failed)
{
    struct guard_frame f = {
        .magic = GUARD_FRAME_MAGIC, .failed = failed, .len = (uint32_t)size};
    struct buf bytes = {0};

    buf_put(&bytes, &f, sizeof f);
    buf_put(&bytes, data, size);
    try_reply(&bytes);
    buf_fini(&bytes);
}

/* The input where it belongs in a message of the right length. */
static void try_sized(const uint8_t *data, size_t size, size_t want,
                      bool failed)
{
    uint8_t *message = calloc(1, want);

    require(message != NULL);
    if (size > 0)
        memcpy(message, data, size < want ? size : want);
    try_framed(message, want, failed);
    free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf bytes = {0};

    if (size > 0 && data[0] == '*') {
        try_framed(data + 1, size - 1, false);
        try_framed(data + 1, size - 1, true);
        try_sized(data + 1, size - 1, sizeof(struct check_reply), false);
        try_sized(data + 1, size - 1, sizeof(struct err), true);
        return 0;
    }
    buf_put(&bytes, data, size);
    try_reply(&bytes);
    buf_fini(&bytes);
    return 0;
}
