/* Our VFS: see vfs.h. */
#include "sqlite/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "sqlite3.h"

struct shim_file {
    sqlite3_file base;
    uid_t uid; /* owner of the main database file; 0: nothing to change */
    gid_t gid;
};

static sqlite3_vfs *real_vfs;

static sqlite3_file *real_of(sqlite3_file *f)
{
    return (sqlite3_file *)(void *)((struct shim_file *)f + 1);
}

/* Become, for files only and this thread only, the owner of the database. */
static void become(uid_t uid, gid_t gid)
{
    if (uid != 0) {
        (void)setfsgid(gid);
        (void)setfsuid(uid);
    }
}

static void come_back(uid_t uid)
{
    if (uid != 0) {
        (void)setfsuid(geteuid());
        (void)setfsgid(getegid());
    }
}

/* ---- file methods: hand on; only xRead and xShmMap do more ---- */

static int shim_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int shim_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    int rc = real_of(f)->pMethods->xRead(real_of(f), p, n, at);

    /* SQLite would make SQLITE_CORRUPT of an EIO.  That a read failed says
     * nothing of what the file holds (P7). */
    return rc == SQLITE_IOERR_CORRUPTFS ? SQLITE_IOERR_READ : rc;
}

static int shim_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    return real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int shim_sync(sqlite3_file *f, int flags)
{
    return real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int shim_file_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int shim_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int shim_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int shim_check_reserved(sqlite3_file *f, int *out)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int shim_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int shim_sector_size(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int shim_characteristics(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int shim_shm_map(sqlite3_file *f, int page, int size, int extend,
                        void volatile **out)
{
    const struct shim_file *s = (struct shim_file *)f;
    int rc;

    become(s->uid, s->gid);
    rc = real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
    come_back(s->uid);
    if (s->uid != 0 && (rc & 0xff) == SQLITE_CANTOPEN)
        rc = real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
    return rc;
}

static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int shim_shm_unmap(sqlite3_file *f, int delete_flag)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), delete_flag);
}

/* Version 2: no memory mapping of a live database (docs/design.md). */
static const sqlite3_io_methods shim_methods = {
    .iVersion = 2,
    .xClose = shim_close,
    .xRead = shim_read,
    .xWrite = shim_write,
    .xTruncate = shim_truncate,
    .xSync = shim_sync,
    .xFileSize = shim_file_size,
    .xLock = shim_lock,
    .xUnlock = shim_unlock,
    .xCheckReservedLock = shim_check_reserved,
    .xFileControl = shim_control,
    .xSectorSize = shim_sector_size,
    .xDeviceCharacteristics = shim_characteristics,
    .xShmMap = shim_shm_map,
    .xShmLock = shim_shm_lock,
    .xShmBarrier = shim_shm_barrier,
    .xShmUnmap = shim_shm_unmap,
};

/* ---- opening ---- */

/* The owner of the database that `path` is, or is the -wal or -journal of. */
static void owner_of(const char *path, int flags, struct shim_file *s)
{
    char name[4096];
    struct stat st;
    size_t n = strlen(path);
    size_t cut = 0;

    if ((flags & SQLITE_OPEN_WAL) != 0)
        cut = strlen("-wal");
    else if ((flags & SQLITE_OPEN_MAIN_JOURNAL) != 0)
        cut = strlen("-journal");
    if (geteuid() != 0 || n <= cut || n - cut >= sizeof name)
        return;
    memcpy(name, path, n - cut);
    name[n - cut] = '\0';
    if (stat(name, &st) == 0 && st.st_uid != 0) {
        s->uid = st.st_uid;
        s->gid = st.st_gid;
    }
}

/* SQLite tries once more for reading only, and forgets what came of the first
 * try: a journal that cannot be made on a full disk is SQLITE_FULL. */
static _Thread_local bool no_room;

/*
 * Whether what is being opened must have one name only: a live database,
 * which is what is opened with NOFOLLOW, and what lies beside it.  live_stat
 * has looked before, but its folder is another's, who may have been quick.
 */
static _Thread_local bool one_name;

static int open_real(const char *path, sqlite3_file *real, int flags, int *out)
{
    int rc;

    memset(real, 0, (size_t)real_vfs->szOsFile);
    no_room = false;
    one_name = (flags & (SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_WAL |
                         SQLITE_OPEN_MAIN_JOURNAL)) != 0;
    rc = real_vfs->xOpen(real_vfs, path, real, flags, out);
    one_name = false;
    return (rc & 0xff) == SQLITE_CANTOPEN && no_room ? SQLITE_FULL : rc;
}

