/* Worker threads and strands, through src/base/pool.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"

/* What jobs note, and what they wait for. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char notes[4096];
static int n_running;
static int most_running;
static bool gate_open;

static int reset(void **state)
{
    (void)state;
    notes[0] = '\0';
    n_running = most_running = 0;
    gate_open = false;
    return 0;
}

static void put(struct strand *s, pool_fn *fn, void *arg)
{
    struct err e = {0};

    if (strand_put(s, fn, arg, &e) != 0)
        fail_msg("%s", e.message);
}

static void note(void *arg)
{
    size_t n;

    (void)pthread_mutex_lock(&lock);
    n = strlen(notes);
    notes[n] = *(const char *)arg;
    notes[n + 1] = '\0';
    (void)pthread_mutex_unlock(&lock);
}

/* Runs until the gate is open. */
static void wait_at_gate(void *arg)
{
    (void)pthread_mutex_lock(&lock);
    n_running++;
    if (n_running > most_running)
        most_running = n_running;
    (void)pthread_cond_broadcast(&changed);
    while (!gate_open)
        (void)pthread_cond_wait(&changed, &lock);
    n_running--;
    (void)pthread_mutex_unlock(&lock);
    note(arg);
}

static void open_gate(void)
{
    (void)pthread_mutex_lock(&lock);
    gate_open = true;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
}

static void wait_running(int n)
{
    (void)pthread_mutex_lock(&lock);
    while (n_running < n)
        (void)pthread_cond_wait(&changed, &lock);
    (void)pthread_mutex_unlock(&lock);
}

static char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";

static void order(void **state)
{
    struct pool *p = pool_new(4);
    struct strand *s = strand_new(p, 1000);

    (void)state;
    for (int round = 0; round < 50; round++) {
        notes[0] = '\0';
        for (int i = 0; i < 36; i++)
            put(s, note, letters + i);
        strand_drain(s);
        assert_string_equal(notes, letters);
    }
    strand_free(s);
    strand_free(NULL);
    pool_free(p);
}

/* Two strands, two threads: both run, and neither has two jobs at once. */
static void side_by_side(void **state)
{
    struct pool *p = pool_new(4);
    struct strand *a = strand_new(p, 10);
    struct strand *b = strand_new(p, 10);

    (void)state;
    for (int i = 0; i < 3; i++) {
        put(a, wait_at_gate, letters);
        put(b, wait_at_gate, letters);
    }
    wait_running(2);
    open_gate();
    strand_drain(a);
    strand_drain(b);
    assert_int_equal(most_running, 2);
    assert_string_equal(notes, "000000");
    strand_free(a);
    strand_free(b);
    pool_free(p);
}

static void bounds(void **state)
{
    struct pool *p = pool_new(1);
    struct strand *s = strand_new(p, 3);
    struct err e = {0};

    (void)state;
    put(s, wait_at_gate, letters);
    wait_running(1); /* it does not wait any more */
    for (int i = 1; i <= 3; i++)
        put(s, note, letters + i);
    assert_int_equal(strand_put(s, note, letters + 4, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_string_equal(e.reason, "queue");
    open_gate();
    strand_drain(s);
    assert_string_equal(notes, "0123");
    put(s, note, letters + 5);
    strand_drain(s);
    assert_string_equal(notes, "01235");
    strand_free(s);
    pool_free(p);
}

/* A strand with much to do does not keep others waiting. */
static void turns(void **state)
{
    struct pool *p = pool_new(1);
    struct strand *first = strand_new(p, 10);
    struct strand *a = strand_new(p, 10);
    struct strand *b = strand_new(p, 10);

    (void)state;
    put(first, wait_at_gate, letters);
    wait_running(1);
    put(a, note, letters + 1);
    put(a, note, letters + 2);
    put(a, note, letters + 3);
    put(b, note, letters + 4);
    open_gate();
    strand_drain(a);
    strand_drain(b);
    assert_string_equal(notes, "01423");
    strand_drain(first);
    strand_free(first);
    strand_free(a);
    strand_free(b);
    pool_free(p);
}

/* A waiting strand occupies no thread. */
static void no_thread_for_waiting(void **state)
{
    struct pool *p = pool_new(2);
    struct strand *a = strand_new(p, 10);
    struct strand *b = strand_new(p, 10);

    (void)state;
    for (int i = 0; i < 5; i++)
        put(a, wait_at_gate, letters);
    wait_running(1);
    put(b, note, letters + 9);
    strand_drain(b);
    assert_string_equal(notes, "9");
    open_gate();
    strand_drain(a);
    strand_free(a);
    strand_free(b);
    pool_free(p);
}

static struct strand *other;

static void put_more(void *arg)
{
    note(arg);
    put(other, note, letters + 7);
}

/* Work may move from strand to strand, as a delete does. */
static void jobs_put_jobs(void **state)
{
    struct pool *p = pool_new(2);
    struct strand *s = strand_new(p, 10);

    (void)state;
    other = strand_new(p, 10);
    put(s, put_more, letters + 1);
    strand_drain(s);
    strand_drain(other);
    assert_string_equal(notes, "17");
    strand_free(other);
    other = s;
    notes[0] = '\0';
    put(s, put_more, letters + 1);
    strand_drain(s);
    assert_string_equal(notes, "17");
    strand_free(s);
    pool_free(p);
}

static void *open_soon(void *arg)
{
    wait_running(1);
    open_gate();
    return arg;
}

static void free_runs_all(void **state)
{
    struct pool *p = pool_new(3);
    struct strand *s = strand_new(p, 100);
    pthread_t thread;

    (void)state;
    put(s, wait_at_gate, letters);
    for (int i = 1; i < 36; i++)
        put(s, note, letters + i);
    assert_int_equal(pthread_create(&thread, NULL, open_soon, NULL), 0);
    pool_free(p);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(notes, letters);
    strand_free(s);
    pool_free(NULL);
}

#define N_STRANDS 8

static struct strand *many[N_STRANDS];
static unsigned counts[N_STRANDS];

static void count(void *arg)
{
    /* Not atomic: the strand alone keeps two of these apart. */
    ++*(unsigned *)arg;
}

static void *put_thousands(void *arg)
{
    for (int i = 0; i < 4000; i++) {
        struct err e;

        while (strand_put(many[i % N_STRANDS], count, &counts[i % N_STRANDS],
                          &e) != 0)
            strand_drain(many[i % N_STRANDS]);
    }
    return arg;
}

static void many_threads(void **state)
{
    struct pool *p = pool_new(4);
    pthread_t thread[4];

    (void)state;
    for (int i = 0; i < N_STRANDS; i++)
        many[i] = strand_new(p, 50);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, put_thousands, NULL),
                         0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    for (int i = 0; i < N_STRANDS; i++) {
        strand_drain(many[i]);
        assert_int_equal(counts[i], 4 * 4000 / N_STRANDS);
        strand_free(many[i]);
    }
    pool_free(p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"pool: a strand runs its jobs in the order they came", order, reset,
         NULL, NULL},
        {"pool: different strands go on side by side", side_by_side, reset,
         NULL, NULL},
        {"pool: too much waiting is refused", bounds, reset, NULL, NULL},
        {"pool: strands take turns", turns, reset, NULL, NULL},
        {"pool: a waiting strand occupies no thread", no_thread_for_waiting,
         reset, NULL, NULL},
        {"pool: jobs put jobs", jobs_put_jobs, reset, NULL, NULL},
        {"pool: freeing it waits until all jobs have run", free_runs_all, reset,
         NULL, NULL},
        {"pool: many threads put and no two jobs of a strand meet",
         many_threads, reset, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
