/* The body of GET /api/v1/backup: see api_list.h. */
#include "api/api_list.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "backup/databases.h"
#include "base/clock.h"
#include "base/mem.h"

/* As printf's %llu, which takes most of the time of a long list. */
static void put_number(struct buf *out, uint64_t v)
{
    char digits[20];
    size_t i = sizeof digits;

    do {
        digits[--i] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    buf_put(out, digits + i, sizeof digits - i);
}

/* A name is plain ASCII without quotes, so nothing needs escaping. */
void api_list_render(const struct backup_list *l, struct buf *out)
{
    buf_puts(out, "{\"backups\":[");
    for (size_t i = 0; i < l->n; i++) {
        const struct backup_item *it = &l->item[i];
        char created_at[CLOCK_ISO_SIZE];

        clock_format_iso(it->created_at, created_at);
        buf_puts(out, i == 0 ? "{\"filename\":\"" : ",{\"filename\":\"");
        buf_put(out, it->name.s, BACKUP_NAME_LEN);
        buf_puts(out, "\",\"size\":");
        put_number(out, it->size_bytes);
        buf_puts(out, ",\"created_at\":\"");
        buf_puts(out, created_at);
        buf_puts(out, "\"}");
    }
    buf_puts(out, "]}");
}

struct entry {
    char database[DATABASE_NAME_SIZE];
    uint64_t generation;
    uint64_t used; /* value of the clock below when it was last asked for */
    size_t n_bytes;
    struct http_shared *body;
};

struct api_lists {
    pthread_mutex_t lock; /* guards all that follows */
    uint64_t clock;       /* counts requests */
    size_t n_bytes;
    size_t n;
    struct entry entry[API_LISTS_MAX];
};

struct api_lists *api_lists_new(void)
{
    struct api_lists *c = xcalloc(1, sizeof *c);

    (void)pthread_mutex_init(&c->lock, NULL);
    return c;
}

void api_lists_free(struct api_lists *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n; i++)
        http_shared_unref(c->entry[i].body);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

static struct entry *find(struct api_lists *c, const char *database)
{
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->entry[i].database, database) == 0)
            return &c->entry[i];
    }
    return NULL;
}

/* Take an entry out; the last one fills its place. */
static void drop(struct api_lists *c, struct entry *en)
{
    http_shared_unref(en->body);
    c->n_bytes -= en->n_bytes;
    c->n--;
    *en = c->entry[c->n];
}

static void drop_oldest(struct api_lists *c)
{
    struct entry *oldest = &c->entry[0];

    for (size_t i = 1; i < c->n; i++) {
        if (c->entry[i].used < oldest->used)
            oldest = &c->entry[i];
    }
    drop(c, oldest);
}

static struct http_shared *lookup(struct api_lists *c, const char *database,
                                  uint64_t generation)
{
    struct http_shared *body = NULL;
    struct entry *en;

    (void)pthread_mutex_lock(&c->lock);
    en = find(c, database);
    if (en != NULL && en->generation == generation) {
        en->used = ++c->clock;
        body = http_shared_ref(en->body);
    }
    (void)pthread_mutex_unlock(&c->lock);
    return body;
}

static void keep(struct api_lists *c, const char *database, uint64_t generation,
                 struct http_shared *body, size_t n_bytes)
{
    struct entry *en;

    (void)pthread_mutex_lock(&c->lock);
    en = find(c, database);
    if (en != NULL)
        drop(c, en);
    while (c->n == API_LISTS_MAX ||
           (c->n > 0 && c->n_bytes + n_bytes > API_LISTS_MAX_BYTES))
        drop_oldest(c);
    en = &c->entry[c->n++];
    *en = (struct entry){.generation = generation,
                         .used = ++c->clock,
                         .n_bytes = n_bytes,
                         .body = http_shared_ref(body)};
    (void)strncpy(en->database, database, sizeof en->database - 1);
    c->n_bytes += n_bytes;
    (void)pthread_mutex_unlock(&c->lock);
}

struct http_shared *api_lists_get(struct api_lists *c, const char *database,
                                  const struct backup_list *l)
{
    struct http_shared *body = lookup(c, database, l->generation);
    struct buf out = {0};
    size_t n_bytes;

    if (body != NULL)
        return body;
    /* Two who come at once may both render; the bodies are the same. */
    api_list_render(l, &out);
    n_bytes = out.len;
    body = http_shared_new(&out);
    keep(c, database, l->generation, body, n_bytes);
    return body;
}
