/* Files: see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rand.h"

int file_open_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return err_set(e, ERR_NOT_FOUND, "no such folder: %s", path);
    if (fd < 0)
        return err_sys(e, "cannot open the folder %s", path);
    return fd;
}

/* The system call has no wrapper in the C library.  Without it (an old kernel,
 * or a filter that does not know it) only the end of the path is looked at. */
static int open_without_symlinks(const char *path, int flags, int mode)
{
    struct open_how how = {.flags = (unsigned)flags,
                           .mode = (flags & O_CREAT) != 0 ? (unsigned)mode : 0,
                           .resolve =
                               RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);

    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = open(path, flags, mode);
    return fd;
}

int file_open_straight(const char *path, int flags, int mode)
{
    struct stat st;
    int fd;

    flags |= O_NOFOLLOW | O_CLOEXEC;
    if ((flags & O_PATH) == 0)
        flags |= O_NOCTTY | O_NONBLOCK;
    fd = open_without_symlinks(path, flags, mode);

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return fd;
    (void)close(fd);
    errno = EISDIR;
    return -1;
}

int file_open_folder(const char *path, struct err *e)
{
    int fd = file_open_straight(path, O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return err_set(e, ERR_NOT_FOUND, "no such folder: %s", path);
    if (fd < 0)
        return err_sys(e, "cannot open the folder %s", path);
    return fd;
}

int file_open_dir_at(int dir, const char *name, struct err *e)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return err_set(e, ERR_NOT_FOUND, "no such folder: %s", name);
    if (fd < 0)
        return err_sys(e, "cannot open the folder %s", name);
    return fd;
}

int file_make_dir_at(int dir, const char *name, struct err *e)
{
    if (mkdirat(dir, name, 0700) != 0 && errno != EEXIST)
        return err_sys(e, "cannot make the folder %s", name);
    if (file_sync(dir, e) != 0)
        return -1;
    return file_open_dir_at(dir, name, e);
}

int file_open_at(int dir, const char *name, int flags, struct err *e)
{
    struct stat st;
    /* O_NONBLOCK: opening a FIFO must not wait for its other end. */
    int fd =
        openat(dir, name,
               flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);

    if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
        return err_set(e, ERR_NOT_FOUND, "no such file: %s", name);
    if (fd < 0)
        return err_sys(e, "cannot open %s", name);
    if (fstat(fd, &st) != 0) {
        (void)err_sys(e, "cannot examine %s", name);
        file_close(&fd);
        if ((flags & O_EXCL) != 0)
            (void)unlinkat(dir, name, 0); /* made just now */
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        file_close(&fd);
        return err_set(e, ERR_NOT_FOUND, "%s is not a regular file", name);
    }
    return fd;
}

void file_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

int file_pwrite_all(int fd, const void *buf, size_t n, uint64_t offset,
                    struct err *e)
{
    const char *p = buf;

    while (n > 0) {
        ssize_t r = pwrite(fd, p, n, (off_t)offset);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(e, "cannot write");
        p += r;
        n -= (size_t)r;
        offset += (uint64_t)r;
    }
    return 0;
}

int file_pread_some(int fd, void *buf, size_t n, uint64_t offset,
                    size_t *n_read, struct err *e)
{
    char *p = buf;

    *n_read = 0;
    while (*n_read < n) {
        ssize_t r =
            pread(fd, p + *n_read, n - *n_read, (off_t)(offset + *n_read));

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(e, "cannot read");
        if (r == 0)
            return 0;
        *n_read += (size_t)r;
    }
    return 0;
}

int file_pread_all(int fd, void *buf, size_t n, uint64_t offset, struct err *e)
{
    size_t got;

    if (file_pread_some(fd, buf, n, offset, &got, e) != 0)
        return -1;
    if (got != n)
        return err_set(e, ERR_IO, "the file is shorter than expected");
    return 0;
}

int file_read_small(int dir, const char *name, size_t max, struct buf *out,
                    struct err *e)
{
    int fd = file_open_at(dir, name, O_RDONLY, e);
    uint64_t size = 0;
    size_t got;
    int rc = -1;

