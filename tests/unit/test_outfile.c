/* Writing a large file in order, through src/base/outfile.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "dbutil.h"

static int open_out(int flags)
{
    int fd = open(scratch_path("out"), flags | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

/* Content by which every byte knows its place. */
static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 20));
}

static int push(struct outfile *o, uint64_t at, size_t n, struct err *e)
{
    uint8_t *b = outfile_buffer(o);

    assert_int_equal((uintptr_t)b % 4096, 0);
    for (size_t i = 0; i < n; i++)
        b[i] = byte_at(at + i);
    return outfile_push(o, n, e);
}

static void expect_file(uint64_t n)
{
    struct bytes b = bytes_read(scratch_path("out"));

    assert_int_equal(b.n, n);
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] != byte_at(i))
            fail_msg("byte %zu of %zu", i, b.n);
    }
    bytes_fini(&b);
}

/* All sizes of the last buffer, with and without direct I/O. */
static void sizes(void **state)
{
    static const size_t last[] = {1,
                                  511,
                                  512,
                                  4095,
                                  4096,
                                  4097,
                                  8192,
                                  OUTFILE_CHUNK - 512,
                                  OUTFILE_CHUNK};

    (void)state;
    for (int k = 0; k < 4; k++) {
        for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
            int fd = open_out(O_RDWR | O_TRUNC);
            struct outfile *o = outfile_new(fd, k % 2 == 0);
            uint64_t n = (uint64_t)(k / 2) * 6 * OUTFILE_CHUNK;
            struct err e = {0};

            assert_int_equal(outfile_fd(o), fd);
            for (uint64_t at = 0; at < n; at += OUTFILE_CHUNK)
                assert_int_equal(push(o, at, OUTFILE_CHUNK, &e), 0);
            assert_int_equal(push(o, n, last[i], &e), 0);
            assert_int_equal(outfile_finish(o, n + last[i], &e), 0);
            outfile_free(o);
            /* Whoever uses the descriptor next needs no alignment. */
            assert_int_equal(fcntl(fd, F_GETFL) & O_DIRECT, 0);
            (void)close(fd);
            expect_file(n + last[i]);
        }
    }
}

static void nothing(void **state)
{
    int fd = open_out(O_RDWR | O_TRUNC);
    struct outfile *o = outfile_new(fd, true);
    struct err e = {0};

    (void)state;
    assert_int_equal(outfile_drain(o, &e), 0);
    assert_int_equal(outfile_finish(o, 0, &e), 0);
    outfile_free(o);
    outfile_free(NULL);
    (void)close(fd);
    expect_file(0);
}

static void patches(void **state)
{
    int fd = open_out(O_RDWR | O_TRUNC);
    struct outfile *o = outfile_new(fd, true);
    struct err e = {0};
    struct bytes b;

    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(push(o, i * OUTFILE_CHUNK, OUTFILE_CHUNK, &e), 0);
    assert_int_equal(outfile_drain(o, &e), 0);
    assert_int_equal(outfile_patch(o, "patched", 7, OUTFILE_CHUNK - 3, &e), 0);
    assert_int_equal(outfile_finish(o, 2 * OUTFILE_CHUNK + 5, &e), 0);
    /* Again, longer and shorter: a restore finishes twice. */
    assert_int_equal(outfile_patch(o, "end", 3, 2 * OUTFILE_CHUNK + 5, &e), 0);
    assert_int_equal(outfile_finish(o, 2 * OUTFILE_CHUNK + 8, &e), 0);
    outfile_free(o);
    (void)close(fd);
    b = bytes_read(scratch_path("out"));
    assert_int_equal(b.n, 2 * OUTFILE_CHUNK + 8);
    assert_memory_equal(b.p + OUTFILE_CHUNK - 3, "patched", 7);
    assert_int_equal(b.p[OUTFILE_CHUNK - 4], byte_at(OUTFILE_CHUNK - 4));
    assert_int_equal(b.p[OUTFILE_CHUNK + 4], byte_at(OUTFILE_CHUNK + 4));
    assert_memory_equal(b.p + 2 * OUTFILE_CHUNK + 5, "end", 3);
    bytes_fini(&b);
}

