/* The service, through src/backup: backups whose facts or length are not what
 * they were (P7). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "dbutil.h"
#include "servicejob.h"

#define FACTS(name) scratch_path("data/backups/default/%.19s.json", (name).s)
#define SUSPECT(name) scratch_path("data/backups/default/suspect/%s", (name).s)
#define SUSPECT_FACTS(name) \
    scratch_path("data/backups/default/suspect/%.19s.json", (name).s)

static struct facts details(struct backup_name name)
{
    struct facts f = {0};
    struct err e = {0};

    if (backup_details(service, NULL, name.s, &f, &e) != 0)
        fail_msg("%s", e.message);
    return f;
}

/* It is set aside, with its bytes: put it back where it was. */
static void put_back(struct backup_name name)
{
    assert_int_equal(count_list(), 0);
    assert_false(file_exists(SERVICEJOB_BACKUP(name)));
    assert_false(file_exists(FACTS(name)));
    assert_int_equal(unlink(SUSPECT_FACTS(name)), 0);
    assert_int_equal(rename(SUSPECT(name), SERVICEJOB_BACKUP(name)), 0);
}

static void expect_told(const struct facts *f, const char *problem)
{
    assert_int_equal(f->state, BACKUP_SUSPECT);
    assert_int_equal(f->proof.result, PROOF_DAMAGED);
    assert_string_equal(f->proof.what, "facts");
    if (strstr(f->proof.problem, problem) == NULL)
        fail_msg("%s", f->proof.problem);
}

/* In the details, alone and in the list of them. */
static void expect_in_details(struct backup_name name, const char *problem)
{
    struct facts f = details(name);
    struct facts *all = NULL;
    struct err e = {0};
    size_t n = 0;

    expect_told(&f, problem);
    facts_fini(&f);
    assert_int_equal(backup_details_list(service, NULL, 9, NULL, &all, &n, &e),
                     0);
    assert_int_equal(n, 1);
    assert_string_equal(all[0].name.s, name.s);
    expect_told(&all[0], problem);
    facts_fini(&all[0]);
    free(all);
}

static void expect_only_if_asked(struct backup_name name)
{
    struct outcome no = {0};
    struct outcome yes = {0};

    begin_fetch(&no, NULL, name.s, false);
    must_fail(&no, ERR_DAMAGED, "suspect");
    begin_fetch(&yes, NULL, name.s, true);
    must(&yes);
    assert_true(yes.fd >= 0);
    file_close(&yes.fd);
}

/* With these facts it is suspect everywhere, and leaves the list when it is
 * verified or restored. */
static void with_facts(struct backup_name name, const void *text, size_t n,
                       const char *problem)
{
    struct bytes b = {(uint8_t *)(uintptr_t)text, n};
    struct outcome verified = {0};
    struct outcome refused = {0};

    bytes_write(FACTS(name), b);
    expect_in_details(name, problem);
    expect_only_if_asked(name);
    begin_verify(&verified, NULL, name.s);
    must(&verified);
    assert_int_equal(verified.state, BACKUP_SUSPECT);
    expect_in_details(name, problem);
    expect_only_if_asked(name);
    put_back(name);
    bytes_write(FACTS(name), b);
    begin_restore(&refused, NULL, name.s, false);
    must_fail(&refused, ERR_DAMAGED, "backup");
    assert_non_null(strstr(refused.e.message, name.s));
    expect_in_details(name, problem);
    put_back(name);
}

static void damaged_facts(void **state)
{
    struct backup_name name = made();
    struct bytes good = bytes_read(FACTS(name));
    uint8_t *endless = xcalloc(1, 100000);
    struct outcome o = {0};

    (void)state;
    with_facts(name, "", 0, "no JSON");
    with_facts(name, good.p, good.n / 2, "no JSON");
    with_facts(name, "{}", 2, "facts");
    with_facts(name, endless, 100000, "too long");
    good.p[good.n / 3] ^= 1;
    with_facts(name, good.p, good.n, "facts");
    good.p[good.n / 3] ^= 1;
    bytes_write(FACTS(name), good);
    begin_verify(&o, NULL, name.s);
    must(&o);
    assert_int_equal(o.state, BACKUP_GOOD);
    free(endless);
    bytes_fini(&good);
}

static void foreign_facts(void **state)
{
    struct backup_name first = made();
    struct backup_name second = made();
    struct bytes b = bytes_read(FACTS(second));
    struct outcome o = {0};

    (void)state;
    begin_delete(&o, NULL, second.s);
    must(&o);
    with_facts(first, b.p, b.n, second.s);
    bytes_fini(&b);
}

