/* The service, through src/backup: backups whose facts or length are not what
 * they were (P7). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "dbutil.h"
#include "servicejob.h"

#define FACTS(name) scratch_path("data/backups/default/%.19s.json", (name).s)

static struct facts details(struct backup_name name)
{
    struct facts f = {0};
    struct err e = {0};

    if (backup_details(service, NULL, name.s, &f, &e) != 0)
        fail_msg("%s", e.message);
    return f;
}

/* Details, list of details, verify, restore and download: all say so. */
static void expect_damaged_facts(struct backup_name name, const char *problem)
{
    struct facts f = details(name);
    struct facts *all = NULL;
    struct err e = {0};
    size_t n = 0;
    struct outcome verified = {0};
    struct outcome refused = {0};
    struct outcome fetched = {0};
    struct outcome asked = {0};

    assert_int_equal(f.state, BACKUP_SUSPECT);
    assert_int_equal(f.proof.result, PROOF_DAMAGED);
    assert_string_equal(f.proof.what, "facts");
    if (strstr(f.proof.problem, problem) == NULL)
        fail_msg("%s", f.proof.problem);
    facts_fini(&f);
    assert_int_equal(backup_details_list(service, NULL, 9, NULL, &all, &n, &e),
                     0);
    assert_int_equal(n, 1);
    assert_string_equal(all[0].name.s, name.s);
    assert_int_equal(all[0].state, BACKUP_SUSPECT);
    facts_fini(&all[0]);
    free(all);
    begin_verify(&verified, NULL, name.s);
    must(&verified);
    assert_int_equal(verified.state, BACKUP_SUSPECT);
    begin_restore(&refused, NULL, name.s, false);
    must_fail(&refused, ERR_DAMAGED, "backup");
    assert_non_null(strstr(refused.e.message, name.s));
    begin_fetch(&fetched, NULL, name.s, false);
    must_fail(&fetched, ERR_DAMAGED, "suspect");
    begin_fetch(&asked, NULL, name.s, true);
    must(&asked);
    assert_true(asked.fd >= 0);
    file_close(&asked.fd);
    /* Its bytes may be good: they stay where they are. */
    assert_true(file_exists(SERVICEJOB_BACKUP(name)));
}

static void with_facts(struct backup_name name, const void *text, size_t n,
                       const char *problem)
{
    bytes_write(FACTS(name), (struct bytes){(uint8_t *)(uintptr_t)text, n});
    expect_damaged_facts(name, problem);
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
        {"damage: what the catalog cannot read it finds out anew",
         forgotten_row, servicejob_setup, servicejob_teardown, NULL},
        {"damage: another length is told with both", another_length,
         servicejob_setup, servicejob_teardown, NULL},
    };

    return servicejob_main(tests, sizeof tests / sizeof *tests);
}
