/* The service, through src/backup: restoring, settling, verifying, adopting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "dbutil.h"
#include "servicejob.h"

/* --------------------------------------------------------------- helpers */

static void restored(struct outcome *o, struct backup_name name)
{
    memset(o, 0, sizeof *o);
    begin_restore(o, NULL, name.s, false);
    must(o);
    assert_string_equal(o->name.s, name.s);
}

static int64_t rows(void)
{
    return app_int(0, "SELECT count(*) FROM t");
}

static struct facts details(struct backup_name name)
{
    struct facts f = {0};
    struct err e = {0};

    if (backup_details(service, NULL, name.s, &f, &e) != 0)
        fail_msg("%s", e.message);
    return f;
}

static void flip_byte(const char *path, size_t at)
{
    struct bytes b = bytes_read(path);

    b.p[at] ^= 1;
    bytes_write(path, b);
    bytes_fini(&b);
}

/* What a live file holds while nobody has it open. */
static void replace_live(const void *bytes, size_t n)
{
    app_close(0);
    (void)unlink(scratch_path("data/databases/default/app.db-wal"));
    (void)unlink(scratch_path("data/databases/default/app.db-shm"));
    bytes_write(SERVICEJOB_LIVE,
                (struct bytes){(uint8_t *)(uintptr_t)bytes, n});
}

/* ------------------------------------------------------------- restoring */

static void restore_and_undo(void **state)
{
    static const char *const modes[] = {"WAL", "DELETE"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct outcome o;
        struct outcome undo;
        struct backup_name old;
        struct facts f;

        app_sql(0,
                "PRAGMA journal_mode=%s; DELETE FROM t;"
                "INSERT INTO t(b) VALUES('old')",
                modes[i]);
        old = made();
        app_sql(0, "INSERT INTO t(b) VALUES('new')");
        restored(&o, old);
        assert_int_equal(rows(), 1);
        f = details(o.safety);
        assert_int_equal(f.origin, ORIGIN_SAFETY);
        assert_int_equal(f.state, BACKUP_GOOD);
        assert_int_equal(f.proof.result, PROOF_OK);
        assert_int_equal(strlen(f.sha256), 64);
        facts_fini(&f);
        assert_true(strcmp(o.safety.s, old.s) > 0);
        app_check(SERVICEJOB_BACKUP(o.safety));
        restored(&undo, o.safety);
        assert_int_equal(rows(), 2);
        assert_int_equal(app_int(0, APP_INTEGRITY), 1);
        assert_int_equal(count_list(), 3 * (i + 1));
        assert_int_equal(count_in("tmp"), 0);
    }
}

