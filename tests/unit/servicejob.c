/* A service for tests: see servicejob.h. */
#include "servicejob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "dbutil.h"
#include "guard/guard.h"
#include "sqlite/check.h"
#include "sqlite/sq.h"

struct service *service;
struct service_opts service_options;
unsigned servicejob_busy_timeout_ms = 30000;

static struct guard *guard;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static int n_ended;

int servicejob_main(const struct CMUnitTest *tests, size_t n)
{
    static struct guard_service services[2];
    struct err e;
    int failed;

    services[0] = check_service;
    services[1] = convert_service;
    if (app_start() != 0 || guard_start(services, 2, &guard, &e) != 0 ||
        sq_init(&e) != 0)
        return 1;
    log_set_level(LOG_OFF);
    failed = _cmocka_run_group_tests("service", tests, n, scratch_setup,
                                     scratch_teardown);
    guard_stop(guard);
    app_stop();
    return failed;
}

static void write_text(const char *path, const char *text)
{
    bytes_write(path, (struct bytes){(uint8_t *)(uintptr_t)text, strlen(text)});
}

void set_clock(int64_t offset)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%lld\n", (long long)offset);
    write_text(scratch_path("clock"), text);
}

void set_fault(const char *step)
{
    write_text(scratch_path("fault"), step);
}

static void open_service(void)
{
    struct err e = {0};

    if (service_open(&service_options, &service, &e) != 0)
        fail_msg("%s", e.message);
}

void servicejob_reopen(void)
{
    service_close(service);
    service = NULL;
    open_service();
}

int servicejob_setup(void **state)
{
    static char data[512];

    (void)state;
    (void)snprintf(data, sizeof data, "%s", scratch_path("data"));
    service_options =
        (struct service_opts){.data_dir = data,
                              .busy_timeout_ms = servicejob_busy_timeout_ms,
                              .guard = guard};
    gate_open = false;
    n_ended = 0;
    (void)setenv("HOLDFAST_TEST_CLOCK", scratch_path("clock"), 1);
    (void)setenv("HOLDFAST_TEST_FAULT_FILE", scratch_path("fault"), 1);
    set_clock(0);
    set_fault("");
    (void)mkdir(data, 0700);
    (void)mkdir(scratch_path("data/databases"), 0700);
    (void)mkdir(scratch_path("data/databases/default"), 0700);
    app_open(0, SERVICEJOB_LIVE);
    app_sql(0, "PRAGMA journal_mode=WAL; CREATE TABLE t(a INTEGER PRIMARY KEY,"
               " b); INSERT INTO t(b) VALUES('first')");
    open_service();
    return 0;
}

int servicejob_teardown(void **state)
{
    servicejob_open_gate();
    service_close(service);
    service = NULL;
    app_close(0);
    return scratch_clear(state);
}

/* ----------------------------------------------------------------- calls */

static void finish(struct outcome *o, const struct err *e)
{
    (void)pthread_mutex_lock(&lock);
    if (e != NULL)
        o->e = *e;
    o->n_done++;
    o->turn = ++n_ended;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
}

static void note_facts(struct outcome *o, const struct facts *f)
{
    o->has_facts = f != NULL;
    if (f == NULL)
        return;
    o->state = f->state;
    o->proof = f->proof.result;
    memcpy(o->what, f->proof.what, sizeof o->what);
    memcpy(o->sha256, f->sha256, sizeof o->sha256);
}

static void done(void *arg, const struct err *e, const struct backup_answer *a)
{
    struct outcome *o = arg;

    if (e == NULL) {
        memcpy(o->database, a->database, sizeof o->database);
        o->name = a->name;
        o->safety = a->safety;
        o->size_bytes = a->size_bytes;
        o->created_at = a->created_at;
        o->fd = a->fd;
        note_facts(o, a->facts);
    }
    finish(o, e);
}

static void removed(void *arg, const struct err *e)
{
    finish(arg, e);
}