/* However many there are, and whatever else is set aside. */
static void all_are_kept(void **state)
{
    struct backup_name name[5];

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct outcome o = {0};
        struct bytes b;

        name[i] = made();
        if (i < 4) {
            bytes_write(FACTS(name[i]), (struct bytes){NULL, 0});
        } else {
            b = bytes_read(SERVICEJOB_BACKUP(name[i]));
            b.p[b.n / 2] ^= 1;
            bytes_write(SERVICEJOB_BACKUP(name[i]), b);
            bytes_fini(&b);
        }
        begin_verify(&o, NULL, name[i].s);
        must(&o);
    }
    for (size_t i = 0; i < 5; i++)
        assert_true(file_exists(SUSPECT(name[i])));
    /* Nor do they count when their facts are damaged once more. */
    bytes_write(SUSPECT_FACTS(name[0]), (struct bytes){NULL, 0});
    for (size_t i = 0; i < 3; i++) {
        struct backup_name bad = made();
        struct bytes b = bytes_read(SERVICEJOB_BACKUP(bad));
        struct outcome o = {0};

        bytes_write(SERVICEJOB_BACKUP(bad), (struct bytes){b.p, b.n - 1});
        bytes_fini(&b);
        begin_verify(&o, NULL, bad.s);
        must(&o);
    }
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(file_exists(SUSPECT(name[i])), i < 4);
    assert_int_equal(count_in("backups/default/suspect"), 2 * 6);
}

/* Told with both lengths, by verify and by restore. */
static void another_length(void **state)
{
    struct backup_name name = made();
    struct bytes b = bytes_read(SERVICEJOB_BACKUP(name));
    char *problem = xasprintf("it has %zu bytes instead of the %zu that were "
                              "written",
                              b.n - 1, b.n);
    struct outcome o = {0};
    struct facts f;

    (void)state;
    bytes_write(SERVICEJOB_BACKUP(name), (struct bytes){b.p, b.n - 1});
    begin_verify(&o, NULL, name.s);
    must(&o);
    assert_int_equal(o.state, BACKUP_SUSPECT);
    f = details(name);
    assert_string_equal(f.proof.problem, problem);
    facts_fini(&f);
    name = made();
    bytes_write(SERVICEJOB_BACKUP(name), (struct bytes){b.p, b.n - 1});
    memset(&o, 0, sizeof o);
    begin_restore(&o, NULL, name.s, false);
    must_fail(&o, ERR_DAMAGED, "backup");
    assert_non_null(strstr(o.e.message, problem));
    free(problem);
    bytes_fini(&b);
}

/* The catalog only remembers what can be found out anew. */
static void forgotten_row(void **state)
{
    struct backup_name name;
    struct outcome o = {0};
    struct facts f;

    (void)state;
    backup_name_format(1776081600, &name);
    (void)made(); /* makes the folder */
    app_image(SERVICEJOB_LIVE, SERVICEJOB_BACKUP(name));
    begin_verify(&o, NULL, name.s);
    must(&o);
    app_open(1, scratch_path("data/holdfast.db"));
    app_sql(1, "UPDATE adopted SET facts='no facts'");
    app_close(1);
    f = details(name);
    assert_int_equal(f.origin, ORIGIN_ADOPTED);
    assert_int_equal(f.state, BACKUP_GOOD);
    assert_string_equal(f.sha256, "");
    facts_fini(&f);
    memset(&o, 0, sizeof o);
    begin_verify(&o, NULL, name.s);
    must(&o);
    f = details(name);
    assert_int_equal(strlen(f.sha256), 64);
    facts_fini(&f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"damage: facts that are cut, changed or too long make a backup "
         "suspect, and are told",
         damaged_facts, servicejob_setup, servicejob_teardown, NULL},
        {"damage: so do the facts of another backup", foreign_facts,
         servicejob_setup, servicejob_teardown, NULL},
        {"damage: backups whose facts alone are damaged are all kept",
         all_are_kept, servicejob_setup, servicejob_teardown, NULL},
        {"damage: what the catalog cannot read it finds out anew",
         forgotten_row, servicejob_setup, servicejob_teardown, NULL},
        {"damage: another length is told with both", another_length,
         servicejob_setup, servicejob_teardown, NULL},
    };

    return servicejob_main(tests, sizeof tests / sizeof *tests);
}