/* The file is not there: owner and mode of its folder. */
static void restore_missing(void **state)
{
    struct backup_name name = made();
    struct outcome o;
    struct stat st;

    (void)state;
    app_close(0);
    assert_int_equal(chmod(scratch_path("data/databases/default"), 0750), 0);
    assert_int_equal(unlink(SERVICEJOB_LIVE), 0);
    restored(&o, name);
    assert_string_equal(o.safety.s, "");
    app_open(0, SERVICEJOB_LIVE);
    assert_int_equal(rows(), 1);
    assert_int_equal(stat(SERVICEJOB_LIVE, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(count_in("databases/default"), 1);
    assert_int_equal(count_list(), 1);
    /* Not beside somebody's -wal. */
    app_close(0);
    assert_int_equal(unlink(SERVICEJOB_LIVE), 0);
    bytes_write(scratch_path("data/databases/default/app.db-wal"),
                (struct bytes){(uint8_t *)(uintptr_t) "x", 1});
    memset(&o, 0, sizeof o);
    begin_restore(&o, NULL, name.s, false);
    must_fail(&o, ERR_CONFLICT, "leftovers");
    assert_false(file_exists(SERVICEJOB_LIVE));
    assert_int_equal(unlink(scratch_path("data/databases/default/app.db-wal")),
                     0);
    app_open(0, SERVICEJOB_LIVE);
}

static void restore_empty(void **state)
{
    struct backup_name name = made();
    struct outcome o;

    (void)state;
    replace_live("", 0);
    restored(&o, name);
    assert_string_equal(o.safety.s, "");
    app_open(0, SERVICEJOB_LIVE);
    assert_int_equal(rows(), 1);
    assert_int_equal(count_list(), 1);
}

/* The live page size stays; the backup is converted. */
static void restore_page_size(void **state)
{
    static const int sizes[] = {512, 8192, 65536};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct backup_name name;
        struct outcome o;

        app_sql(0, "PRAGMA journal_mode=DELETE; PRAGMA page_size=%d; VACUUM",
                sizes[i]);
        name = made();
        app_sql(0, "PRAGMA page_size=4096; VACUUM; PRAGMA journal_mode=WAL;"
                   "INSERT INTO t(b) VALUES('new')");
        restored(&o, name);
        assert_int_equal(rows(), 1);
        assert_int_equal(app_int(0, "PRAGMA page_size"), 4096);
        assert_int_equal(app_int(0, APP_INTEGRITY), 1);
        assert_int_equal(count_in("tmp"), 0);
    }
}

static void restore_encoding(void **state)
{
    struct backup_name name;
    struct outcome o = {0};
    struct outcome forced = {0};

    (void)state;
    replace_live("", 0);
    app_open(0, SERVICEJOB_LIVE);
    app_sql(0, "PRAGMA encoding='UTF-16le'; CREATE TABLE t(a, b);"
               "INSERT INTO t VALUES(1, 'x')");
    name = made();
    replace_live("", 0);
    app_open(0, SERVICEJOB_LIVE);
    app_sql(0, "CREATE TABLE t(a, b)");
    begin_restore(&o, NULL, name.s, false);
    must_fail(&o, ERR_CONFLICT, "encoding");
    assert_int_equal(rows(), 0);
    begin_restore(&forced, NULL, name.s, true);
    must(&forced);
    app_close(0);
    app_open(0, SERVICEJOB_LIVE);
    assert_int_equal(rows(), 1);
}

/* A damaged backup is refused, set aside, and never offered again. */
static void restore_damaged_backup(void **state)
{
    struct backup_name name = made();
    struct outcome o = {0};
    struct outcome again = {0};
    struct facts f;

    (void)state;
    app_sql(0, "INSERT INTO t(b) VALUES('new')");
    flip_byte(SERVICEJOB_BACKUP(name), 5000);
    begin_restore(&o, NULL, name.s, false);
    must_fail(&o, ERR_DAMAGED, "backup");
    assert_int_equal(rows(), 2);
    expect_list(0, NULL);
    f = details(name);
    assert_int_equal(f.state, BACKUP_SUSPECT);
    assert_int_equal(f.proof.result, PROOF_DAMAGED);
    facts_fini(&f);
    begin_restore(&again, NULL, name.s, true);
    must_fail(&again, ERR_DAMAGED, "backup");
    assert_int_equal(rows(), 2);
}

/* Its length alone may be wrong. */
static void restore_short_backup(void **state)
{
    struct backup_name name = made();
    struct outcome o = {0};
    struct bytes b = bytes_read(SERVICEJOB_BACKUP(name));

    (void)state;
    b.n -= 4096;
    bytes_write(SERVICEJOB_BACKUP(name), b);
    bytes_fini(&b);
    begin_restore(&o, NULL, name.s, false);
    must_fail(&o, ERR_DAMAGED, "backup");
    assert_int_equal(rows(), 1);
}

/* The live file cannot be read at all: its bytes are kept as suspect. */
static void restore_over_damage(void **state)
{
    struct backup_name name = made();
    struct bytes b;
    struct bytes kept;
    struct outcome o;
    struct facts f;

    (void)state;
    app_sql(0, "PRAGMA journal_mode=DELETE");
    b = bytes_read(SERVICEJOB_LIVE);
    memset(b.p + 16, 0xee, 100); /* the magic is right, the rest is not */
    replace_live(b.p, b.n);
    restored(&o, name);
    app_open(0, SERVICEJOB_LIVE);
    assert_int_equal(rows(), 1);
    assert_int_equal(app_int(0, APP_INTEGRITY), 1);
    expect_list(1, &name);
    f = details(o.safety);
    assert_int_equal(f.state, BACKUP_SUSPECT);
    assert_int_equal(f.size_bytes, b.n);
    facts_fini(&f);
    kept =
        bytes_read(scratch_path("data/backups/default/suspect/%s", o.safety.s));
    assert_true(bytes_equal(b, kept, NULL));
    bytes_fini(&kept);
    bytes_fini(&b);
}

/* No database of ours, or an encrypted one: never overwritten. */
static void restore_over_foreign(void **state)
{
    struct backup_name name = made();
    uint8_t text[8192];
    uint8_t noise[8192];
    struct outcome o = {0};
    struct outcome encrypted = {0};
    struct bytes now;
    unsigned x = 12345;

    (void)state;
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < sizeof noise; i++) {
        x = x * 1103515245 + 12345;
        noise[i] = (uint8_t)(x >> 16);
    }
    replace_live(text, sizeof text);
    begin_restore(&o, NULL, name.s, true);
    must_fail(&o, ERR_CONFLICT, "not_a_database");
    app_open(0, SERVICEJOB_LIVE);
    replace_live(noise, sizeof noise);
    begin_restore(&encrypted, NULL, name.s, true);
    must_fail(&encrypted, ERR_CONFLICT, "encrypted");
    now = bytes_read(SERVICEJOB_LIVE);
    assert_int_equal(now.n, sizeof noise);
    assert_memory_equal(now.p, noise, now.n);
    bytes_fini(&now);
    assert_int_equal(count_in("tmp"), 0);
    assert_int_equal(unlink(SERVICEJOB_LIVE), 0);
    app_open(0, SERVICEJOB_LIVE);
}

