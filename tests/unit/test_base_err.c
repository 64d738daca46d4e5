/* Errors, memory, buffers and the log, through src/base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/phase.h"
#include "base/procs.h"
#include "base/rand.h"
#include "dbutil.h"

/* ---------------------------------------------------------------- errors */

static void err_filled(void **state)
{
    struct err e;

    (void)state;
    memset(&e, 'x', sizeof e);
    assert_int_equal(err_set(&e, ERR_INVALID, "name %s", "a b"), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(e.sys, 0);
    assert_string_equal(e.reason, "");
    assert_string_equal(e.message, "name a b");
    assert_int_equal(err_set_reason(&e, ERR_BUSY, "locked", "%d", 7), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_string_equal(e.reason, "locked");
    assert_string_equal(e.message, "7");
}

static void err_system(void **state)
{
    struct err e;

    (void)state;
    errno = EACCES;
    assert_int_equal(err_sys(&e, "cannot open %s", "f"), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(e.sys, EACCES);
    assert_string_equal(e.reason, "");
    assert_string_equal(e.message, "cannot open f: Permission denied");
    errno = ENOSPC;
    assert_int_equal(err_sys(&e, "cannot write /secret"), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_int_equal(e.sys, ENOSPC);
    /* Such a message goes out, so it names no path. */
    assert_null(strstr(e.message, "secret"));
    errno = EDQUOT;
    assert_int_equal(err_sys(&e, "cannot write"), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    errno = EMFILE;
    assert_int_equal(err_sys(&e, "cannot open /secret"), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_int_equal(e.sys, EMFILE);
    assert_string_equal(e.reason, "descriptors");
    assert_null(strstr(e.message, "secret"));
    errno = ENFILE;
    assert_int_equal(err_sys(&e, "cannot open f"), -1);
    assert_int_equal(e.code, ERR_BUSY);
    for (enum err_code c = ERR_NONE; c <= ERR_INTERNAL; c++) {
        (void)err_set(&e, c, "x");
        assert_int_equal(err_is_private(&e), c == ERR_IO || c == ERR_INTERNAL);
    }
}

static void err_wrapped(void **state)
{
    struct err e;
    char long_text[2000];

    (void)state;
    (void)err_set_reason(&e, ERR_DAMAGED, "why", "page 5");
    e.sys = 7;
    assert_int_equal(err_wrap(&e, "reading %s", "b"), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    assert_string_equal(e.reason, "why");
    assert_int_equal(e.sys, 7);
    assert_string_equal(e.message, "reading b: page 5");
    /* Long texts are cut, not overrun. */
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    (void)err_set_reason(&e, ERR_IO, long_text, "%s", long_text);
    assert_int_equal(strlen(e.reason), sizeof e.reason - 1);
    assert_int_equal(strlen(e.message), sizeof e.message - 1);
    (void)err_wrap(&e, "%s", long_text);
    assert_int_equal(strlen(e.message), sizeof e.message - 1);
    (void)err_wrap(&e, "short");
    assert_int_equal(strncmp(e.message, "short: aaa", 10), 0);
    assert_int_equal(strlen(e.message), sizeof e.message - 1);
    errno = EIO;
    (void)err_sys(&e, "%s", long_text);
    assert_int_equal(strlen(e.message), sizeof e.message - 1);
}

/* --------------------------------------------------------------- buffers */

static void buffers(void **state)
{
    struct buf b = {0};
    size_t n = 0;

    (void)state;
    buf_fini(&b);
    buf_puts(&b, "");
    assert_string_equal(b.data, "");
    assert_int_equal(b.len, 0);
    for (int i = 0; i < 3000; i++) {
        buf_put(&b, "\0x", 2);
        buf_printf(&b, "%d;", i % 10);
        n += 4;
        assert_int_equal(b.len, n);
        assert_int_equal(b.data[b.len], '\0');
        assert_true(b.cap > b.len);
    }
    assert_memory_equal(b.data + 36, "\0x9;", 5);
    memcpy(buf_reserve(&b, 100000), "tail", 4);
    assert_int_equal(b.len, n);
    b.len += 4;
    assert_memory_equal(b.data + n, "tail", 4);
    buf_fini(&b);
    assert_null(b.data);
    assert_int_equal(b.len, 0);
    buf_printf(&b, "%0500d", 7);
    assert_int_equal(b.len, 500);
    assert_int_equal(strlen(b.data), 500);
    buf_fini(&b);
}

/* In a child: an allocation that cannot be must abort. */
static int child_ends_by(void (*f)(void))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct rlimit none = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &none);
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(1);
        (void)signal(SIGABRT, SIG_DFL);
        f();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void overflow(void)
{
    free(xcalloc(SIZE_MAX / 2, 4));
}

static void memory(void **state)
{
    char *p = xstrdup("one");
    char *q = xasprintf("%s %d", p, 2);
    unsigned *zeroes = xcalloc(100, sizeof *zeroes);

    (void)state;
    assert_string_equal(q, "one 2");
    p = xrealloc(p, 100);
    assert_string_equal(p, "one");
    for (int i = 0; i < 100; i++)
        assert_int_equal(zeroes[i], 0);
    free(p);
    free(q);
    free(zeroes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_int_equal(child_ends_by(overflow), SIGABRT);
#else
    (void)child_ends_by;
    (void)overflow;
#endif
}

static void randomness(void **state)
{
    char a[65];
    char b[65];

    (void)state;
    rand_hex(a, 32);
    rand_hex(b, 32);
    assert_int_equal(strlen(a), 64);
    assert_int_equal(strspn(a, "0123456789abcdef"), 64);
    assert_string_not_equal(a, b);
}

/* ------------------------------------------------------------------- log */

/* Run f with stderr in a file and give its text. */
static char *logged(void (*f)(void))
{
    const char *path = scratch_path("log");
    int was = dup(STDERR_FILENO);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    struct bytes b;

    assert_true(was >= 0 && fd >= 0);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    f();
    assert_true(dup2(was, STDERR_FILENO) >= 0);
    (void)close(was);
    (void)close(fd);
    b = bytes_read(path);
    b.p[b.n] = '\0';
    return (char *)b.p;
}

static const char *hostile;

static void log_hostile(void)
{
    log_event(LOG_WARN, "test.event", "request", "r1", "none", NULL, "value",
              hostile, "last", "end", NULL);
}

/* The part of the line after the time. */
static void expect_log(const char *value, const char *line)
{
    char *text;

    hostile = value;
    text = logged(log_hostile);
    assert_true(strlen(text) > 29);
    assert_int_equal(strncmp(text, "time=", 5), 0);
    assert_int_equal(strspn(text + 5, "0123456789-:T."), 23);
    assert_string_equal(text + 28, line);
    free(text);
}

static void log_lines(void **state)
{
    (void)state;
    expect_log("plain", "Z level=warn event=test.event request=r1 value=plain "
                        "last=end\n");
    expect_log("caf\xc3\xa9/\x7e", "Z level=warn event=test.event request=r1 "
                                   "value=caf\xc3\xa9/~ last=end\n");
    expect_log(NULL, "Z level=warn event=test.event request=r1 last=end\n");
    expect_log("", "Z level=warn event=test.event request=r1 value=\"\" "
                   "last=end\n");
    expect_log("a b", "Z level=warn event=test.event request=r1 value=\"a b\" "
                      "last=end\n");
    expect_log("a\nlevel=error \"\\\t\x7f\x1b[",
               "Z level=warn event=test.event request=r1 "
               "value=\"a\\nlevel=error \\\"\\\\\\x09\\x7f\\x1b[\" last=end\n");
    expect_log("a=b", "Z level=warn event=test.event request=r1 value=\"a=b\" "
                      "last=end\n");
}

/* A line is at most 4 KiB, is one line, and a cut value stays closed. */
static void log_long(void **state)
{
    static const char fill[] = {'a', ' ', '"', '\n', '\x01'};
    char value[9000];

    (void)state;
    for (size_t i = 0; i < sizeof fill; i++) {
        for (size_t n = 3900; n < 4100; n += 7) {
            char *text;
            size_t len;

            memset(value, fill[i], sizeof value);
            value[i % 2 == 0 ? n : sizeof value - 1] = '\0';
            hostile = value;
            text = logged(log_hostile);
            len = strlen(text);
            assert_in_range(len, 100, 4096);
            assert_ptr_equal(strchr(text, '\n'), text + len - 1);
            if (i > 0 && strstr(text, " last=") == NULL)
                assert_int_equal(text[len - 2], '"');
            free(text);
        }
    }
}

static void log_levels(void)
{
    struct err e;

    log_event(LOG_DEBUG, "a", NULL);
    log_event(LOG_INFO, "b", NULL);
    log_set_level(LOG_ERROR);
    log_event(LOG_WARN, "c", NULL);
    (void)err_set_reason(&e, ERR_BUSY, "why", "it is");
    log_error("d", &e, "r2");
    (void)err_set(&e, ERR_IO, "no reason");
    log_error("e", &e, NULL);
    log_set_level(LOG_OFF);
    log_error("f", &e, NULL);
    log_event(LOG_OFF, "g", NULL);
    log_set_level(LOG_INFO);
}

static void log_thresholds(void **state)
{
    char *text = logged(log_levels);
    char number[24];

    (void)state;
    assert_null(strstr(text, "event=a"));
    assert_non_null(strstr(text, "level=info event=b\n"));
    assert_null(strstr(text, "event=c"));
    assert_non_null(strstr(text, "level=error event=d request=r2 reason=why "
                                 "message=\"it is\"\n"));
    assert_non_null(
        strstr(text, "level=error event=e message=\"no reason\"\n"));
    assert_null(strstr(text, "event=f"));
    assert_null(strstr(text, "event=g"));
    free(text);
    assert_string_equal(log_i64(number, INT64_MIN), "-9223372036854775808");
    assert_string_equal(log_i64(number, 0), "0");
}

/* ------------------------------------------------------ phases, processes */

static void phases(void **state)
{
    struct err e = {0};
    struct bytes b;

    (void)state;
    assert_int_equal(phase_enter("a.step", &e), 0);
    assert_int_equal(setenv("HOLDFAST_TEST_PHASE", scratch_path("phase"), 1),
                     0);
    assert_int_equal(
        setenv("HOLDFAST_TEST_FAULT_FILE", scratch_path("fault"), 1), 0);
    assert_int_equal(phase_enter("a.step", &e), 0);
    b = bytes_read(scratch_path("phase"));
    assert_int_equal(b.n, 32);
    assert_memory_equal(b.p, "a.step                          ", 32);
    bytes_fini(&b);
    bytes_write(scratch_path("fault"),
                (struct bytes){(uint8_t *)(uintptr_t) "a.step:ENOSPC", 13});
    assert_int_equal(phase_enter("a.ste", &e), 0);
    assert_int_equal(phase_enter("a.step2", &e), 0);
    assert_int_equal(phase_enter("a.step", &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    bytes_write(scratch_path("fault"),
                (struct bytes){(uint8_t *)(uintptr_t) "a.step:EIO", 10});
    assert_int_equal(phase_enter("a.step", &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(unsetenv("HOLDFAST_TEST_PHASE"), 0);
    assert_int_equal(unsetenv("HOLDFAST_TEST_FAULT_FILE"), 0);
}

static void kill_at_second(void)
{
    struct err e;

    (void)setenv("HOLDFAST_TEST_KILL", "a.step:2", 1);
    (void)phase_enter("a.step2", &e);
    (void)phase_enter("a.step", &e);
    (void)phase_enter("b.step", &e);
    (void)phase_enter("a.step", &e);
}

static void kill_elsewhere(void)
{
    struct err e;

    (void)setenv("HOLDFAST_TEST_KILL", "a.step:2", 1);
    (void)phase_enter("a.step2", &e);
    (void)phase_enter("a.step", &e);
    (void)phase_enter("b.step", &e);
}

static void kills(void **state)
{
    (void)state;
    assert_int_equal(child_ends_by(kill_at_second), SIGKILL);
    assert_int_equal(child_ends_by(kill_elsewhere), 0);
}

static void other_processes(void **state)
{
    struct stat st;
    int fd;

    (void)state;
    app_open(0, scratch_path("db"));
    app_sql(0, "CREATE TABLE t(a)");
    assert_int_equal(stat(scratch_path("db"), &st), 0);
    assert_true(procs_have_open(st.st_dev, st.st_ino));
    app_close(0);
    assert_false(procs_have_open(st.st_dev, st.st_ino));
    /* We ourselves do not count. */
    fd = open(scratch_path("db"), O_RDONLY);
    assert_true(fd >= 0);
    assert_false(procs_have_open(st.st_dev, st.st_ino));
    (void)close(fd);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"err: every field is set anew", err_filled, NULL, NULL, NULL},
        {"err: a full disk is told from other faults, and names no path",
         err_system, NULL, NULL, NULL},
        {"err: wrapping keeps code and reason, and long texts are cut",
         err_wrapped, NULL, NULL, NULL},
        {"buf: grows, and is always followed by a NUL", buffers, NULL, NULL,
         NULL},
        {"mem: what cannot be allocated aborts", memory, NULL, NULL, NULL},
        {"rand: hex digits that differ", randomness, NULL, NULL, NULL},
        {"log: values that could be mistaken are quoted and escaped", log_lines,
         NULL, scratch_clear, NULL},
        {"log: a line has at most 4 KiB and one line break", log_long, NULL,
         scratch_clear, NULL},
        {"log: levels, and errors with request and reason", log_thresholds,
         NULL, scratch_clear, NULL},
        {"phase: steps are told and fail where a test wants it", phases, NULL,
         scratch_clear, NULL},
        {"phase: kills at the n-th time", kills, NULL, NULL, NULL},
        {"procs: another process that has a file open is found",
         other_processes, NULL, scratch_clear, NULL},
    };
    int failed;

    if (app_start() != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
