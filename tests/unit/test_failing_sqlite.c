/* Every call that src/sqlite makes fails once, and from then on: copying,
 * restoring, checking, converting (P2, P3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "copyjob.h"
#include "dbutil.h"
#include "failing.h"
#include "restorejob.h"
#include "sqlite/check.h"
#include "sqlite/check_internal.h"
#include "sqlite/check_vfs.h"
#include "sqlite/image.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

#define ORIGINAL scratch_path("original.db")
#define LIVE scratch_path("live.db")

/* One operation and what holds after it, however it ended. */
struct op {
    const char *name;
    void (*prepare)(void);
    int (*run)(struct err *e);
    void (*after)(int rc, const struct err *e);
};

static unsigned sweep_one(const struct op *op, enum failing_how how,
                          bool for_good)
{
    unsigned n;

    for (n = 1;; n++) {
        struct err e = {0};
        int fds;
        int rc;
        bool fired;

        op->prepare();
        fds = fds_open();
        failing_arm(n, how, for_good);
        rc = op->run(&e);
        fired = failing_disarm();
        /* What is only interrupted, or comes in parts, is no failure. */
        if (fds_open() != fds || (rc != 0 && e.code == ERR_NONE) ||
            (rc != 0 && (!fired || how == FAIL_BRIEFLY)))
            fail_msg("%s: call %u (%s) as %d: %d, %s; %d descriptors for %d",
                     op->name, n, failing_what(), (int)how, rc, e.message,
                     fds_open(), fds);
        if (op->after != NULL)
            op->after(rc, &e);
        if (!fired)
            return n - 1;
    }
}

static void sweep(const struct op *op)
{
    unsigned n = 0;

    for (int how = 0; how < FAIL_HOWS; how++) {
        n += sweep_one(op, (enum failing_how)how, false);
        n += sweep_one(op, (enum failing_how)how, true);
    }
    print_message("%s: %u calls failed\n", op->name, n);
}

/* -------------------------------------------------------------- databases */

static void make_original(const char *mode, int page_size, int auto_vacuum,
                          int n)
{
    restorejob_make(0, ORIGINAL, page_size, auto_vacuum, mode, n, "live");
    app_close(0);
}

static void put_live(void)
{
    (void)unlink(scratch_path("live.db-wal"));
    (void)unlink(scratch_path("live.db-shm"));
    (void)unlink(scratch_path("live.db-journal"));
    file_copy_all(ORIGINAL, LIVE);
    if (file_exists(scratch_path("original.db-wal")))
        file_copy_all(scratch_path("original.db-wal"),
                      scratch_path("live.db-wal"));
}

static int64_t live_is(const char *salt)
{
    int64_t n;

    app_open(3, LIVE);
    assert_int_equal(app_int(3, APP_INTEGRITY), 1);
    n = app_int(3, strcmp(salt, "live") == 0
                       ? "SELECT count(*) FROM t WHERE b GLOB 'live-*'"
                       : "SELECT count(*) FROM t WHERE b GLOB 'backup-*'");
    app_sql(3, "BEGIN EXCLUSIVE; ROLLBACK");
    app_close(3);
    return n;
}

/* ---------------------------------------------------------------- copying */

static struct bytes image;

static struct copyjob copyjob;

static void prepare_copy(void)
{
    put_live();
    copyjob_init(&copyjob, LIVE, NULL);
    copyjob.live.busy_timeout_ms = 1;
}

static int copy(struct err *e)
{
    int rc = copyjob_run(&copyjob, e);

    live_disconnect(copyjob.db);
    copyjob.db = NULL;
    return rc;
}

static void right_or_none(int rc, const struct err *e)
{
    (void)e;
    copyjob_fini(&copyjob);
    if (rc == 0) {
        struct bytes got = bytes_read(scratch_path("out"));

        assert_true(bytes_equal(got, image, bytes_skip_mode));
        bytes_fini(&got);
    }
}

static void copies(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct op op = {"copy", prepare_copy, copy, right_or_none};

        make_original(modes[i], 4096, 0, 200);
        put_live();
        app_image(LIVE, scratch_path("image"));
        image = bytes_read(scratch_path("image"));
        sweep(&op);
        bytes_fini(&image);
        (void)scratch_clear(NULL);
    }
}

