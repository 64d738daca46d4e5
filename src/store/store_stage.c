/* Staging and publishing: see store.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/phase.h"
#include "base/rand.h"
#include "store/store_internal.h"

struct stage {
    int dir; /* borrowed */
    char name[40];
    char *path;
    int fd;
    int hash_fd;
    bool published;
};

/* Whether a file can be renamed from one folder to the other: it cannot from
 * one mount to another, be it of the same filesystem. */
static bool same_mount(int a, int b)
{
    struct statx x;
    struct statx y;
    unsigned mask = STATX_MNT_ID;

    if (statx(a, "", AT_EMPTY_PATH, mask, &x) != 0 ||
        statx(b, "", AT_EMPTY_PATH, mask, &y) != 0)
        return false;
    return x.stx_dev_major == y.stx_dev_major &&
           x.stx_dev_minor == y.stx_dev_minor &&
           (x.stx_mask & y.stx_mask & mask) == mask &&
           x.stx_mnt_id == y.stx_mnt_id;
}

/* The filesystem that the copies of a folder not yet made will lie on. */
static int free_above(const struct store *st, uint64_t *free_bytes,
                      struct err *e)
{
    int dir = file_open_dir_at(st->data_dir, "backups", e);
    int rc;

    if (dir < 0 && e->code != ERR_NOT_FOUND)
        return -1;
    rc = file_free_bytes(dir < 0 ? st->tmp_dir : dir, free_bytes, e);
    file_close(&dir);
    return rc;
}

int store_free_bytes(struct store *st, uint64_t *free_bytes, struct err *e)
{
    int dir = store_dir(st, false, false, e);

    /* On one filesystem with tmp or not: that of the folder counts. */
    if (dir >= 0)
        return file_free_bytes(dir, free_bytes, e);
    return e->code == ERR_NOT_FOUND ? free_above(st, free_bytes, e) : -1;
}

static int open_scratch(struct stage *g, struct err *e)
{
    char name[48];

    (void)snprintf(name, sizeof name, "%s.h", g->name);
    g->hash_fd = file_open_at(g->dir, name, O_RDWR | O_CREAT | O_EXCL, e);
    if (g->hash_fd < 0)
        return -1;
    return file_unlink(g->dir, name, e);
}

int store_stage(struct store *st, struct stage **out, struct err *e)
{
    struct stage *g = xcalloc(1, sizeof *g);
    int dir;
    char hex[17];

    g->fd = -1;
    g->hash_fd = -1;
    dir = store_dir(st, false, true, e);
    if (dir < 0)
        goto fail;
    rand_hex(hex, 8);
    if (same_mount(dir, st->tmp_dir)) {
        g->dir = st->tmp_dir;
        (void)snprintf(g->name, sizeof g->name, "stage-%s", hex);
        g->path = xasprintf("%s/tmp/%s", st->data_path, g->name);
    } else {
        g->dir = dir;
        (void)snprintf(g->name, sizeof g->name, ".stage-%s", hex);
        g->path =
            xasprintf("%s/backups/%s/%s", st->data_path, st->name, g->name);
    }
    g->fd = file_open_at(g->dir, g->name, O_RDWR | O_CREAT | O_EXCL, e);
    if (g->fd < 0 || open_scratch(g, e) != 0)
        goto fail;
    *out = g;
    return 0;
fail:
    stage_free(g);
    return -1;
}

int stage_fd(const struct stage *g)
{
    return g->fd;
}

int stage_hash_fd(const struct stage *g)
{
    return g->hash_fd;
}

const char *stage_path(const struct stage *g)
{
    return g->path;
}

void stage_free(struct stage *g)
{
    if (g == NULL)
        return;
    if (g->fd >= 0 && !g->published)
        (void)unlinkat(g->dir, g->name, 0);
    file_close(&g->fd);
    file_close(&g->hash_fd);
    free(g->path);
    free(g);
}

/* What goes beside a published file. */
struct beside {
    const char *ending;
    const char *step; /* between the two, for the tests */
    struct buf text;
};

/*
 * Publish: what belongs beside it first, under a name that nobody has, then
 * the file itself.  When anything fails nothing of ours stays behind, and what
 * others have under that name is not touched.
 */
