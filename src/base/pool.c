/* Worker threads and strands: see pool.h. */
#include "base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"

/* SQLite and our own code keep large buffers on the heap. */
#define STACK_BYTES ((size_t)512 << 10)

struct job {
    struct job *next;
    pool_fn *fn;
    void *arg;
};

struct strand {
    struct pool *pool;
    struct strand *next; /* in the pool's queue of strands with work */
    struct job *first;
    struct job **last;
    size_t n_waiting;
    size_t max_waiting;
    bool active; /* queued in the pool, or running a job */
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work; /* a strand has work, or stop */
    pthread_cond_t idle; /* a strand has become inactive */
    struct strand *first;
    struct strand **last;
    bool stop;
    unsigned n_threads;
    pthread_t thread[];
};

/* With the lock held: let some thread run the strand's next job. */
static void enqueue(struct pool *p, struct strand *s)
{
    s->next = NULL;
    *p->last = s;
    p->last = &s->next;
    (void)pthread_cond_signal(&p->work);
}

static struct strand *dequeue(struct pool *p)
{
    struct strand *s = p->first;

    p->first = s->next;
    if (p->first == NULL)
        p->last = &p->first;
    return s;
}

/* Run one job, then give other strands their turn. */
static void run_one(struct pool *p, struct strand *s)
{
    struct job *j = s->first;

    s->first = j->next;
    if (s->first == NULL)
        s->last = &s->first;
    s->n_waiting--;
    (void)pthread_mutex_unlock(&p->lock);
    j->fn(j->arg);
    free(j);
    (void)pthread_mutex_lock(&p->lock);
    if (s->first != NULL) {
        enqueue(p, s);
    } else {
        s->active = false;
        (void)pthread_cond_broadcast(&p->idle);
    }
}

static void *worker(void *arg)
{
    struct pool *p = arg;

    (void)pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->first == NULL && !p->stop)
            (void)pthread_cond_wait(&p->work, &p->lock);
        if (p->first == NULL)
            break;
        run_one(p, dequeue(p));
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct pool *pool_new(unsigned n_threads)
{
    struct pool *p = xcalloc(1, sizeof *p + n_threads * sizeof p->thread[0]);
    pthread_attr_t attr;

    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->work, NULL);
    (void)pthread_cond_init(&p->idle, NULL);
    p->last = &p->first;
    p->n_threads = n_threads;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    for (unsigned i = 0; i < n_threads; i++) {
        if (pthread_create(&p->thread[i], &attr, worker, p) != 0)
            abort();
    }
    (void)pthread_attr_destroy(&attr);
    return p;
}

void pool_free(struct pool *p)
{
    if (p == NULL)
        return;
    (void)pthread_mutex_lock(&p->lock);
    p->stop = true;
    (void)pthread_cond_broadcast(&p->work);
    (void)pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++)
        (void)pthread_join(p->thread[i], NULL);
    (void)pthread_cond_destroy(&p->work);
    (void)pthread_cond_destroy(&p->idle);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

struct strand *strand_new(struct pool *p, size_t max_waiting)
{
    struct strand *s = xcalloc(1, sizeof *s);

    s->pool = p;
    s->last = &s->first;
    s->max_waiting = max_waiting;
    return s;
}

int strand_put(struct strand *s, pool_fn *fn, void *arg, struct err *e)
{
    struct job *j = xcalloc(1, sizeof *j);
    int rc = 0;

    j->fn = fn;
    j->arg = arg;
    (void)pthread_mutex_lock(&s->pool->lock);
    if (s->n_waiting >= s->max_waiting) {
        rc = err_set_reason(e, ERR_BUSY, "queue",
                            "too much work is waiting already; try again");
        free(j);
    } else {
        *s->last = j;
        s->last = &j->next;
        s->n_waiting++;
        if (!s->active) {
            s->active = true;
            enqueue(s->pool, s);
        }
    }
    (void)pthread_mutex_unlock(&s->pool->lock);
    return rc;
}

void strand_drain(struct strand *s)
{
    (void)pthread_mutex_lock(&s->pool->lock);
    while (s->active)
        (void)pthread_cond_wait(&s->pool->idle, &s->pool->lock);
    (void)pthread_mutex_unlock(&s->pool->lock);
}

void strand_free(struct strand *s)
{
    if (s == NULL)
        return;
    assert(!s->active);
    free(s);
}
