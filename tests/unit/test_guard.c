/* Limited children, through src/guard/guard.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "guard/guard.h"
#include "guard/guard_internal.h"

#define MIB ((uint64_t)1024 * 1024)
#define N_CALLERS 12

/* Shared with the children: they are forks of forks of this process. */
struct shared {
    int running;
    int most;
    bool gate_open;
};

static struct shared *shared;
static struct guard *guard;
static char scratch[256];

/* ------------------------------------------------- what the children do */

static int echo(const void *request, size_t len, struct buf *reply,
                struct err *e)
{
    (void)e;
    buf_put(reply, request, len);
    return 0;
}

static int count_bytes(const void *request, size_t len, struct buf *reply,
                       struct err *e)
{
    const unsigned char *p = request;
    unsigned long sum = 0;

    (void)e;
    for (size_t i = 0; i < len; i++)
        sum += p[i];
    buf_printf(reply, "%zu %lu", len, sum);
    return 0;
}

static int refuse(const void *request, size_t len, struct buf *reply,
                  struct err *e)
{
    (void)request;
    (void)len;
    (void)reply;
    return err_set_reason(e, ERR_CONFLICT, "because", "no\n%s", "thanks");
}

/* The request is how to open and a path; answers the errno, or 0. */
static int open_file(const void *request, size_t len, struct buf *reply,
                     struct err *e)
{
    const char *how = request;
    char path[512];
    int fd;

    (void)e;
    (void)snprintf(path, sizeof path, "%.*s", (int)len - 1, how + 1);
    if (*how == 'u') {
        buf_printf(reply, "%d", unlink(path) != 0 ? errno : 0);
        return 0;
    }
    fd = open(path,
              *how == 'r'   ? O_RDONLY
              : *how == 'c' ? O_RDWR | O_CREAT
                            : O_RDWR,
              0600);
    if (fd < 0 || (*how == 'g' && pwrite(fd, "x", 1, 1 << 20) != 1) ||
        (*how == 'w' && pwrite(fd, "x", 1, 0) != 1))
        buf_printf(reply, "%d", errno);
    else
        buf_puts(reply, "0");
    return 0;
}

static int hog(const void *request, size_t len, struct buf *reply,
               struct err *e)
{
    bool politely = len > 0 && *(const char *)request == 'p';
    void **chain = NULL;

    (void)reply;
    for (;;) {
        void **p = politely ? malloc(MIB) : xmalloc(MIB);

        if (p == NULL)
            break;
        memset(p, 1, MIB);
        *p = (void *)chain;
        chain = p;
    }
    while (chain != NULL) {
        void **next = *chain;

        free((void *)chain);
        chain = next;
    }
    return err_set_reason(e, ERR_LIMIT, "memory", "no memory");
}

static int spin(const void *request, size_t len, struct buf *reply,
                struct err *e)
{
    volatile unsigned n = 0;

    (void)request;
    (void)len;
    (void)reply;
    (void)e;
    while (n != 1)
        n += 2;
    return 0;
}

static int doze(const void *request, size_t len, struct buf *reply,
                struct err *e)
{
    (void)request;
    (void)len;
    (void)reply;
    (void)e;
    __atomic_add_fetch(&shared->running, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&shared->gate_open, __ATOMIC_SEQ_CST))
        clock_sleep_ms(1000);
    return 0;
}

/* Crash in the way the request's letter names. */
static int crash(const void *request, size_t len, struct buf *reply,
                 struct err *e)
{
    (void)len;
    (void)e;
    switch (*(const char *)request) {
    case 'a':
        errno = 0;
        abort();
    case 's':
        (void)raise(SIGSEGV);
        break;
    case 'n':
        (void)socket(AF_UNIX, SOCK_STREAM, 0);
        break;
    case 'x':
        (void)execl("/bin/true", "true", (char *)NULL);
        break;
    case 'e':
        _exit(0);
    case 'h': /* a frame that promises more than comes */
        (void)!write(3, "RGFH\0\0\0\0\377\0\0\0x", 13);
        _exit(0);
    default:
        memset(buf_reserve(reply, GUARD_MAX_REPLY + 1), 'x',
               GUARD_MAX_REPLY + 1);
        reply->len += GUARD_MAX_REPLY + 1;
    }
    return 0;
}