/* Files of another user are opened, and made, as that user. */
static void prepare_copy_of_others(void)
{
    prepare_copy();
    if (geteuid() == 0)
        assert_int_equal(chown(LIVE, 65534, 65534), 0);
}

static void copies_of_others(void **state)
{
    struct op op = {"copy of another's", prepare_copy_of_others, copy,
                    right_or_none};

    (void)state;
    make_original("wal", 4096, 0, 20);
    put_live();
    app_image(LIVE, scratch_path("image"));
    image = bytes_read(scratch_path("image"));
    sweep(&op);
    bytes_fini(&image);
}

/* Somebody commits before the last look. */
static void commit(void)
{
    app_open(2, LIVE);
    (void)app_try(2, "UPDATE t SET b='live-late' || b WHERE a%10=0");
    app_close(2);
}

static void prepare_copy_beside(void)
{
    prepare_copy();
    failing_before("BEGIN", 3, commit);
}

static void whole_or_none(int rc, const struct err *e)
{
    (void)e;
    failing_before(NULL, 0, NULL);
    copyjob_fini(&copyjob);
    if (rc == 0)
        app_check(scratch_path("out"));
}

static void copies_beside(void **state)
{
    struct op op = {"copy beside a writer", prepare_copy_beside, copy,
                    whole_or_none};

    (void)state;
    make_original("delete", 4096, 0, 200);
    sweep(&op);
}

static void vacuum(void)
{
    app_open(2, LIVE);
    (void)app_try(2, "PRAGMA page_size=8192; VACUUM");
    app_close(2);
}

static void copies_changed(void **state)
{
    (void)state;
    make_original("delete", 4096, 0, 200);
    for (unsigned n = 2; n <= 3; n++) {
        struct err e = {0};

        prepare_copy();
        failing_before("BEGIN", n, vacuum);
        assert_int_equal(copy(&e), -1);
        copyjob_fini(&copyjob);
        assert_int_equal(e.code, ERR_BUSY);
        assert_string_equal(e.reason, "changed");
    }
}

/* -------------------------------------------------------------- restoring */

static int n_kept;
static int n_live;
static int n_backup;

static int keep(void *ctx, const struct copy *c, struct err *e)
{
    (void)ctx;
    (void)e;
    n_kept++;
    return c->n_pages > 0 ? 0 : -1;
}

static int keep_raw(void *ctx, uint64_t n, struct err *e)
{
    (void)ctx;
    (void)e;
    n_kept++;
    return n > 0 ? 0 : -1;
}

static struct restorejob restorejob;

static void prepare_job(void)
{
    restorejob_init(&restorejob, NULL);
    restorejob.live.busy_timeout_ms = 1;
    restorejob.opts.keep = keep;
    n_kept = 0;
}

static void prepare_restore(void)
{
    put_live();
    prepare_job();
}

static int restore(struct err *e)
{
    return restore_run(&restorejob.opts, &restorejob.result, e);
}

static int restore_damaged(struct err *e)
{
    return restore_over_damage(&restorejob.opts, keep_raw, &restorejob.result,
                               e);
}

/* The one or the other, all of it; nothing restored that was not kept. */
static void old_or_new(int rc, const struct err *e)
{
    bool in_doubt = restorejob.result.in_doubt;
    bool is_new = rc == 0 || (in_doubt && live_is("live") == 0);
    int64_t n = live_is(is_new ? "backup" : "live");

    restorejob_fini(&restorejob);
    if (n != (is_new ? n_backup : n_live))
        fail_msg("%d rows after %s: %s", (int)n, failing_what(), e->message);
    assert_true(!(is_new || in_doubt) || n_kept == 1);
}

