/* The service, through src/backup: creating, names, order, stopping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "crypto/sha256.h"
#include "dbutil.h"
#include "servicejob.h"

/* ------------------------------------------------------------- opening */

static void in_use(void **state)
{
    struct service *second = NULL;
    struct err e = {0};
    int n = fds_open();

    (void)state;
    assert_int_equal(service_open(&service_options, &second, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(e.reason, "in_use");
    assert_null(second);
    assert_int_equal(fds_open(), n);
    service_close(NULL);
    servicejob_reopen();
    assert_int_equal(service_ready(service, &(struct err){0}), 0);
}

/* A new data directory is private; work of a process that died is gone. */
static void fresh(void **state)
{
    struct stat st;

    (void)state;
    bytes_write(scratch_path("data/tmp/stage-dead"), (struct bytes){0});
    servicejob_reopen();
    assert_int_equal(count_in("tmp"), 0);
    service_options.data_dir = scratch_path("new");
    servicejob_reopen();
    assert_int_equal(stat(scratch_path("new"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(count_list(), 0);
    /* Nothing is made before it is needed. */
    assert_false(file_exists(scratch_path("new/backups")));
    assert_false(file_exists(scratch_path("new/databases")));
}

static void bad_data_dirs(void **state)
{
    struct service *s = NULL;
    struct service_opts o = service_options;
    struct err e = {0};
    int n = fds_open();

    (void)state;
    o.data_dir = scratch_path("absent/data");
    assert_int_equal(service_open(&o, &s, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    bytes_write(scratch_path("file"), (struct bytes){0});
    o.data_dir = scratch_path("file");
    assert_int_equal(service_open(&o, &s, &e), -1);
    assert_int_not_equal(e.code, ERR_NONE);
    assert_null(s);
    assert_int_equal(fds_open(), n);
}

/* -------------------------------------------------------------- creating */

static void create(void **state)
{
    struct outcome o = {0};
    struct facts f;
    struct err e = {0};
    struct bytes b;
    struct sha256 *sha = sha256_new();
    char hex[SHA256_HEX_SIZE];
    int64_t before = clock_now_s();

    (void)state;
    begin_create(&o, NULL);
    must(&o);
    assert_string_equal(o.database, "default");
    assert_in_range(o.created_at, before, clock_now_s());
    assert_true(o.n_progress >= 1);
    assert_true(o.has_facts);
    b = bytes_read(SERVICEJOB_BACKUP(o.name));
    assert_int_equal(b.n, o.size_bytes);
    sha256_update(sha, b.p, b.n);
    sha256_final(sha, hex);
    sha256_free(sha);
    bytes_fini(&b);
    assert_string_equal(o.sha256, hex);
    expect_list(1, &o.name);
    assert_int_equal(backup_details(service, "default", o.name.s, &f, &e), 0);
    assert_string_equal(f.sha256, hex);
    assert_int_equal(f.created_at, o.created_at);
    assert_int_equal(f.origin, ORIGIN_MANUAL);
    assert_int_equal(f.state, BACKUP_GOOD);
    assert_int_equal(f.proof.result, PROOF_OK);
    assert_string_equal(f.proof.what, "quick_check");
    assert_int_equal(f.page_size, 4096);
    assert_int_equal(f.n_pages * f.page_size, f.size_bytes);
    facts_fini(&f);
    assert_int_equal(count_in("tmp"), 0);
    app_check(SERVICEJOB_BACKUP(o.name));
}

static void create_kinds(void **state)
{
    static const char *const sql[] = {
        "PRAGMA journal_mode=DELETE", "PRAGMA journal_mode=PERSIST",
        "PRAGMA journal_mode=DELETE; PRAGMA page_size=512; VACUUM",
        "PRAGMA page_size=65536; VACUUM; PRAGMA journal_mode=WAL"};

    (void)state;
    for (size_t i = 0; i < sizeof sql / sizeof *sql; i++) {
        struct outcome o = {0};

        app_sql(0, "%s", sql[i]);
        app_sql(0, "INSERT INTO t(b) VALUES(%zu)", i);
        begin_create(&o, NULL);
        must(&o);
        assert_int_equal(o.proof, PROOF_OK);
        app_open(1, SERVICEJOB_BACKUP(o.name));
        assert_int_equal(app_int(1, "SELECT count(*) FROM t"), i + 2);
        app_close(1);
    }
}

static void create_empty(void **state)
{
    struct outcome o = {0};

    (void)state;
    app_close(0);
    bytes_write(SERVICEJOB_LIVE, (struct bytes){0});
    begin_create(&o, NULL);
    must(&o);
    assert_int_equal(o.size_bytes, 4096);
    app_check(SERVICEJOB_BACKUP(o.name));
    app_open(0, SERVICEJOB_LIVE);
}

static void create_refused(void **state)
{
    struct outcome locked = {0};
    struct outcome limit = {0};
    struct outcome missing = {0};

    (void)state;
    service_options.busy_timeout_ms = 50;
    service_options.wal_limit_bytes = 100;
    servicejob_reopen();
    begin_create(&limit, NULL);
    must_fail(&limit, ERR_BUSY, "wal_limit");
    app_sql(0, "PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE");
    begin_create(&locked, NULL);
    must_fail(&locked, ERR_BUSY, "locked");
    app_sql(0, "ROLLBACK");
    app_close(0);
    assert_int_equal(unlink(SERVICEJOB_LIVE), 0);
    begin_create(&missing, NULL);
    must_fail(&missing, ERR_NOT_FOUND, "database");
    assert_int_equal(count_list(), 0);
    assert_int_equal(count_in("tmp"), 0);
    app_open(0, SERVICEJOB_LIVE);
}

/* Damaged, encrypted and foreign files are three different things. */
static void create_damaged(void **state)
{
    struct outcome o = {0};
    struct outcome foreign = {0};
    struct facts *all = NULL;
    struct err e = {0};
    struct bytes b;
    size_t n = 0;

    (void)state;
    app_sql(0,
            "PRAGMA journal_mode=DELETE; CREATE TABLE u(a);" APP_ROWS
            "INSERT INTO u SELECT zeroblob(3000) FROM n",
            20);
    app_close(0);
    b = bytes_read(SERVICEJOB_LIVE);
    memset(b.p + 8192, 0xee, 12288);
    bytes_write(SERVICEJOB_LIVE, b);
    begin_create(&o, NULL);
    must_fail(&o, ERR_DAMAGED, "source");
    assert_int_equal(count_list(), 0);
    assert_int_equal(backup_details_list(service, NULL, 10, NULL, &all, &n, &e),
                     0);
    assert_int_equal(n, 1);
    assert_int_equal(all[0].state, BACKUP_SUSPECT);
    assert_int_equal(all[0].proof.result, PROOF_DAMAGED);
    assert_non_null(all[0].proof.problem);
    assert_non_null(strstr(o.e.message, all[0].name.s));
    facts_fini(&all[0]);
    free(all);
    memset(b.p, 'x', b.n);
    bytes_write(SERVICEJOB_LIVE, b);
    begin_create(&foreign, NULL);
    must_fail(&foreign, ERR_NOT_DATABASE, "");
    assert_int_equal(count_in("backups/default/suspect"), 2);
    assert_int_equal(count_in("tmp"), 0);
    bytes_fini(&b);
    assert_int_equal(unlink(SERVICEJOB_LIVE), 0);
    app_open(0, SERVICEJOB_LIVE);
}

/* At every step: an error, and nothing left behind. */
static void create_faults(void **state)
{
    static const char *const steps[] = {"create.copy:EIO", "create.copy:ENOSPC",
                                        "create.facts:EIO",
                                        "create.publish:EIO"};
    struct backup_name name;

    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct outcome o = {0};

        set_fault(steps[i]);
        begin_create(&o, NULL);
        await(&o);
        assert_int_equal(o.e.code, strstr(steps[i], "ENOSPC") != NULL
                                       ? ERR_NO_SPACE
                                       : ERR_IO);
        assert_int_equal(count_in("tmp"), 0);
        assert_int_equal(count_in("backups/default"), 0);
        assert_int_equal(count_list(), 0);
    }
    set_fault("");
    name = made();
    expect_list(1, &name);
}

/* ------------------------------------------------------------ coalescing */

#define N_WAITING 100

static void coalescing(void **state)
{
    static struct outcome waiting[N_WAITING];
    struct outcome first = {.gated = true};
    struct outcome later = {0};

    (void)state;
    memset(waiting, 0, sizeof waiting);
    begin_create(&first, NULL);
    await_gate(&first);
    /* The copy has begun: who comes now gets the next one. */
    app_sql(0, "INSERT INTO t(b) VALUES('marker')");
    for (int i = 0; i < N_WAITING; i++)
        begin_create(&waiting[i], i % 2 == 0 ? NULL : "default");
    servicejob_open_gate();
    must(&first);
    for (int i = 0; i < N_WAITING; i++) {
        must(&waiting[i]);
        assert_string_equal(waiting[i].name.s, waiting[0].name.s);
        assert_string_equal(waiting[i].sha256, waiting[0].sha256);
    }
    assert_true(strcmp(waiting[0].name.s, first.name.s) > 0);
    assert_int_equal(count_list(), 2);
    app_open(1, SERVICEJOB_BACKUP(waiting[0].name));
    assert_int_equal(app_int(1, "SELECT count(*) FROM t WHERE b='marker'"), 1);
    app_close(1);
    /* Who comes after an answer never gets that answer's copy. */
    begin_create(&later, NULL);
    must(&later);
    assert_true(strcmp(later.name.s, waiting[0].name.s) > 0);
}

/* Other databases do not wait. */
static void side_by_side(void **state)
{
    struct outcome first = {.gated = true};
    struct outcome other = {0};
    struct database_info d;
    struct err e = {0};

    (void)state;
    assert_int_equal(databases_add(service, "shop", NULL, false, &d, &e), 0);
    database_info_fini(&d);
    begin_create(&first, NULL);
    await_gate(&first);
    begin_create(&other, "shop");
    must(&other);
    assert_string_equal(other.database, "shop");
    servicejob_open_gate();
    must(&first);
    assert_int_equal(other.turn, 1);
}

/* ----------------------------------------------------------------- names */

static struct backup_name name_at(int64_t t)
{
    struct backup_name name;

    backup_name_format(t, &name);
    return name;
}

static int64_t time_of(struct backup_name name)
{
    int64_t t = 0;

    assert_true(backup_name_parse(name.s, &name, &t));
    return t;
}

/* A second that is taken is waited out. */
static void names_ascend(void **state)
{
    int64_t last = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct outcome o = {0};

        begin_create(&o, NULL);
        must(&o);
        assert_int_equal(time_of(o.name), o.created_at);
        assert_true(o.created_at > last);
        /* The second at which the copy was taken, not one made up. */
        assert_true(o.created_at <= clock_now_s());
        last = o.created_at;
    }
    assert_int_equal(count_list(), 20);
}

/* The clock stands behind: the newest plus one, without waiting. */
static void clock_behind(void **state)
{
    struct backup_name first;
    int64_t t;

    (void)state;
    set_clock(100000);
    first = made();
    t = time_of(first);
    set_clock(0);
    for (int i = 1; i <= 3; i++)
        assert_int_equal(time_of(made()), t + i);
    servicejob_reopen();
    assert_int_equal(time_of(made()), t + 4);
    assert_true(clock_now_s() < t - 90000);
    /* It has caught up. */
    set_clock(200000);
    assert_true(time_of(made()) > t + 90000);
}

/* Not even after a restart, and when the backup was deleted. */
static void names_never_again(void **state)
{
    struct outcome o = {0};
    struct backup_name name;

    (void)state;
    set_clock(100000);
    name = made();
    begin_delete(&o, NULL, name.s);
    must(&o);
    set_clock(0);
    servicejob_reopen();
    assert_int_equal(time_of(made()), time_of(name) + 1);
}

/* Files that others put there do not drive our names, but keep theirs. */
static void names_of_others(void **state)
{
    struct backup_name first = made();
    struct backup_name far = name_at(clock_now_s() + 1000000);
    struct backup_name next = name_at(time_of(first) + 1);
    struct backup_name got;

    (void)state;
    file_copy_all(SERVICEJOB_BACKUP(first), SERVICEJOB_BACKUP(far));
    file_copy_all(SERVICEJOB_BACKUP(first), SERVICEJOB_BACKUP(next));
    set_clock(-100000);
    got = made();
    assert_int_equal(time_of(got), time_of(first) + 2);
    assert_int_equal(count_list(), 4);
}

/* ------------------------------------------------------- unknown and wrong */

static void unknown(void **state)
{
    static const char *const wrong[] = {"", "app.db", "../../etc/passwd",
                                        "app_20260230_120000.db",
                                        "app_20260413_120000.db.json"};
    static const char absent[] = "app_20260413_120000.db";
    const struct backup_list *l = NULL;
    struct facts f;
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < 4 * (2 + sizeof wrong / sizeof *wrong); i++) {
        size_t k = i / 4;
        const char *db = k == 0 ? "shop" : k == 1 ? "a/b" : NULL;
        const char *file = k < 2 ? absent : wrong[k - 2];
        struct outcome o = {0};

        if (i % 4 == 0)
            begin_restore(&o, db, file, false);
        else if (i % 4 == 1)
            begin_delete(&o, db, file);
        else if (i % 4 == 2)
            begin_verify(&o, db, file);
        else
            begin_fetch(&o, db, file, true);
        if (k == 0)
            must_fail(&o, ERR_NOT_FOUND, "database");
        else if (k == 1)
            must_fail(&o, ERR_INVALID, "database_name");
        else
            must_fail(&o, ERR_INVALID, "filename");
    }
    for (int i = 0; i < 4; i++) {
        struct outcome o = {0};

        if (i == 0)
            begin_restore(&o, NULL, absent, false);
        else if (i == 1)
            begin_delete(&o, NULL, absent);
        else if (i == 2)
            begin_verify(&o, NULL, absent);
        else
            begin_fetch(&o, NULL, absent, false);
        must_fail(&o, ERR_NOT_FOUND, "backup");
    }
    assert_int_equal(backup_details(service, NULL, absent, &f, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.reason, "backup");
    assert_int_equal(backup_list_get(service, "shop", &l, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.reason, "database");
    backup_list_put(NULL);
}

/* ------------------------------------------------------------------ order */

/* A delete does not wait for a copy. */
static void delete_at_once(void **state)
{
    struct outcome copy = {.gated = true};
    struct outcome o = {0};
    struct backup_name name = made();

    (void)state;
    begin_create(&copy, NULL);
    await_gate(&copy);
    begin_delete(&o, NULL, name.s);
    must(&o);
    expect_list(0, NULL);
    servicejob_open_gate();
    must(&copy);
    assert_int_equal(o.turn, 2);
}

/* A restore that is queued still finds its backup. */
static void delete_waits_for_restore(void **state)
{
    struct outcome copy = {.gated = true};
    struct outcome restore = {0};
    struct outcome removed = {0};
    struct outcome other = {0};
    struct backup_name a = made();
    struct backup_name b = made();

    (void)state;
    begin_create(&copy, NULL);
    await_gate(&copy);
    begin_restore(&restore, NULL, a.s, false);
    begin_delete(&removed, NULL, a.s);
    begin_delete(&other, NULL, b.s);
    must(&other);
    assert_int_equal(removed.n_done, 0);
    servicejob_open_gate();
    must(&restore);
    must(&removed);
    assert_true(restore.turn < removed.turn);
    assert_false(file_exists(SERVICEJOB_BACKUP(a)));
}

#define N_QUEUED 64

/* The same when no more work may wait. */
static void delete_when_full(void **state)
{
    static struct outcome restore[N_QUEUED + 1];
    struct outcome copy = {.gated = true};
    struct outcome removed = {0};
    struct backup_name a = made();

    (void)state;
    memset(restore, 0, sizeof restore);
    begin_create(&copy, NULL);
    await_gate(&copy);
    for (int i = 0; i <= N_QUEUED; i++)
        begin_restore(&restore[i], NULL, a.s, false);
    must_fail(&restore[N_QUEUED], ERR_BUSY, "queue");
    begin_delete(&removed, NULL, a.s);
    servicejob_open_gate();
    await(&removed);
    /* Refused, or carried out behind them. */
    if (removed.e.code != ERR_NONE)
        must_fail(&removed, ERR_BUSY, "queue");
    for (int i = 0; i < N_QUEUED; i++)
        must(&restore[i]);
}

/* A download that runs keeps its file. */
static void delete_under_download(void **state)
{
    struct outcome fetch = {0};
    struct outcome removed = {0};
    struct backup_name a = made();
    struct err e = {0};
    char magic[16];

    (void)state;
    begin_fetch(&fetch, NULL, a.s, false);
    must(&fetch);
    assert_true(fetch.fd >= 0 && fetch.has_facts);
    begin_delete(&removed, NULL, a.s);
    must(&removed);
    assert_int_equal(file_pread_all(fetch.fd, magic, 16, 0, &e), 0);
    assert_string_equal(magic, "SQLite format 3");
    file_close(&fetch.fd);
}

/* --------------------------------------------------------------- stopping */

static void stopped(void **state)
{
    struct backup_name a = made();

    (void)state;
    service_stop(service);
    for (int i = 0; i < 4; i++) {
        struct outcome o = {0};

        if (i == 0)
            begin_create(&o, NULL);
        else if (i == 1)
            begin_restore(&o, NULL, a.s, false);
        else if (i == 2)
            begin_verify(&o, NULL, a.s);
        else
            begin_delete(&o, NULL, a.s);
        must_fail(&o, ERR_BUSY, "stopping");
    }
    assert_true(file_exists(SERVICEJOB_BACKUP(a)));
    expect_list(1, &a);
}

static void *stop_thread(void *arg)
{
    service_stop(service);
    return arg;
}

/* A copy under way is given up, and what waits behind it is refused. */
static void stop_in_the_middle(void **state)
{
    struct outcome copy = {.gated = true};
    struct outcome waiting = {0};
    struct outcome restore = {0};
    struct backup_name a = made();
    pthread_t thread;

    (void)state;
    app_sql(0,
            "CREATE TABLE u(a);" APP_ROWS
            "INSERT INTO u SELECT zeroblob(3000) FROM n",
            1000);
    begin_create(&copy, NULL);
    await_gate(&copy);
    begin_create(&waiting, NULL);
    begin_restore(&restore, NULL, a.s, false);
    assert_int_equal(pthread_create(&thread, NULL, stop_thread, NULL), 0);
    for (;;) {
        struct outcome probe = {0}; /* a verify does not wait for the copy */

        begin_verify(&probe, NULL, a.s);
        await(&probe);
        if (probe.e.code == ERR_BUSY)
            break;
    }
    servicejob_open_gate();
    must_fail(&copy, ERR_BUSY, "stopping");
    must_fail(&waiting, ERR_BUSY, "stopping");
    must_fail(&restore, ERR_BUSY, "stopping");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(count_in("tmp"), 0);
    expect_list(1, &a);
}

#define T(name, f)                                           \
    {                                                        \
        name, f, servicejob_setup, servicejob_teardown, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T("service: a data directory has one service", in_use),
        T("service: a new data directory, and what a crash left", fresh),
        T("service: a data directory that cannot be", bad_data_dirs),
        T("create: a checked copy with its facts", create),
        T("create: journal modes and page sizes", create_kinds),
        T("create: a file of 0 bytes gives a valid empty database",
          create_empty),
        T("create: a locked or missing database, a WAL past its limit",
          create_refused),
        T("create: of a damaged source a suspect copy is kept", create_damaged),
        T("create: a fault at any step leaves nothing", create_faults),
        T("create: who waits when a copy begins shares it", coalescing),
        T("create: other databases go on side by side", side_by_side),
        T("names: ascend, one a second", names_ascend),
        T("names: a clock that stands behind is not waited for", clock_behind),
        T("names: are never used again", names_never_again),
        T("names: those of others are left alone", names_of_others),
        T("service: unknown and wrong names", unknown),
        T("delete: does not wait for a copy", delete_at_once),
        T("delete: waits for a restore from the same backup",
          delete_waits_for_restore),
        T("delete: also when no more work may wait", delete_when_full),
        T("delete: a download that runs keeps its file", delete_under_download),
        T("stop: new work is refused", stopped),
        T("stop: work under way is given up", stop_in_the_middle),
    };

    return servicejob_main(tests, sizeof tests / sizeof *tests);
}