static int shim_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f,
                     int flags, int *out_flags)
{
    struct shim_file *s = (struct shim_file *)f;
    sqlite3_file *real = real_of(f);
    int beside = flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL);
    int out = 0;
    int rc;

    (void)vfs;
    memset(s, 0, sizeof *s);
    if (path != NULL && (beside || (flags & SQLITE_OPEN_MAIN_DB) != 0))
        owner_of(path, flags, s);
    if (beside && s->uid != 0) {
        become(s->uid, s->gid);
        rc = open_real(path, real, flags, &out);
        come_back(s->uid);
        /* A folder that the owner cannot use: as ourselves, then. */
        if (rc == SQLITE_OK && (flags & SQLITE_OPEN_READWRITE) != 0 &&
            (out & SQLITE_OPEN_READONLY) != 0) {
            (void)real->pMethods->xClose(real);
            rc = SQLITE_CANTOPEN;
        }
        if (rc != SQLITE_OK)
            rc = open_real(path, real, flags, &out);
    } else {
        rc = open_real(path, real, flags, &out);
    }
    if (rc == SQLITE_OK)
        f->pMethods = &shim_methods;
    if (out_flags != NULL)
        *out_flags = out;
    return rc;
}

/* Whether nothing has happened to a file between two looks. */
static bool same_change(const struct stat *a, const struct stat *b)
{
    return a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/*
 * Whether the open file has no other name than `path`.  A link that came or
 * went between the looks has changed the time of the file's last change; but
 * so has an application that writes into it, and then it is looked again.
 */
#define LOOKS 10000
static bool has_one_name(int fd, const char *path)
{
    for (int i = 0; i < LOOKS; i++) {
        struct stat before, named, after;

        if (fstat(fd, &before) != 0 || lstat(path, &named) != 0 ||
            fstat(fd, &after) != 0 || before.st_nlink != 1 ||
            after.st_nlink != 1 || named.st_dev != before.st_dev ||
            named.st_ino != before.st_ino)
            return false;
        if (same_change(&before, &after))
            return true;
    }
    return false;
}

/* Open for good what was opened with O_PATH: it, whatever its path says now. */
static int reopen(int fd, int flags)
{
    char self[40];

    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return open(self, (flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC);
}

/*
 * open(2) of a file that must have one name.  It is looked at through a
 * descriptor with O_PATH first: closing such a one drops none of the locks
 * that we may hold on the file by another connection.  What is made here is
 * new, and so nobody's.
 */
static int open_only_name(const char *path, int flags, int mode)
{
    for (int i = 0; i < LOOKS; i++) {
        int at = file_open_straight(path, O_PATH, 0);
        int fd = -1;

        if (at >= 0) {
            errno = (flags & O_EXCL) != 0 ? EEXIST : EISDIR;
            if ((flags & O_EXCL) == 0 && has_one_name(at, path))
                fd = reopen(at, flags);
            file_close(&at);
            return fd;
        }
        if (errno != ENOENT || (flags & O_CREAT) == 0)
            return -1;
        fd = file_open_straight(path, flags | O_EXCL, mode);
        if (fd >= 0 || errno != EEXIST || (flags & O_EXCL) != 0)
            return fd;
    }
    errno = EISDIR;
    return -1;
}

/* In the place of open(2) in SQLite, which has a device of its own to read. */
static int open_call(const char *path, int flags, int mode)
{
    int fd;

    if (strcmp(path, "/dev/urandom") == 0)
        return open(path, flags | O_CLOEXEC);
    fd = one_name ? open_only_name(path, flags, mode)
                  : file_open_straight(path, flags, mode);
    if (fd < 0 && (errno == ENOSPC || errno == EDQUOT))
        no_room = true;
    return fd;
}

struct sqlite3_vfs *vfs_unix(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

    if (vfs != NULL)
        (void)vfs->xSetSystemCall(vfs, "open", (sqlite3_syscall_ptr)open_call);
    return vfs;
}

int vfs_register(struct err *e)
{
    static sqlite3_vfs shim;

    if (real_vfs != NULL)
        return 0;
    real_vfs = vfs_unix();
    if (real_vfs == NULL)
        return err_set(e, ERR_INTERNAL, "SQLite has no unix VFS");
    shim = *real_vfs;
    shim.szOsFile = (int)sizeof(struct shim_file) + real_vfs->szOsFile;
    shim.zName = "holdfast";
    shim.pNext = NULL;
    shim.xOpen = shim_open;
    if (sqlite3_vfs_register(&shim, 1) != SQLITE_OK)
        return err_set(e, ERR_INTERNAL, "SQLite refuses our VFS");
    return 0;
}
