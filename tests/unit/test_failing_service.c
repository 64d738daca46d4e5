/* Every call that src/backup and src/store make fails once, and from then on:
 * each operation ends, says so, and the service goes on (P2, P4, P5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "dbutil.h"
#include "failing.h"
#include "servicejob.h"

/* The backup that an operation is about, and what else its check must know. */
static struct backup_name subject;
static struct outcome outcome;

struct op {
    const char *name;
    void (*prepare)(void);
    void (*run)(void);
};

/* After how many failures it is seen that the service goes on: most of the
 * time would go into that. */
#define LOOK_EVERY 4

/* After any failure the service works as before. */
static void goes_on(const char *name, unsigned n, enum failing_how how)
{
    struct outcome o = {0};

    servicejob_reopen();
    if (count_in("tmp") != 0)
        fail_msg("%s: call %u (%s) as %d left something in tmp", name, n,
                 failing_what(), (int)how);
    if (!file_exists(SERVICEJOB_LIVE))
        return;
    begin_create(&o, NULL);
    await(&o);
    if (o.e.code != ERR_NONE && o.e.code != ERR_DAMAGED &&
        o.e.code != ERR_NOT_DATABASE)
        fail_msg("%s: call %u (%s) as %d, then: %s", name, n, failing_what(),
                 (int)how, o.e.message);
}

static bool once(const struct op *op, unsigned n, enum failing_how how,
                 bool for_good)
{
    int fds = fds_open();
    bool fired;

    servicejob_busy_timeout_ms = 1;
    (void)servicejob_setup(NULL);
    op->prepare();
    outcome = (struct outcome){.fd = -1};
    failing_arm(n, how, for_good);
    op->run();
    fired = failing_disarm();
    if (outcome.n_done > 0 && outcome.e.code == ERR_NONE)
        file_close(&outcome.fd);
    if (n % LOOK_EVERY == 0 || !fired)
        goes_on(op->name, n, how);
    (void)servicejob_teardown(NULL);
    if (fds_open() != fds)
        fail_msg("%s: call %u (%s) as %d leaves %d descriptors for %d",
                 op->name, n, failing_what(), (int)how, fds_open(), fds);
    return fired;
}

static void sweep(const struct op *op)
{
    unsigned n = 0;

    for (int how = 0; how <= FAIL_FOREIGN; how++) {
        bool for_good = how == FAIL_FULL;
        unsigned i = 1;

        while (once(op, i, (enum failing_how)how, for_good))
            i++;
        n += i - 1;
    }
    print_message("%s: %u calls failed; then %s\n", op->name, n,
                  outcome.e.code == ERR_NONE ? "well" : outcome.e.message);
}

/* --------------------------------------------------------------- creating */

static void nothing(void)
{
}

static void in_rollback_mode(void)
{
    app_sql(0, "PRAGMA journal_mode=DELETE");
}

static void of_nothing(void)
{
    app_close(0);
    bytes_write(SERVICEJOB_LIVE, (struct bytes){0});
    app_open(0, SERVICEJOB_LIVE);
}

/* Pages that can be read, but are no b-trees; then not even a header. */
static void with_damage(size_t from)
{
    struct bytes b;

    app_sql(0, "PRAGMA journal_mode=DELETE");
    app_close(0);
    b = bytes_read(SERVICEJOB_LIVE);
    memset(b.p + from, 0xa5, 4000);
    bytes_write(SERVICEJOB_LIVE, b);
    bytes_fini(&b);
    app_open(0, SERVICEJOB_LIVE);
}

static void of_damage(void)
{
    with_damage(4096);
}

static void of_ruins(void)
{
    with_damage(16);
}

static void create(void)
{
    begin_create(&outcome, NULL);
    await(&outcome);
}

static void creates(void **state)
{
    static const struct op ops[] = {
        {"create", nothing, create},
        {"create in rollback mode", in_rollback_mode, create},
        {"create of an empty file", of_nothing, create},
        {"create of a damaged file", of_damage, create},
        {"create of what cannot be read", of_ruins, create}};

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        sweep(&ops[i]);
}

/* -------------------------------------------------------------- restoring */

static void make_one(void)
{
    subject = made();
    app_sql(0, "INSERT INTO t(b) VALUES('second')");
}

static void make_one_rollback(void)
{
    in_rollback_mode();
    make_one();
}

/* Put beside ours by somebody; its header says WAL. */
static void adopt_one(void)
{
    make_one();
    app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE)");
    (void)snprintf(subject.s, sizeof subject.s, "app_20200101_000000.db");
    file_copy_all(SERVICEJOB_LIVE, SERVICEJOB_BACKUP(subject));
}

/* The live database has another page size by now. */
static void convert_one(void)
{
    make_one();
    app_sql(0, "PRAGMA journal_mode=DELETE; PRAGMA page_size=512; VACUUM");
}

