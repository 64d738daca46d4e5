/* Allocations of SQLite that fail: see memory.h. */
#include "memory.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "attempt.h"
#include "sqlite3.h"

static struct state {
    struct memory_plan plan;
    int armed; /* by this process, or 0; atomic, as the counters are */
    int fired;
    long n;
} * state;

static sqlite3_mem_methods real;

void memory_init(void)
{
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (state == MAP_FAILED)
        abort();
}

static bool fails(void)
{
    long n;

    /* A limited child without memory is another matter: it has a limit. */
    if (__atomic_load_n(&state->armed, __ATOMIC_ACQUIRE) != (int)getpid())
        return false;
    n = __atomic_add_fetch(&state->n, 1, __ATOMIC_ACQ_REL);
    if (state->plan.at == 0 || n < state->plan.at ||
        (n > state->plan.at && !state->plan.forever))
        return false;
    __atomic_store_n(&state->fired, 1, __ATOMIC_RELEASE);
    return true;
}

static void *take(int n)
{
    return fails() ? NULL : real.xMalloc(n);
}

static void *change(void *p, int n)
{
    return fails() ? NULL : real.xRealloc(p, n);
}

void memory_hook(const struct memory_plan *plan)
{
    sqlite3_mem_methods mine;

    state->plan = *plan;
    state->armed = 0;
    state->fired = 0;
    state->n = 0;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real) != SQLITE_OK)
        abort();
    mine = real;
    mine.xMalloc = take;
    mine.xRealloc = change;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &mine) != SQLITE_OK)
        abort();
}

void memory_arm(void)
{
    __atomic_store_n(&state->armed, (int)getpid(), __ATOMIC_RELEASE);
}

void memory_disarm(void)
{
    __atomic_store_n(&state->armed, 0, __ATOMIC_RELEASE);
}

bool memory_fired(void)
{
    return __atomic_load_n(&state->fired, __ATOMIC_ACQUIRE) != 0;
}

long memory_count(void)
{
    return __atomic_load_n(&state->n, __ATOMIC_ACQUIRE);
}

void memory_check_leaks(void)
{
    sqlite3_int64 used = sqlite3_memory_used();

    if (used > 65536)
        complain("SQLite still has %lld bytes", (long long)used);
}
