/* The service, through src/backup/databases.h: which databases there are. */
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

#include "dbutil.h"
#include "servicejob.h"

static void expect_names(const char *names)
{
    struct database_info *list = NULL;
    struct err e = {0};
    char got[512] = "";
    size_t n = 0;

    assert_int_equal(databases_list(service, &list, &n, &e), 0);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(got);

        (void)snprintf(got + len, sizeof got - len, "%s%s", list[i].name,
                       list[i].exists ? ";" : " missing;");
    }
    databases_list_free(list, n);
    assert_string_equal(got, names);
}

static void add(const char *name, const char *path)
{
    struct database_info d;
    struct err e = {0};

    if (databases_add(service, name, path, true, &d, &e) != 0)
        fail_msg("%s", e.message);
    assert_string_equal(d.name, name);
    assert_true(d.exists);
    assert_int_equal(d.managed, path == NULL);
    database_info_fini(&d);
}

static void add_fails(const char *name, const char *path, bool trusted,
                      enum err_code code, const char *reason)
{
    struct database_info d;
    struct err e = {0};

    if (databases_add(service, name, path, trusted, &d, &e) == 0)
        fail_msg("added: %s %s", name, path != NULL ? path : "");
    if (e.code != code)
        print_message("%s: %s\n", path, e.message);
    assert_int_equal(e.code, code);
    assert_string_equal(e.reason, reason);
}

static void expect_current(const char *name)
{
    char current[DATABASE_NAME_SIZE];

    databases_current(service, current);
    assert_string_equal(current, name);
}

/* --------------------------------------------------------------- listing */

