/* Listing: see store.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "sqlite/check.h"
#include "store/store_internal.h"

/* A folder's mtime this young may still hide a change within one tick of the
 * kernel's clock. */
#define FRESH_NS (100 * 1000000LL)

static int64_t to_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

bool store_stamp(struct store *st, struct store_stamp *out, bool *settled)
{
    struct err ignored;
    struct timespec now;
    struct stat s;
    int dir = store_dir(st, false, false, &ignored);

    *settled = false;
    if (dir < 0 || fstat(dir, &s) != 0)
        return false;
    out->mtime_ns = to_ns(s.st_mtim);
    out->ino = (uint64_t)s.st_ino;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    *settled = to_ns(now) - out->mtime_ns > FRESH_NS;
    return true;
}

/* What a folder holds besides .db files: the names with facts or pending. */
struct found {
    struct store_entry *e;
    size_t n;
    size_t cap;
};

static void add(struct found *f, const struct store_entry *e)
{
    if (f->n == f->cap) {
        f->cap = f->cap == 0 ? 64 : f->cap * 2;
        f->e = xrealloc(f->e, f->cap * sizeof *f->e);
    }
    f->e[f->n++] = *e;
}

static int by_time_then_suspect(const void *a, const void *b)
{
    const struct store_entry *x = a;
    const struct store_entry *y = b;

    if (x->created_at != y->created_at)
        return x->created_at < y->created_at ? 1 : -1;
    return (int)x->suspect - (int)y->suspect;
}

/* Header and length of a file that somebody put there. */
static bool looks_whole(int dir, const char *name, uint64_t size)
{
    struct err ignored;
    struct db_header h;
    uint8_t head[100];
    size_t got = 0;
    int fd = file_open_at(dir, name, O_RDONLY, &ignored);
    bool ok;

    if (fd < 0)
        return false;
    ok = file_pread_some(fd, head, sizeof head, 0, &got, &ignored) == 0 &&
         got == sizeof head && db_header_parse(head, &h, &ignored) == 0 &&
         size % h.page_size == 0;
    if (ok && h.n_pages != 0 && h.change_counter == h.version_valid_for)
        ok = size == (uint64_t)h.n_pages * h.page_size;
    file_close(&fd);
    return ok;
}

static void examine(int dir, const char *name, bool suspect, struct found *f)
{
    struct store_entry e = {.suspect = suspect};
    struct stat s;

    if (!backup_name_parse(name, &e.name, &e.created_at) ||
        fstatat(dir, name, &s, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(s.st_mode))
        return;
    e.size_bytes = (uint64_t)s.st_size;
    e.mtime_ns = to_ns(s.st_mtim);
    add(f, &e);
}

/* The names (without ending) that have a sibling of some kind, sorted. */
struct names {
    char (*s)[BACKUP_NAME_LEN - 2];
    size_t n;
    size_t cap;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void note_sibling(struct names *l, const char *name)
{
    if (l->n == l->cap) {
        l->cap = l->cap == 0 ? 64 : l->cap * 2;
        l->s = xrealloc(l->s, l->cap * sizeof *l->s);
    }
    (void)snprintf(l->s[l->n++], sizeof *l->s, "%.*s", BACKUP_NAME_LEN - 3,
                   name);
}

static bool has_sibling(const struct names *l, const struct backup_name *name)
{
    char key[BACKUP_NAME_LEN - 2];

    (void)snprintf(key, sizeof key, "%.*s", BACKUP_NAME_LEN - 3, name->s);
    return l->n > 0 && bsearch(key, l->s, l->n, sizeof *l->s, by_name) != NULL;
}

static bool ends_with(const char *s, const char *ending)
{
    size_t n = strlen(s);
    size_t m = strlen(ending);

    return n == BACKUP_NAME_LEN - 3 + m && strcmp(s + n - m, ending) == 0;
}

static int scan_dir(int dir, bool suspect, struct found *f, struct err *e)
{
    struct names facts = {0};
    struct names pending = {0};
    const struct dirent *ent;
    size_t first = f->n;
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);

    if (d == NULL) {
        file_close(&again);
        return err_sys(e, "cannot read a folder of backups");
    }
    while ((ent = readdir(d)) != NULL) {
        if (ends_with(ent->d_name, ".db"))
            examine(dir, ent->d_name, suspect, f);
        else if (ends_with(ent->d_name, ".json"))
            note_sibling(&facts, ent->d_name);
        else if (ends_with(ent->d_name, ".pending"))
            note_sibling(&pending, ent->d_name);
    }
    (void)closedir(d);
    if (facts.n > 0)
        qsort(facts.s, facts.n, sizeof *facts.s, by_name);
    if (pending.n > 0)
        qsort(pending.s, pending.n, sizeof *pending.s, by_name);
    for (size_t i = first; i < f->n; i++) {
        struct store_entry *x = &f->e[i];

        x->has_facts = has_sibling(&facts, &x->name);
        x->pending = has_sibling(&pending, &x->name);
        x->whole = x->has_facts || x->pending ||
                   looks_whole(dir, x->name.s, x->size_bytes);
    }
    free(facts.s);
    free(pending.s);
    return 0;
}

int store_scan(struct store *st, bool suspects, struct store_entry **out,
               size_t *n, struct err *e)
{
    struct found f = {0};

    for (int suspect = 0; suspect <= (suspects ? 1 : 0); suspect++) {
        int dir = store_dir(st, suspect != 0, false, e);

        if ((dir < 0 && e->code != ERR_NOT_FOUND) ||
            (dir >= 0 && scan_dir(dir, suspect != 0, &f, e) != 0)) {
            free(f.e);
            return -1;
        }
    }
    if (f.n > 1)
        qsort(f.e, f.n, sizeof *f.e, by_time_then_suspect);
    *out = f.e;
    *n = f.n;
    return 0;
}

static bool exists(int dir, const struct backup_name *name, const char *ending)
{
    char file[SIBLING_SIZE];
    struct stat s;

    store_sibling(name, ending, file);
    return fstatat(dir, file, &s, AT_SYMLINK_NOFOLLOW) == 0;
}

int store_find(struct store *st, const struct backup_name *name,
               struct store_entry *out, struct err *e)
{
    for (int suspect = 0; suspect < 2; suspect++) {
        struct found f = {0};
        int dir = store_dir(st, suspect != 0, false, e);

        if (dir < 0 && e->code != ERR_NOT_FOUND)
            return -1;
        if (dir >= 0)
            examine(dir, name->s, suspect != 0, &f);
        if (f.n == 0)
            continue;
        *out = f.e[0];
        free(f.e);
        out->has_facts = exists(dir, name, ".json");
        out->pending = exists(dir, name, ".pending");
        out->whole = out->has_facts || out->pending ||
                     looks_whole(dir, name->s, out->size_bytes);
        return 0;
    }
    return err_set_reason(e, ERR_NOT_FOUND, "backup", "there is no backup %s",
                          name->s);
}
