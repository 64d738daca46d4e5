/* Live databases for tests: see dbutil.h. */
#include "dbutil.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sqlite3.h"

/* ---- the scratch folder ---- */

static char scratch[256];

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
    (void)st;
    if (at->level == 0)
        return 0;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

int scratch_clear(void **state)
{
    (void)state;
    return nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int scratch_setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char *real;

    (void)state;
    real = realpath(tmp != NULL ? tmp : "/tmp", NULL);
    if (real == NULL)
        return -1;
    (void)snprintf(scratch, sizeof scratch, "%s/holdfast_test.XXXXXX", real);
    free(real);
    return mkdtemp(scratch) != NULL ? 0 : -1;
}

int scratch_teardown(void **state)
{
    (void)scratch_clear(state);
    return rmdir(scratch);
}

const char *scratch_path(const char *fmt, ...)
{
    static char ring[32][512];
    static unsigned turn;
    char *path = ring[turn++ % 32];
    va_list ap;
    int n = snprintf(path, sizeof ring[0], "%s/", scratch);

    va_start(ap, fmt);
    (void)vsnprintf(path + n, sizeof ring[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return path;
}

/* ---- the application's side ---- */

#define OWN_SLOT APP_SLOTS

enum op { OP_OPEN, OP_CLOSE, OP_RESERVE, OP_TRY, OP_INT, OP_IMAGE, OP_WAIT };

struct request {
    enum op op;
    int slot;
    int n;
    char text[4096];
};

struct reply {
    bool waiting; /* not the end: a statement waits for a lock */
    int rc;
    sqlite3_int64 value;
    char text[256];
};

static int socket_fd = -1; /* of either side */
static pid_t app_pid;
static sqlite3 *slots[APP_SLOTS + 1];

static void say(const struct reply *r)
{
    if (send(socket_fd, r, sizeof *r, MSG_NOSIGNAL) != (ssize_t)sizeof *r)
        _exit(1);
}

/* Says once that it waits, and goes on trying for a minute. */
static int wait_for_lock(void *arg, int n)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    const struct reply r = {.waiting = true};

    (void)arg;
    if (n == 0)
        say(&r);
    (void)nanosleep(&pause, NULL);
    return n < 60000;
}

static int do_int(sqlite3 *db, const char *sql, struct reply *r)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        r->value = sqlite3_column_int64(st, 0);
        rc = SQLITE_OK;
    }
    (void)sqlite3_finalize(st);
    return rc;
}

static int do_image(sqlite3 *db, const char *to)
{
    sqlite3_stmt *st = NULL;
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = sqlite3_prepare_v2(
        db, "SELECT data FROM sqlite_dbpage ORDER BY pgno", -1, &st, NULL);

    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        int n = sqlite3_column_bytes(st, 0);

        rc = write(fd, sqlite3_column_blob(st, 0), (size_t)n) == n
                 ? SQLITE_OK
                 : SQLITE_IOERR;
    }
    (void)sqlite3_finalize(st);
    (void)close(fd);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int serve_one(const struct request *q, struct reply *r)
{
    sqlite3 **db = &slots[q->slot];
    int n = q->n;
    int rc;

    switch (q->op) {
    case OP_OPEN:
        return sqlite3_open(q->text, db);
    case OP_CLOSE:
        rc = sqlite3_close(*db);
        *db = NULL;
        return rc;
    case OP_RESERVE:
        return sqlite3_file_control(*db, "main", SQLITE_FCNTL_RESERVE_BYTES,
                                    &n);
    case OP_TRY:
        return sqlite3_exec(*db, q->text, NULL, NULL, NULL);
    case OP_INT:
        return do_int(*db, q->text, r);
    case OP_IMAGE:
        return do_image(*db, q->text);
    case OP_WAIT:
        (void)sqlite3_busy_handler(*db, wait_for_lock, NULL);
        /* VACUUM may be BUSY beside any reader without asking the handler. */
        do
            rc = sqlite3_exec(*db, q->text, NULL, NULL, NULL);
        while (rc == SQLITE_BUSY && n++ < 1000);
        (void)snprintf(r->text, sizeof r->text, "%s", sqlite3_errmsg(*db));
        (void)sqlite3_busy_handler(*db, NULL, NULL);
        return rc;
    }
    return SQLITE_MISUSE;
}

static void serve(void)
{
    static struct request q;

    while (recv(socket_fd, &q, sizeof q, 0) == (ssize_t)sizeof q) {
        struct reply r = {0};

        r.rc = serve_one(&q, &r);
        if (r.text[0] == '\0')
            (void)snprintf(r.text, sizeof r.text, "%s",
                           sqlite3_errmsg(slots[q.slot]));
        say(&r);
    }
    _exit(0);
}

int app_start(void)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    app_pid = fork();
    if (app_pid < 0)
        return -1;
    if (app_pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(pair[0]);
        socket_fd = pair[1];
        serve();
    }
    (void)close(pair[1]);
    socket_fd = pair[0];
    return 0;
}

void app_stop(void)
{
    (void)close(socket_fd);
    (void)waitpid(app_pid, NULL, 0);
}

