/* A live database: see live.h. */
#include "sqlite/live.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

static bool on_network_fs(const char *path)
{
    struct statfs fs;

    if (statfs(path, &fs) != 0)
        return false;
    switch ((unsigned long)fs.f_type & 0xffffffffUL) {
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
    case FUSE_SUPER_MAGIC:
        return true;
    default:
        return false;
    }
}

/* What stands beside a database as its -wal, -shm or -journal must be a file
 * of its own: a symlink or a second name could be of anything. */
static int check_beside(const struct live_opts *o, struct err *e)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal"};

    for (size_t i = 0; i < 3; i++) {
        char *name = xasprintf("%s%s", o->path, suffixes[i]);
        struct stat st;
        bool there = lstat(name, &st) == 0;

        free(name);
        if (there && (!S_ISREG(st.st_mode) || st.st_nlink > 1))
            return err_set_reason(e, ERR_CONFLICT, "not_regular",
                                  "the %s of database %s is not a regular file "
                                  "with one name",
                                  suffixes[i], o->label);
    }
    return 0;
}

/* The length of a file beside the database; false if there is none. */
static bool size_beside(const char *path, const char *suffix, uint64_t *size)
{
    char *name = xasprintf("%s%s", path, suffix);
    struct stat st;
    bool there = lstat(name, &st) == 0;

    *size = there ? (uint64_t)st.st_size : 0;
    free(name);
    return there;
}

/*
 * A file of another user: in WAL mode we would make its -wal and -shm, and
 * an application locked out of them by our death would be our doing.
 */
static int check_owner(const struct live_opts *o, const struct stat *st,
                       struct err *e)
{
    if (geteuid() == 0 || geteuid() == st->st_uid)
        return 0;
    return err_set_reason(
        e, ERR_CONFLICT, "owner",
        "the file of database %s belongs to uid %u, but the server runs as "
        "uid %u: run it as that user (for example with User= in its systemd "
        "unit) or as root",
        o->label, (unsigned)st->st_uid, (unsigned)geteuid());
}

int live_stat(const struct live_opts *o, struct live_file *out, struct err *e)
{
    uint64_t journal_bytes;
    struct stat st;

    memset(out, 0, sizeof *out);
    (void)size_beside(o->path, "-wal", &out->wal_bytes);
    out->wal_file = out->wal_bytes > 0;
    (void)size_beside(o->path, "-journal", &journal_bytes);
    out->journal_file = journal_bytes > 0;
    if (lstat(o->path, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return 0;
        return err_sys(e, "cannot examine %s", o->path);
    }
    if (!S_ISREG(st.st_mode))
        return err_set_reason(e, ERR_CONFLICT, "not_regular",
                              "the file of database %s is not a regular file",
                              o->label);
    if (st.st_nlink > 1)
        return err_set_reason(
            e, ERR_CONFLICT, "hard_link",
            "the file of database %s has %u names (hard links), which SQLite "
            "cannot use safely: keep one",
            o->label, (unsigned)st.st_nlink);
    if (!o->allow_network_fs && on_network_fs(o->path))
        return err_set_reason(
            e, ERR_CONFLICT, "network_fs",
            "database %s lies on a network filesystem, where SQLite's locks "
            "cannot be relied on (--allow-network-fs overrides)",
            o->label);
    if (check_owner(o, &st, e) != 0 || check_beside(o, e) != 0)
        return -1;
    out->exists = true;
    out->size_bytes = (uint64_t)st.st_size;
    out->mtime_s = (int64_t)st.st_mtime;
    out->uid = st.st_uid;
    out->gid = st.st_gid;
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    return 0;
}

static int set_policy(struct sqlite3 *db)
{
    int rc = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);

    if (rc != SQLITE_OK)
        return rc;
    /* writable_schema: a schema that does not parse (or needs the
     * application's own modules) is no error; its pages are copied as they
     * are. */
    return sqlite3_exec(db,
                        "PRAGMA trusted_schema=OFF;"
                        "PRAGMA writable_schema=ON;"
                        "PRAGMA wal_autocheckpoint=0",
                        NULL, NULL, NULL);
}

/*
 * On a read-only filesystem SQLite cannot make the -shm that reading a WAL
 * database needs.  (To call the file immutable would be a guess: the same
 * folder may be mounted for writing elsewhere.)
 */
static int say_read_only(const struct live_opts *o, int rc, struct err *e)
{
    struct statvfs v;

    if (((rc & 0xff) != SQLITE_CANTOPEN && (rc & 0xff) != SQLITE_READONLY) ||
        statvfs(o->path, &v) != 0 || (v.f_flag & ST_RDONLY) == 0)
        return -1;
    return err_set_reason(e, ERR_CONFLICT, "read_only",
                          "database %s is in WAL mode on a read-only "
                          "filesystem, where SQLite cannot read it: back it "
                          "up where it is mounted for writing",
                          o->label);
}

/*
 * The schema is of no use here and may be anything: of a large one only the
 * beginning is read, so that it takes no memory.  SQLite takes the rest for
 * an error in the schema, which writable_schema lets pass.
 */
#define SCHEMA_STEPS 1000
#define MAX_SCHEMA_ROW (1 << 20)
#define MAX_SCHEMA_SQL 100000
#define MAX_SCHEMA_COLUMNS 50

static int stop_reading(void *arg)
{
    (void)arg;
    return 1;
}

static void limit_schema(struct sqlite3 *db)
{
    (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, MAX_SCHEMA_ROW);
    (void)sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, MAX_SCHEMA_SQL);
    (void)sqlite3_limit(db, SQLITE_LIMIT_COLUMN, MAX_SCHEMA_COLUMNS);
    sqlite3_progress_handler(db, SCHEMA_STEPS, stop_reading, NULL);
}