static void restore_refused(void **state)
{
    struct backup_name name = made();
    struct outcome locked = {0};
    struct outcome stall = {0};

    (void)state;
    service_options.busy_timeout_ms = 50;
    service_options.max_stall_ms = 1;
    servicejob_reopen();
    app_sql(0, "INSERT INTO t(b) VALUES('new')");
    begin_restore(&stall, NULL, name.s, false);
    must_fail(&stall, ERR_BUSY, "max_stall");
    service_options.max_stall_ms = 0;
    servicejob_reopen();
    app_sql(0, "BEGIN IMMEDIATE");
    begin_restore(&locked, NULL, name.s, false);
    must_fail(&locked, ERR_BUSY, "locked");
    app_sql(0, "ROLLBACK");
    assert_int_equal(rows(), 2);
    expect_list(1, &name);
    assert_int_equal(count_in("tmp"), 0);
}

/* At every step before the commit: the live database and the list are as they
 * were, and the next restore works. */
static void restore_faults(void **state)
{
    static const char *const steps[] = {
        "restore.check:EIO",   "restore.copy:ENOSPC", "restore.locked:EIO",
        "restore.publish:EIO", "restore.write:EIO",   "restore.write:ENOSPC",
        "restore.commit:EIO"};
    static const char *const modes[] = {"WAL", "DELETE"};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof steps / sizeof *steps; i++) {
        const char *step = steps[i / 2];
        struct outcome o = {0};
        struct outcome good;
        struct backup_name name;
        size_t n;

        app_sql(0,
                "PRAGMA journal_mode=%s; DELETE FROM t;"
                "INSERT INTO t(b) VALUES('old')",
                modes[i % 2]);
        name = made();
        app_sql(0, "INSERT INTO t(b) VALUES('new')");
        n = count_list();
        set_fault(step);
        begin_restore(&o, NULL, name.s, false);
        await(&o);
        assert_int_equal(o.e.code, strstr(step, "ENOSPC") != NULL ? ERR_NO_SPACE
                                                                  : ERR_IO);
        set_fault("");
        assert_int_equal(rows(), 2);
        assert_int_equal(count_list(), n);
        assert_int_equal(count_in("backups/default"), 2 * n);
        assert_int_equal(count_in("tmp"), 0);
        app_sql(0, "BEGIN IMMEDIATE; ROLLBACK");
        restored(&good, name);
        assert_int_equal(rows(), 1);
    }
}

/* ------------------------------------------------------------- settling */

/* The restore has happened; its safety copy is settled at the next start. */
static void settle_later(void **state)
{
    struct backup_name name = made();
    struct backup_name list[2];
    struct outcome o;
    struct facts f;

    (void)state;
    app_sql(0, "INSERT INTO t(b) VALUES('new')");
    set_fault("restore.finish:EIO");
    restored(&o, name);
    assert_int_equal(rows(), 1);
    expect_list(1, &name);
    set_fault("");
    servicejob_reopen();
    list[0] = o.safety;
    list[1] = name;
    expect_list(2, list);
    f = details(o.safety);
    assert_int_equal(f.proof.result, PROOF_OK);
    assert_int_equal(f.origin, ORIGIN_SAFETY);
    facts_fini(&f);
    restored(&o, list[0]);
    assert_int_equal(rows(), 2);
}

static void settle_when_listed(void **state)
{
    struct backup_name name = made();
    struct outcome o;

    (void)state;
    set_fault("restore.finish:EIO");
    restored(&o, name);
    set_fault("");
    while (count_list() < 2)
        ;
    restored(&o, o.safety);
}

