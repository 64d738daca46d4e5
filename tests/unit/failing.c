/* Calls that fail: see failing.h. */
#include "failing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/pool.h"
#include "base/procs.h"
#include "catalog/catalog.h"
#include "guard/guard.h"
#include "sqlite/check.h"
#include "sqlite3.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool armed;
static bool for_good;
static enum failing_how how;
static unsigned n_calls;
static unsigned nth;
static bool shallow;
static bool real_children;
static bool hold; /* the next child; atomic */
static const char *what = "";
static __thread int in_sqlite; /* depth of calls of SQLite */

void failing_shallow(bool on)
{
    shallow = on;
}

void failing_real_children(bool on)
{
    real_children = on;
}

void failing_hold_child(void)
{
    __atomic_store_n(&hold, true, __ATOMIC_RELEASE);
}

void failing_arm(unsigned n, enum failing_how h, bool from_then_on)
{
    (void)pthread_mutex_lock(&lock);
    armed = true;
    n_calls = 0;
    nth = n;
    how = h;
    for_good = from_then_on;
    what = "";
    (void)pthread_mutex_unlock(&lock);
}

bool failing_disarm(void)
{
    (void)pthread_mutex_lock(&lock);
    armed = false;
    (void)pthread_mutex_unlock(&lock);
    return what[0] != '\0';
}

const char *failing_what(void)
{
    return what;
}

/* Whether this call is one that fails. */
static bool counts(const char *name)
{
    bool fails;

    (void)pthread_mutex_lock(&lock);
    fails = armed && (in_sqlite == 0 || !shallow) &&
            (++n_calls == nth || (for_good && n_calls > nth));
    if (fails && what[0] == '\0')
        what = name;
    (void)pthread_mutex_unlock(&lock);
    return fails;
}

static bool fails_sys(const char *name)
{
    static const int numbers[] = {EIO,    ENOSPC, EACCES, ENOENT,
                                  EEXIST, EMFILE, EDQUOT, EINVAL};

    if (how == FAIL_BRIEFLY || (shallow && how >= FAIL_BUSY) || !counts(name))
        return false;
    errno = numbers[how];
    return true;
}

static int fails_sqlite(const char *name)
{
    static const int codes[] = {SQLITE_IOERR,   SQLITE_NOMEM,     SQLITE_BUSY,
                                SQLITE_CORRUPT, SQLITE_NOTADB,    SQLITE_ERROR,
                                SQLITE_FULL,    SQLITE_CONSTRAINT};

    return how != FAIL_BRIEFLY && counts(name) ? codes[how] : SQLITE_OK;
}

/*
 * The linker gives calls of f to __wrap_f, and f itself the name __real_f.
 * Weak, since most programs are linked without.
 */
#define REAL(type, name, params)                                            \
    type real_##name params __asm__("__real_" #name) __attribute__((weak)); \
    type fake_##name params __asm__("__wrap_" #name);                       \
    type fake_##name params

/* ---------------------------------------------------------------- system */