/* A schema format of a later SQLite, or of none. */
static bool is_unknown_format(struct sqlite3 *db, int rc)
{
    return (rc & 0xff) == SQLITE_ERROR &&
           strstr(sqlite3_errmsg(db), "unsupported file format") != NULL;
}

/* ATTACH reads the schema, for which it needs a lock. */
static int attach(struct sqlite3 *db, const struct live_opts *o, struct err *e)
{
    struct live_wait wait;
    sqlite3_stmt *st = NULL;
    int rc;

    live_wait_start(o, true, &wait);
    for (;;) {
        rc = sqlite3_prepare_v2(db, "ATTACH ?1 AS live", -1, &st, NULL);
        if (rc == SQLITE_OK)
            rc = sqlite3_bind_text(st, 1, o->path, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_DONE)
            rc = SQLITE_OK;
        (void)sqlite3_finalize(st);
        if (rc == SQLITE_OK)
            return 0;
        (void)sq_fail(db, rc, e, "cannot open database %s", o->label);
        if (is_unknown_format(db, rc))
            e->code = ERR_DAMAGED;
        if (e->code != ERR_BUSY)
            return say_read_only(o, rc, e);
        if (live_retry(o, &wait, e) != 0)
            return -1;
    }
}

/* One attempt, with a main database of the given text encoding. */
static int connect_as(const struct live_opts *o, const char *encoding,
                      struct sqlite3 **out, struct err *e)
{
    /* No SQLITE_OPEN_CREATE: ATTACH uses these flags, and a live file that is
     * not there must not appear. */
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW;
    struct sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(":memory:", &db, flags, NULL);

    if (rc == SQLITE_OK)
        rc = set_policy(db);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, encoding, NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        (void)sq_fail(db, rc, e, "cannot open SQLite");
        goto fail;
    }
    limit_schema(db);
    rc = attach(db, o, e);
    sqlite3_progress_handler(db, 0, NULL, NULL);
    if (rc != 0 || sq_exec(db, "PRAGMA live.cache_size=-2000", e) != 0)
        goto fail;
    *out = db;
    return 0;
fail:
    (void)sqlite3_close(db);
    return -1;
}

int live_connect(const struct live_opts *o, struct sqlite3 **out, struct err *e)
{
    /* SQLite attaches only databases of the main one's text encoding; which
     * one a live database has, the attempt tells. */
    static const char *const encodings[] = {"PRAGMA encoding='UTF-8'",
                                            "PRAGMA encoding='UTF-16le'",
                                            "PRAGMA encoding='UTF-16be'"};

    for (size_t i = 0; i < 3; i++) {
        struct live_file ignored;

        if (connect_as(o, encodings[i], out, e) == 0)
            return 0;
        /* A path that has been changed meanwhile says so itself. */
        if (e->code == ERR_IO && live_stat(o, &ignored, e) != 0)
            return -1;
        if (e->code != ERR_INTERNAL) /* SQLITE_ERROR */
            return -1;
    }
    return -1;
}

/*
 * Whether the WAL holds nothing: then a close may tidy up as SQLite does by
 * itself, which removes -wal and -shm if nobody else has them open.
 */
static bool wal_is_empty(struct sqlite3 *db)
{
    sqlite3_file *wal = NULL;
    sqlite3_int64 size = -1;

    if (sqlite3_file_control(db, "live", SQLITE_FCNTL_JOURNAL_POINTER, &wal) !=
            SQLITE_OK ||
        wal == NULL || wal->pMethods == NULL)
        return false;
    return wal->pMethods->xFileSize(wal, &size) == SQLITE_OK && size == 0;
}

void live_disconnect(struct sqlite3 *db)
{
    if (db == NULL)
        return;
    if (wal_is_empty(db))
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    (void)sqlite3_close_v2(db);
}

bool live_cancelled(const struct live_opts *o)
{
    return o->cancel != NULL && __atomic_load_n(o->cancel, __ATOMIC_ACQUIRE);
}

void live_wait_start(const struct live_opts *o, bool reading,
                     struct live_wait *w)
{
    w->reading = reading;
    w->deadline_ms = clock_monotonic_ms() + o->busy_timeout_ms;
    w->pause_ms = 1;
}

/*
 * Readers of a WAL database are kept out only by somebody who holds the
 * exclusive lock for good; in rollback mode such a one keeps its journal, cut
 * to nothing, between transactions.
 */
static bool locked_exclusively(const struct live_opts *o)
{
    uint64_t wal;
    uint64_t journal;

    return size_beside(o->path, "-wal", &wal) ||
           (size_beside(o->path, "-journal", &journal) && journal == 0);
}

int live_retry(const struct live_opts *o, struct live_wait *w, struct err *e)
{
    if (e->reason[0] != '\0')
        return -1; /* no lock, but something that has its name already */
    if (live_cancelled(o))
        return err_set_reason(e, ERR_BUSY, "stopping",
                              "the service is stopping");
    if (clock_monotonic_ms() < w->deadline_ms) {
        clock_sleep_ms(w->pause_ms);
        if (w->pause_ms < 16)
            w->pause_ms *= 2;
        return 0;
    }
    if (w->reading && locked_exclusively(o))
        return err_set_reason(
            e, ERR_BUSY, "exclusive",
            "an application keeps database %s locked exclusively (for "
            "example by locking_mode=EXCLUSIVE); nothing else can read it",
            o->label);
    return err_set_reason(e, ERR_BUSY, "locked",
                          "database %s stayed locked by another process past "
                          "the busy timeout; nothing was changed",
                          o->label);
}