/* It was damaged meanwhile: not listed, but there. */
static void settle_damaged(void **state)
{
    struct backup_name name = made();
    struct outcome o;
    struct facts f;

    (void)state;
    set_fault("restore.finish:EIO");
    restored(&o, name);
    set_fault("");
    flip_byte(SERVICEJOB_BACKUP(o.safety), 6000);
    servicejob_reopen();
    expect_list(1, &name);
    f = details(o.safety);
    assert_int_equal(f.state, BACKUP_SUSPECT);
    assert_int_equal(f.proof.result, PROOF_DAMAGED);
    facts_fini(&f);
}

/* What waits for settling is no backup yet. */
static void settle_pending(void **state)
{
    struct backup_name name = made();
    struct outcome o;
    struct outcome later = {0};
    struct outcome fetch = {0};

    (void)state;
    set_fault("restore.finish:EIO");
    restored(&o, name);
    begin_restore(&later, NULL, o.safety.s, false);
    must_fail(&later, ERR_NOT_FOUND, "backup");
    begin_fetch(&fetch, NULL, o.safety.s, true);
    must_fail(&fetch, ERR_NOT_FOUND, "backup");
    set_fault("");
}

/* ------------------------------------------------------------- verifying */

static void verify(void **state)
{
    struct backup_name name = made();
    struct outcome o = {0};
    struct facts f;

    (void)state;
    set_clock(500);
    begin_verify(&o, NULL, name.s);
    must(&o);
    assert_int_equal(o.proof, PROOF_OK);
    assert_string_equal(o.what, "integrity_check");
    f = details(name);
    assert_string_equal(f.proof.what, "integrity_check");
    assert_true(f.proof.at >= f.created_at + 499);
    facts_fini(&f);
}

/* Damage is an answer; the backup is set aside, and deletable. */
static void verify_damaged(void **state)
{
    struct backup_name name = made();
    struct outcome o = {0};
    struct outcome again = {0};
    struct outcome fetch = {0};
    struct outcome asked = {0};
    struct outcome removed = {0};

    (void)state;
    flip_byte(SERVICEJOB_BACKUP(name), 8000);
    begin_verify(&o, NULL, name.s);
    must(&o);
    assert_int_equal(o.state, BACKUP_SUSPECT);
    assert_int_equal(o.proof, PROOF_DAMAGED);
    assert_string_equal(o.what, "sha256");
    expect_list(0, NULL);
    begin_fetch(&fetch, NULL, name.s, false);
    must_fail(&fetch, ERR_DAMAGED, "suspect");
    begin_fetch(&asked, NULL, name.s, true);
    must(&asked);
    assert_true(asked.fd >= 0);
    file_close(&asked.fd);
    /* It stays set aside, also when its bytes are right again. */
    flip_byte(scratch_path("data/backups/default/suspect/%s", name.s), 8000);
    begin_verify(&again, NULL, name.s);
    must(&again);
    assert_int_equal(again.state, BACKUP_SUSPECT);
    begin_delete(&removed, NULL, name.s);
    must(&removed);
    assert_int_equal(count_in("backups/default/suspect"), 0);
}

