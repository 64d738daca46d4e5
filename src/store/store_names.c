/* Names in a folder of backups: see store_internal.h. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/store_internal.h"

#define STEM_LEN (BACKUP_NAME_LEN - 3) /* app_YYYYMMDD_HHMMSS */

enum file_kind store_kind(const char *file, int64_t *t)
{
    const char *ending;

    if (strncmp(file, "app_", 4) != 0 || !clock_parse_stamp(file + 4, t))
        return KIND_OTHER;
    ending = file + STEM_LEN;
    if (strcmp(ending, ".db") == 0)
        return KIND_BACKUP;
    if (strcmp(ending, ".json") == 0)
        return KIND_FACTS;
    return strcmp(ending, ".pending") == 0 ? KIND_PENDING : KIND_OTHER;
}

void seconds_add(struct seconds *s, int64_t t)
{
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 64 : s->cap * 2;
        s->t = xrealloc(s->t, s->cap * sizeof *s->t);
    }
    s->t[s->n++] = t;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

void seconds_sort(struct seconds *s)
{
    if (s->n > 1)
        qsort(s->t, s->n, sizeof *s->t, by_value);
}

bool seconds_has(const struct seconds *s, int64_t t)
{
    return s->n > 0 && bsearch(&t, s->t, s->n, sizeof *s->t, by_value) != NULL;
}

void seconds_fini(struct seconds *s)
{
    free(s->t);
    memset(s, 0, sizeof *s);
}