static void convert_adopted(void)
{
    adopt_one();
    app_sql(0, "PRAGMA journal_mode=DELETE; PRAGMA page_size=512; VACUUM");
}

static void for_nothing(void)
{
    make_one_rollback();
    app_close(0);
    (void)unlink(SERVICEJOB_LIVE);
}

static void for_ruins(void)
{
    make_one();
    of_ruins();
}

static void for_empty(void)
{
    make_one_rollback();
    of_nothing();
}

static void flip(void)
{
    struct bytes b;

    make_one();
    b = bytes_read(SERVICEJOB_BACKUP(subject));
    b.p[b.n - 1] ^= 1;
    bytes_write(SERVICEJOB_BACKUP(subject), b);
    bytes_fini(&b);
}

static void restore(void)
{
    begin_restore(&outcome, NULL, subject.s, false);
    await(&outcome);
}

static void restores(void **state)
{
    static const struct op ops[] = {
        {"restore", make_one, restore},
        {"restore in rollback mode", make_one_rollback, restore},
        {"restore what was put there", adopt_one, restore},
        {"restore with another page size", convert_one, restore},
        {"restore what was put there, converted", convert_adopted, restore},
        {"restore where nothing is", for_nothing, restore},
        {"restore over an empty file", for_empty, restore},
        {"restore over what cannot be read", for_ruins, restore},
        {"restore what is damaged", flip, restore}};

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        sweep(&ops[i]);
}

/* ------------------------------------------------------------- the others */

static void delete (void)
{
    begin_delete(&outcome, NULL, subject.s);
    await(&outcome);
}

static void verify(void)
{
    begin_verify(&outcome, NULL, subject.s);
    await(&outcome);
}

static void fetch(void)
{
    begin_fetch(&outcome, NULL, subject.s, false);
    await(&outcome);
}

static void look(void)
{
    const struct backup_list *l = NULL;
    struct facts f = {0};
    struct facts *all = NULL;
    size_t n = 0;
    struct err e;

    if (backup_list_get(service, NULL, &l, &e) == 0)
        backup_list_put(l);
    if (backup_details(service, NULL, subject.s, &f, &e) == 0)
        facts_fini(&f);
    if (backup_details_list(service, NULL, 10, NULL, &all, &n, &e) == 0) {
        for (size_t i = 0; i < n; i++)
            facts_fini(&all[i]);
        free(all);
    }
}

static void others(void **state)
{
    static const struct op ops[] = {
        {"delete", make_one, delete},
        {"delete what was put there", adopt_one, delete},
        {"verify", make_one, verify},
        {"verify what was put there", adopt_one, verify},
        {"verify what is damaged", flip, verify},
        {"fetch", make_one, fetch},
        {"fetch what was put there", adopt_one, fetch},
        {"look", adopt_one, look}};

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        sweep(&ops[i]);
}

/* A server examines by itself what somebody put there. */
static void in_background(void)
{
    adopt_one();
    service_options.background = true;
    servicejob_reopen();
}

static void look_and_stop(void)
{
    look();
    service_close(service);
    service = NULL;
}

static void background(void **state)
{
    struct op op = {"look in the background", in_background, look_and_stop};

    (void)state;
    sweep(&op);
}

/* ---------------------------------------------------- a check that lasts */

static void grow_wal(void)
{
    app_sql(0, APP_ROWS "INSERT INTO t(b) SELECT randomblob(5000) FROM n", 50);
}

/* It must not hold the WAL past its limit, nor keep the service from
 * stopping. */
static void long_check(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        (void)servicejob_setup(NULL);
        service_options.wal_limit_bytes = 100000;
        servicejob_reopen();
        app_sql(0, "PRAGMA wal_checkpoint(TRUNCATE)");
        outcome = (struct outcome){.fd = -1, .gated = true};
        failing_hold_child();
        begin_create(&outcome, NULL);
        await_gate(&outcome); /* the pages are copied */
        if (i == 0)
            grow_wal();
        servicejob_open_gate();
        if (i != 0)
            service_stop(service);
        await(&outcome);
        if (i == 0)
            assert_int_equal(outcome.e.code, ERR_NONE);
        (void)servicejob_teardown(NULL);
    }
}

