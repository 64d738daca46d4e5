/* What a power cut leaves: see cut.h. */
#include "cut.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define PAGE 4096

struct bytes {
    uint8_t *p;
    size_t n;
};

struct node;

struct entry {
    char name[64];
    struct node *node;
    bool durable; /* on the disk */
    bool now;     /* for those that look */
    long made;    /* when the name came, or went: the number of the change */
    long gone;
};

struct node {
    struct node *next;
    dev_t dev;
    ino_t ino;
    bool stale; /* the file is gone and its number may be another's */
    bool is_dir;
    struct bytes now;
    struct bytes disk;
    uint8_t *lost; /* pages whose sync failed; now.n / PAGE + 1 of them */
    size_t n_lost;
    struct entry *entries;
    size_t n_entries;
    char *at; /* where cut_write has put it, or NULL */
};

static struct node *nodes;
static struct node *top;
static long n_changes;

static struct node *find(const struct stat *st)
{
    for (struct node *x = nodes; x != NULL; x = x->next) {
        if (x->ino == st->st_ino && x->dev == st->st_dev && !x->stale)
            return x;
    }
    return NULL;
}

static struct node *add_node(const struct stat *st)
{
    struct node *x = find(st);

    if (x != NULL)
        x->stale = true;
    x = xcalloc(1, sizeof *x);
    x->dev = st->st_dev;
    x->ino = st->st_ino;
    x->is_dir = S_ISDIR(st->st_mode);
    x->next = nodes;
    nodes = x;
    return x;
}

static struct entry *add_entry(struct node *dir, const char *name,
                               struct node *node)
{
    struct entry *en;

    dir->entries =
        xrealloc(dir->entries, (dir->n_entries + 1) * sizeof *dir->entries);
    en = &dir->entries[dir->n_entries++];
    memset(en, 0, sizeof *en);
    (void)snprintf(en->name, sizeof en->name, "%s", name);
    en->node = node;
    return en;
}

static void resize(struct bytes *b, size_t n)
{
    b->p = xrealloc(b->p, n);
    if (n > b->n)
        memset(b->p + b->n, 0, n - b->n);
    b->n = n;
}

static void copy_bytes(struct bytes *to, const struct bytes *from)
{
    resize(to, from->n);
    if (from->n > 0)
        memcpy(to->p, from->p, from->n);
}

/* ------------------------------------------------------------ the beginning */

static void load(struct node *x, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    resize(&x->disk, 0);
    for (;;) {
        uint8_t part[16384];
        ssize_t n = read(fd, part, sizeof part);

        if (n <= 0)
            break;
        resize(&x->disk, x->disk.n + (size_t)n);
        memcpy(x->disk.p + x->disk.n - n, part, (size_t)n);
    }
    (void)close(fd);
    copy_bytes(&x->now, &x->disk);
}

static struct node *scan(const char *path)
{
    struct stat st;
    struct node *x;
    DIR *d;
    const struct dirent *ent;

    if (lstat(path, &st) != 0)
        abort();
    x = add_node(&st);
    if (!x->is_dir) {
        load(x, path);
        return x;
    }
    d = opendir(path);
    if (d == NULL)
        abort();
    while ((ent = readdir(d)) != NULL) {
        char *below;
        struct node *child;
        struct entry *en;

        if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0)
            continue;
        below = xasprintf("%s/%s", path, ent->d_name);
        child = scan(below);
        en = add_entry(x, ent->d_name, child);
        en->durable = en->now = true;
        free(below);
    }
    (void)closedir(d);
    return x;
}

void cut_begin(const char *root)
{
    top = scan(root);
}

bool cut_recording(void)
{
    return top != NULL;
}

/* -------------------------------------------------------------- the changes */

static void remove_now(struct node *dir, const char *name, long change)
{
    for (size_t i = 0; i < dir->n_entries; i++) {
        struct entry *en = &dir->entries[i];

        if (en->now && strcmp(en->name, name) == 0) {
            en->now = false;
            en->gone = change;
        }
    }
}

static void add_now(struct node *dir, const char *name, struct node *x,
                    long change)
{
    struct entry *en;

    remove_now(dir, name, change);
    en = add_entry(dir, name, x);
    en->now = true;
    en->made = change;
}

void cut_made(const struct stat *dir, const char *name, const struct stat *st)
{
    struct node *d = find(dir);

    if (d != NULL)
        add_now(d, name, add_node(st), ++n_changes);
}

void cut_unnamed(const struct stat *st)
{
    (void)add_node(st);
}

void cut_linked(const struct stat *dir, const char *name, const struct stat *st)
{
    struct node *d = find(dir);
    struct node *x = find(st);

    if (d != NULL && x != NULL)
        add_now(d, name, x, ++n_changes);
}

void cut_removed(const struct stat *dir, const char *name)
{
    struct node *d = find(dir);

    if (d != NULL)
        remove_now(d, name, ++n_changes);
}

void cut_renamed(const struct stat *from_dir, const char *from,
                 const struct stat *to_dir, const char *to)
{
    struct node *f = find(from_dir);
    struct node *t = find(to_dir);
    struct node *x = NULL;

    if (f == NULL || t == NULL)
        return;
    for (size_t i = 0; i < f->n_entries; i++) {
        if (f->entries[i].now && strcmp(f->entries[i].name, from) == 0)
            x = f->entries[i].node;
    }
    if (x == NULL)
        return;
    n_changes++;
    remove_now(f, from, n_changes);
    add_now(t, to, x, n_changes);
}