#define SYS(type, bad, name, params, args)                  \
    REAL(type, name, params)                                \
    {                                                       \
        return fails_sys(#name) ? (bad) : real_##name args; \
    }

SYS(int, -1, fstat, (int fd, struct stat *st), (fd, st))
SYS(int, -1, stat, (const char *path, struct stat *st), (path, st))
SYS(int, -1, lstat, (const char *path, struct stat *st), (path, st))
SYS(int, -1, fstatat, (int dir, const char *path, struct stat *st, int flags),
    (dir, path, st, flags))
SYS(int, -1, ftruncate, (int fd, off_t size), (fd, size))
SYS(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
SYS(int, -1, mkdirat, (int dir, const char *path, mode_t mode),
    (dir, path, mode))
SYS(int, -1, unlink, (const char *path), (path))
SYS(int, -1, flock, (int fd, int op), (fd, op))
SYS(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
SYS(int, -1, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
SYS(DIR *, NULL, fdopendir, (int fd), (fd))
SYS(struct dirent *, NULL, readdir, (DIR * d), (d))
SYS(char *, NULL, realpath, (const char *path, char *out), (path, out))

static enum failing_pretence pretence;

void failing_pretend(enum failing_pretence it)
{
    pretence = it;
}

static int pretend(int rc, struct statvfs *v)
{
    if (pretence == PRETEND_FULL)
        v->f_bavail = 0;
    if (pretence == PRETEND_READ_ONLY)
        v->f_flag |= ST_RDONLY;
    return rc;
}

REAL(int, fstatvfs, (int fd, struct statvfs *v))
{
    return fails_sys("fstatvfs") ? -1 : pretend(real_fstatvfs(fd, v), v);
}

REAL(int, statvfs, (const char *path, struct statvfs *v))
{
    return fails_sys("statvfs") ? -1 : pretend(real_statvfs(path, v), v);
}

REAL(int, statfs, (const char *path, struct statfs *v))
{
    int rc = fails_sys("statfs") ? -1 : real_statfs(path, v);

    if (pretence == PRETEND_NETWORK)
        v->f_type = NFS_SUPER_MAGIC;
    return rc;
}

REAL(uid_t, geteuid, (void))
{
    return pretence == PRETEND_USER ? 4711 : real_geteuid();
}

REAL(int, open, (const char *path, int flags, ...))
{
    va_list ap;
    unsigned mode;

    va_start(ap, flags);
    mode = (flags & O_CREAT) != 0 ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    return fails_sys("open") ? -1 : real_open(path, flags, mode);
}

REAL(int, openat, (int dir, const char *path, int flags, ...))
{
    va_list ap;
    unsigned mode;

    va_start(ap, flags);
    mode = (flags & O_CREAT) != 0 ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    return fails_sys("openat") ? -1 : real_openat(dir, path, flags, mode);
}

/* Giving back a lock does not fail. */
REAL(int, fcntl, (int fd, int cmd, ...))
{
    va_list ap;
    void *arg;
    const struct flock *f;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    f = arg;
    if ((cmd == F_SETFL || cmd == F_GETFL ||
         (cmd == F_SETLK && f->l_type != F_UNLCK)) &&
        fails_sys("fcntl"))
        return -1;
    return real_fcntl(fd, cmd, arg);
}

static bool tracing;
static struct buf trace;

void failing_trace(void)
{
    (void)pthread_mutex_lock(&lock);
    tracing = true;
    trace.len = 0;
    buf_puts(&trace, "");
    (void)pthread_mutex_unlock(&lock);
}

const char *failing_traced(void)
{
    (void)pthread_mutex_lock(&lock);
    tracing = false;
    (void)pthread_mutex_unlock(&lock);
    return trace.data;
}

/* A name without its folder, its digits and random parts. */
static void note_name(const char *before, const char *name)
{
    const char *slash = strrchr(name, '/');

    buf_puts(&trace, before);
    for (const char *p = slash != NULL ? slash + 1 : name; *p != '\0'; p++) {
        if (strspn(p, "0123456789abcdef") == 16)
            p += 15;
        else if (strchr("0123456789_", *p) == NULL)
            buf_put(&trace, p, 1);
    }
}

static void note(const char *what_happens, const char *a, const char *b)
{
    (void)pthread_mutex_lock(&lock);
    if (tracing && strstr(a, "holdfast.db") == NULL) {
        note_name(what_happens, a);
        if (b != NULL)
            note_name(" ", b);
        buf_puts(&trace, "; ");
    }
    (void)pthread_mutex_unlock(&lock);
}

static void note_sync(int fd)
{
    char of_fd[64];
    char target[512];
    ssize_t n;

    (void)snprintf(of_fd, sizeof of_fd, "/proc/self/fd/%d", fd);
    n = readlink(of_fd, target, sizeof target - 1);
    if (n > 0) {
        target[n] = '\0';
        note("sync ", target, NULL);
    }
}

/* Nobody cuts the power here: to sync for real would only take time. */
static int sync_file(const char *name, int fd)
{
    if (fails_sys(name) || fd < 0)
        return -1;
    if (tracing)
        note_sync(fd);
    return 0;
}

REAL(int, unlinkat, (int dir, const char *path, int flags))
{
    int rc = fails_sys("unlinkat") ? -1 : real_unlinkat(dir, path, flags);

    if (rc == 0)
        note("unlink ", path, NULL);
    return rc;
}

REAL(int, renameat2,
     (int from, const char *a, int to, const char *b, unsigned flags))
{
    int rc =
        fails_sys("renameat2") ? -1 : real_renameat2(from, a, to, b, flags);

    if (rc == 0)
        note(flags == 0 ? "replace " : "rename ", a, b);
    return rc;
}

REAL(int, fsync, (int fd))
{
    return sync_file("fsync", fd);
}

REAL(int, fdatasync, (int fd))
{
    return sync_file("fdatasync", fd);
}

/* How many of n bytes go through; -1 for none, with errno. */
static ssize_t part(const char *name, size_t n)
{
    if (fails_sys(name))
        return -1;
    if (how == FAIL_BRIEFLY && counts(name)) {
        errno = EINTR;
        return n_calls % 2 == 0 ? -1 : (ssize_t)(n - n / 2);
    }
    return (ssize_t)n;
}

#define READ(name)                                             \
    REAL(ssize_t, name, (int fd, void *p, size_t n, off_t at)) \
    {                                                          \
        ssize_t r = part(#name, n);                            \
                                                               \
        return r < 0 ? r : real_##name(fd, p, (size_t)r, at);  \
    }

#define WRITE(name)                                                  \
    REAL(ssize_t, name, (int fd, const void *p, size_t n, off_t at)) \
    {                                                                \
        ssize_t r = part(#name, n);                                  \
                                                                     \
        return r < 0 ? r : real_##name(fd, p, (size_t)r, at);        \
    }

/* SQLite's have another name. */
READ(pread)
READ(pread64)
WRITE(pwrite)
WRITE(pwrite64)

/* ---------------------------------------------------------------- SQLite */

/* A call of SQLite, within which calls of the system are SQLite's own. */
static int leave(int rc)
{
    in_sqlite--;
    return rc;
}

#define WITHIN(call) (in_sqlite++, leave(call))

#define SQL(name, params, args)                                 \
    REAL(int, name, params)                                     \
    {                                                           \
        int rc = fails_sqlite(#name);                           \
                                                                \
        return rc != SQLITE_OK ? rc : WITHIN(real_##name args); \
    }

SQL(sqlite3_initialize, (void), ())
SQL(sqlite3_vfs_register, (sqlite3_vfs * vfs, int def), (vfs, def))
SQL(sqlite3_open_v2,
    (const char *path, sqlite3 **db, int flags, const char *vfs),
    (path, db, flags, vfs))
SQL(sqlite3_step, (sqlite3_stmt * st), (st))
SQL(sqlite3_bind_text,
    (sqlite3_stmt * st, int i, const char *s, int n, void (*del)(void *)),
    (st, i, s, n, del))
SQL(sqlite3_file_control, (sqlite3 * db, const char *name, int op, void *arg),
    (db, name, op, arg))
/* By SQLITE_ERROR it says that there is no frame, which is no failure. */
REAL(int, sqlite3_snapshot_get,
     (sqlite3 * db, const char *name, sqlite3_snapshot **out))
{
    int rc = fails_sqlite("sqlite3_snapshot_get");

    if (rc == SQLITE_OK)
        return WITHIN(real_sqlite3_snapshot_get(db, name, out));
    return rc == SQLITE_ERROR ? SQLITE_IOERR : rc;
}

SQL(sqlite3_snapshot_open,
    (sqlite3 * db, const char *name, sqlite3_snapshot *id), (db, name, id))
SQL(sqlite3_create_function_v2,
    (sqlite3 * db, const char *name, int n, int flags, void *arg,
     void (*f)(sqlite3_context *, int, sqlite3_value **),
     void (*step)(sqlite3_context *, int, sqlite3_value **),
     void (*final)(sqlite3_context *), void (*del)(void *)),
    (db, name, n, flags, arg, f, step, final, del))

REAL(int, sqlite3_prepare_v2,
     (sqlite3 * db, const char *sql, int n, sqlite3_stmt **st,
      const char **tail))
{
    int rc = fails_sqlite("sqlite3_prepare_v2");

    *st = NULL;
    return rc != SQLITE_OK
               ? rc
               : WITHIN(real_sqlite3_prepare_v2(db, sql, n, st, tail));
}

static const char *before_sql;
static unsigned before_n;
static void (*before_call)(void);

void failing_before(const char *sql, unsigned n, void (*f)(void))
{
    before_sql = sql;
    before_n = n;
    before_call = f;
}

static void call_before(const char *sql)
{
    if (before_sql != NULL && strcmp(sql, before_sql) == 0 && --before_n == 0) {
        before_sql = NULL;
        before_call();
    }
}

/* What cannot be committed is rolled back; rolling back does not fail. */
REAL(int, sqlite3_exec,
     (sqlite3 * db, const char *sql, int (*f)(void *, int, char **, char **),
      void *arg, char **message))
{
    int rc =
        strcmp(sql, "ROLLBACK") == 0 ? SQLITE_OK : fails_sqlite("sqlite3_exec");

    call_before(sql);
    if (rc == SQLITE_OK)
        return WITHIN(real_sqlite3_exec(db, sql, f, arg, message));
    if (strcmp(sql, "COMMIT") == 0)
        (void)real_sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

REAL(int, sqlite3_db_config, (sqlite3 * db, int op, ...))
{
    int rc = fails_sqlite("sqlite3_db_config");
    va_list ap;
    int value;
    int *out;

    va_start(ap, op);
    value = va_arg(ap, int);
    out = va_arg(ap, int *);
    va_end(ap);
    return rc != SQLITE_OK ? rc : real_sqlite3_db_config(db, op, value, out);
}

REAL(char *, sqlite3_mprintf, (const char *fmt, ...))
{
    va_list ap;
    char *s;

    if (fails_sqlite("sqlite3_mprintf") != SQLITE_OK)
        return NULL;
    va_start(ap, fmt);
    s = sqlite3_vmprintf(fmt, ap);
    va_end(ap);
    return s;
}

REAL(unsigned char *, sqlite3_serialize,
     (sqlite3 * db, const char *name, sqlite3_int64 *size, unsigned flags))
{
    if (fails_sqlite("sqlite3_serialize") != SQLITE_OK)
        return NULL;
    return real_sqlite3_serialize(db, name, size, flags);
}

REAL(sqlite3_vfs *, sqlite3_vfs_find, (const char *name))
{
    if (fails_sqlite("sqlite3_vfs_find") != SQLITE_OK)
        return NULL;
    return real_sqlite3_vfs_find(name);
}

/* ------------------------------------------------------------------ ours */

static bool fails_ours(const char *name, struct err *e)
{
    return fails_sys(name) && err_sys(e, "a test makes %s fail", name) != 0;
}

REAL(int, strand_put,
     (struct strand * s, pool_fn *fn, void *arg, struct err *e))
{
    if (how != FAIL_BRIEFLY && counts("strand_put"))
        return err_set_reason(e, ERR_BUSY, "queue", "too much is waiting");
    return real_strand_put(s, fn, arg, e);
}

#define OURS(name, params, args)  \
    REAL(int, name, params)       \
    {                             \
        if (fails_ours(#name, e)) \
            return -1;            \
        return real_##name args;  \
    }

OURS(catalog_list_databases,
     (struct catalog * c, struct catalog_database **out, size_t *n,
      struct err *e),
     (c, out, n, e))
OURS(catalog_put_database,
     (struct catalog * c, const char *name, const char *path, struct err *e),
     (c, name, path, e))
OURS(catalog_delete_database,
     (struct catalog * c, const char *name, struct err *e), (c, name, e))
OURS(catalog_get_current, (struct catalog * c, char **out, struct err *e),
     (c, out, e))
OURS(catalog_put_current, (struct catalog * c, const char *name, struct err *e),
     (c, name, e))
OURS(catalog_get_mark,
     (struct catalog * c, const char *name, int64_t *t, struct err *e),
     (c, name, t, e))
OURS(catalog_put_mark,
     (struct catalog * c, const char *name, int64_t t, struct err *e),
     (c, name, t, e))

OURS(catalog_get_adopted,
     (struct catalog * c, const struct catalog_key *k, char **out,
      struct err *e),
     (c, k, out, e))
OURS(catalog_put_adopted,
     (struct catalog * c, const struct catalog_key *k, bool good,
      const char *facts, struct err *e),
     (c, k, good, facts, e))
OURS(catalog_list_adopted,
     (struct catalog * c, const char *name, struct catalog_adopted **out,
      size_t *n, struct err *e),
     (c, name, out, n, e))

/* What others have open may take a thousand calls to find out. */
REAL(bool, procs_have_open, (dev_t dev, ino_t ino))
{
    return WITHIN(real_procs_have_open(dev, ino));
}

/* A child has its static variables for itself. */
static int run_child(const struct guard_service *service,
                     const struct guard_call *call, struct buf *reply,
                     struct err *e)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    int rc;

    (void)pthread_mutex_lock(&one);
    rc = service->run(call->request, call->request_len, reply, e);
    (void)pthread_mutex_unlock(&one);
    return rc;
}

/* The child's work, done here. */
REAL(int, guard_call,
     (struct guard * g, const struct guard_call *call, struct buf *reply,
      struct err *e))
{
    static const enum err_code codes[] = {
        ERR_INTERNAL,     ERR_LIMIT, ERR_ENCRYPTED, ERR_DAMAGED,
        ERR_NOT_DATABASE, ERR_BUSY,  ERR_NO_SPACE,  ERR_IO};
    const struct guard_service *services[2] = {&check_service,
                                               &convert_service};

    if (__atomic_exchange_n(&hold, false, __ATOMIC_ACQ_REL))
        while (!__atomic_load_n(call->cancel, __ATOMIC_ACQUIRE))
            clock_sleep_ms(1);
    if (real_children)
        return real_guard_call(g, call, reply, e);
    if (call->cancel != NULL && __atomic_load_n(call->cancel, __ATOMIC_ACQUIRE))
        return err_set(e, ERR_CANCELLED, "cancelled");
    if (how != FAIL_BRIEFLY && counts("guard_call"))
        return err_set(e, codes[how], "a test makes the child fail");
    for (size_t i = 0; i < 2; i++)
        if (strcmp(call->service, services[i]->name) == 0)
            return run_child(services[i], call, reply, e);
    return real_guard_call(g, call, reply, e);
}