static void verify_kept_result(void **state)
{
    struct backup_name name = made();
    struct facts *all = NULL;
    struct err e = {0};
    size_t n = 0;
    struct outcome o = {0};
    struct backup_name second = made();

    (void)state;
    flip_byte(SERVICEJOB_BACKUP(name), 5001);
    begin_verify(&o, NULL, name.s);
    must(&o);
    servicejob_reopen();
    assert_int_equal(backup_details_list(service, NULL, 10, NULL, &all, &n, &e),
                     0);
    assert_int_equal(n, 2);
    assert_string_equal(all[0].name.s, second.s);
    assert_int_equal(all[0].state, BACKUP_GOOD);
    assert_string_equal(all[1].name.s, name.s);
    assert_int_equal(all[1].state, BACKUP_SUSPECT);
    facts_fini(&all[0]);
    facts_fini(&all[1]);
    free(all);
    assert_int_equal(backup_details_list(service, NULL, 1, NULL, &all, &n, &e),
                     0);
    assert_int_equal(n, 1);
    facts_fini(&all[0]);
    free(all);
    assert_int_equal(
        backup_details_list(service, NULL, 10, &second, &all, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_string_equal(all[0].name.s, name.s);
    facts_fini(&all[0]);
    free(all);
}

/* -------------------------------------------------------------- adopted */

static struct backup_name adopt(void)
{
    struct backup_name name;

    backup_name_format(1776081600, &name);
    app_image(SERVICEJOB_LIVE, SERVICEJOB_BACKUP(name));
    return name;
}

static void adopted(void **state)
{
    struct backup_name own = made();
    struct backup_name name = adopt();
    struct backup_name list[2] = {own, name};
    struct outcome fetch = {0};
    struct outcome o = {0};
    struct outcome r;
    struct bytes before = bytes_read(SERVICEJOB_BACKUP(name));
    struct bytes after;
    struct facts f;

    (void)state;
    expect_list(2, list);
    f = details(name);
    assert_int_equal(f.origin, ORIGIN_ADOPTED);
    assert_int_equal(f.state, BACKUP_GOOD);
    assert_int_equal(f.proof.result, PROOF_NONE);
    assert_string_equal(f.sha256, "");
    facts_fini(&f);
    begin_fetch(&fetch, NULL, name.s, false);
    must(&fetch);
    assert_int_equal(strlen(fetch.sha256), 64);
    file_close(&fetch.fd);
    begin_verify(&o, NULL, name.s);
    must(&o);
    assert_int_equal(o.proof, PROOF_OK);
    /* What was found out is remembered, not written beside it. */
    servicejob_reopen();
    f = details(name);
    assert_string_equal(f.sha256, o.sha256);
    assert_int_equal(f.proof.result, PROOF_OK);
    assert_string_equal(f.proof.what, "integrity_check");
    facts_fini(&f);
    assert_int_equal(count_in("backups/default"), 3);
    app_sql(0, "INSERT INTO t(b) VALUES('new')");
    restored(&r, name);
    assert_int_equal(rows(), 1);
    /* Its header says WAL: neither it nor its folder is changed. */
    assert_false(
        file_exists(scratch_path("data/backups/default/%s-wal", name.s)));
    after = bytes_read(SERVICEJOB_BACKUP(name));
    assert_true(bytes_equal(before, after, NULL));
    bytes_fini(&before);
    bytes_fini(&after);
}

static void adopted_damaged(void **state)
{
    struct backup_name name;
    struct outcome o = {0};
    struct outcome v = {0};
    struct outcome fetch = {0};

    (void)state;
    (void)made();
    app_sql(0,
            "CREATE TABLE u(a);" APP_ROWS
            "INSERT INTO u SELECT zeroblob(3000) FROM n",
            20);
    name = adopt();
    flip_byte(SERVICEJOB_BACKUP(name), 4096); /* the type of page 2 */
    assert_int_equal(count_list(), 2);
    begin_restore(&o, NULL, name.s, false);
    must_fail(&o, ERR_DAMAGED, "backup");
    begin_verify(&v, NULL, name.s);
    must(&v);
    assert_int_equal(v.state, BACKUP_SUSPECT);
    assert_int_equal(count_list(), 1);
    begin_fetch(&fetch, NULL, name.s, false);
    must_fail(&fetch, ERR_DAMAGED, "suspect");
    /* The file stays where its owner put it. */
    assert_true(file_exists(SERVICEJOB_BACKUP(name)));
}

/* A file that is still being copied there is no backup yet. */
static void adopted_growing(void **state)
{
    struct backup_name own = made();
    struct backup_name name = adopt();
    struct bytes b = bytes_read(SERVICEJOB_BACKUP(name));
    struct bytes half = {b.p, b.n - 4096};
    struct outcome o = {0};

    (void)state;
    bytes_write(SERVICEJOB_BACKUP(name), half);
    expect_list(1, &own);
    begin_restore(&o, NULL, name.s, false);
    must_fail(&o, ERR_DAMAGED, "");
    bytes_write(SERVICEJOB_BACKUP(name), b);
    assert_int_equal(count_list(), 2);
    bytes_fini(&b);
}

/* A server examines them by itself. */
static void adopted_in_background(void **state)
{
    struct backup_name name;

    (void)state;
    (void)made();
    name = adopt();
    service_options.background = true;
    servicejob_reopen();
    assert_int_equal(count_list(), 2);
    for (;;) {
        struct facts f = details(name);
        bool known = f.sha256[0] != '\0';

        if (known)
            assert_int_equal(f.proof.result, PROOF_OK);
        facts_fini(&f);
        if (known)
            break;
        clock_sleep_ms(1);
    }
}

/* The list is read anew when the folder changes, and only then. */
static void shared_list(void **state)
{
    const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    const struct backup_list *a = NULL;
    const struct backup_list *b = NULL;
    const struct backup_list *c = NULL;
    struct err e = {0};

    (void)state;
    (void)made();
    assert_int_equal(
        utimensat(AT_FDCWD, scratch_path("data/backups/default"), old, 0), 0);
    assert_int_equal(backup_list_get(service, NULL, &a, &e), 0);
    assert_int_equal(backup_list_get(service, NULL, &b, &e), 0);
    assert_ptr_equal(a, b);
    (void)made();
    assert_int_equal(backup_list_get(service, NULL, &c, &e), 0);
    assert_int_equal(c->n, 2);
    assert_true(c->generation != a->generation);
    /* Whoever has the old one keeps it. */
    assert_int_equal(a->n, 1);
    backup_list_put(a);
    backup_list_put(b);
    backup_list_put(c);
}

/* Each puts files of its own into the folder and asks at once. */
#define LISTERS 8
#define ROUNDS 50

struct lister {
    pthread_t thread;
    int dir; /* of the backups */
    struct backup_name from;
    int64_t first;
    int n_seen;
};

static void *put_and_list(void *arg)
{
    struct lister *me = arg;

    for (int64_t t = me->first; t < me->first + ROUNDS; t++) {
        const struct backup_list *l = NULL;
        struct backup_name name;
        struct err e = {0};

        backup_name_format(t, &name);
        if (linkat(me->dir, me->from.s, me->dir, name.s, 0) != 0 ||
            backup_list_get(service, NULL, &l, &e) != 0)
            break;
        for (size_t i = 0; i < l->n; i++) {
            if (l->item[i].created_at == t)
                me->n_seen++;
        }
        backup_list_put(l);
    }
    return NULL;
}

static void listing_at_once(void **state)
{
    struct lister lister[LISTERS] = {0};
    struct backup_name from = made();
    int dir = open(scratch_path("data/backups/default"), O_RDONLY);

    (void)state;
    for (int i = 0; i < LISTERS; i++) {
        struct lister *l = &lister[i];

        l->dir = dir;
        l->from = from;
        l->first = 1700000000 + i * ROUNDS;
        assert_int_equal(pthread_create(&l->thread, NULL, put_and_list, l), 0);
    }
    for (int i = 0; i < LISTERS; i++) {
        assert_int_equal(pthread_join(lister[i].thread, NULL), 0);
        assert_int_equal(lister[i].n_seen, ROUNDS);
    }
    assert_int_equal(close(dir), 0);
}

#define T(name, f)                                           \
    {                                                        \
        name, f, servicejob_setup, servicejob_teardown, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T("restore: brings the state back, and is undone by its safety copy",
          restore_and_undo),
        T("restore: a missing live file is made like its folder",
          restore_missing),
        T("restore: into a file of 0 bytes keeps nothing", restore_empty),
        T("restore: a backup of another page size is converted",
          restore_page_size),
        T("restore: another text encoding only by force", restore_encoding),
        T("restore: a damaged backup is refused and set aside",
          restore_damaged_backup),
        T("restore: a backup that is too short is refused",
          restore_short_backup),
        T("restore: the bytes of an unreadable live file are kept",
          restore_over_damage),
        T("restore: a file that is no database is never overwritten",
          restore_over_foreign),
        T("restore: a locked database, and writers that would wait",
          restore_refused),
        T("restore: a fault at any step changes nothing", restore_faults),
        T("settle: a safety copy is finished at the next start", settle_later),
        T("settle: or when the backups are listed", settle_when_listed),
        T("settle: a safety copy that was damaged is suspect", settle_damaged),
        T("settle: what is pending is no backup yet", settle_pending),
        T("verify: the result is kept with the backup", verify),
        T("verify: damage is an answer, and sets the backup aside",
          verify_damaged),
        T("verify: suspects are in the details, after a restart too",
          verify_kept_result),
        T("adopt: a file put there is listed, examined and left as it is",
          adopted),
        T("adopt: a damaged one is not restored and not listed",
          adopted_damaged),
        T("adopt: a file that is still growing is no backup yet",
          adopted_growing),
        T("adopt: a server examines by itself", adopted_in_background),
        T("list: is shared while the folder stays as it is", shared_list),
        T("list: nobody is given an older list than the folder he saw",
          listing_at_once),
    };

    return servicejob_main(tests, sizeof tests / sizeof *tests);
}