/* A backup whose facts are damaged is suspect, whatever is asked of it. */
static void damaged_facts(void **state)
{
    struct facts f = {0};
    struct err e;
    char file[64];

    (void)state;
    (void)servicejob_setup(NULL);
    make_one();
    (void)snprintf(file, sizeof file, "%.19s.json", subject.s);
    bytes_write(scratch_path("data/backups/default/%s", file),
                (struct bytes){(uint8_t *)file, 3});
    assert_int_equal(backup_details(service, NULL, subject.s, &f, &e), 0);
    assert_int_equal(f.state, BACKUP_SUSPECT);
    assert_int_equal(f.proof.result, PROOF_DAMAGED);
    facts_fini(&f);
    outcome = (struct outcome){.fd = -1};
    restore();
    assert_int_equal(outcome.e.code, ERR_DAMAGED);
    outcome = (struct outcome){.fd = -1};
    verify();
    assert_int_equal(outcome.e.code, ERR_NONE);
    assert_int_equal(outcome.proof, PROOF_DAMAGED);
    outcome = (struct outcome){.fd = -1};
    fetch();
    assert_int_equal(outcome.e.code, ERR_DAMAGED);
    outcome = (struct outcome){.fd = -1};
    delete ();
    assert_int_equal(outcome.e.code, ERR_NONE);
    (void)servicejob_teardown(NULL);
}

/* --------------------------------------------------------------- starting */

/* A restore whose safety copy was not settled, and what a crash leaves. */
static void interrupt(void)
{
    make_one();
    set_fault("restore.finish:EIO");
    restore();
    set_fault("");
    file_close(&outcome.fd);
    bytes_write(scratch_path("data/backups/default/.stage-0123"),
                (struct bytes){0});
    bytes_write(scratch_path("data/tmp/stage-0123"), (struct bytes){0});
    file_copy_all(
        scratch_path("data/backups/default/%.19s.json", subject.s),
        scratch_path("data/backups/default/app_20200101_000000.json"));
    service_close(service);
    service = NULL;
}

static void spoil_safety(void)
{
    char name[64];
    struct bytes b;

    make_one();
    set_fault("restore.finish:EIO");
    restore();
    set_fault("");
    (void)snprintf(name, sizeof name, "%s", outcome.safety.s);
    service_close(service);
    service = NULL;
    b = bytes_read(scratch_path("data/backups/default/%s", name));
    b.p[b.n - 1] ^= 1;
    bytes_write(scratch_path("data/backups/default/%s", name), b);
    bytes_fini(&b);
}

static void start(void)
{
    static const char *const roots[] = {"/tmp"};
    struct err e;

    service_options.database_roots = roots;
    service_options.n_database_roots = 1;
    if (service_open(&service_options, &service, &e) != 0)
        assert_null(service);
}

static void starts(void **state)
{
    static const struct op ops[] = {
        {"start after a crash", interrupt, start},
        {"start with a damaged safety copy", spoil_safety, start}};

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        sweep(&ops[i]);
}

/* -------------------------------------------------------------- databases */

static void add(void)
{
    struct database_info d = {0};
    struct database_info *all = NULL;
    size_t n = 0;
    struct err e;

    if (databases_add(service, "shop", NULL, true, &d, &e) == 0)
        database_info_fini(&d);
    if (databases_add(service, "blog", scratch_path("blog.db"), true, &d, &e) ==
        0)
        database_info_fini(&d);
    if (databases_list(service, &all, &n, &e) == 0)
        databases_list_free(all, n);
    (void)databases_switch(service, "shop", &e);
    (void)databases_switch(service, "default", &e);
}

static void remove_database(void)
{
    begin_remove(&outcome, "shop");
    await(&outcome);
}

static void databases(void **state)
{
    static const struct op ops[] = {
        {"add databases", nothing, add},
        {"remove a database", add, remove_database}};

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        sweep(&ops[i]);
}

/* ---------------------------------------------------------- a full disk */

static void no_room(void **state)
{
    static void (*const prepare[])(void) = {make_one, make_one,  of_nothing,
                                            of_ruins, for_ruins, convert_one};
    static void (*const run[])(void) = {create, restore, create,
                                        create, restore, restore};

    (void)state;
    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        (void)servicejob_setup(NULL);
        prepare[i]();
        outcome = (struct outcome){.fd = -1};
        failing_pretend(PRETEND_FULL);
        run[i]();
        failing_pretend(PRETEND_NOTHING);
        assert_int_equal(outcome.e.code, ERR_NO_SPACE);
        assert_int_equal(count_in("tmp"), 0);
        (void)servicejob_teardown(NULL);
    }
}

/* With an argument: only the tests whose names match it ("*start*"). */
int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        {"failing: creating", creates, NULL, NULL, NULL},
        {"failing: restoring", restores, NULL, NULL, NULL},
        {"failing: deleting, verifying, fetching, listing", others, NULL, NULL,
         NULL},
        {"failing: starting after a crash", starts, NULL, NULL, NULL},
        {"failing: examining in the background", background, NULL, NULL, NULL},
        {"failing: a check that lasts is given up", long_check, NULL, NULL,
         NULL},
        {"failing: a backup whose facts are damaged is suspect", damaged_facts,
         NULL, NULL, NULL},
        {"failing: no room", no_room, NULL, NULL, NULL},
        {"failing: adding and removing databases", databases, NULL, NULL, NULL},
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    failing_shallow(true);
    return servicejob_main(tests, sizeof tests / sizeof *tests);
}
