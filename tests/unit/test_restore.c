/* The restore transaction, through src/sqlite/restore.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "dbutil.h"
#include "sqlite/restore.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

#define ROWS \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT %d)"
#define LIVE scratch_path("live.db")
#define BACKUP scratch_path("backup")
#define SAFETY scratch_path("safety")

/* ---------------------------------------------------------- one restore */

typedef void step(int n);

struct job {
    struct live_opts live;
    struct restore_opts opts;
    struct restore_result result;
    struct outfile *out;
    int fd;
    int hash_fd;
    int backup_fd;
    step *at; /* called from the progress function, before the lock */
    int n_steps;
    bool copied; /* the progress of the copy has reached its total */
    /* keep */
    int n_kept;
    int write_rc; /* what another connection's write gets meanwhile */
    int read_rc;
    bool keep_fails;
    uint64_t raw_bytes;
};

static void progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct job *j = arg;

    if (j->copied)
        return;
    j->n_steps++;
    if (j->at != NULL)
        j->at(j->n_steps);
    j->copied = done_bytes == total_bytes;
}

/* Every checksum that is known is that of what stands in the file. */
static void check_sums(const struct copy *c)
{
    struct bytes b = bytes_read(SAFETY);

    for (size_t i = 0; i * OUTFILE_CHUNK < b.n; i++) {
        size_t rest = b.n - i * OUTFILE_CHUNK;
        char hex[33];

        assert_true(i < c->n_chunks);
        if (c->chunk_sums[i][0] == '\0')
            continue;
        checksum128(b.p + i * OUTFILE_CHUNK,
                    rest < OUTFILE_CHUNK ? rest : OUTFILE_CHUNK, hex);
        assert_string_equal(c->chunk_sums[i], hex);
    }
    bytes_fini(&b);
}

static bool pending; /* a commit of app_send whose end is to be awaited */

static void end_pending(void)
{
    if (pending)
        assert_int_equal(app_result(), SQLITE_OK);
    pending = false;
}

/* Called with the write lock held: another connection cannot write. */
static void probe_lock(struct job *j)
{
    j->n_kept++;
    app_open(2, LIVE);
    j->write_rc = app_try(2, "BEGIN IMMEDIATE");
    j->read_rc = app_try(2, "SELECT count(*) FROM sqlite_schema");
    app_close(2);
}

static int keep(void *ctx, const struct copy *c, struct err *e)
{
    struct job *j = ctx;
    struct bytes b = bytes_read(SAFETY);

    assert_int_equal(b.n, c->n_pages * c->page_size);
    if (c->sha_known) {
        struct sha256 *sha = sha256_new();
        char hex[SHA256_HEX_SIZE];

        sha256_update(sha, b.p, b.n);
        sha256_final(sha, hex);
        sha256_free(sha);
        assert_string_equal(hex, c->sha256);
    }
    bytes_fini(&b);
    check_sums(c);
    end_pending();
    probe_lock(j);
    return j->keep_fails ? err_set_reason(e, ERR_NO_SPACE, "test", "full") : 0;
}

static int keep_raw(void *ctx, uint64_t raw_bytes, struct err *e)
{
    struct job *j = ctx;

    j->n_kept++;
    j->raw_bytes = raw_bytes;
    return j->keep_fails ? err_set_reason(e, ERR_NO_SPACE, "test", "full") : 0;
}

