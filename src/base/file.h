/*
 * Files.  Every call loops over EINTR and short transfers.  Descriptors are
 * close-on-exec.  None of these may be used on a live database, its -wal,
 * -shm or -journal: closing any descriptor on those drops the process's POSIX
 * locks (docs/design.md, "Locks").
 *
 * A failed sync is never retried on the same file: after it the kernel may
 * have dropped the dirty pages and a second sync would say yes.
 */
#ifndef HOLDFAST_BASE_FILE_H
#define HOLDFAST_BASE_FILE_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* file_open_dir: a descriptor on the folder `path`, or -1. */
int file_open_dir(const char *path, struct err *e);

/*
 * file_open_straight: open(2) of an absolute path, no part of which may be a
 * symlink, nor its end a FIFO, socket or device; it never waits.  A
 * descriptor, or -1 with errno (ELOOP for a symlink, EISDIR for what is no
 * file or folder).  For paths that were made real once and that others may
 * have changed since.
 */
int file_open_straight(const char *path, int flags, int mode);

/* file_open_folder: as file_open_dir, by file_open_straight. */
int file_open_folder(const char *path, struct err *e);

/* file_open_dir_at: as file_open_dir, beneath `dir` and without symlinks. */
int file_open_dir_at(int dir, const char *name, struct err *e);

/* file_make_dir_at: make the folder `name` (0700) unless it is there, and
 * sync `dir`, since whoever made it may have died before; returns a descriptor
 * on it, or -1. */
int file_make_dir_at(int dir, const char *name, struct err *e);

/*
 * file_open_at: open the regular file `name` directly in `dir`, never through
 * a symlink; a FIFO, device or folder is refused (ERR_NOT_FOUND).  `flags` as
 * for open(2); new files are 0600.  -1 on failure, ERR_NOT_FOUND when there
 * is no such file.
 */
int file_open_at(int dir, const char *name, int flags, struct err *e);

/* file_close: close fd unless it is -1, and set it to -1. */
void file_close(int *fd);

int file_pwrite_all(int fd, const void *buf, size_t n, uint64_t offset,
                    struct err *e);

/* file_pread_all: exactly n bytes; a short file is an error (ERR_IO). */
int file_pread_all(int fd, void *buf, size_t n, uint64_t offset, struct err *e);

/* file_pread_some: up to n bytes, fewer only at the end of the file. */
int file_pread_some(int fd, void *buf, size_t n, uint64_t offset,
                    size_t *n_read, struct err *e);

/* file_read_small: the whole of `name` in `dir` if it has at most max bytes
 * (else ERR_TOO_LARGE).  The buffer is the caller's. */
int file_read_small(int dir, const char *name, size_t max, struct buf *out,
                    struct err *e);

/* file_next_name: 1 and the next name in an open folder (but not "." and
 * ".."; valid until the next call), 0 at the end, -1 on failure. */
int file_next_name(DIR *d, const char **name, struct err *e);

/* file_size: length in bytes of an open file. */
int file_size(int fd, uint64_t *size_bytes, struct err *e);

/* file_sync: data and metadata of fd on stable storage. */
int file_sync(int fd, struct err *e);

/*
 * file_write_durable: write `name` in `dir` so that after a power cut it has
 * either its former content or all of `bytes`: a temporary file beside it,
 * synced, renamed, folder synced.
 */
int file_write_durable(int dir, const char *name, const void *bytes, size_t n,
                       struct err *e);

/* file_write_new: the same for a name that must not exist (ERR_CONFLICT). */
int file_write_new(int dir, const char *name, const void *bytes, size_t n,
                   struct err *e);

/*
 * file_publish: rename from_dir/from to to_dir/to without replacing anything
 * (ERR_CONFLICT if `to` exists), then sync both folders.  The file itself
 * must have been synced.  When a folder's sync fails the file is renamed
 * back, as far as that is possible.
 */
int file_publish(int from_dir, const char *from, int to_dir, const char *to,
                 struct err *e);

/* file_unlink: remove `name` from `dir`; a missing file is success. */
int file_unlink(int dir, const char *name, struct err *e);

/* file_free_bytes: bytes that may still be written below `dir`. */
int file_free_bytes(int dir, uint64_t *free_bytes, struct err *e);

#endif