static void forgive(struct node *x, size_t first, size_t last)
{
    for (size_t i = first; i <= last && i < x->n_lost; i++)
        x->lost[i] = 0;
}

void cut_written(const struct stat *st, const void *bytes, size_t n,
                 uint64_t at)
{
    struct node *x = find(st);

    if (x == NULL || n == 0)
        return;
    if (at + n > x->now.n)
        resize(&x->now, (size_t)at + n);
    memcpy(x->now.p + at, bytes, n);
    forgive(x, (size_t)at / PAGE, ((size_t)at + n - 1) / PAGE);
}

void cut_truncated(const struct stat *st, uint64_t size)
{
    struct node *x = find(st);

    if (x == NULL)
        return;
    resize(&x->now, (size_t)size);
    for (size_t i = (size_t)size / PAGE + 1; i < x->n_lost; i++)
        x->lost[i] = 0;
}

static size_t n_pages(const struct node *x)
{
    size_t n = x->now.n > x->disk.n ? x->now.n : x->disk.n;

    return n / PAGE + 1;
}

/* Page i of `from` into `to`, which has the length it is to have. */
static void take_page(struct bytes *to, const struct bytes *from, size_t i)
{
    size_t at = i * PAGE;
    size_t n = to->n > at ? to->n - at : 0;

    if (n > PAGE)
        n = PAGE;
    for (size_t k = at; k < at + n; k++)
        to->p[k] = k < from->n ? from->p[k] : 0;
}

static bool page_differs(const struct node *x, size_t i)
{
    for (size_t k = i * PAGE; k < (i + 1) * PAGE; k++) {
        int a = k < x->now.n ? x->now.p[k] : -1;
        int b = k < x->disk.n ? x->disk.p[k] : -1;

        if (a != b)
            return true;
    }
    return false;
}

void cut_synced(const struct stat *st)
{
    struct node *x = find(st);

    if (x == NULL)
        return;
    if (!x->is_dir) {
        resize(&x->disk, x->now.n);
        for (size_t i = 0; i < n_pages(x); i++) {
            if (i >= x->n_lost || !x->lost[i])
                take_page(&x->disk, &x->now, i);
        }
        return;
    }
    for (size_t i = 0; i < x->n_entries; i++) {
        x->entries[i].durable = x->entries[i].now;
        x->entries[i].made = x->entries[i].gone = 0;
    }
}

void cut_sync_failed(const struct stat *st)
{
    struct node *x = find(st);
    size_t n;

    if (x == NULL || x->is_dir)
        return;
    n = n_pages(x);
    if (n > x->n_lost) {
        x->lost = xrealloc(x->lost, n);
        memset(x->lost + x->n_lost, 0, n - x->n_lost);
        x->n_lost = n;
    }
    for (size_t i = 0; i < n; i++) {
        if (page_differs(x, i))
            x->lost[i] = 1;
    }
}

/* ------------------------------------------------------------- the cut itself
 */

struct cut {
    enum cut_variant v;
    uint64_t random;
    long until; /* names: changes up to this one have reached the disk */
};

/* SplitMix64, by Vigna: good enough for coins. */
static uint64_t next(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15U;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static bool has_name(const struct cut *c, const struct entry *en)
{
    switch (c->v) {
    case CUT_BYTES_LOST:
        return en->now;
    case CUT_RANDOM:
        if (en->gone != 0 && en->gone <= c->until)
            return false;
        return en->durable || (en->made != 0 && en->made <= c->until);
    default:
        return en->durable;
    }
}

static void write_file(const char *path, const struct bytes *b)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || (b->n > 0 && write(fd, b->p, b->n) != (ssize_t)b->n))
        abort();
    (void)close(fd);
}

/* A file whose renaming was cut off may have both names, and is one file. */
static void put_file(struct cut *c, const char *path, struct node *x)
{
    struct bytes b = {0};

    if (x->at != NULL) {
        if (link(x->at, path) != 0)
            abort();
        return;
    }
    x->at = xstrdup(path);
    if (c->v == CUT_NAMES_LOST)
        copy_bytes(&b, &x->now);
    else
        copy_bytes(&b, &x->disk);
    if (c->v == CUT_RANDOM) {
        resize(&b, (next(&c->random) & 1) != 0 ? x->now.n : x->disk.n);
        for (size_t i = 0; i < n_pages(x); i++) {
            if ((i >= x->n_lost || !x->lost[i]) && (next(&c->random) & 1) != 0)
                take_page(&b, &x->now, i);
        }
    }
    write_file(path, &b);
    free(b.p);
}

static void put_dir(struct cut *c, const char *path, const struct node *x)
{
    if (mkdir(path, 0700) != 0)
        abort();
    for (size_t i = 0; i < x->n_entries; i++) {
        const struct entry *en = &x->entries[i];
        char *below;

        if (!has_name(c, en))
            continue;
        below = xasprintf("%s/%s", path, en->name);
        if (en->node->is_dir)
            put_dir(c, below, en->node);
        else
            put_file(c, below, en->node);
        free(below);
    }
}

void cut_write(const char *to, enum cut_variant v, uint64_t seed)
{
    struct cut c = {.v = v, .random = seed};

    for (struct node *x = nodes; x != NULL; x = x->next) {
        free(x->at);
        x->at = NULL;
    }
    c.until = (long)(next(&c.random) % (uint64_t)(n_changes + 1));
    put_dir(&c, to, top);
}
