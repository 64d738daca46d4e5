/* Listing: see store.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "sqlite/check.h"
#include "sqlite/check_file.h"
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

/* A growing array of entries. */
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

int store_explain(struct store *st, const struct backup_name *name,
                  struct err *e)
{
    int fd = store_open(st, name, false, e);
    int rc = fd < 0 ? -1 : check_file_look(fd, e);

    file_close(&fd);
    return rc;
}

/* The file of a backup; whatever else bears such a name is none. */
static int examine(int dir, const char *file, int64_t t, bool suspect,
                   struct found *f, struct err *e)
{
    struct store_entry en = {.suspect = suspect, .created_at = t};
    struct stat s;

    if (fstatat(dir, file, &s, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : err_sys(e, "cannot examine %s", file);
    if (!store_owns(dir, &s))
        return 0;
    memcpy(en.name.s, file, sizeof en.name.s);
    en.size_bytes = (uint64_t)s.st_size;
    en.mtime_ns = to_ns(s.st_mtim);
    add(f, &en);
    return 0;
}

/* What one reading of a folder finds. */
struct folder {
    struct found *found;
    size_t first; /* of its entries in found */
    struct seconds facts;
    struct seconds pending;
    bool removed; /* a leftover */
};

static int read_dir(int dir, bool suspect, bool clean, struct folder *l,
                    struct err *e)
{
    const char *file;
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    int rc;

    if (d == NULL) {
        file_close(&again);
        return err_sys(e, "cannot read a folder of backups");
    }
    while ((rc = file_next_name(d, &file, e)) == 1) {
        int64_t t = 0;
        enum file_kind kind = store_kind(file, &t);

        if (kind == KIND_BACKUP &&
            examine(dir, file, t, suspect, l->found, e) != 0) {
            rc = -1;
            break;
        }
        if (kind == KIND_FACTS)
            seconds_add(&l->facts, t);
        else if (kind == KIND_PENDING)
            seconds_add(&l->pending, t);
        else if (clean && store_is_leftover(file))
            l->removed = unlinkat(dir, file, 0) == 0 || l->removed;
    }
    (void)closedir(d);
    seconds_sort(&l->facts);
    seconds_sort(&l->pending);
    return rc;
}

static int remove_orphans(int dir, struct folder *l, struct err *e)
{
    struct seconds backups = {0};

    for (size_t i = l->first; i < l->found->n; i++)
        seconds_add(&backups, l->found->e[i].created_at);
    seconds_sort(&backups);
    if (store_remove_orphans(dir, &l->facts, ".json", &backups))
        l->removed = true;
    if (store_remove_orphans(dir, &l->pending, ".pending", &backups))
        l->removed = true;
    seconds_fini(&backups);
    return l->removed ? file_sync(dir, e) : 0;
}

static int scan_dir(int dir, bool suspect, bool clean, struct found *f,
                    struct err *e)
{
    struct folder l = {.found = f, .first = f->n};
    int rc = read_dir(dir, suspect, clean, &l, e);

    for (size_t i = l.first; rc == 0 && i < f->n; i++) {
        struct store_entry *x = &f->e[i];

        x->has_facts = seconds_has(&l.facts, x->created_at);
        x->pending = seconds_has(&l.pending, x->created_at);
        x->whole = x->has_facts || x->pending ||
                   looks_whole(dir, x->name.s, x->size_bytes);
    }
    if (rc == 0 && clean)
        rc = remove_orphans(dir, &l, e);
    seconds_fini(&l.facts);
    seconds_fini(&l.pending);
    return rc;
}

static int scan(struct store *st, bool suspects, bool clean,
                struct store_entry **out, size_t *n, struct err *e)
{
    struct found f = {0};

    for (int suspect = 0; suspect <= (suspects ? 1 : 0); suspect++) {
        int dir = store_dir(st, suspect != 0, false, e);

        if ((dir < 0 && e->code != ERR_NOT_FOUND) ||
            (dir >= 0 && scan_dir(dir, suspect != 0, clean, &f, e) != 0)) {
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

int store_scan(struct store *st, bool suspects, struct store_entry **out,
               size_t *n, struct err *e)
{
    return scan(st, suspects, false, out, n, e);
}

int store_clean(struct store *st, struct store_entry **out, size_t *n,
                struct err *e)
{
    return scan(st, true, true, out, n, e);
}

static int exists(int dir, const struct backup_name *name, const char *ending,
                  bool *there, struct err *e)
{
    char file[SIBLING_SIZE];
    struct stat s;

    store_sibling(name, ending, file);
    *there = fstatat(dir, file, &s, AT_SYMLINK_NOFOLLOW) == 0;
    if (*there || errno == ENOENT)
        return 0;
    return err_sys(e, "cannot examine %s", file);
}

int store_find(struct store *st, const struct backup_name *name,
               struct store_entry *out, struct err *e)
{
    for (int suspect = 0; suspect < 2; suspect++) {
        struct found f = {0};
        int64_t t;
        int dir = store_dir(st, suspect != 0, false, e);

        if (dir < 0 && e->code != ERR_NOT_FOUND)
            return -1;
        if (dir >= 0 && store_kind(name->s, &t) == KIND_BACKUP &&
            examine(dir, name->s, t, suspect != 0, &f, e) != 0)
            return -1;
        if (f.n == 0)
            continue;
        *out = f.e[0];
        free(f.e);
        if (exists(dir, name, ".json", &out->has_facts, e) != 0 ||
            exists(dir, name, ".pending", &out->pending, e) != 0)
            return -1;
        out->whole = out->has_facts || out->pending ||
                     looks_whole(dir, name->s, out->size_bytes);
        return 0;
    }
    return err_set_reason(e, ERR_NOT_FOUND, "backup", "there is no backup %s",
                          name->s);
}