/* The thread that writes cannot: whoever pushes next is told, and nobody
 * waits for ever. */
static void write_errors(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        int fd = k / 2 == 0 ? open_out(O_RDONLY | O_TRUNC)
                            : open("/dev/full", O_RDWR | O_CLOEXEC);
        struct outfile *o = outfile_new(fd, k % 2 == 0);
        struct err e = {0};
        int rc = 0;

        for (int i = 0; rc == 0 && i < 3 * OUTFILE_BUFFERS; i++)
            rc = push(o, 0, OUTFILE_CHUNK, &e);
        assert_int_equal(rc, -1);
        assert_int_equal(e.code, k / 2 == 0 ? ERR_IO : ERR_NO_SPACE);
        assert_int_equal(e.sys, k / 2 == 0 ? EBADF : ENOSPC);
        memset(&e, 0, sizeof e);
        assert_int_equal(outfile_drain(o, &e), -1);
        assert_int_equal(e.code, k / 2 == 0 ? ERR_IO : ERR_NO_SPACE);
        assert_int_equal(outfile_finish(o, 0, &e), -1);
        outfile_free(o);
        (void)close(fd);
    }
}

/* An error of the very last buffer is told by drain. */
static void last_error(void **state)
{
    int fd = open_out(O_RDONLY);
    struct outfile *o = outfile_new(fd, false);
    struct err e = {0};

    (void)state;
    assert_int_equal(push(o, 0, 10, &e), 0);
    assert_int_equal(outfile_finish(o, 10, &e), -1);
    assert_int_equal(e.sys, EBADF);
    outfile_free(o);
    (void)close(fd);
}

/* Whoever fills buffers faster than the disk takes them waits for one. */
static void faster(void **state)
{
    enum { N = 48 };
    int fd = open_out(O_RDWR | O_TRUNC);
    struct outfile *o = outfile_new(fd, false);
    struct err e = {0};
    uint64_t size = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        memset(outfile_buffer(o), i, 1);
        assert_int_equal(outfile_push(o, OUTFILE_CHUNK, &e), 0);
    }
    assert_int_equal(outfile_finish(o, N * OUTFILE_CHUNK, &e), 0);
    outfile_free(o);
    for (int i = 0; i < N; i++) {
        uint8_t first = 0xff;

        assert_int_equal(
            file_pread_all(fd, &first, 1, (uint64_t)i * OUTFILE_CHUNK, &e), 0);
        assert_int_equal(first, i);
    }
    assert_int_equal(file_size(fd, &size, &e), 0);
    assert_int_equal(size, N * OUTFILE_CHUNK);
    (void)close(fd);
}

/* Given up in the middle: the thread ends. */
static void given_up(void **state)
{
    int n = fds_open();

    (void)state;
    for (int i = 0; i < 20; i++) {
        int fd = open_out(O_RDWR | O_TRUNC);
        struct outfile *o = outfile_new(fd, i % 2 == 0);
        struct err e = {0};

        for (int k = 0; k < i % 7; k++)
            assert_int_equal(push(o, 0, OUTFILE_CHUNK, &e), 0);
        outfile_free(o);
        (void)close(fd);
    }
    assert_int_equal(fds_open(), n);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"outfile: sizes of every kind, with and without direct I/O", sizes,
         NULL, scratch_clear, NULL},
        {"outfile: an empty file", nothing, NULL, scratch_clear, NULL},
        {"outfile: places are patched and the length is set", patches, NULL,
         scratch_clear, NULL},
        {"outfile: an error of the writing thread is told", write_errors, NULL,
         scratch_clear, NULL},
        {"outfile: an error of the last buffer is told at the end", last_error,
         NULL, scratch_clear, NULL},
        {"outfile: whoever is faster than the disk waits", faster, NULL,
         scratch_clear, NULL},
        {"outfile: can be given up at any time", given_up, NULL, scratch_clear,
         NULL},
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
