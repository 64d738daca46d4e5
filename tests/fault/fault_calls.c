/*
 * The calls that go through the fault layer.  In the objects under test every
 * reference to NAME, for each fault_NAME that this file defines, is turned
 * into one to fault_NAME (the Makefile reads them off this file's object), and
 * tests/fault/check-calls sees that no call on files is missing here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "cut.h"
#include "fault_internal.h"

/* The folder that a path names something in, and that name. */
static bool split(int dir, const char *path, struct stat *st, const char **name)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    size_t n;

    if (slash == NULL) {
        *name = path;
        return dir == AT_FDCWD ? stat(".", st) == 0 : fstat(dir, st) == 0;
    }
    n = slash == path ? 1 : (size_t)(slash - path);
    if (n >= sizeof folder)
        return false;
    memcpy(folder, path, n);
    folder[n] = '\0';
    *name = slash + 1;
    return fstatat(dir, folder, st, 0) == 0;
}

static char *real_path(const char *p, char *b, size_t max)
{
    return max < PATH_MAX ? NULL : realpath(p, b);
}

/* A call that needs no more than to be failed; `real` is made instead. */
#define CALL_AS(real, kind, ret, bad, name, params, args) \
    ret fault_##name params;                              \
    ret fault_##name params                               \
    {                                                     \
        ret r = bad;                                      \
        if (fault_enter(kind, #name) == ACT_PASS)         \
            r = real args;                                \
        fault_leave(kind);                                \
        return r;                                         \
    }

#define CALL(kind, ret, bad, name, params, args) \
    CALL_AS(name, kind, ret, bad, name, params, args)

/* clang-format off */
CALL(FAULT_STAT, int, -1, stat, (const char *p, struct stat *s), (p, s))
CALL(FAULT_STAT, int, -1, stat64, (const char *p, struct stat64 *s), (p, s))
CALL(FAULT_STAT, int, -1, lstat, (const char *p, struct stat *s), (p, s))
CALL(FAULT_STAT, int, -1, lstat64, (const char *p, struct stat64 *s), (p, s))
CALL(FAULT_STAT, int, -1, fstat, (int fd, struct stat *s), (fd, s))
CALL(FAULT_STAT, int, -1, fstat64, (int fd, struct stat64 *s), (fd, s))
CALL(FAULT_STAT, int, -1, fstatat, (int d, const char *p, struct stat *s, int f), (d, p, s, f))
CALL(FAULT_STAT, int, -1, statx, (int d, const char *p, int f, unsigned m, struct statx *s), (d, p, f, m, s))
CALL(FAULT_STAT, int, -1, access, (const char *p, int m), (p, m))
CALL(FAULT_STAT, int, -1, faccessat, (int d, const char *p, int m, int f), (d, p, m, f))
CALL(FAULT_STAT, int, -1, statfs, (const char *p, struct statfs *s), (p, s))
CALL(FAULT_STAT, int, -1, statvfs, (const char *p, struct statvfs *s), (p, s))
CALL(FAULT_STAT, int, -1, fstatvfs, (int fd, struct statvfs *s), (fd, s))
CALL(FAULT_STAT, ssize_t, -1, readlink, (const char *p, char *b, size_t n), (p, b, n))
CALL_AS(readlink, FAULT_STAT, ssize_t, -1, __readlink_chk, (const char *p, char *b, size_t n, size_t m), (p, b, n < m ? n : m))
CALL(FAULT_STAT, char *, NULL, realpath, (const char *p, char *b), (p, b))
CALL_AS(real_path, FAULT_STAT, char *, NULL, __realpath_chk, (const char *p, char *b, size_t m), (p, b, m))
CALL(FAULT_STAT, char *, NULL, getcwd, (char *b, size_t n), (b, n))
CALL(FAULT_LOCK, int, -1, flock, (int fd, int op), (fd, op))
CALL(FAULT_MAP, void *, MAP_FAILED, mmap64, (void *a, size_t n, int p, int f, int fd, off64_t o), (a, n, p, f, fd, o))
CALL(FAULT_DIR, DIR *, NULL, opendir, (const char *p), (p))
CALL(FAULT_DIR, DIR *, NULL, fdopendir, (int fd), (fd))
CALL(FAULT_NAMES, struct dirent *, NULL, readdir, (DIR *d), (d))
CALL(FAULT_OWNER, int, -1, fchmod, (int fd, mode_t m), (fd, m))
CALL(FAULT_OWNER, int, -1, fchown, (int fd, uid_t u, gid_t g), (fd, u, g))
CALL(FAULT_OWNER, int, -1, utimes, (const char *p, const struct timeval *t), (p, t))
CALL(FAULT_PIPE, int, -1, pipe2, (int *p, int f), (p, f))
/* clang-format on */

/* --------------------------------------------------------------- opening */

static int opened(int dir, const char *path, int flags, bool existed, int fd)
{
    struct stat st;
    struct stat folder;
    const char *name;

    if (fd < 0 || !fault_recording() || fstat(fd, &st) != 0)
        return fd;
    if ((flags & O_TMPFILE) == O_TMPFILE)
        cut_unnamed(&st);
    else if (existed && (flags & O_TRUNC) != 0)
        cut_truncated(&st, 0);
    else if (!existed && split(dir, path, &folder, &name))
        cut_made(&folder, name, &st);
    return fd;
}

static int do_open(int dir, const char *path, int flags, mode_t mode)
{
    bool creates =
        (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    enum fault_kind k = creates ? FAULT_CREATE : FAULT_OPEN;
    bool existed = true;
    struct stat st;
    int fd = -1;

    if (fault_enter(k, "open") == ACT_PASS) {
        if (creates)
            existed = fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
        fd = openat(dir, path, flags, mode);
        if (creates)
            (void)opened(dir, path, flags, existed, fd);
    }
    fault_leave(k);
    return fd;
}

static mode_t mode_of(int flags, va_list ap)
{
    bool made = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;

    return made ? va_arg(ap, mode_t) : 0;
}

/* An open with its optional mode; `dir` where there is one. */
#define OPEN(name, params, dir, path, flags, more)             \
    int fault_##name params;                                   \
    int fault_##name params                                    \
    {                                                          \
        va_list ap;                                            \
        mode_t mode;                                           \
        va_start(ap, flags);                                   \
        mode = mode_of(flags, ap);                             \
        va_end(ap);                                            \
        return do_open((dir), (path), (flags) | (more), mode); \
    }
#define OPEN_CHECKED(name, params, dir, path, flags) \
    int fault_##name params;                         \
    int fault_##name params                          \
    {                                                \
        return do_open((dir), (path), (flags), 0);   \
    }

/* clang-format off */
OPEN(open, (const char *p, int f, ...), AT_FDCWD, p, f, 0)
OPEN(open64, (const char *p, int f, ...), AT_FDCWD, p, f, O_LARGEFILE)
OPEN(openat, (int d, const char *p, int f, ...), d, p, f, 0)
OPEN_CHECKED(__open_2, (const char *p, int f), AT_FDCWD, p, f)
OPEN_CHECKED(__open64_2, (const char *p, int f), AT_FDCWD, p, f)
OPEN_CHECKED(__openat_2, (int d, const char *p, int f), d, p, f)
/* clang-format on */

/* openat2 has no function in the library. */
static long do_openat2(const long a[6])
{
    const char *path = (const char *)a[1];
    const struct open_how *how = (const struct open_how *)a[2];
    int flags = (int)how->flags;
    bool creates = (flags & (O_CREAT | O_TRUNC)) != 0;
    enum fault_kind k = creates ? FAULT_CREATE : FAULT_OPEN;
    bool existed = true;
    struct stat st;
    long fd = -1;

    if (fault_enter(k, "openat2") == ACT_PASS) {
        if (creates)
            existed = fstatat((int)a[0], path, &st, AT_SYMLINK_NOFOLLOW) == 0;
        fd = syscall(SYS_openat2, a[0], a[1], a[2], a[3]);
        if (creates)
            (void)opened((int)a[0], path, flags, existed, (int)fd);
    }
    fault_leave(k);
    return fd;
}

long fault_syscall(long n, ...);
long fault_syscall(long n, ...)
{
    long a[6];
    va_list ap;

    va_start(ap, n);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (n == SYS_openat2)
        return do_openat2(a);
    return syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int fault_close(int fd);
int fault_close(int fd)
{
    /* One that fails has closed all the same: no point. */
    if (fault_broken(CONTROL_LEAK))
        return 0;
    return close(fd);
}

/* ------------------------------------------------- reading and writing */

static enum fault_act enter_transfer(enum fault_kind k, const char *what,
                                     size_t *n)
{
    enum fault_act act = fault_enter(k, what);

    if ((act == ACT_SHORT || act == ACT_TEAR) && *n > 1)
        *n /= 2;
    return act;
}

static ssize_t do_read(int fd, void *p, size_t n, off_t at)
{
    ssize_t r = -1;

    if (enter_transfer(FAULT_READ, "read", &n) != ACT_FAIL)
        r = at < 0 ? read(fd, p, n) : pread(fd, p, n, at);
    fault_leave(FAULT_READ);
    return r;
}

static ssize_t do_write(int fd, const void *p, size_t n, off_t at)
{
    enum fault_act act = enter_transfer(FAULT_WRITE, "write", &n);
    struct stat st;
    ssize_t r = -1;

    if (act != ACT_FAIL) {
        if (fault_recording() && at < 0)
            at = lseek(fd, 0, SEEK_CUR);
        r = at < 0 ? write(fd, p, n) : pwrite(fd, p, n, at);
        if (r > 0 && fault_recording() && fstat(fd, &st) == 0)
            cut_written(&st, p, (size_t)r, (uint64_t)at);
    }
    if (act == ACT_TEAR)
        fault_die();
    fault_leave(FAULT_WRITE);
    return r;
}

ssize_t fault_read(int fd, void *p, size_t n);
ssize_t fault_read(int fd, void *p, size_t n)
{
    return do_read(fd, p, n, -1);
}

ssize_t fault___read_chk(int fd, void *p, size_t n, size_t max);
ssize_t fault___read_chk(int fd, void *p, size_t n, size_t max)
{
    return do_read(fd, p, n < max ? n : max, -1);
}

ssize_t fault_pread(int fd, void *p, size_t n, off_t at);
ssize_t fault_pread(int fd, void *p, size_t n, off_t at)
{
    return do_read(fd, p, n, at);
}

ssize_t fault_pread64(int fd, void *p, size_t n, off64_t at);
ssize_t fault_pread64(int fd, void *p, size_t n, off64_t at)
{
    return do_read(fd, p, n, at);
}

ssize_t fault___pread_chk(int fd, void *p, size_t n, off_t at, size_t max);
ssize_t fault___pread_chk(int fd, void *p, size_t n, off_t at, size_t max)
{
    return do_read(fd, p, n < max ? n : max, at);
}

ssize_t fault_write(int fd, const void *p, size_t n);
ssize_t fault_write(int fd, const void *p, size_t n)
{
    return do_write(fd, p, n, -1);
}

ssize_t fault_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t fault_pwrite(int fd, const void *p, size_t n, off_t at)
{
    return do_write(fd, p, n, at);
}

ssize_t fault_pwrite64(int fd, const void *p, size_t n, off64_t at);
ssize_t fault_pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    return do_write(fd, p, n, at);
}

/* ----------------------------------------------------- what is durable */

static int sync_once(int fd)
{
    struct stat st;
    enum fault_act act = fault_enter(FAULT_SYNC, "fsync");
    int r = -1;

    fault_syncing(fd);
    if (act == ACT_PASS)
        r = fsync(fd);
    if (r != 0)
        fault_sync_failed(fd);
    if (fault_recording() && fstat(fd, &st) == 0) {
        if (r != 0)
            cut_sync_failed(&st);
        else if (!fault_broken(S_ISDIR(st.st_mode) ? CONTROL_NO_DIR_SYNC
                                                   : CONTROL_NO_FILE_SYNC))
            cut_synced(&st);
    }
    fault_leave(FAULT_SYNC);
    return r;
}

int fault_fsync(int fd);
int fault_fsync(int fd)
{
    int r = sync_once(fd);

    if (r != 0 && fault_broken(CONTROL_TWICE))
        r = sync_once(fd);
    return r;
}

static int do_truncate(int fd, off_t size)
{
    struct stat st;
    int r = -1;

    if (fault_enter(FAULT_TRUNCATE, "ftruncate") == ACT_PASS)
        r = ftruncate(fd, size);
    if (r == 0 && fault_recording() && fstat(fd, &st) == 0)
        cut_truncated(&st, (uint64_t)size);
    fault_leave(FAULT_TRUNCATE);
    return r;
}

int fault_ftruncate(int fd, off_t size);
int fault_ftruncate(int fd, off_t size)
{
    return do_truncate(fd, size);
}

int fault_ftruncate64(int fd, off64_t size);
int fault_ftruncate64(int fd, off64_t size)
{
    return do_truncate(fd, size);
}

/* --------------------------------------------------------------- names */

int fault_renameat2(int from_dir, const char *from, int to_dir, const char *to,
                    unsigned flags);
int fault_renameat2(int from_dir, const char *from, int to_dir, const char *to,
                    unsigned flags)
{
    struct stat f;
    struct stat t;
    const char *from_name;
    const char *to_name;
    int r = -1;

    if (fault_enter(FAULT_RENAME, "rename") == ACT_PASS)
        r = renameat2(from_dir, from, to_dir, to, flags);
    if (r == 0 && fault_recording() && split(from_dir, from, &f, &from_name) &&
        split(to_dir, to, &t, &to_name))
        cut_renamed(&f, from_name, &t, to_name);
    fault_leave(FAULT_RENAME);
    return r;
}

int fault_linkat(int from_dir, const char *from, int to_dir, const char *to,
                 int flags);
int fault_linkat(int from_dir, const char *from, int to_dir, const char *to,
                 int flags)
{
    struct stat folder;
    struct stat st;
    const char *name;
    int r = -1;

    if (fault_enter(FAULT_RENAME, "link") == ACT_PASS)
        r = linkat(from_dir, from, to_dir, to, flags);
    if (r == 0 && fault_recording() && split(to_dir, to, &folder, &name) &&
        fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
        cut_linked(&folder, name, &st);
    fault_leave(FAULT_RENAME);
    return r;
}

int fault_renameat(int from_dir, const char *from, int to_dir, const char *to);
int fault_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return fault_renameat2(from_dir, from, to_dir, to, 0);
}

static int do_remove(enum fault_kind k, int dir, const char *path, int flags)
{
    struct stat folder;
    const char *name;
    int r = -1;

    if (fault_enter(k, k == FAULT_RMDIR ? "rmdir" : "unlink") == ACT_PASS)
        r = fault_broken(CONTROL_NO_UNLINK) ? 0 : unlinkat(dir, path, flags);
    if (r == 0 && fault_recording() && split(dir, path, &folder, &name))
        cut_removed(&folder, name);
    fault_leave(k);
    return r;
}

int fault_unlinkat(int dir, const char *path, int flags);
int fault_unlinkat(int dir, const char *path, int flags)
{
    return do_remove((flags & AT_REMOVEDIR) != 0 ? FAULT_RMDIR : FAULT_UNLINK,
                     dir, path, flags);
}

int fault_unlink(const char *path);
int fault_unlink(const char *path)
{
    return do_remove(FAULT_UNLINK, AT_FDCWD, path, 0);
}

int fault_rmdir(const char *path);
int fault_rmdir(const char *path)
{
    return do_remove(FAULT_RMDIR, AT_FDCWD, path, AT_REMOVEDIR);
}

int fault_mkdirat(int dir, const char *path, mode_t mode);
int fault_mkdirat(int dir, const char *path, mode_t mode)
{
    struct stat folder;
    struct stat st;
    const char *name;
    int r = -1;

    if (fault_enter(FAULT_MKDIR, "mkdir") == ACT_PASS)
        r = mkdirat(dir, path, mode);
    if (r == 0 && fault_recording() && split(dir, path, &folder, &name) &&
        fstatat(dir, path, &st, 0) == 0)
        cut_made(&folder, name, &st);
    fault_leave(FAULT_MKDIR);
    return r;
}

int fault_mkdir(const char *path, mode_t mode);
int fault_mkdir(const char *path, mode_t mode)
{
    return fault_mkdirat(AT_FDCWD, path, mode);
}

/* --------------------------------------------------------------- locks */

static int do_fcntl(int fd, int cmd, void *arg)
{
    enum fault_kind k = FAULT_LOCK;
    int r = -1;

    if (cmd != F_SETLK && cmd != F_GETLK)
        return fcntl(fd, cmd, arg);
    if (cmd == F_SETLK && ((const struct flock *)arg)->l_type == F_UNLCK)
        k = FAULT_UNLOCK;
    if (fault_enter(k, fault_kind_name(k)) == ACT_PASS)
        r = fcntl(fd, cmd, arg);
    fault_leave(k);
    return r;
}

int fault_fcntl(int fd, int cmd, ...);
int fault_fcntl(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    return do_fcntl(fd, cmd, arg);
}

int fault_fcntl64(int fd, int cmd, ...);
int fault_fcntl64(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    return do_fcntl(fd, cmd, arg);
}