static void progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct outcome *o = arg;

    (void)done_bytes;
    (void)total_bytes;
    (void)pthread_mutex_lock(&lock);
    o->n_progress++;
    while (o->gated && !gate_open) {
        o->at_gate = true;
        (void)pthread_cond_broadcast(&changed);
        (void)pthread_cond_wait(&changed, &lock);
    }
    (void)pthread_mutex_unlock(&lock);
}

static struct backup_call call_of(struct outcome *o)
{
    o->fd = -1;
    return (struct backup_call){
        .done = done, .arg = o, .request_id = "r1", .progress = progress};
}

void begin_create(struct outcome *o, const char *db)
{
    struct backup_call c = call_of(o);

    backup_create(service, db, &c);
}

void begin_restore(struct outcome *o, const char *db, const char *filename,
                   bool force)
{
    struct backup_call c = call_of(o);

    backup_restore(service, db, filename, force, &c);
}

void begin_delete(struct outcome *o, const char *db, const char *filename)
{
    struct backup_call c = call_of(o);

    backup_delete(service, db, filename, &c);
}

void begin_verify(struct outcome *o, const char *db, const char *filename)
{
    struct backup_call c = call_of(o);

    backup_verify(service, db, filename, &c);
}

void begin_fetch(struct outcome *o, const char *db, const char *filename,
                 bool suspect)
{
    struct backup_call c = call_of(o);

    backup_fetch(service, db, filename, suspect, &c);
}

void begin_remove(struct outcome *o, const char *db)
{
    databases_remove(service, db, removed, o);
}

void await(struct outcome *o)
{
    (void)pthread_mutex_lock(&lock);
    while (o->n_done == 0)
        (void)pthread_cond_wait(&changed, &lock);
    (void)pthread_mutex_unlock(&lock);
}

void await_gate(struct outcome *o)
{
    (void)pthread_mutex_lock(&lock);
    while (!o->at_gate && o->n_done == 0)
        (void)pthread_cond_wait(&changed, &lock);
    (void)pthread_mutex_unlock(&lock);
    assert_int_equal(o->n_done, 0);
}

void servicejob_open_gate(void)
{
    (void)pthread_mutex_lock(&lock);
    gate_open = true;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
}

void must(struct outcome *o)
{
    await(o);
    if (o->e.code != ERR_NONE)
        fail_msg("%s (%s)", o->e.message, o->e.reason);
    assert_int_equal(o->n_done, 1);
}

void must_fail(struct outcome *o, enum err_code code, const char *reason)
{
    await(o);
    if (o->e.code != code || strcmp(o->e.reason, reason) != 0)
        print_message("%s\n", o->e.message);
    assert_int_equal(o->e.code, code);
    assert_string_equal(o->e.reason, reason);
    assert_int_equal(o->n_done, 1);
}

struct backup_name made(void)
{
    struct outcome o = {0};

    begin_create(&o, NULL);
    must(&o);
    return o.name;
}

/* --------------------------------------------------------------- looking */

void expect_list(size_t n, const struct backup_name *names)
{
    const struct backup_list *l = NULL;
    struct err e = {0};

    if (backup_list_get(service, NULL, &l, &e) != 0)
        fail_msg("%s", e.message);
    assert_int_equal(l->n, n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(l->item[i].name.s, names[i].s);
    backup_list_put(l);
}

size_t count_list(void)
{
    const struct backup_list *l = NULL;
    struct err e = {0};
    size_t n;

    if (backup_list_get(service, NULL, &l, &e) != 0)
        fail_msg("%s", e.message);
    n = l->n;
    backup_list_put(l);
    return n;
}

size_t count_in(const char *folder)
{
    DIR *d = opendir(scratch_path("data/%s", folder));
    const struct dirent *ent;
    size_t n = 0;

    if (d == NULL)
        return 0;
    while ((ent = readdir(d)) != NULL)
        n += strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0;
    (void)closedir(d);
    return n;
}
