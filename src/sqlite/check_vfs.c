/* How the limited child sees files through SQLite: see check_vfs.h. */
#include "sqlite/check_vfs.h"

#include <string.h>

#include "sqlite/vfs.h"
#include "sqlite3.h"

/* The bytes of the header that tell the journal mode. */
#define MODE_AT 18
#define MODE_BYTES 2

/*
 * Reading ahead.  A check reads every page, mostly in order, and one page at
 * a time the calls would cost more than the bytes.  What was read ahead holds
 * as long as no lock changes: within a transaction neither a private database
 * nor what a reader of the WAL takes from the main file changes.  The child
 * has one thread.
 */
#define AHEAD_BYTES 65536

typedef int xread(sqlite3_file *, void *, int, sqlite3_int64);

static struct {
    sqlite3_file *file; /* NULL: nothing was read ahead */
    sqlite3_int64 at;
    char bytes[AHEAD_BYTES];
} ahead;

static void forget_ahead(void)
{
    ahead.file = NULL;
}

static int read_ahead(sqlite3_file *f, xread *read, void *buf, int n,
                      sqlite3_int64 at)
{
    sqlite3_int64 from = at - at % AHEAD_BYTES;

    /* The first page is read outside transactions too. */
    if (from == 0 || n > AHEAD_BYTES / 2 || at + n > from + AHEAD_BYTES)
        return read(f, buf, n, at);
    if (ahead.file != f || ahead.at != from) {
        forget_ahead();
        if (read(f, ahead.bytes, AHEAD_BYTES, from) != SQLITE_OK)
            return read(f, buf, n, at); /* the end of the file, or worse */
        ahead.file = f;
        ahead.at = from;
    }
    memcpy(buf, ahead.bytes + (at - from), (size_t)n);
    return SQLITE_OK;
}

/* A private database; the platform's file follows in memory. */
struct private_file {
    sqlite3_file base;
};

static sqlite3_file *real_of(sqlite3_file *f)
{
    return (sqlite3_file *)(void *)((struct private_file *)f + 1);
}

static int private_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int private_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 at)
{
    int rc = read_ahead(real_of(f), real_of(f)->pMethods->xRead, buf, n, at);

    for (int i = 0; i < MODE_BYTES; i++) {
        sqlite3_int64 to = MODE_AT + i - at;

        if (to >= 0 && to < n && ((char *)buf)[to] == 2)
            ((char *)buf)[to] = 1;
    }
    return rc;
}

static int private_write(sqlite3_file *f, const void *buf, int n,
                         sqlite3_int64 at)
{
    (void)f;
    (void)buf;
    (void)n;
    (void)at;
    return SQLITE_READONLY;
}

static int private_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    (void)f;
    (void)size;
    return SQLITE_READONLY;
}

static int private_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

/* Syncing, locking and unlocking. */
static int private_nothing(sqlite3_file *f, int arg)
{
    (void)f;
    (void)arg;
    return SQLITE_OK;
}

static int private_reserved(sqlite3_file *f, int *out)
{
    (void)f;
    *out = 0;
    return SQLITE_OK;
}

static int private_control(sqlite3_file *f, int op, void *arg)
{
    (void)f;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int private_sector_size(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int private_characteristics(sqlite3_file *f)
{
    (void)f;
    return 0;
}

static const sqlite3_io_methods private_methods = {
    .iVersion = 1,
    .xClose = private_close,
    .xRead = private_read,
    .xWrite = private_write,
    .xTruncate = private_truncate,
    .xSync = private_nothing,
    .xFileSize = private_size,
    .xLock = private_nothing,
    .xUnlock = private_nothing,
    .xCheckReservedLock = private_reserved,
    .xFileControl = private_control,
    .xSectorSize = private_sector_size,
    .xDeviceCharacteristics = private_characteristics,
};

static int open_private(sqlite3_vfs *vfs, const char *path, sqlite3_file *f,
                        int flags, int *out_flags)
{
    sqlite3_vfs *real = vfs->pAppData;
    sqlite3_file *file = real_of(f);
    int wanted = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READONLY;
    int out = 0;
    int rc;

    if ((flags & wanted) != wanted)
        return real->xOpen(real, path, f, flags, out_flags);
    forget_ahead();
    f->pMethods = NULL;
    memset(file, 0, (size_t)real->szOsFile);
    rc = real->xOpen(real, path, file, flags, &out);
    if (rc != SQLITE_OK)
        return rc;
    f->pMethods = &private_methods;
    if (out_flags != NULL)
        *out_flags = (out & ~SQLITE_OPEN_READONLY) | SQLITE_OPEN_READWRITE;
    return SQLITE_OK;
}

/* Nothing lies beside a private database that SQLite should look at. */
static int access_private(sqlite3_vfs *vfs, const char *path, int flags,
                          int *out)
{
    (void)vfs;
    (void)path;
    (void)flags;
    *out = 0;
    return SQLITE_OK;
}

/* The platform's methods for a main database, and what stands for some. */
static const sqlite3_io_methods *platform;
static sqlite3_io_methods live_methods;

static int live_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 at)
{
    return read_ahead(f, platform->xRead, buf, n, at);
}

static int live_lock(sqlite3_file *f, int level)
{
    forget_ahead();
    return platform->xLock(f, level);
}

static int live_unlock(sqlite3_file *f, int level)
{
    forget_ahead();
    return platform->xUnlock(f, level);
}

static int live_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    forget_ahead();
    return platform->xShmLock(f, offset, n, flags);
}

static int open_live(sqlite3_vfs *vfs, const char *path, sqlite3_file *f,
                     int flags, int *out_flags)
{
    sqlite3_vfs *real = vfs->pAppData;
    int rc = real->xOpen(real, path, f, flags, out_flags);

    if (rc != SQLITE_OK || (flags & SQLITE_OPEN_MAIN_DB) == 0)
        return rc;
    forget_ahead();
    platform = f->pMethods;
    live_methods = *platform;
    live_methods.xRead = live_read;
    live_methods.xLock = live_lock;
    live_methods.xUnlock = live_unlock;
    live_methods.xShmLock = live_shm_lock;
    f->pMethods = &live_methods;
    if (out_flags != NULL)
        *out_flags =
            (*out_flags & ~SQLITE_OPEN_READONLY) | SQLITE_OPEN_READWRITE;
    return SQLITE_OK;
}

/* Fill *vfs from the platform's, whose other methods make no use of their
 * first argument, and register it. */
static const char *add(sqlite3_vfs *vfs, const char *name,
                       int (*xopen)(sqlite3_vfs *, const char *, sqlite3_file *,
                                    int, int *))
{
    sqlite3_vfs *real = vfs_unix();

    if (real == NULL)
        return NULL;
    *vfs = *real;
    vfs->pNext = NULL;
    vfs->zName = name;
    vfs->pAppData = real;
    vfs->szOsFile += (int)sizeof(struct private_file);
    vfs->xOpen = xopen;
    if (sqlite3_vfs_register(vfs, 0) != SQLITE_OK)
        vfs->zName = NULL;
    return vfs->zName;
}

const char *check_vfs_private(void)
{
    static sqlite3_vfs vfs; /* SQLite's, once it is registered */

    if (vfs.zName != NULL)
        return vfs.zName;
    if (add(&vfs, "holdfast-private", open_private) != NULL)
        vfs.xAccess = access_private;
    return vfs.zName;
}

const char *check_vfs_live(void)
{
    static sqlite3_vfs vfs; /* SQLite's, once it is registered */

    return vfs.zName != NULL ? vfs.zName
                             : add(&vfs, "holdfast-live", open_live);
}
