/* Files, through src/base/file.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "dbutil.h"

static int dir = -1;

static int setup(void **state)
{
    struct err e;

    (void)state;
    dir = file_open_dir(scratch_path("."), &e);
    return dir >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
    file_close(&dir);
    return scratch_clear(state);
}

static void put(const char *name, const char *text)
{
    bytes_write(scratch_path("%s", name),
                (struct bytes){(uint8_t *)(uintptr_t)text, strlen(text)});
}

static void expect(const char *name, const char *text)
{
    struct bytes b = bytes_read(scratch_path("%s", name));

    assert_int_equal(b.n, strlen(text));
    assert_memory_equal(b.p, text, b.n);
    bytes_fini(&b);
}

static int count_files(void)
{
    DIR *d = opendir(scratch_path("."));
    int n = -2;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

static void close_on_exec(int fd)
{
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    file_close(&fd);
    assert_int_equal(fd, -1);
    file_close(&fd);
}

static void folders(void **state)
{
    struct err e = {0};
    struct stat st;

    (void)state;
    close_on_exec(file_open_dir(scratch_path("."), &e));
    assert_int_equal(file_open_dir(scratch_path("absent"), &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    put("f", "");
    assert_int_equal(file_open_dir(scratch_path("f"), &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(file_open_dir_at(dir, "absent", &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(file_open_dir_at(dir, "f", &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    close_on_exec(file_make_dir_at(dir, "d", &e));
    assert_int_equal(stat(scratch_path("d"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    close_on_exec(file_make_dir_at(dir, "d", &e));
    close_on_exec(file_open_dir_at(dir, "d", &e));
    assert_int_equal(symlink("d", scratch_path("link")), 0);
    assert_int_equal(file_open_dir_at(dir, "link", &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(file_make_dir_at(dir, "link", &e), -1);
    assert_int_equal(file_make_dir_at(dir, "f", &e), -1);
    assert_int_equal(file_make_dir_at(dir, "absent/d", &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(e.sys, ENOENT);
}

static void only_regular_files(void **state)
{
    static const char *const names[] = {"dir",      "fifo",   "link",  "loop",
                                        "dangling", "socket", "absent"};
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    struct err e = {0};
    int n;

    (void)state;
    put("target", "x");
    assert_int_equal(mkdir(scratch_path("dir"), 0700), 0);
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    assert_int_equal(symlink("target", scratch_path("link")), 0);
    assert_int_equal(symlink("loop", scratch_path("loop")), 0);
    assert_int_equal(symlink("absent", scratch_path("dangling")), 0);
    (void)snprintf(a.sun_path, sizeof a.sun_path, "%s", scratch_path("socket"));
    assert_int_equal(bind(s, (const struct sockaddr *)&a, sizeof a), 0);
    n = fds_open();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(file_open_at(dir, names[i], O_RDONLY, &e), -1);
        assert_int_equal(e.code, ERR_NOT_FOUND);
        assert_non_null(strstr(e.message, names[i]));
    }
    assert_int_equal(fds_open(), n);
    (void)close(s);
    close_on_exec(file_open_at(dir, "target", O_RDONLY, &e));
    assert_false(file_exists(scratch_path("absent")));
}

static void new_files(void **state)
{
    struct err e = {0};
    struct stat st;

    (void)state;
    (void)umask(0);
    close_on_exec(file_open_at(dir, "new", O_RDWR | O_CREAT | O_EXCL, &e));
    (void)umask(022);
    assert_int_equal(stat(scratch_path("new"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_open_at(dir, "new", O_RDWR | O_CREAT | O_EXCL, &e),
                     -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(e.sys, EEXIST);
}

static void reading(void **state)
{
    char text[16] = "";
    struct err e = {0};
    size_t got = 9;
    uint64_t size = 0;
    int fd;

    (void)state;
    put("f", "0123456789");
    fd = file_open_at(dir, "f", O_RDONLY, &e);
    assert_true(fd >= 0);
    assert_int_equal(file_size(fd, &size, &e), 0);
    assert_int_equal(size, 10);
    assert_int_equal(file_pread_all(fd, text, 4, 6, &e), 0);
    assert_string_equal(text, "6789");
    assert_int_equal(file_pread_all(fd, text, 5, 6, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(file_pread_some(fd, text, 5, 6, &got, &e), 0);
    assert_int_equal(got, 4);
    assert_int_equal(file_pread_some(fd, text, 5, 100, &got, &e), 0);
    assert_int_equal(got, 0);
    assert_int_equal(file_pread_all(fd, text, 0, 100, &e), 0);
    assert_int_equal(file_pwrite_all(fd, "x", 1, 0, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(e.sys, EBADF);
    file_close(&fd);
    assert_int_equal(file_pread_all(fd, text, 1, 0, &e), -1);
    assert_int_equal(e.sys, EBADF);
    assert_int_equal(file_size(fd, &size, &e), -1);
    assert_int_equal(file_sync(fd, &e), -1);
    assert_int_equal(e.code, ERR_IO);
}

static void full(void **state)
{
    struct err e = {0};
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(file_pwrite_all(fd, "x", 1, 0, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_int_equal(e.sys, ENOSPC);
    file_close(&fd);
}

static void small_files(void **state)
{
    struct buf b = {0};
    struct err e = {0};

    (void)state;
    put("f", "0123456789");
    put("empty", "");
    buf_puts(&b, "before ");
    assert_int_equal(file_read_small(dir, "f", 9, &b, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_int_equal(file_read_small(dir, "f", 10, &b, &e), 0);
    assert_string_equal(b.data, "before 0123456789");
    assert_int_equal(file_read_small(dir, "empty", 0, &b, &e), 0);
    assert_int_equal(b.len, 17);
    assert_int_equal(file_read_small(dir, "absent", 10, &b, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    buf_fini(&b);
    assert_int_equal(file_read_small(dir, "empty", 0, &b, &e), 0);
    assert_string_equal(b.data, "");
    buf_fini(&b);
}

static void durable(void **state)
{
    struct err e = {0};
    struct rlimit was;
    struct rlimit none;
    int n = fds_open();

    (void)state;
    assert_int_equal(file_write_durable(dir, "f", "one", 3, &e), 0);
    expect("f", "one");
    assert_int_equal(file_write_durable(dir, "f", "", 0, &e), 0);
    expect("f", "");
    assert_int_equal(file_write_durable(dir, "f", "three", 5, &e), 0);
    assert_int_equal(count_files(), 1);
    /* It stays what it was when the new content cannot be written. */
    assert_int_equal(mkdir(scratch_path("d"), 0700), 0);
    assert_int_equal(file_write_durable(dir, "d", "x", 1, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = was;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(file_write_durable(dir, "f", "x", 1, &e), -1);
    assert_int_equal(e.sys, EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    expect("f", "three");
    assert_int_equal(count_files(), 2);
    assert_int_equal(fds_open(), n);
}

static void publishing(void **state)
{
    struct err e = {0};
    int to;

    (void)state;
    to = file_make_dir_at(dir, "to", &e);
    assert_true(to >= 0);
    put("a", "one");
    put("b", "two");
    assert_int_equal(file_publish(dir, "a", to, "f", &e), 0);
    expect("to/f", "one");
    assert_int_equal(file_publish(dir, "b", to, "f", &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    expect("to/f", "one");
    expect("b", "two");
    assert_int_equal(file_publish(dir, "absent", to, "g", &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(e.sys, ENOENT);
    assert_int_equal(file_publish(dir, "b", dir, "c", &e), 0);
    expect("c", "two");
    assert_int_equal(count_files(), 2);
    file_close(&to);
}

static void removing(void **state)
{
    struct err e = {0};
    uint64_t n = 0;

    (void)state;
    put("f", "x");
    assert_int_equal(file_unlink(dir, "f", &e), 0);
    assert_int_equal(file_unlink(dir, "f", &e), 0);
    assert_int_equal(mkdir(scratch_path("d"), 0700), 0);
    assert_int_equal(file_unlink(dir, "d", &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(file_free_bytes(dir, &n, &e), 0);
    assert_true(n > 0);
    assert_int_equal(file_free_bytes(-1, &n, &e), -1);
    assert_int_equal(e.code, ERR_IO);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"file: folders are made private and never through a symlink", folders,
         setup, teardown, NULL},
        {"file: only regular files are opened", only_regular_files, setup,
         teardown, NULL},
        {"file: new files are private", new_files, setup, teardown, NULL},
        {"file: short files and wrong descriptors are errors", reading, setup,
         teardown, NULL},
        {"file: a full disk is told", full, setup, teardown, NULL},
        {"file: small files are read whole or not at all", small_files, setup,
         teardown, NULL},
        {"file: a durable write leaves the old content or the new", durable,
         setup, teardown, NULL},
        {"file: publishing replaces nothing", publishing, setup, teardown,
         NULL},
        {"file: removing what is not there is success", removing, setup,
         teardown, NULL},
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
