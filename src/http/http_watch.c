/*
 * Connections that wait for a request: see http_internal.h.
 *
 * The list is in the order in which they began to wait: the one that has
 * waited longest is at its head.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "http/http_internal.h"

#define THREAD_STACK_BYTES ((size_t)64 << 10)
/* A request that has just come in a burst is not cut off before it is read. */
#define GRACE_MS 1000

struct watched {
    struct watch *watch;
    struct watched *prev, *next; /* where it waits */
    int fd;
    int64_t since_ms;
    bool waiting;
    bool shut; /* given up; the library closes it at its next look */
};

struct watch {
    int64_t limit_ms;
    size_t crowded; /* that many open connections are */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct watched *head, *tail;
    size_t n_open; /* of those that were not given up */
    bool ending;
    pthread_t thread;
};

static void unlink_waiting(struct watched *c)
{
    struct watch *w = c->watch;

    if (!c->waiting)
        return;
    *(c->prev != NULL ? &c->prev->next : &w->head) = c->next;
    *(c->next != NULL ? &c->next->prev : &w->tail) = c->prev;
    c->prev = c->next = NULL;
    c->waiting = false;
}

/* The descriptor is still the connection's: the library closes it only after
 * watch_remove, which needs the lock. */
static void give_up(struct watched *c)
{
    unlink_waiting(c);
    c->shut = true;
    c->watch->n_open--;
    (void)shutdown(c->fd, SHUT_RDWR);
}

static void sleep_until(struct watch *w, int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000,
                         .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)pthread_cond_timedwait(&w->changed, &w->lock, &t);
}

/* When the one that has waited longest is given up. */
static int64_t deadline_ms(const struct watch *w)
{
    int64_t wait_ms = w->limit_ms;

    if (w->n_open >= w->crowded && wait_ms > GRACE_MS)
        wait_ms = GRACE_MS;
    return w->head->since_ms + wait_ms;
}

static void *keep_watch(void *arg)
{
    struct watch *w = arg;

    (void)pthread_mutex_lock(&w->lock);
    while (!w->ending) {
        if (w->head == NULL)
            (void)pthread_cond_wait(&w->changed, &w->lock);
        else if (clock_monotonic_ms() < deadline_ms(w))
            sleep_until(w, deadline_ms(w));
        else
            give_up(w->head);
    }
    (void)pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int start_thread(struct watch *w, struct err *e)
{
    pthread_attr_t attr;
    int rc;

    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    rc = pthread_create(&w->thread, &attr, keep_watch, w);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0)
        return err_set(e, ERR_IO, "cannot start a thread");
    return 0;
}

struct watch *watch_new(unsigned limit_s, unsigned max_connections,
                        struct err *e)
{
    struct watch *w = xcalloc(1, sizeof *w);
    pthread_condattr_t attr;

    w->limit_ms = (int64_t)limit_s * 1000;
    w->crowded = max_connections - max_connections / 8;
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (start_thread(w, e) == 0)
        return w;
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->lock);
    free(w);
    return NULL;
}

void watch_free(struct watch *w)
{
    if (w == NULL)
        return;
    (void)pthread_mutex_lock(&w->lock);
    w->ending = true;
    (void)pthread_cond_signal(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
    (void)pthread_join(w->thread, NULL);
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->lock);
    free(w);
}

static void wait_locked(struct watched *c)
{
    struct watch *w = c->watch;

    unlink_waiting(c);
    if (c->shut)
        return;
    c->since_ms = clock_monotonic_ms();
    c->prev = w->tail;
    *(w->tail != NULL ? &w->tail->next : &w->head) = c;
    w->tail = c;
    c->waiting = true;
    if (w->head == c || w->n_open >= w->crowded)
        (void)pthread_cond_signal(&w->changed);
}

struct watched *watch_add(struct watch *w, int fd)
{
    struct watched *c = xcalloc(1, sizeof *c);

    c->watch = w;
    c->fd = fd;
    (void)pthread_mutex_lock(&w->lock);
    w->n_open++;
    wait_locked(c);
    (void)pthread_mutex_unlock(&w->lock);
    return c;
}

void watch_wait(struct watched *c)
{
    (void)pthread_mutex_lock(&c->watch->lock);
    wait_locked(c);
    (void)pthread_mutex_unlock(&c->watch->lock);
}

void watch_rest(struct watched *c)
{
    (void)pthread_mutex_lock(&c->watch->lock);
    unlink_waiting(c);
    (void)pthread_mutex_unlock(&c->watch->lock);
}

void watch_remove(struct watched *c)
{
    struct watch *w = c->watch;

    (void)pthread_mutex_lock(&w->lock);
    unlink_waiting(c);
    if (!c->shut)
        w->n_open--;
    (void)pthread_mutex_unlock(&w->lock);
    free(c);
}