static void known(void **state)
{
    struct database_info d;
    struct stat st;
    struct err e = {0};

    (void)state;
    expect_names("default;");
    expect_current("default");
    /* A folder with an app.db is known without being registered. */
    assert_int_equal(mkdir(scratch_path("data/databases/shop"), 0700), 0);
    assert_int_equal(mkdir(scratch_path("data/databases/no.name"), 0700), 0);
    assert_int_equal(mkdir(scratch_path("data/databases/current"), 0700), 0);
    bytes_write(scratch_path("data/databases/current/app.db"),
                (struct bytes){0});
    expect_names("default;");
    bytes_write(scratch_path("data/databases/shop/app.db"), (struct bytes){0});
    expect_names("default;shop;");
    assert_int_equal(databases_get(service, NULL, &d, &e), 0);
    assert_string_equal(d.name, "default");
    assert_string_equal(d.path, SERVICEJOB_LIVE);
    assert_true(d.managed && d.exists);
    assert_int_equal(stat(SERVICEJOB_LIVE, &st), 0);
    assert_int_equal(d.size_bytes, st.st_size);
    assert_int_equal(d.last_modified, st.st_mtime);
    database_info_fini(&d);
    assert_int_equal(databases_get(service, "blog", &d, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.reason, "database");
    /* The default one is known also when its file is not there. */
    app_close(0);
    assert_int_equal(unlink(SERVICEJOB_LIVE), 0);
    expect_names("default missing;shop;");
    assert_int_equal(databases_get(service, "default", &d, &e), 0);
    assert_false(d.exists);
    assert_int_equal(d.size_bytes, 0);
    assert_int_equal(d.last_modified, 0);
    database_info_fini(&d);
    app_open(0, SERVICEJOB_LIVE);
}

static void names(void **state)
{
    static const char *const wrong[] = {
        "",
        ".",
        "..",
        "a b",
        "a/b",
        "a.b",
        "caf\xc3\xa9",
        "current",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(database_name_check(wrong[i], &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
        assert_string_equal(e.reason, "database_name");
        add_fails(wrong[i], NULL, true, ERR_INVALID, "database_name");
    }
    assert_int_equal(database_name_check("A-z_09", &e), 0);
    assert_int_equal(
        database_name_check("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                            "aaaaaaaaaaaaaa",
                            &e),
        0);
    expect_names("default;");
}

/* ---------------------------------------------------------------- adding */

static void add_managed(void **state)
{
    struct outcome o = {0};

    (void)state;
    add("shop", NULL);
    add("Blog", NULL);
    expect_names("Blog;default;shop;");
    app_check(scratch_path("data/databases/shop/app.db"));
    assert_int_equal(count_in("databases/shop"), 1);
    add_fails("shop", NULL, true, ERR_CONFLICT, "exists");
    add_fails("default", NULL, true, ERR_CONFLICT, "exists");
    servicejob_reopen();
    expect_names("Blog;default;shop;");
    begin_create(&o, "shop");
    must(&o);
    assert_string_equal(o.database, "shop");
}

static void add_registered(void **state)
{
    struct database_info d;
    struct err e = {0};

    (void)state;
    assert_int_equal(mkdir(scratch_path("elsewhere"), 0700), 0);
    assert_int_equal(symlink("elsewhere", scratch_path("link")), 0);
    app_open(1, scratch_path("elsewhere/a.db"));
    app_sql(1, "CREATE TABLE t(a)");
    app_close(1);
    add("a", scratch_path("elsewhere/a.db"));
    /* A file that is not there is made. */
    add("b", scratch_path("link/b.db"));
    app_check(scratch_path("elsewhere/b.db"));
    servicejob_reopen();
    expect_names("a;b;default;");
    assert_int_equal(databases_get(service, "b", &d, &e), 0);
    assert_string_equal(d.path, scratch_path("elsewhere/b.db"));
    assert_false(d.managed);
    database_info_fini(&d);
    /* One file has one name. */
    add_fails("c", scratch_path("link/a.db"), true, ERR_CONFLICT, "path");
    add_fails("c", scratch_path("elsewhere/../elsewhere/a.db"), true,
              ERR_CONFLICT, "path");
    add_fails("c", SERVICEJOB_LIVE, true, ERR_INVALID, "path");
    add_fails("c", scratch_path("data/x.db"), true, ERR_INVALID, "path");
    add_fails("c", "a.db", true, ERR_INVALID, "path");
    add_fails("c", "", true, ERR_INVALID, "path");
    add_fails("c", "/", true, ERR_INVALID, "path");
    add_fails("c", scratch_path("elsewhere/"), true, ERR_INVALID, "path");
    add_fails("c", scratch_path("absent/a.db"), true, ERR_INVALID, "path");
    add_fails("c", scratch_path("elsewhere"), true, ERR_CONFLICT,
              "not_regular");
    expect_names("a;b;default;");
}

static void roots(void **state)
{
    static const char *one[1];
    static char root[512];

    (void)state;
    assert_int_equal(mkdir(scratch_path("root"), 0700), 0);
    assert_int_equal(mkdir(scratch_path("root2"), 0700), 0);
    assert_int_equal(symlink("../root2", scratch_path("root/out")), 0);
    /* None was given: no path at all. */
    add_fails("a", scratch_path("root/a.db"), false, ERR_INVALID, "path");
    (void)snprintf(root, sizeof root, "%s", scratch_path("root"));
    one[0] = root;
    service_options.database_roots = one;
    service_options.n_database_roots = 1;
    servicejob_reopen();
    add_fails("a", scratch_path("root2/a.db"), false, ERR_INVALID, "path");
    add_fails("a", scratch_path("root/../root2/a.db"), false, ERR_INVALID,
              "path");
    add_fails("a", scratch_path("root/./a.db"), false, ERR_INVALID, "path");
    add_fails("a", scratch_path("root/out/a.db"), false, ERR_INVALID, "path");
    add_fails("a", scratch_path("root/.."), false, ERR_INVALID, "path");
    add_fails("a", scratch_path("root"), false, ERR_INVALID, "path");
    assert_false(file_exists(scratch_path("root2/a.db")));
    {
        struct database_info d;
        struct err e = {0};

        if (databases_add(service, "a", scratch_path("root/a.db"), false, &d,
                          &e) != 0)
            fail_msg("%s", e.message);
        database_info_fini(&d);
    }
    expect_names("a;default;");
}

/* ------------------------------------------------------------- switching */

static void switching(void **state)
{
    struct outcome o = {0};
    struct err e = {0};

    (void)state;
    add("shop", NULL);
    assert_int_equal(databases_switch(service, "shop", &e), 0);
    expect_current("shop");
    begin_create(&o, NULL);
    must(&o);
    assert_string_equal(o.database, "shop");
    servicejob_reopen();
    expect_current("shop");
    assert_int_equal(databases_switch(service, "absent", &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(databases_switch(service, "a b", &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    expect_current("shop");
    assert_int_equal(databases_switch(service, "default", &e), 0);
    expect_current("default");
}

/* -------------------------------------------------------------- removing */

static void remove_fails(const char *name, enum err_code code,
                         const char *reason)
{
    struct outcome o = {0};

    begin_remove(&o, name);
    must_fail(&o, code, reason);
}

static void remove_managed(void **state)
{
    struct outcome o = {0};

    (void)state;
    add("shop", NULL);
    app_open(1, scratch_path("data/databases/shop/app.db"));
    app_sql(1, "PRAGMA journal_mode=WAL; CREATE TABLE t(a);"
               "INSERT INTO t VALUES(1)");
    remove_fails("shop", ERR_CONFLICT, "open");
    assert_int_equal(app_int(1, "SELECT count(*) FROM t"), 1);
    app_close(1);
    bytes_write(scratch_path("data/databases/shop/notes.txt"),
                (struct bytes){0});
    begin_remove(&o, "shop");
    must(&o);
    expect_names("default;");
    /* What is not ours stays, and so does a last backup. */
    assert_int_equal(count_in("databases/shop"), 1);
    assert_int_equal(count_in("backups/shop"), 2);
    remove_fails("shop", ERR_NOT_FOUND, "database");
    /* The name can be used again, and finds its backups. */
    add("shop", NULL);
    {
        const struct backup_list *l = NULL;
        struct err e = {0};

        assert_int_equal(backup_list_get(service, "shop", &l, &e), 0);
        assert_int_equal(l->n, 1);
        backup_list_put(l);
    }
}

static void remove_registered(void **state)
{
    struct outcome o = {0};
    struct bytes before;
    struct bytes after;

    (void)state;
    app_open(1, scratch_path("own.db"));
    app_sql(1, "CREATE TABLE t(a)");
    app_close(1);
    before = bytes_read(scratch_path("own.db"));
    add("own", scratch_path("own.db"));
    begin_remove(&o, "own");
    must(&o);
    expect_names("default;");
    after = bytes_read(scratch_path("own.db"));
    assert_true(bytes_equal(before, after, NULL));
    bytes_fini(&before);
    bytes_fini(&after);
    assert_int_equal(count_in("backups/own"), 0);
    servicejob_reopen();
    expect_names("default;");
}

static void remove_refused(void **state)
{
    struct err e = {0};

    (void)state;
    add("shop", NULL);
    remove_fails("default", ERR_CONFLICT, "default");
    remove_fails("absent", ERR_NOT_FOUND, "database");
    remove_fails("a b", ERR_INVALID, "database_name");
    assert_int_equal(databases_switch(service, "shop", &e), 0);
    remove_fails("shop", ERR_CONFLICT, "current");
    remove_fails("default", ERR_CONFLICT, "default");
    expect_names("default;shop;");
    service_stop(service);
    assert_int_equal(databases_switch(service, "default", &e), 0);
    remove_fails("shop", ERR_BUSY, "stopping");
    expect_names("default;shop;");
}

/* Without its last backup it is not removed. */
static void remove_keeps_what_it_cannot_copy(void **state)
{
    struct outcome o = {0};

    (void)state;
    add("shop", NULL);
    set_fault("create.publish:ENOSPC");
    begin_remove(&o, "shop");
    must_fail(&o, ERR_NO_SPACE, "");
    set_fault("");
    expect_names("default;shop;");
    app_check(scratch_path("data/databases/shop/app.db"));
}

static void touch(const char *name, const char *text)
{
    bytes_write(scratch_path("data/databases/shop/%s", name),
                (struct bytes){(uint8_t *)(uintptr_t)text, strlen(text)});
}

static void remove_goes_on(void **state)
{
    (void)state;
    add("shop", NULL);
    touch("app.db-wal", "committed");
    touch("app.db-journal", "committed");
    touch("notes.txt", "");
    app_open(1, scratch_path("data/holdfast.db"));
    app_sql(1, "UPDATE database SET path='' WHERE name='shop'");
    app_close(1);
    servicejob_reopen();
    expect_names("default;");
    assert_int_equal(count_in("databases/shop"), 1);
    add("shop", NULL);
    servicejob_reopen();
    expect_names("default;shop;");
}

static void add_beside_leftovers(void **state)
{
    struct outcome o = {0};

    (void)state;
    add("shop", NULL);
    assert_int_equal(unlink(scratch_path("data/databases/shop/app.db")), 0);
    touch("app.db-wal", "committed");
    begin_remove(&o, "shop");
    must(&o);
    assert_int_equal(count_in("databases/shop"), 0);
    touch("app.db-wal", "committed");
    add_fails("shop", NULL, true, ERR_CONFLICT, "leftovers");
    assert_int_equal(count_in("databases/shop"), 1);
    expect_names("default;");
}

static void add_without_space(void **state)
{
    (void)state;
    set_fault("catalog.write:ENOSPC");
    add_fails("shop", NULL, true, ERR_NO_SPACE, "");
    add_fails("own", scratch_path("own.db"), true, ERR_NO_SPACE, "");
    set_fault("");
    expect_names("default;");
    assert_int_equal(count_in("databases/shop"), 0);
    assert_int_equal(access(scratch_path("own.db"), F_OK), -1);
    add("shop", NULL);
    add("own", scratch_path("own.db"));
}

#define T(name, f)                                           \
    {                                                        \
        name, f, servicejob_setup, servicejob_teardown, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T("databases: folders with an app.db are known", known),
        T("databases: names have a rule", names),
        T("databases: a new managed one is a valid empty database",
          add_managed),
        T("databases: registered by path, one name for one file",
          add_registered),
        T("databases: others' paths lie below a root", roots),
        T("databases: the current one is kept over a restart", switching),
        T("databases: removing a managed one keeps a last backup",
          remove_managed),
        T("databases: removing a registered one leaves its file",
          remove_registered),
        T("databases: what cannot be removed", remove_refused),
        T("databases: one that cannot be backed up is not removed",
          remove_keeps_what_it_cannot_copy),
        T("databases: a removal that a crash interrupted goes on at the start",
          remove_goes_on),
        T("databases: none is made beside the -wal of another",
          add_beside_leftovers),
        T("databases: one that cannot be noted leaves no file",
          add_without_space),
    };

    return servicejob_main(tests, sizeof tests / sizeof *tests);
}