static int publish(int dir, struct stage *g, const struct backup_name *name,
                   const struct beside *b, struct err *e)
{
    char file[SIBLING_SIZE];
    int rc;

    if (faccessat(dir, name->s, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(e, ERR_CONFLICT, "%s exists already", name->s);
    store_sibling(name, b->ending, file);
    if (file_write_new(dir, file, b->text.data, b->text.len, e) != 0)
        return -1;
    g->published = true; /* from here on it is cleaned up here */
    rc = phase_enter(b->step, e);
    if (rc == 0)
        rc = file_publish(g->dir, g->name, dir, name->s, e);
    if (rc == 0)
        return 0;
    (void)unlinkat(g->dir, g->name, 0);
    (void)unlinkat(dir, file, 0);
    return -1;
}

int store_publish(struct store *st, struct stage *g, const struct facts *f,
                  struct err *e)
{
    bool suspect = f->state == BACKUP_SUSPECT;
    int dir = store_dir(st, suspect, true, e);
    struct beside b = {.ending = ".json", .step = "create.publish"};
    struct err ignored;
    int rc;

    if (dir < 0 || phase_enter("create.facts", e) != 0)
        return -1;
    facts_put(&b.text, f);
    buf_puts(&b.text, "\n");
    rc = publish(dir, g, &f->name, &b, e);
    buf_fini(&b.text);
    if (rc != 0)
        return -1;
    if (suspect) /* one too many is removed the next time, then */
        (void)store_trim_suspects(st, &ignored);
    return 0;
}

/* ---- safety copies ---- */

/* As many checksums as a copy of that length can have: one per MiB. */
static size_t max_sums(const struct facts *f)
{
    return (size_t)(f->size_bytes >> 20) + 1;
}

static void put_pending(struct buf *text, const struct facts *f,
                        const char (*sums)[33], size_t n_sums)
{
    /* One line of facts, then one checksum a line, "-" for unknown. */
    facts_put(text, f);
    buf_puts(text, "\n");
    for (size_t i = 0; i < n_sums && i < max_sums(f); i++) {
        buf_puts(text, sums[i][0] != '\0' ? sums[i] : "-");
        buf_puts(text, "\n");
    }
}

int store_keep(struct store *st, struct stage *g, const struct facts *f,
               const char (*sums)[33], size_t n_sums, struct err *e)
{
    struct beside b = {.ending = ".pending", .step = "restore.publish"};
    int dir = store_dir(st, false, true, e);
    int rc;

    if (dir < 0)
        return -1;
    put_pending(&b.text, f, sums, n_sums);
    rc = publish(dir, g, &f->name, &b, e);
    buf_fini(&b.text);
    return rc;
}

static bool is_sum(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (strchr("0123456789abcdef", text[i]) == NULL || text[i] == '\0')
            return false;
    return len == 32;
}

/* At most `max` lines: no more are held than the copy's length warrants. */
static int parse_sums(const char *text, const char *end, size_t max,
                      char (**sums)[33], size_t *n, struct err *e)
{
    size_t lines = (size_t)(end - text) / 2 + 1;

    *n = 0;
    *sums = xcalloc(lines < max ? lines : max, sizeof **sums);
    while (text < end) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        size_t len;

        if (nl == NULL)
            break; /* the last line is cut */
        len = (size_t)(nl - text);
        if (*n < max && is_sum(text, len))
            memcpy((*sums)[*n], text, 32);
        else if (*n == max || len != 1 || *text != '-')
            break;
        (*n)++;
        text = nl + 1;
    }
    if (text == end)
        return 0;
    free(*sums);
    *sums = NULL;
    return err_set(e, ERR_DAMAGED,
                   "the checksums of a safety copy are damaged");
}

int store_settle_read(struct store *st, const struct backup_name *name,
                      struct facts *f, char (**sums)[33], size_t *n_sums,
                      struct err *e)
{
    struct buf text = {0};
    char file[SIBLING_SIZE];
    const char *nl;
    int dir = store_dir(st, false, false, e);
    int rc = -1;

    if (dir < 0)
        return -1;
    store_sibling(name, ".pending", file);
    if (file_read_small(dir, file, MAX_PENDING_BYTES, &text, e) != 0)
        goto done;
    nl = text.len == 0 ? NULL : memchr(text.data, '\n', text.len);
    if (nl == NULL ||
        facts_parse(text.data, (size_t)(nl - text.data), f, e) != 0) {
        (void)err_set(e, ERR_DAMAGED, "the facts of a safety copy are damaged");
        goto done;
    }
    if (strcmp(f->name.s, name->s) != 0) {
        facts_fini(f);
        (void)err_set(e, ERR_DAMAGED,
                      "the facts of safety copy %s are those of another",
                      name->s);
        goto done;
    }
    rc = parse_sums(nl + 1, text.data + text.len, max_sums(f), sums, n_sums, e);
    if (rc != 0)
        facts_fini(f);
done:
    buf_fini(&text);
    return rc;
}

int store_settle(struct store *st, const struct facts *f, struct err *e)
{
    char file[SIBLING_SIZE];
    int dir = store_dir(st, false, false, e);

    if (dir < 0)
        return -1;
    if (f->state == BACKUP_SUSPECT)
        return store_set_aside(st, f, e);
    if (store_put_facts(st, f, e) != 0)
        return -1;
    store_sibling(&f->name, ".pending", file);
    if (file_unlink(dir, file, e) != 0)
        return -1;
    return file_sync(dir, e);
}