static void restores(void **state)
{
    static const struct {
        const char *mode;
        int auto_vacuum;
        int n_live;
        int n_backup;
    } kinds[] = {{"wal", 0, 60, 90},
                 {"wal", 1, 160, 40},
                 {"delete", 1, 60, 90},
                 {"delete", 0, 160, 40}};

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct op op = {"restore", prepare_restore, restore, old_or_new};

        n_live = kinds[i].n_live;
        n_backup = kinds[i].n_backup;
        make_original(kinds[i].mode, 4096, kinds[i].auto_vacuum, n_live);
        restorejob_make_backup(4096, 0, n_backup, false);
        sweep(&op);
        (void)scratch_clear(NULL);
    }
}

static void prepare_restore_beside(void)
{
    prepare_restore();
    failing_before("BEGIN EXCLUSIVE", 1, commit);
}

static void prepare_restore_beside_wal(void)
{
    prepare_restore();
    failing_before("BEGIN IMMEDIATE", 1, commit);
}

static void restores_beside(void **state)
{
    static const struct op ops[] = {
        {"restore beside a writer, WAL", prepare_restore_beside_wal, restore,
         old_or_new},
        {"restore beside a writer", prepare_restore_beside, restore,
         old_or_new}};

    (void)state;
    for (int i = 0; i < 2; i++) {
        n_live = 60;
        n_backup = 90;
        make_original(i == 0 ? "wal" : "delete", 4096, 0, n_live);
        restorejob_make_backup(4096, 0, n_backup, false);
        sweep(&ops[i]);
        failing_before(NULL, 0, NULL);
        (void)scratch_clear(NULL);
    }
}

static void restore_changed(void **state)
{
    struct err e = {0};

    (void)state;
    make_original("delete", 4096, 0, 60);
    restorejob_make_backup(4096, 0, 90, false);
    prepare_restore();
    failing_before("BEGIN EXCLUSIVE", 1, vacuum);
    assert_int_equal(restore(&e), -1);
    restorejob_fini(&restorejob);
    assert_string_equal(e.reason, "changed");
    assert_int_equal(live_is("live"), 60);
    assert_int_equal(n_kept, 0);
}

static void put_damaged(void)
{
    struct bytes b;

    put_live();
    b = bytes_read(LIVE);
    memset(b.p, 0xa5, 4096);
    bytes_write(LIVE, b);
    bytes_fini(&b);
    prepare_job();
}

static void raw_or_new(int rc, const struct err *e)
{
    (void)e;
    restorejob_fini(&restorejob);
    if (rc == 0 || n_kept > 0) {
        /* What the journal holds is brought back by the next who opens it. */
        assert_int_equal(n_kept, 1);
        if (rc == 0)
            assert_int_equal(live_is("backup"), n_backup);
    } else {
        struct bytes b = bytes_read(LIVE);

        for (int i = 0; i < 4096; i++)
            assert_int_equal(b.p[i], 0xa5);
        bytes_fini(&b);
    }
}

static void restores_damaged(void **state)
{
    struct op op = {"restore over damage", put_damaged, restore_damaged,
                    raw_or_new};

    (void)state;
    n_backup = 50;
    make_original("delete", 4096, 0, 30);
    restorejob_make_backup(4096, 0, n_backup, false);
    sweep(&op);
}

/* --------------------------------------------------- checking, converting */

static struct check_opts check_opts;

static void no_preparation(void)
{
}

/* What fails must not be taken for damage, nor for a sound file. */
static int check(struct err *e)
{
    struct check_report r;
    int rc = check_run(NULL, &check_opts, &r, e);

    check_report_fini(&r);
    return rc;
}

static void checks(void **state)
{
    static const char *const sql[] = {
        "CREATE TABLE t(a); INSERT INTO t VALUES(1)",
        "CREATE TABLE t(a CHECK(f(a)>a), b COLLATE app);"
        "CREATE INDEX i ON t(b); INSERT INTO t DEFAULT VALUES"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct op op = {"check", no_preparation, check, NULL};

        app_open(0, LIVE);
        app_sql(0, "PRAGMA journal_mode=WAL");
        app_try(0, sql[i % 2]);
        if (i < 2)
            app_close(0);
        check_opts = (struct check_opts){.path = LIVE,
                                         .live = i >= 2,
                                         .wal = i >= 2,
                                         .deep = i == 1,
                                         .size_bytes = 8192};
        sweep(&op);
        if (i >= 2)
            app_close(0);
        (void)scratch_clear(NULL);
    }
}

