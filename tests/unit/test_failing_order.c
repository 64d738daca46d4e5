/* In which order files become durable, get their names and go (P2, P4): what
 * no test without a power cut sees otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "dbutil.h"
#include "failing.h"
#include "servicejob.h"

static struct outcome outcome;

static void expect(const char *order)
{
    const char *got = failing_traced();

    if (strcmp(got, order) != 0)
        fail_msg("%s", got);
}

static void creating(void **state)
{
    (void)state;
    (void)made();
    failing_trace();
    begin_create(&outcome, NULL);
    must(&outcome);
    expect("unlink stage-.h; sync stage-; sync .app.json..tmp; "
           "rename .app.json..tmp app.json; sync default; "
           "rename stage- app.db; sync default; sync tmp; ");
}

static void restoring(void **state)
{
    struct backup_name name = made();

    (void)state;
    app_sql(0, "INSERT INTO t(b) VALUES('second')");
    outcome = (struct outcome){0};
    failing_trace();
    begin_restore(&outcome, NULL, name.s, false);
    must(&outcome);
    expect(
        "unlink stage-.h; sync stage-; sync .app.pending..tmp; "
        "rename .app.pending..tmp app.pending; sync default; "
        "rename stage- app.db; sync default; sync tmp; " /* the live database */
        "sync app.db-wal; sync default; "                /* settled */
        "sync .app.json..tmp; replace .app.json..tmp app.json; "
        "sync default; unlink app.pending; sync default; ");
}

static void deleting(void **state)
{
    struct backup_name name = made();

    (void)state;
    outcome = (struct outcome){0};
    failing_trace();
    begin_delete(&outcome, NULL, name.s);
    must(&outcome);
    expect(/* first the catalog keeps the name */ "sync data; sync data; "
                                                  "unlink app.db; unlink "
                                                  "app.json; sync default; ");
}

static void setting_aside(void **state)
{
    struct backup_name name = made();
    struct bytes b = bytes_read(SERVICEJOB_BACKUP(name));

    (void)state;
    b.p[b.n - 1] ^= 1;
    bytes_write(SERVICEJOB_BACKUP(name), b);
    bytes_fini(&b);
    outcome = (struct outcome){0};
    failing_trace();
    begin_verify(&outcome, NULL, name.s);
    must(&outcome);
    expect("sync default; sync .app.json..tmp; "
           "replace .app.json..tmp app.json; sync suspect; "
           "rename app.db app.db; sync suspect; sync default; "
           "unlink app.json; ");
}

static void removing(void **state)
{
    struct database_info d = {0};
    struct err e = {0};

    (void)state;
    failing_trace();
    assert_int_equal(databases_add(service, "shop", NULL, true, &d, &e), 0);
    database_info_fini(&d);
    expect("sync data; sync databases; sync # (deleted); sync shop; "
           "sync data; sync data; ");
    outcome = (struct outcome){0};
    failing_trace();
    begin_remove(&outcome, "shop");
    must(&outcome);
    expect("sync data; sync backups; " /* its last backup */
           "unlink stage-.h; sync stage-; sync .app.json..tmp; "
           "rename .app.json..tmp app.json; sync shop; "
           "rename stage- app.db; sync shop; sync tmp; "
           "sync data; sync data; unlink app.db; sync shop; "
           "sync data; sync data; ");
}

/* What could not be made durable has no name either. */
static void undone(void **state)
{
    (void)state;
    for (unsigned n = 2; n <= 3; n++) {
        struct err e = {0};
        int from = open(scratch_path("from"), O_RDONLY | O_DIRECTORY);
        int to = open(scratch_path("to"), O_RDONLY | O_DIRECTORY);

        bytes_write(scratch_path("from/a"), (struct bytes){0});
        failing_arm(n, FAIL_IO, false);
        assert_int_equal(file_publish(from, "a", to, "b", &e), -1);
        assert_true(failing_disarm());
        assert_int_equal(e.code, ERR_IO);
        assert_true(file_exists(scratch_path("from/a")));
        assert_false(file_exists(scratch_path("to/b")));
        file_close(&from);
        file_close(&to);
    }
}

static int make_folders(void **state)
{
    (void)state;
    return mkdir(scratch_path("from"), 0700) | mkdir(scratch_path("to"), 0700);
}

int main(void)
{
#define T(name, f)                                           \
    {                                                        \
        name, f, servicejob_setup, servicejob_teardown, NULL \
    }
    static const struct CMUnitTest tests[] = {
        T("order: a backup is whole and synced before it has its name",
          creating),
        T("order: the state before is durable before anything is restored",
          restoring),
        T("order: a deleted backup goes before its facts", deleting),
        T("order: a damaged backup is never listed as good again",
          setting_aside),
        T("order: a database added, and removed", removing),
        {"order: a publishing that fails is undone", undone, make_folders,
         scratch_clear, NULL},
    };

    return servicejob_main(tests, sizeof tests / sizeof *tests);
}