/* ---- the test's side ---- */

static bool sent_waits; /* a reply of app_send has been taken by app_waits */
static struct reply sent_reply;

static void ask(enum op op, int slot, int n, const char *text)
{
    static struct request q;

    assert_true(strlen(text) < sizeof q.text);
    memset(&q, 0, sizeof q);
    q.op = op;
    q.slot = slot;
    q.n = n;
    (void)snprintf(q.text, sizeof q.text, "%s", text);
    assert_int_equal(send(socket_fd, &q, sizeof q, MSG_NOSIGNAL), sizeof q);
}

static struct reply hear(void)
{
    struct reply r;

    assert_int_equal(recv(socket_fd, &r, sizeof r, 0), sizeof r);
    return r;
}

static struct reply call(enum op op, int slot, int n, const char *text)
{
    ask(op, slot, n, text);
    return hear();
}

static struct reply must(enum op op, int slot, int n, const char *text)
{
    struct reply r = call(op, slot, n, text);

    if (r.rc != SQLITE_OK)
        fail_msg("the application: %s: %s", text, r.text);
    return r;
}

void app_open(int slot, const char *path)
{
    (void)must(OP_OPEN, slot, 0, path);
}

void app_close(int slot)
{
    (void)must(OP_CLOSE, slot, 0, "");
}

void app_reserve(int slot, int n)
{
    (void)must(OP_RESERVE, slot, n, "");
}

int app_try(int slot, const char *sql)
{
    return call(OP_TRY, slot, 0, sql).rc;
}

void app_sql(int slot, const char *fmt, ...)
{
    char sql[4096];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(sql, sizeof sql, fmt, ap);
    va_end(ap);
    (void)must(OP_TRY, slot, 0, sql);
}

int64_t app_int(int slot, const char *sql)
{
    return must(OP_INT, slot, 0, sql).value;
}

void app_image(const char *path, const char *to)
{
    app_open(OWN_SLOT, path);
    (void)must(OP_IMAGE, OWN_SLOT, 0, to);
    app_close(OWN_SLOT);
}

void app_send(int slot, const char *sql)
{
    sent_waits = false;
    ask(OP_WAIT, slot, 0, sql);
}

bool app_waits(void)
{
    sent_reply = hear();
    sent_waits = true;
    return sent_reply.waiting;
}

int app_result(void)
{
    if (!sent_waits)
        sent_reply = hear();
    while (sent_reply.waiting)
        sent_reply = hear();
    return sent_reply.rc;
}

/* How long a slice of a copy lasts at most, and then some. */
#define SLICE_OVER_MS 25

static bool pending;

void app_end_pending(void)
{
    if (pending)
        assert_int_equal(app_result(), SQLITE_OK);
    pending = false;
}

void app_drop_pending(void)
{
    if (pending)
        (void)app_result();
    pending = false;
}

void app_commit_between(int slot, const char *sql)
{
    int64_t slice_over_ms = clock_monotonic_ms() + SLICE_OVER_MS;

    app_end_pending();
    app_send(slot, sql);
    pending = true;
    assert_true(app_waits());
    while (clock_monotonic_ms() < slice_over_ms)
        clock_sleep_ms(1);
}

void app_check(const char *path)
{
    app_open(OWN_SLOT, path);
    assert_int_equal(app_int(OWN_SLOT, APP_INTEGRITY), 1);
    app_close(OWN_SLOT);
}

/* ---- bytes ---- */

const size_t bytes_skip_mode[][2] = {{18, 19}, {0, 0}};
const size_t bytes_skip_commit[][2] = {
    {18, 19}, {24, 27}, {40, 43}, {92, 99}, {0, 0}};

struct bytes bytes_read(const char *path)
{
    struct bytes b;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    b.n = (size_t)st.st_size;
    b.p = xmalloc(b.n + 1);
    assert_int_equal(read(fd, b.p, b.n), (ssize_t)b.n);
    (void)close(fd);
    return b;
}

void bytes_write(const char *path, struct bytes b)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, b.p, b.n), (ssize_t)b.n);
    (void)close(fd);
}

void bytes_fini(struct bytes *b)
{
    free(b->p);
    *b = (struct bytes){0};
}

static bool skipped(size_t at, const size_t (*skip)[2])
{
    for (; skip != NULL && (*skip)[1] != 0; skip++) {
        if (at >= (*skip)[0] && at <= (*skip)[1])
            return true;
    }
    return false;
}

bool bytes_equal(struct bytes a, struct bytes b, const size_t (*skip)[2])
{
    if (a.n != b.n) {
        print_message("lengths differ: %zu and %zu\n", a.n, b.n);
        return false;
    }
    for (size_t i = 0; i < a.n; i++) {
        if (a.p[i] != b.p[i] && !skipped(i, skip)) {
            print_message("bytes differ at %zu of %zu: %02x and %02x\n", i, a.n,
                          a.p[i], b.p[i]);
            return false;
        }
    }
    return true;
}

void file_copy_all(const char *from, const char *to)
{
    struct bytes b = bytes_read(from);

    bytes_write(to, b);
    bytes_fini(&b);
}

bool file_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

int fds_open(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}