static void remove_converted(void)
{
    (void)unlink(scratch_path("converted"));
}

static int convert(struct err *e)
{
    return convert_run(NULL, LIVE, scratch_path("converted"), 1024, 8192, e);
}

static void nothing_left(int rc, const struct err *e)
{
    (void)e;
    if (rc == 0)
        app_check(scratch_path("converted"));
}

static void conversions(void **state)
{
    struct op op = {"convert", remove_converted, convert, nothing_left};

    (void)state;
    make_original("delete", 4096, 0, 20);
    put_live();
    sweep(&op);
}

/* ----------------------------------------------- what a check never does */

static void never_written(void **state)
{
    struct sqlite3 *db = NULL;
    sqlite3_file *f = NULL;
    struct bytes before;
    struct bytes after;
    int reserved = 1;

    (void)state;
    make_original("delete", 4096, 0, 20);
    before = bytes_read(ORIGINAL);
    assert_int_equal(sqlite3_open_v2(ORIGINAL, &db, SQLITE_OPEN_READONLY,
                                     check_vfs_private()),
                     SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "SELECT count(*) FROM t", NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(
        sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f),
        SQLITE_OK);
    assert_int_equal(f->pMethods->xWrite(f, "x", 1, 0), SQLITE_READONLY);
    assert_int_equal(f->pMethods->xTruncate(f, 0), SQLITE_READONLY);
    assert_int_equal(f->pMethods->xCheckReservedLock(f, &reserved), SQLITE_OK);
    assert_int_equal(reserved, 0);
    assert_int_not_equal(
        sqlite3_exec(db, "PRAGMA journal_mode=MEMORY; DELETE FROM t", NULL,
                     NULL, NULL),
        SQLITE_OK);
    (void)sqlite3_close(db);
    after = bytes_read(ORIGINAL);
    assert_true(bytes_equal(before, after, NULL));
    bytes_fini(&before);
    bytes_fini(&after);
}