/* What the child is: open descriptors, user, umask, what fork says. */
static int identity(const void *request, size_t len, struct buf *reply,
                    struct err *e)
{
    int n_open = 0;
    pid_t pid;

    (void)request;
    (void)len;
    (void)e;
    for (int fd = 0; fd < 64; fd++)
        n_open += fcntl(fd, F_GETFD) >= 0;
    pid = fork();
    if (pid == 0)
        _exit(0);
    buf_printf(reply, "%d %u %u %s %s", n_open, (unsigned)geteuid(),
               (unsigned)getegid(), pid < 0 ? "no-fork" : "fork",
               kill(getppid(), 0) != 0 ? "no-kill" : "kill");
    return 0;
}

static int map_code(const void *request, size_t len, struct buf *reply,
                    struct err *e)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)request;
    (void)len;
    (void)e;
    buf_puts(reply, p == MAP_FAILED ? "refused" : "mapped");
    return 0;
}

static int gate(const void *request, size_t len, struct buf *reply,
                struct err *e)
{
    int now = __atomic_add_fetch(&shared->running, 1, __ATOMIC_SEQ_CST);
    int most = __atomic_load_n(&shared->most, __ATOMIC_SEQ_CST);

    (void)request;
    (void)len;
    (void)reply;
    (void)e;
    while (now > most &&
           !__atomic_compare_exchange_n(&shared->most, &most, now, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    while (!__atomic_load_n(&shared->gate_open, __ATOMIC_SEQ_CST))
        clock_sleep_ms(1);
    __atomic_sub_fetch(&shared->running, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static const struct guard_service services[] = {
    {"echo", echo},         {"count", count_bytes}, {"fail", refuse},
    {"open", open_file},    {"hog", hog},           {"spin", spin},
    {"doze", doze},         {"crash", crash},       {"gate", gate},
    {"identity", identity}, {"code", map_code},
};
#define N_SERVICES (sizeof services / sizeof *services)

/* --------------------------------------------------------------- helpers */

static struct guard_call a_call(const char *service, const void *request,
                                size_t len)
{
    return (struct guard_call){.service = service,
                               .request = request,
                               .request_len = len,
                               .memory_bytes = 64 * MIB,
                               .cpu_s = 60,
                               .wall_s = 120};
}

static void expect_fail(const struct guard_call *call, enum err_code code,
                        const char *reason)
{
    struct buf reply = {0};
    struct err e;

    assert_int_equal(guard_call(guard, call, &reply, &e), -1);
    assert_int_equal(e.code, code);
    assert_string_equal(e.reason, reason);
    assert_int_equal(reply.len, 0);
    buf_fini(&reply);
}

static void expect_reply(const struct guard_call *call, const char *text)
{
    struct buf reply = {0};
    struct err e = {0};
    int rc = guard_call(guard, call, &reply, &e);

    assert_string_equal(e.message, "");
    assert_int_equal(rc, 0);
    assert_string_equal(reply.data, text);
    buf_fini(&reply);
}

/* The errno that a child meets when it opens `path` as `how`. */
static int child_open(char how, const char *path, struct guard_path allowed)
{
    char request[512];
    int len = snprintf(request, sizeof request, "%c%s", how, path);
    struct guard_call call = a_call("open", request, (size_t)len);
    struct buf reply = {0};
    struct err e = {0};
    int err;

    call.paths[0] = allowed;
    assert_int_equal(guard_call(guard, &call, &reply, &e), 0);
    err = (int)strtol(reply.data, NULL, 10);
    buf_fini(&reply);
    return err;
}

static const char *in_scratch(const char *name)
{
    static char path[512];

    (void)snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

static void make_file(const char *path)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs("hello", f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int count_open(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

static void reset_shared(void)
{
    memset(shared, 0, sizeof *shared);
}

static void wait_running(int n)
{
    while (__atomic_load_n(&shared->running, __ATOMIC_SEQ_CST) < n)
        clock_sleep_ms(1);
}

/* ----------------------------------------------------------------- tests */

static void answers(void **state)
{
    struct guard_call call = a_call("echo", "hello", 5);

    (void)state;
    expect_reply(&call, "hello");
    call.request_len = 0;
    call.request = NULL;
    {
        struct buf reply = {0};
        struct err e;

        buf_puts(&reply, "before ");
        call.request = "after";
        call.request_len = 5;
        assert_int_equal(guard_call(guard, &call, &reply, &e), 0);
        assert_string_equal(reply.data, "before after");
        buf_fini(&reply);
    }
}

static void large_requests(void **state)
{
    char *bytes = xmalloc(GUARD_MAX_REQUEST + 1);
    struct guard_call call = a_call("count", bytes, GUARD_MAX_REQUEST);
    struct buf reply = {0};
    struct err e = {0};

    (void)state;
    memset(bytes, 3, GUARD_MAX_REQUEST + 1);
    expect_reply(&call, "131072 393216");
    call.request_len++;
    expect_fail(&call, ERR_TOO_LARGE, "");
    call = a_call("echo", bytes, GUARD_MAX_REPLY);
    assert_int_equal(guard_call(guard, &call, &reply, &e), 0);
    assert_int_equal(reply.len, GUARD_MAX_REPLY);
    assert_memory_equal(reply.data, bytes, reply.len);
    buf_fini(&reply);
    call.request_len++;
    expect_fail(&call, ERR_INTERNAL, "");
    free(bytes);
}

static void own_errors(void **state)
{
    struct guard_call call = a_call("fail", NULL, 0);
    struct buf reply = {0};
    struct err e;

    (void)state;
    assert_int_equal(guard_call(guard, &call, &reply, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, "because");
    assert_string_equal(e.message, "no?thanks");
    call.service = "nonesuch";
    expect_fail(&call, ERR_INTERNAL, "");
}

static void only_named_files(void **state)
{
    char file[512];
    char other[512];
    struct guard_path none = {0};
    struct guard_path ro = {file, false};
    struct guard_path dir = {scratch, false};

    (void)state;
    (void)snprintf(file, sizeof file, "%s", in_scratch("file"));
    (void)snprintf(other, sizeof other, "%s", in_scratch("other"));
    make_file(file);
    make_file(other);
    if (!guard_landlocked())
        skip();
    assert_int_equal(child_open('r', file, none), EACCES);
    assert_int_equal(child_open('r', file, ro), 0);
    assert_int_equal(child_open('w', file, ro), EACCES);
    assert_int_equal(child_open('r', other, ro), EACCES);
    assert_int_equal(child_open('r', "/etc/passwd", dir), EACCES);
    assert_int_equal(child_open('r', other, dir), 0);
    assert_int_equal(child_open('w', other, dir), EACCES);
    assert_int_equal(child_open('c', in_scratch("new"), dir), EACCES);
    assert_int_equal(child_open('u', other, dir), EACCES);
}

static void writable_places(void **state)
{
    char file[512];
    struct stat st;
    struct guard_path rw = {file, true};
    struct guard_path dir = {scratch, true};

    (void)state;
    (void)snprintf(file, sizeof file, "%s", in_scratch("file"));
    make_file(file);
    assert_int_equal(child_open('w', file, rw), 0);
    assert_int_equal(child_open('g', file, rw), EFBIG);
    assert_int_equal(child_open('g', file, dir), 0);
    assert_int_equal(child_open('c', in_scratch("new"), dir), 0);
    assert_int_equal(stat(in_scratch("new"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(child_open('u', in_scratch("new"), dir), 0);
    assert_int_equal(stat(in_scratch("new"), &st), -1);
}

static void bounded_files(void **state)
{
    char request[520];
    int len = snprintf(request, sizeof request, "g%s", in_scratch("file"));
    struct guard_call call = a_call("open", request, (size_t)len);

    (void)state;
    make_file(request + 1);
    call.paths[0] = (struct guard_path){scratch, true};
    call.file_bytes = MIB;
    expect_reply(&call, "27"); /* EFBIG */
}

static void missing_path(void **state)
{
    struct guard_call call = a_call("echo", "x", 1);

    (void)state;
    call.paths[0].path = in_scratch("nonesuch");
    expect_fail(&call, ERR_NOT_FOUND, "");
}

/* Whoever owns a folder can put anything where a file was. */
static void strange_paths(void **state)
{
    struct guard_call call = a_call("echo", "x", 1);
    char link[512];

    (void)state;
    (void)snprintf(link, sizeof link, "%s", in_scratch("link"));
    make_file(in_scratch("file"));
    for (int i = 0; i < 3; i++) {
        const char *to = i == 0 ? in_scratch("file") : scratch;

        assert_int_equal(i < 2 ? symlink(to, link) : mkfifo(link, 0600), 0);
        call.paths[0].path = i == 1 ? in_scratch("link/file") : link;
        expect_fail(&call, ERR_NOT_FOUND, "");
        assert_int_equal(unlink(link), 0);
    }
}

static void limits(void **state)
{
    struct guard_call call = a_call("spin", NULL, 0);

    (void)state;
    call.cpu_s = 1;
    expect_fail(&call, ERR_LIMIT, "cpu");
    call = a_call("doze", NULL, 0);
    call.wall_s = 1;
    expect_fail(&call, ERR_LIMIT, "time");
}

static void memory_limit(void **state)
{
    struct guard_call call = a_call("hog", "politely", 8);

    (void)state;
    if (GUARD_SANITIZED)
        skip();
    expect_fail(&call, ERR_LIMIT, "memory");
    call.request = "abruptly";
    expect_fail(&call, ERR_LIMIT, "memory");
}

static void crashes(void **state)
{
    static const char *const ways[] = {"abort", "segv", "net",
                                       "x",     "exit", "half frame"};

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct guard_call call = a_call("crash", ways[i], strlen(ways[i]));

        print_message("           %s\n", ways[i]);
        expect_fail(&call, ERR_DAMAGED, "crash");
    }
}

static void unprivileged(void **state)
{
    struct guard_call call = a_call("identity", NULL, 0);
    char want[64];

    (void)state;
    (void)snprintf(want, sizeof want, "4 %u %u no-fork no-kill",
                   (unsigned)geteuid(), (unsigned)getegid());
    expect_reply(&call, want);
    call.service = "code";
    expect_reply(&call, "refused");
    if (geteuid() != 0)
        return;
    call.service = "identity";
    call.run_as_uid = 1234;
    call.run_as_gid = 4321;
    expect_reply(&call, "4 1234 4321 no-fork no-kill");
}

struct caller {
    pthread_t thread;
    struct guard_call call;
    int rc;
    struct err e;
};

static void *run_caller(void *arg)
{
    struct caller *c = arg;
    struct buf reply = {0};

    c->rc = guard_call(guard, &c->call, &reply, &c->e);
    buf_fini(&reply);
    return NULL;
}

static void start_caller(struct caller *c)
{
    assert_int_equal(pthread_create(&c->thread, NULL, run_caller, c), 0);
}

static void at_most_eight(void **state)
{
    struct caller callers[N_CALLERS];

    (void)state;
    reset_shared();
    for (int i = 0; i < N_CALLERS; i++) {
        callers[i] = (struct caller){.call = a_call("gate", NULL, 0)};
        start_caller(&callers[i]);
    }
    wait_running(GUARD_MAX_CHILDREN);
    __atomic_store_n(&shared->gate_open, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < N_CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_int_equal(callers[i].rc, 0);
    }
    assert_int_equal(shared->most, GUARD_MAX_CHILDREN);
    assert_int_equal(shared->running, 0);
}

static void cancellation(void **state)
{
    struct caller callers[GUARD_MAX_CHILDREN + 1];
    bool cancel = false;

    (void)state;
    reset_shared();
    for (int i = 0; i <= GUARD_MAX_CHILDREN; i++) {
        callers[i] = (struct caller){.call = a_call("doze", NULL, 0)};
        callers[i].call.cancel = &cancel;
        start_caller(&callers[i]);
    }
    wait_running(GUARD_MAX_CHILDREN);
    __atomic_store_n(&cancel, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i <= GUARD_MAX_CHILDREN; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_int_equal(callers[i].rc, -1);
        assert_int_equal(callers[i].e.code, ERR_CANCELLED);
    }
}

static void nothing_left(void **state)
{
    int before = count_open();

    answers(state);
    crashes(state);
    cancellation(state);
    own_errors(state);
    assert_int_equal(count_open(), before);
}

/*
 * A program with a helper and a dozing child, in a process of its own whose
 * standard error is a pipe: the pipe's end is the end of all three.
 */
static pid_t start_program(int *alive_fd)
{
    int ends[2];
    pid_t pid;

    reset_shared();
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        struct guard *g;
        struct guard_call call = a_call("doze", NULL, 0);
        struct buf reply = {0};
        struct err e;

        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        if (guard_start(services, N_SERVICES, &g, &e) == 0 &&
            guard_call(g, &call, &reply, &e) != 0 && e.code == ERR_INTERNAL)
            _exit(7);
        _exit(1);
    }
    (void)close(ends[1]);
    *alive_fd = ends[0];
    wait_running(1);
    return pid;
}

static void ends_with_the_program(void **state)
{
    char byte;
    int alive = -1;
    pid_t pid = start_program(&alive);

    (void)state;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(read(alive, &byte, 1), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)close(alive);
}

/* The first child of process `pid`. */
static pid_t child_of(pid_t pid)
{
    char path[64];
    char text[32];
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid,
                   (int)pid);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    (void)fclose(f);
    return (pid_t)strtol(text, NULL, 10);
}

static void helper_dies(void **state)
{
    char byte;
    int status = 0;
    int alive = -1;
    pid_t pid = start_program(&alive);
    pid_t helper = child_of(pid);

    (void)state;
    assert_int_equal(kill(helper, SIGTERM), 0); /* which it ignores */
    assert_int_equal(kill(helper, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(read(alive, &byte, 1), 0);
    (void)close(alive);
}

static void *wait_for_gate(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&shared->gate_open, __ATOMIC_SEQ_CST))
        clock_sleep_ms(1);
    return NULL;
}

static void threads_first(void **state)
{
    pid_t pid;
    int status = 0;

    (void)state;
    if (GUARD_SANITIZED)
        skip();
    reset_shared();
    pid = fork();
    if (pid == 0) {
        struct guard *g;
        struct err e;
        pthread_t thread;

        (void)close(STDERR_FILENO);
        if (pthread_create(&thread, NULL, wait_for_gate, NULL) == 0)
            (void)guard_start(services, N_SERVICES, &g, &e);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static int make_scratch(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(scratch, sizeof scratch, "%s/test_guard.XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(scratch) != NULL ? 0 : -1;
}

static int remove_scratch(void **state)
{
    (void)state;
    (void)unlink(in_scratch("file"));
    (void)unlink(in_scratch("other"));
    return rmdir(scratch);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"guard: a child answers a request", answers, NULL, NULL, NULL},
        {"guard: requests of 128 KiB and replies of 64 KiB pass whole, "
         "longer ones are refused",
         large_requests, NULL, NULL, NULL},
        {"guard: the caller gets the child's own error", own_errors, NULL, NULL,
         NULL},
        {"guard: a child opens only the files that the call names",
         only_named_files, NULL, NULL, NULL},
        {"guard: a writable file cannot grow, in a writable folder it can",
         writable_places, NULL, NULL, NULL},
        {"guard: a file gets no longer than the call says", bounded_files, NULL,
         NULL, NULL},
        {"guard: a symlink or a FIFO in the place of a file is no file",
         strange_paths, NULL, NULL, NULL},
        {"guard: a path that does not exist is not found", missing_path, NULL,
         NULL, NULL},
        {"guard: processor time and wall time end a child", limits, NULL, NULL,
         NULL},
        {"guard: running out of memory is a limit, not a crash", memory_limit,
         NULL, NULL, NULL},
        {"guard: a crash, a forbidden call and a cut reply are crashes",
         crashes, NULL, NULL, NULL},
        {"guard: a child has no descriptors, rights or powers beyond its work",
         unprivileged, NULL, NULL, NULL},
        {"guard: at most 8 children run at once, further calls wait",
         at_most_eight, NULL, NULL, NULL},
        {"guard: cancelling ends a running child and a waiting call",
         cancellation, NULL, NULL, NULL},
        {"guard: calls leave no descriptor behind", nothing_left, NULL, NULL,
         NULL},
        {"guard: helper and children end when the program is killed",
         ends_with_the_program, NULL, NULL, NULL},
        {"guard: a call fails when the helper dies, and its child with it",
         helper_dies, NULL, NULL, NULL},
        {"guard: starting it in a process with threads aborts", threads_first,
         NULL, NULL, NULL},
    };
    struct err e;
    int failed;

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED ||
        guard_start(services, N_SERVICES, &guard, &e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, make_scratch, remove_scratch);
    guard_stop(guard);
    return failed;
}