static void job_init(struct job *j, step *at)
{
    struct bytes b = bytes_read(BACKUP);
    uint32_t page_size = (uint32_t)(b.p[16] << 8 | b.p[17]);

    if (page_size == 1)
        page_size = 65536;
    memset(j, 0, sizeof *j);
    j->live = (struct live_opts){.path = LIVE,
                                 .label = "test",
                                 .busy_timeout_ms = 30000,
                                 .wal_limit_bytes = (uint64_t)1 << 30};
    j->fd = open(SAFETY, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    j->hash_fd = open(scratch_path("hashes"),
                      O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    j->backup_fd = open(BACKUP, O_RDONLY | O_CLOEXEC);
    assert_true(j->fd >= 0 && j->hash_fd >= 0 && j->backup_fd >= 0);
    j->out = outfile_new(j->fd, true);
    j->at = at;
    j->opts = (struct restore_opts){.live = &j->live,
                                    .backup_fd = j->backup_fd,
                                    .backup_page_size = page_size,
                                    .backup_pages = b.n / page_size,
                                    .safety = j->out,
                                    .hash_fd = j->hash_fd,
                                    .keep = keep,
                                    .ctx = j,
                                    .progress = progress,
                                    .progress_arg = j};
    bytes_fini(&b);
}

static void job_fini(struct job *j)
{
    outfile_free(j->out);
    file_close(&j->fd);
    file_close(&j->hash_fd);
    file_close(&j->backup_fd);
}

static void run(struct job *j)
{
    struct err e = {0};

    if (restore_run(&j->opts, &j->result, &e) != 0)
        fail_msg("%s", e.message);
}

static void expect_failure(struct job *j, enum err_code code,
                           const char *reason)
{
    struct err e = {0};

    assert_int_equal(restore_run(&j->opts, &j->result, &e), -1);
    if (e.code != code || strcmp(e.reason, reason) != 0)
        print_message("%s\n", e.message);
    assert_int_equal(e.code, code);
    assert_string_equal(e.reason, reason);
}

/* ------------------------------------------------------------- databases */

/* Slot `slot` makes a database and stays open. */
static void make(int slot, const char *path, int page_size, int auto_vacuum,
                 const char *mode, int n, const char *salt)
{
    app_open(slot, path);
    app_sql(slot,
            "PRAGMA page_size=%d; PRAGMA auto_vacuum=%d;"
            "PRAGMA journal_mode=%s; PRAGMA synchronous=OFF;"
            "PRAGMA wal_autocheckpoint=0;"
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
            "CREATE INDEX i ON t(b)",
            page_size, auto_vacuum, mode);
    app_sql(slot,
            ROWS "INSERT INTO t(b) SELECT format('%s-%%d-%%.*c', i, i%%700,"
                 "'x') FROM n",
            n, salt);
}

/* A backup: a database in rollback mode that nobody has open. */
static void make_backup(int page_size, int auto_vacuum, int n, bool free_pages)
{
    make(1, BACKUP, page_size, auto_vacuum, "delete", n, "backup");
    if (free_pages)
        app_sql(1, "DELETE FROM t WHERE a%%3=0");
    app_close(1);
}

/* The live database is the backup now; its safety copy is `before`. */
static void check_live(const char *backup)
{
    struct bytes want = bytes_read(backup);
    struct bytes got;

    app_image(LIVE, scratch_path("after"));
    got = bytes_read(scratch_path("after"));
    assert_true(bytes_equal(want, got, bytes_skip_commit));
    bytes_fini(&got);
    bytes_fini(&want);
    app_open(3, LIVE);
    assert_int_equal(
        app_int(3, "SELECT integrity_check='ok' FROM pragma_integrity_check"),
        1);
    app_close(3);
}

static void check_safety(const char *before)
{
    struct bytes want = bytes_read(before);
    struct bytes got = bytes_read(SAFETY);

    assert_true(bytes_equal(want, got, bytes_skip_mode));
    assert_int_equal(got.p[18], 1);
    assert_int_equal(got.p[19], 1);
    bytes_fini(&got);
    bytes_fini(&want);
}

/* The live database is what it was, and free of locks. */
static void check_untouched(const char *before)
{
    struct bytes want = bytes_read(before);
    struct bytes got;

    app_image(LIVE, scratch_path("after"));
    got = bytes_read(scratch_path("after"));
    assert_true(bytes_equal(want, got, NULL));
    bytes_fini(&got);
    bytes_fini(&want);
    app_open(3, LIVE);
    app_sql(3, "BEGIN EXCLUSIVE; ROLLBACK");
    app_close(3);
}

/* Restore BACKUP into LIVE, which slot 0 has open and nobody writes to. */
static void restore_and_check(struct job *j)
{
    app_image(LIVE, scratch_path("before"));
    job_init(j, NULL);
    run(j);
    assert_int_equal(j->n_kept, 1);
    assert_int_equal(j->write_rc, SQLITE_BUSY);
    /* Readers of a WAL database go on. */
    assert_int_equal(j->read_rc, j->result.wal ? SQLITE_OK : SQLITE_BUSY);
    assert_int_equal(j->result.n_patched, 0);
    job_fini(j);
    check_safety(scratch_path("before"));
    check_live(BACKUP);
}

/* ------------------------------------------------------------ the matrix */

static void matrix(const char *mode)
{
    for (int i = 0; i < 36; i++) {
        int live_vacuum = i % 3;
        int backup_vacuum = i / 3 % 3;
        int n = i / 9 % 2 == 0 ? 400 : 1500; /* shrink, grow */
        struct job j;

        make_backup(4096, backup_vacuum, n, i / 18 == 1);
        make(0, LIVE, 4096, live_vacuum, mode, 900, "live");
        restore_and_check(&j);
        assert_int_equal(j.result.wal, strcmp(mode, "wal") == 0);
        /* The application goes on with the connection that it has. */
        app_sql(0, "INSERT INTO t(b) VALUES('after'); DELETE FROM t"
                   " WHERE a%%2=0; PRAGMA incremental_vacuum");
        assert_int_equal(app_int(0, "PRAGMA auto_vacuum"), backup_vacuum);
        assert_int_equal(app_int(0, "SELECT integrity_check='ok' FROM "
                                    "pragma_integrity_check"),
                         1);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void matrix_wal(void **state)
{
    (void)state;
    matrix("wal");
}

static void matrix_delete(void **state)
{
    (void)state;
    matrix("delete");
}

static void page_sizes(void **state)
{
    static const int sizes[] = {512, 1024, 65536};
    static const char *const modes[] = {"wal", "delete", "truncate", "persist"};

    (void)state;
    for (int i = 0; i < 12; i++) {
        struct job j;

        make_backup(sizes[i % 3], 0, 700, true);
        make(0, LIVE, sizes[i % 3], 0, modes[i / 3], 1000, "live");
        restore_and_check(&j);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* More chunks than one, and pages in the WAL. */
static void large(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        make_backup(4096, 0, 6000, false);
        make(0, LIVE, 4096, 0, modes[i], 5000, "live");
        app_sql(0, "PRAGMA wal_checkpoint; UPDATE t SET b='new'||b"
                   " WHERE a%%10=0");
        restore_and_check(&j);
        assert_true(j.n_steps >= 3);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* A page that is reserved bytes larger or smaller inside. */
static void reserved_bytes(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct job j;

        app_open(1, BACKUP);
        app_reserve(1, i / 2 == 0 ? 48 : 0);
        app_sql(1,
                "CREATE TABLE t(a INTEGER PRIMARY KEY, b);" ROWS
                "INSERT INTO t(b) SELECT hex(zeroblob(i%%900)) FROM n",
                800);
        app_close(1);
        app_open(0, LIVE);
        app_reserve(0, i / 2 == 0 ? 0 : 16);
        app_sql(0,
                "PRAGMA journal_mode=%s;"
                "CREATE TABLE t(a INTEGER PRIMARY KEY, b);" ROWS
                "INSERT INTO t(b) SELECT hex(zeroblob(i%%800)) FROM n",
                modes[i % 2], 900);
        restore_and_check(&j);
        app_sql(0, "INSERT INTO t(b) SELECT hex(zeroblob(a)) FROM t");
        assert_int_equal(app_int(0, "SELECT integrity_check='ok' FROM "
                                    "pragma_integrity_check"),
                         1);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/*
 * A database last written by an SQLite before 3.7.0: its header's page count
 * is stale, which the counter beside it says.  A commit makes that counter
 * right, so the page count must be right too.
 */
static void stale_page_count(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;
        struct bytes b;
        struct bytes old;

        make_backup(4096, 0, 700, false);
        old = bytes_read(BACKUP);
        b = bytes_read(BACKUP);
        b.p[31]--;
        b.p[30]--;
        b.p[95]--;
        bytes_write(BACKUP, b);
        app_open(1, BACKUP);
        assert_int_equal(app_int(1, "SELECT integrity_check='ok' FROM "
                                    "pragma_integrity_check"),
                         1);
        app_close(1);
        make(0, LIVE, 4096, 0, modes[i], 300, "live");
        job_init(&j, NULL);
        run(&j);
        job_fini(&j);
        assert_int_equal(app_int(0, "PRAGMA page_count"), old.n / 4096);
        assert_int_equal(app_int(0, "SELECT integrity_check='ok' FROM "
                                    "pragma_integrity_check"),
                         1);
        bytes_fini(&b);
        bytes_fini(&old);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* What is restored into itself writes page 1 and nothing else. */
static void only_differing(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        make(0, LIVE, 4096, 0, modes[i], 1000, "live");
        app_image(LIVE, BACKUP);
        restore_and_check(&j);
        assert_int_equal(j.result.n_written, 1);
        app_image(LIVE, BACKUP);
        app_sql(0, "UPDATE t SET b='x' WHERE a=500");
        restore_and_check(&j);
        assert_in_range(j.result.n_written, 2, 12);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void undo(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        make_backup(4096, 0, 1000, true);
        make(0, LIVE, 4096, 1, modes[i], 800, "live");
        app_image(LIVE, scratch_path("original"));
        restore_and_check(&j);
        assert_int_equal(rename(SAFETY, BACKUP), 0);
        restore_and_check(&j);
        check_live(scratch_path("original"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void empty_live(void **state)
{
    static const int sizes[] = {512, 4096, 65536};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct job j;
        struct bytes none = {0};

        make_backup(sizes[i], 1, 500, false);
        bytes_write(LIVE, none);
        job_init(&j, NULL);
        run(&j);
        assert_int_equal(j.n_kept, 0);
        job_fini(&j);
        check_live(BACKUP);
        (void)scratch_clear(NULL);
    }
}

static void keeps_inode_and_mode(void **state)
{
    struct stat before;
    struct stat after;
    struct job j;

    (void)state;
    make_backup(4096, 0, 1000, false);
    make(0, LIVE, 4096, 0, "delete", 500, "live");
    assert_int_equal(chmod(LIVE, 0664), 0);
    assert_int_equal(stat(LIVE, &before), 0);
    restore_and_check(&j);
    assert_int_equal(stat(LIVE, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_uid, before.st_uid);
    app_close(0);
}

/* A backup whose header says WAL does not change the live mode, or back. */
static void mode_stays(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;
        struct bytes b;

        make_backup(4096, 0, 300, false);
        b = bytes_read(BACKUP);
        b.p[18] = b.p[19] = 2;
        bytes_write(BACKUP, b);
        bytes_fini(&b);
        make(0, LIVE, 4096, 0, modes[i], 300, "live");
        restore_and_check(&j);
        app_close(0);
        app_open(0, LIVE);
        assert_int_equal(app_int(0, "SELECT journal_mode='wal' FROM "
                                    "pragma_journal_mode"),
                         i == 0);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* ------------------------------------------------- open connections */

static void cookie(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;
        int64_t cookie;

        make(0, LIVE, 4096, 0, modes[i], 100, "live");
        app_image(LIVE, BACKUP);
        app_sql(0, "CREATE TABLE later(x); INSERT INTO later VALUES(1)");
        cookie = app_int(0, "PRAGMA schema_version");
        restore_and_check(&j);
        app_open(1, LIVE);
        assert_int_equal(app_int(1, "PRAGMA schema_version"), cookie + 1);
        /* Another table takes the page that the lost one had. */
        app_sql(1, "CREATE TABLE other(p, q, r); INSERT INTO other"
                   " VALUES(1, 2, 3)");
        assert_int_equal(app_try(0, "INSERT INTO later VALUES(2)"),
                         SQLITE_ERROR);
        assert_int_equal(app_int(1, "SELECT count(*) FROM other"), 1);
        app_close(1);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* WAL: a transaction that began before goes on seeing the old state. */
static void reader_in_the_middle(void **state)
{
    struct job j;

    (void)state;
    make_backup(4096, 0, 100, false);
    make(0, LIVE, 4096, 0, "wal", 900, "live");
    app_sql(0, "BEGIN");
    assert_int_equal(app_int(0, "SELECT count(*) FROM t"), 900);
    restore_and_check(&j);
    assert_int_equal(app_int(0, "SELECT count(*) FROM t"), 900);
    assert_int_equal(app_try(0, "INSERT INTO t(b) VALUES(1)"), SQLITE_BUSY);
    app_sql(0, "COMMIT");
    assert_int_equal(app_int(0, "SELECT count(*) FROM t"), 100);
    app_close(0);
}

static void give_back(void **state)
{
    struct job j;
    struct stat st;

    (void)state;
    make_backup(4096, 0, 6000, false);
    make(0, LIVE, 4096, 0, "wal", 5000, "live");
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE); UPDATE t SET b=1 WHERE a=1");
    restore_and_check(&j);
    assert_int_equal(stat(scratch_path("live.db-wal"), &st), 0);
    assert_in_range(st.st_size, 0, 1 << 20);
    app_close(0);
}

/* Nobody has it open: no -wal, -shm or -journal remains. */
static void nothing_beside(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;
        int n_fds;

        make_backup(4096, 0, 900, false);
        make(0, LIVE, 4096, 0, modes[i], 500, "live");
        app_close(0);
        n_fds = fds_open();
        job_init(&j, NULL);
        run(&j);
        job_fini(&j);
        assert_int_equal(fds_open(), n_fds);
        assert_false(file_exists(scratch_path("live.db-wal")));
        assert_false(file_exists(scratch_path("live.db-shm")));
        assert_false(file_exists(scratch_path("live.db-journal")));
        check_live(BACKUP);
        (void)scratch_clear(NULL);
    }
}

/* ---------------------------------- commits between the copy and the lock */

/* Rollback mode: see test_copy.c. */
static void commit_between(const char *sql)
{
    int64_t slice_over_ms = clock_monotonic_ms() + 25;

    end_pending();
    app_send(0, sql);
    pending = true;
    assert_true(app_waits());
    while (clock_monotonic_ms() < slice_over_ms)
        clock_sleep_ms(1);
}

static const char *late_sql;
static bool late_wal;

static void commit_late(int n)
{
    (void)n;
    if (late_wal)
        app_sql(0, "%s", late_sql);
    else
        commit_between(late_sql);
}

/* Every commit that was acknowledged is in the safety file. */
static void late_commits(void **state)
{
    static const char *const late[] = {
        "UPDATE t SET b='late' || b WHERE a%50=0", "DELETE FROM t WHERE a%3=0",
        "INSERT INTO t(b) SELECT hex(randomblob(300)) FROM t WHERE a<1500",
        "CREATE TABLE IF NOT EXISTS more AS SELECT 1 AS a"};

    (void)state;
    for (int i = 0; i < 16; i++) {
        struct job j;
        int64_t n_rows;

        late_wal = i < 8;
        late_sql = late[i % 4];
        make_backup(4096, 0, i / 4 % 2 == 0 ? 2000 : 5000, false);
        make(0, LIVE, 4096, i % 3, late_wal ? "wal" : "delete", 4000, "live");
        job_init(&j, commit_late);
        run(&j);
        end_pending();
        assert_true(j.n_steps >= 2);
        assert_int_equal(j.n_kept, 1);
        assert_true(j.result.n_patched > 0);
        job_fini(&j);
        check_live(BACKUP);
        /* The last commit came before the lock: the safety file has it. */
        app_open(3, SAFETY);
        assert_int_equal(app_int(3, "SELECT integrity_check='ok' FROM "
                                    "pragma_integrity_check"),
                         1);
        n_rows = app_int(3, i % 4 == 0   ? "SELECT sum(b GLOB 'late*') FROM t"
                            : i % 4 == 1 ? "SELECT count(*) FROM t WHERE a%3<>0"
                            : i % 4 == 2 ? "SELECT count(*) FROM t"
                                         : "SELECT count(*) FROM more");
        if (i % 4 == 0)
            assert_int_equal(n_rows, 80);
        else if (i % 4 == 1)
            assert_int_equal(n_rows, 2667);
        else if (i % 4 == 3)
            assert_int_equal(n_rows, j.n_steps);
        else
            assert_true(n_rows > 5000);
        app_close(3);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void commit_and_image(int n)
{
    app_sql(0, "UPDATE t SET b='late' || b WHERE a%%9=%d", n % 9);
    app_image(LIVE, scratch_path("before"));
}

/* WAL: to the byte. */
static void late_commits_exactly(void **state)
{
    struct job j;

    (void)state;
    make_backup(4096, 0, 3000, false);
    make(0, LIVE, 4096, 0, "wal", 5000, "live");
    app_sql(0, "PRAGMA wal_checkpoint(RESTART)");
    job_init(&j, commit_and_image);
    run(&j);
    job_fini(&j);
    check_safety(scratch_path("before"));
    check_live(BACKUP);
    app_close(0);
}

static void switch_mode(int n)
{
    if (n == 1)
        commit_between("PRAGMA journal_mode=WAL");
}

static void mode_changes(void **state)
{
    struct job j;

    (void)state;
    make_backup(4096, 0, 300, false);
    make(0, LIVE, 4096, 0, "delete", 5000, "live");
    job_init(&j, switch_mode);
    expect_failure(&j, ERR_BUSY, "changed");
    (void)app_result(); /* it may find the file locked in its second step */
    pending = false;
    assert_int_equal(j.n_kept, 0);
    job_fini(&j);
    app_close(0);
}

/* -------------------------------------------------------------- refusals */

static void keep_fails(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        make_backup(4096, 0, 900, false);
        make(0, LIVE, 4096, 0, modes[i], 500, "live");
        app_image(LIVE, scratch_path("before"));
        job_init(&j, NULL);
        j.keep_fails = true;
        expect_failure(&j, ERR_NO_SPACE, "test");
        assert_int_equal(j.n_kept, 1);
        assert_int_equal(j.result.n_written, 0);
        job_fini(&j);
        check_untouched(scratch_path("before"));
        assert_false(file_exists(scratch_path("live.db-journal")));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Somebody else writes for longer than the busy timeout. */
static void locked(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;
        int64_t began_ms;

        make_backup(4096, 0, 900, false);
        make(0, LIVE, 4096, 0, modes[i], 500, "live");
        app_image(LIVE, scratch_path("before"));
        app_sql(0, "BEGIN IMMEDIATE");
        job_init(&j, NULL);
        j.live.busy_timeout_ms = 200;
        began_ms = clock_monotonic_ms();
        expect_failure(&j, ERR_BUSY, "locked");
        assert_true(clock_monotonic_ms() - began_ms >= 200);
        assert_int_equal(j.n_kept, 0);
        job_fini(&j);
        app_sql(0, "ROLLBACK");
        check_untouched(scratch_path("before"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Rollback mode: a reader keeps the restore out, and it says so in time. */
static void pinned_reader(void **state)
{
    struct job j;

    (void)state;
    make_backup(4096, 0, 900, false);
    make(0, LIVE, 4096, 0, "delete", 500, "live");
    app_image(LIVE, scratch_path("before"));
    app_sql(0, "BEGIN; SELECT * FROM t");
    job_init(&j, NULL);
    j.live.busy_timeout_ms = 200;
    expect_failure(&j, ERR_BUSY, "locked");
    job_fini(&j);
    app_sql(0, "COMMIT");
    check_untouched(scratch_path("before"));
    app_close(0);
}

static void other_page_size(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        make_backup(8192, 0, 900, false);
        make(0, LIVE, 4096, 0, modes[i], 500, "live");
        app_image(LIVE, scratch_path("before"));
        job_init(&j, NULL);
        expect_failure(&j, ERR_CONFLICT, "page_size");
        job_fini(&j);
        check_untouched(scratch_path("before"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* Run `f` as a user whom file modes bind. */
static void as_nobody(void (*f)(struct job *j), struct job *j)
{
    uid_t was = geteuid();

    assert_int_equal(chown(LIVE, 65534, 65534), 0);
    assert_int_equal(chmod(scratch_path("."), 0777), 0);
    assert_int_equal(seteuid(65534), 0);
    f(j);
    assert_int_equal(seteuid(was), 0);
}

static void expect_read_only(struct job *j)
{
    expect_failure(j, ERR_CONFLICT, "read_only");
}

static void read_only_file(void **state)
{
    struct job j;

    (void)state;
    make_backup(4096, 0, 900, false);
    make(0, LIVE, 4096, 0, "delete", 500, "live");
    app_image(LIVE, scratch_path("before"));
    app_close(0);
    assert_int_equal(chmod(LIVE, 0444), 0);
    job_init(&j, NULL);
    if (geteuid() == 0)
        as_nobody(expect_read_only, &j);
    else
        expect_read_only(&j);
    assert_int_equal(j.n_kept, 0);
    job_fini(&j);
    assert_int_equal(chmod(LIVE, 0644), 0);
    check_untouched(scratch_path("before"));
}

static void max_stall(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        make_backup(4096, 0, 900, false);
        make(0, LIVE, 4096, 0, modes[i], 900, "live");
        app_image(LIVE, scratch_path("before"));
        job_init(&j, NULL);
        j.opts.max_stall_ms = 1;
        expect_failure(&j, ERR_BUSY, "max_stall");
        assert_int_equal(j.n_kept, 0);
        job_fini(&j);
        check_untouched(scratch_path("before"));
        job_init(&j, NULL);
        j.opts.max_stall_ms = 600000;
        run(&j);
        job_fini(&j);
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

static bool stop;

static void stop_now(int n)
{
    (void)n;
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
}

static void stopping(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        stop = false;
        make_backup(4096, 0, 900, false);
        make(0, LIVE, 4096, 0, modes[i], 4000, "live");
        app_image(LIVE, scratch_path("before"));
        job_init(&j, stop_now);
        j.live.cancel = &stop;
        expect_failure(&j, ERR_BUSY, "stopping");
        job_fini(&j);
        check_untouched(scratch_path("before"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* A backup that ends before its last page: rolled back. */
static void short_backup(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job j;

        make_backup(4096, 0, 900, false);
        make(0, LIVE, 4096, 0, modes[i], 500, "live");
        app_image(LIVE, scratch_path("before"));
        job_init(&j, NULL);
        j.opts.backup_pages += 300;
        expect_failure(&j, ERR_IO, "");
        job_fini(&j);
        check_untouched(scratch_path("before"));
        app_close(0);
        (void)scratch_clear(NULL);
    }
}

/* ------------------------------------------------------- over damage */

static int over_damage(struct job *j, struct err *e)
{
    return restore_over_damage(&j->opts, keep_raw, &j->result, e);
}

static void damage_live(void)
{
    struct bytes b = bytes_read(LIVE);

    memset(b.p, 0xa5, 4096);
    b.n -= 1000; /* and no whole number of pages */
    bytes_write(LIVE, b);
    bytes_fini(&b);
}

static void damaged(void **state)
{
    static const int sizes[] = {512, 4096, 65536};

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct job j;
        struct err e = {0};
        struct stat before;
        struct stat after;
        struct bytes raw;
        struct bytes kept;

        make_backup(sizes[i % 3], 1, i < 3 ? 300 : 3000, false);
        make(0, LIVE, 4096, 0, "delete", 1500, "live");
        app_close(0);
        damage_live();
        raw = bytes_read(LIVE);
        assert_int_equal(stat(LIVE, &before), 0);
        job_init(&j, NULL);
        if (over_damage(&j, &e) != 0)
            fail_msg("%s", e.message);
        assert_int_equal(j.n_kept, 1);
        assert_int_equal(j.raw_bytes, raw.n);
        job_fini(&j);
        kept = bytes_read(SAFETY);
        assert_true(bytes_equal(raw, kept, NULL));
        check_live(BACKUP);
        assert_int_equal(stat(LIVE, &after), 0);
        assert_int_equal(after.st_ino, before.st_ino);
        assert_false(file_exists(scratch_path("live.db-journal")));
        bytes_fini(&raw);
        bytes_fini(&kept);
        (void)scratch_clear(NULL);
    }
}

static void damaged_not_kept(void **state)
{
    struct job j;
    struct err e = {0};
    struct bytes raw;
    struct bytes now;

    (void)state;
    make_backup(4096, 0, 300, false);
    make(0, LIVE, 4096, 0, "delete", 900, "live");
    app_close(0);
    damage_live();
    raw = bytes_read(LIVE);
    job_init(&j, NULL);
    j.keep_fails = true;
    assert_int_equal(over_damage(&j, &e), -1);
    assert_string_equal(e.reason, "test");
    job_fini(&j);
    now = bytes_read(LIVE);
    assert_true(bytes_equal(raw, now, NULL));
    bytes_fini(&raw);
    bytes_fini(&now);
    /* The backup cannot be read to its end: rolled back. */
    raw = bytes_read(LIVE);
    job_init(&j, NULL);
    j.opts.backup_pages += 10;
    assert_int_equal(over_damage(&j, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    job_fini(&j);
    now = bytes_read(LIVE);
    assert_true(bytes_equal(raw, now, NULL));
    bytes_fini(&raw);
    bytes_fini(&now);
}

/* A damaged live database is told, not restored over by restore_run. */
static void damage_is_told(void **state)
{
    struct job j;
    struct bytes raw;
    struct bytes now;

    (void)state;
    make_backup(4096, 0, 300, false);
    make(0, LIVE, 4096, 0, "delete", 900, "live");
    app_close(0);
    damage_live();
    raw = bytes_read(LIVE);
    job_init(&j, NULL);
    expect_failure(&j, ERR_NOT_DATABASE, "");
    assert_int_equal(j.n_kept, 0);
    job_fini(&j);
    now = bytes_read(LIVE);
    assert_true(bytes_equal(raw, now, NULL));
    bytes_fini(&raw);
    bytes_fini(&now);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"restore: every auto-vacuum mode over every other, growing and "
         "shrinking, with and without free pages (WAL)",
         matrix_wal, NULL, scratch_clear, NULL},
        {"restore: the same in rollback mode", matrix_delete, NULL,
         scratch_clear, NULL},
        {"restore: page sizes and journal modes", page_sizes, NULL,
         scratch_clear, NULL},
        {"restore: several buffers, and pages that stand in the WAL", large,
         NULL, scratch_clear, NULL},
        {"restore: another number of reserved bytes in each page",
         reserved_bytes, NULL, scratch_clear, NULL},
        {"restore: a backup with a stale page count in its header",
         stale_page_count, NULL, scratch_clear, NULL},
        {"restore: only pages that differ are written", only_differing, NULL,
         scratch_clear, NULL},
        {"restore: is undone by restoring the safety copy", undo, NULL,
         scratch_clear, NULL},
        {"restore: into a file of 0 bytes keeps nothing and takes the page "
         "size",
         empty_live, NULL, scratch_clear, NULL},
        {"restore: inode, mode and owner stay", keeps_inode_and_mode, NULL,
         scratch_clear, NULL},
        {"restore: the live journal mode stays", mode_stays, NULL,
         scratch_clear, NULL},
        {"restore: a connection with a cached schema gets no such table",
         cookie, NULL, scratch_clear, NULL},
        {"restore: a reader in the middle keeps its snapshot",
         reader_in_the_middle, NULL, scratch_clear, NULL},
        {"restore: the growth of the WAL is given back", give_back, NULL,
         scratch_clear, NULL},
        {"restore: leaves nothing beside the database", nothing_beside, NULL,
         scratch_clear, NULL},
        {"restore: commits between the copy and the lock are in the safety "
         "copy",
         late_commits, NULL, scratch_clear, NULL},
        {"restore: the safety copy is the last state before the lock, byte "
         "for byte",
         late_commits_exactly, NULL, scratch_clear, NULL},
        {"restore: a journal mode changed meanwhile is refused", mode_changes,
         NULL, scratch_clear, NULL},
        {"restore: nothing is changed when the safety copy cannot be kept",
         keep_fails, NULL, scratch_clear, NULL},
        {"restore: a database locked past the busy timeout is busy", locked,
         NULL, scratch_clear, NULL},
        {"restore: a reader that stays keeps it out in rollback mode",
         pinned_reader, NULL, scratch_clear, NULL},
        {"restore: another page size is a conflict", other_page_size, NULL,
         scratch_clear, NULL},
        {"restore: a read-only file is a conflict", read_only_file, NULL,
         scratch_clear, NULL},
        {"restore: is refused when writers would wait too long", max_stall,
         NULL, scratch_clear, NULL},
        {"restore: is given up when the service stops", stopping, NULL,
         scratch_clear, NULL},
        {"restore: a backup that ends too early is rolled back", short_backup,
         NULL, scratch_clear, NULL},
        {"restore: a damaged live database is told, and not touched",
         damage_is_told, NULL, scratch_clear, NULL},
        {"restore over damage: the bytes are kept and the inode stays", damaged,
         NULL, scratch_clear, NULL},
        {"restore over damage: nothing is changed when it cannot be kept or "
         "read",
         damaged_not_kept, NULL, scratch_clear, NULL},
    };
    struct err e;
    int failed;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