/* The sizes of requests are our own; others are a fault of ours. */
static void other_requests(void **state)
{
    struct buf reply = {0};
    struct err e = {0};

    (void)state;
    assert_int_equal(check_service.run("x", 1, &reply, &e), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    e.code = ERR_NONE;
    assert_int_equal(convert_service.run("x", 1, &reply, &e), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    assert_int_equal(reply.len, 0);
    buf_fini(&reply);
}

static void clean(const char *in, const char *out)
{
    char text[16];

    check_clean_text(text, sizeof text, in, strlen(in));
    assert_string_equal(text, out);
}

static void clean_text(void **state)
{
    (void)state;
    clean("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82z",
          "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82z");
    clean("a\x01\x7f\x1f", "a???");
    clean("\xc0\xaf", "??");                   /* overlong */
    clean("\xed\xa0\x80", "???");              /* a surrogate */
    clean("\xf4\x90\x80\x80", "????");         /* beyond Unicode */
    clean("\xc2\x85|\xc2\xa0", "??|\xc2\xa0"); /* a control; a space */
    clean("\xff\xc3z\xe2\x82", "??z??");
    clean("0123456789abcd\xc3\xa9", "0123456789abcd"); /* not cut inside */
    clean("0123456789abcdefgh", "0123456789abcde");
}

/* ------------------------------------------------------------ small things */

static int empty_image(struct err *e)
{
    struct buf b = {0};
    int rc = image_empty(&b, e);

    buf_fini(&b);
    return rc;
}

static int header(struct err *e)
{
    struct live_opts o = {.path = LIVE, .label = "test", .busy_timeout_ms = 1};
    struct db_header h;
    uint64_t n;

    return live_header(&o, &h, &n, e);
}

static int raw(struct err *e)
{
    uint64_t n = 0;

    return live_copy_raw(&copyjob.live, copyjob.out, &n, e);
}

static void end_raw(int rc, const struct err *e)
{
    right_or_none(rc, e);
}

static int counted(struct err *e)
{
    struct sqlite3 *db = NULL;
    int64_t n = 0;
    int rc = sq_open(LIVE, &db, e);

    if (rc == 0)
        rc = sq_int(db, "SELECT count(*) FROM t", &n, e);
    sq_close(db);
    return rc;
}

static void small(void **state)
{
    static const struct op ops[] = {{"image", put_live, empty_image, NULL},
                                    {"header", put_live, header, NULL},
                                    {"raw copy", prepare_copy, raw, end_raw},
                                    {"count", put_live, counted, NULL}};

    (void)state;
    make_original("delete", 4096, 0, 20);
    image = bytes_read(ORIGINAL);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        sweep(&ops[i]);
    bytes_fini(&image);
}

/* ------------------------------------------------- what the system says */

static void refuses(enum failing_pretence it, const char *reason)
{
    struct live_opts o = {.path = LIVE, .label = "test", .busy_timeout_ms = 1};
    struct live_file f;
    struct err e = {0};

    failing_pretend(it);
    assert_int_equal(live_stat(&o, &f, &e), -1);
    failing_pretend(PRETEND_NOTHING);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, reason);
}

static void refusals(void **state)
{
    struct live_opts o = {.path = LIVE, .label = "test", .busy_timeout_ms = 1};
    struct sqlite3 *db = NULL;
    struct err e = {0};

    (void)state;
    make_original("wal", 4096, 0, 200);
    put_live();
    refuses(PRETEND_NETWORK, "network_fs");
    refuses(PRETEND_USER, "owner");
    failing_pretend(PRETEND_READ_ONLY);
    for (unsigned n = 1; strcmp(e.reason, "read_only") != 0; n++) {
        failing_arm(n, FAIL_DAMAGED, false);
        if (live_connect(&o, &db, &e) == 0)
            live_disconnect(db);
        assert_true(failing_disarm());
    }
    failing_pretend(PRETEND_NOTHING);
}

/* Refused before anything is locked. */
static void no_room(void **state)
{
    static const char *const modes[] = {"wal", "delete"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct err e = {0};

        make_original(modes[i], 4096, 0, 20);
        restorejob_make_backup(4096, 0, 300, false);
        prepare_restore();
        failing_pretend(PRETEND_FULL);
        assert_int_equal(restore(&e), -1);
        failing_pretend(PRETEND_NOTHING);
        restorejob_fini(&restorejob);
        assert_int_equal(e.code, ERR_NO_SPACE);
        assert_int_equal(n_kept, 0);
        assert_int_equal(live_is("live"), 20);
        (void)scratch_clear(NULL);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"failing: a copy is right or there is an error", copies, NULL,
         scratch_clear, NULL},
        {"failing: a restore happens whole or not at all", restores, NULL,
         scratch_clear, NULL},
        {"failing: a copy of another user's database", copies_of_others, NULL,
         scratch_clear, NULL},
        {"failing: a copy beside a writer", copies_beside, NULL, scratch_clear,
         NULL},
        {"failing: a copy of what became another is given up", copies_changed,
         NULL, scratch_clear, NULL},
        {"failing: a restore beside a writer", restores_beside, NULL,
         scratch_clear, NULL},
        {"failing: a restore into what became another is given up",
         restore_changed, NULL, scratch_clear, NULL},
        {"check: a private file is never written", never_written, NULL,
         scratch_clear, NULL},
        {"check: requests of another size are refused", other_requests, NULL,
         NULL, NULL},
        {"check: text from a file is cleaned", clean_text, NULL, NULL, NULL},
        {"failing: a damaged file is restored whole or stays", restores_damaged,
         NULL, scratch_clear, NULL},
        {"failing: a check says that it failed", checks, NULL, scratch_clear,
         NULL},
        {"failing: a conversion leaves nothing behind", conversions, NULL,
         scratch_clear, NULL},
        {"failing: what the system says of a file is heeded", refusals, NULL,
         scratch_clear, NULL},
        {"failing: a restore without room is refused", no_room, NULL,
         scratch_clear, NULL},
        {"failing: headers, raw copies, empty images", small, NULL,
         scratch_clear, NULL},
    };
    struct err e;
    int failed;

    if (app_start() != 0 || sq_init(&e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    app_stop();
    return failed;
}