    if (fd < 0)
        return -1;
    if (file_size(fd, &size, e) != 0)
        goto done;
    if (size > max) {
        (void)err_set(e, ERR_TOO_LARGE, "%s is larger than %zu bytes", name,
                      max);
        goto done;
    }
    if (file_pread_some(fd, buf_reserve(out, (size_t)size), (size_t)size, 0,
                        &got, e) != 0)
        goto done;
    out->len += got;
    out->data[out->len] = '\0';
    rc = 0;
done:
    file_close(&fd);
    return rc;
}

int file_next_name(DIR *d, const char **name, struct err *e)
{
    const struct dirent *ent;

    do {
        errno = 0;
        ent = readdir(d);
    } while (ent != NULL &&
             (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0));
    if (ent != NULL) {
        *name = ent->d_name;
        return 1;
    }
    return errno != 0 ? err_sys(e, "cannot read a folder") : 0;
}

int file_size(int fd, uint64_t *size_bytes, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return err_sys(e, "cannot examine a file");
    *size_bytes = (uint64_t)st.st_size;
    return 0;
}

int file_sync(int fd, struct err *e)
{
    if (fsync(fd) != 0)
        return err_sys(e, "cannot sync");
    return 0;
}

/* Write a temporary file beside `name`, sync it, give it the name (flags as
 * for renameat2), sync the folder. */
static int write_beside(int dir, const char *name, const void *bytes, size_t n,
                        unsigned flags, struct err *e)
{
    char suffix[17];
    char *tmp;
    int fd = -1;
    int rc = -1;

    rand_hex(suffix, 8);
    tmp = xasprintf(".%s.%s.tmp", name, suffix);
    fd = file_open_at(dir, tmp, O_WRONLY | O_CREAT | O_EXCL, e);
    if (fd < 0)
        goto done;
    if (file_pwrite_all(fd, bytes, n, 0, e) != 0 || file_sync(fd, e) != 0)
        goto done;
    if (renameat2(dir, tmp, dir, name, flags) != 0) {
        if (errno == EEXIST)
            (void)err_set(e, ERR_CONFLICT, "%s exists already", name);
        else
            (void)err_sys(e, "cannot rename to %s", name);
        goto done;
    }
    rc = file_sync(dir, e);
    if (rc != 0 && flags == RENAME_NOREPLACE)
        (void)unlinkat(dir, name, 0);
done:
    if (rc != 0 && fd >= 0)
        (void)unlinkat(dir, tmp, 0);
    file_close(&fd);
    free(tmp);
    return rc;
}

int file_write_durable(int dir, const char *name, const void *bytes, size_t n,
                       struct err *e)
{
    return write_beside(dir, name, bytes, n, 0, e);
}

int file_write_new(int dir, const char *name, const void *bytes, size_t n,
                   struct err *e)
{
    return write_beside(dir, name, bytes, n, RENAME_NOREPLACE, e);
}

int file_publish(int from_dir, const char *from, int to_dir, const char *to,
                 struct err *e)
{
    if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) != 0) {
        if (errno == EEXIST)
            return err_set(e, ERR_CONFLICT, "%s exists already", to);
        return err_sys(e, "cannot rename to %s", to);
    }
    /* The new name first: a cut between the two leaves both or the new one. */
    if (file_sync(to_dir, e) == 0 && file_sync(from_dir, e) == 0)
        return 0;
    (void)renameat2(to_dir, to, from_dir, from, RENAME_NOREPLACE);
    return -1;
}

int file_unlink(int dir, const char *name, struct err *e)
{
    if (unlinkat(dir, name, 0) != 0 && errno != ENOENT)
        return err_sys(e, "cannot remove %s", name);
    return 0;
}

int file_free_bytes(int dir, uint64_t *free_bytes, struct err *e)
{
    struct statvfs v;

    if (fstatvfs(dir, &v) != 0)
        return err_sys(e, "cannot ask for free space");
    *free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}
