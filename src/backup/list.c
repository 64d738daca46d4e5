/*
 * Listing.  The list is read from the folder once per change of the folder
 * and shared: while the folder's mtime stays, a request costs one fstat.  One
 * reading runs at a time; who comes meanwhile waits for the next.
 */
#include "backup/list.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/backup_internal.h"
#include "base/clock.h"
#include "base/mem.h"

struct list_box {
    int refs;         /* atomic */
    uint64_t reading; /* the number of the reading that made it */
    struct store_stamp stamp;
    bool fixed;   /* the stamp was settled when the folder was read, and no
                     adopted file can still be growing */
    bool unknown; /* an adopted backup is still to be examined */
    struct backup_list list;
};

static struct list_box *box_of(const struct backup_list *l)
{
    return (struct list_box *)(void *)((char *)(uintptr_t)l -
                                       offsetof(struct list_box, list));
}

void list_box_put(struct list_box *b)
{
    if (b != NULL && __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free(b);
}

void backup_list_put(const struct backup_list *l)
{
    if (l != NULL)
        list_box_put(box_of(l));
}

void list_forget(struct database *db)
{
    list_box_put(db->list);
    db->list = NULL;
    db->n_forgotten++;
}

static uint64_t next_generation(void)
{
    static uint64_t last;

    return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

static struct list_box *box_new(size_t n)
{
    struct list_box *b = xcalloc(1, sizeof *b + n * sizeof(struct backup_item));

    b->refs = 1;
    b->list.generation = next_generation();
    return b;
}

static void put_item(struct list_box *b, const struct store_entry *en)
{
    struct backup_item *item = &b->list.item[b->list.n++];

    item->name = en->name;
    item->size_bytes = en->size_bytes;
    item->created_at = en->created_at;
}

static void put_items(struct list_box *b, const struct store_entry *all,
                      size_t n, const struct adopted_set *known)
{
    for (size_t i = 0; i < n; i++) {
        enum adopted_state state = ADOPTED_GOOD;

        if (all[i].suspect)
            continue;
        if (!all[i].whole) {
            b->fixed = false; /* perhaps being copied there right now */
            continue;
        }
        if (all[i].pending)
            continue;
        if (!all[i].has_facts)
            state = adopted_state(known, &all[i]);
        b->unknown = b->unknown || state == ADOPTED_UNKNOWN;
        if (state != ADOPTED_SUSPECT)
            put_item(b, &all[i]);
    }
}

static struct list_box *read_folder(struct database *db, bool start_up,
                                    struct store_entry **all, size_t *n,
                                    struct err *e)
{
    struct list_box *b = NULL;
    struct adopted_set known = {0};
    struct store_stamp stamp = {0};
    bool settled = false;

    (void)store_stamp(db->store, &stamp, &settled);
    if (adopted_load(db, &known, e) == 0 &&
        (start_up ? store_clean(db->store, all, n, e)
                  : store_scan(db->store, false, all, n, e)) == 0) {
        b = box_new(*n);
        b->stamp = stamp;
        b->fixed = settled;
        put_items(b, *all, *n, &known);
    }
    free(known.row);
    return b;
}

static bool is_current(struct database *db, const struct list_box *b)
{
    struct store_stamp now = {0};
    bool settled;

    if (b == NULL || !b->fixed)
        return false;
    return store_stamp(db->store, &now, &settled) &&
           now.mtime_ns == b->stamp.mtime_ns && now.ino == b->stamp.ino;
}

/* Read the folder and keep the list; with db->lock held, which is given up
 * meanwhile.  Nobody else is reading. */
static struct list_box *read_and_keep(struct database *db, bool start_up,
                                      struct store_entry **all, size_t *n,
                                      struct err *e)
{
    uint64_t reading = ++db->n_readings;
    uint64_t n_forgotten = db->n_forgotten;
    struct list_box *b;

    db->reading = true;
    (void)pthread_mutex_unlock(&db->lock);
    b = read_folder(db, start_up, all, n, e);
    (void)pthread_mutex_lock(&db->lock);
    db->reading = false;
    (void)pthread_cond_broadcast(&db->list_read);
    if (b != NULL) {
        b->reading = reading;
        if (n_forgotten != db->n_forgotten)
            b->fixed = false;
        list_box_put(db->list);
        db->list = b;
    }
    return b;
}

/* A list that is no older than this call; with db->lock held. */
static struct list_box *get_box(struct database *db, struct err *e)
{
    uint64_t before = db->n_readings;

    for (;;) {
        struct list_box *b = db->list;

        if (b != NULL && (b->reading > before || is_current(db, b)))
            return b;
        if (!db->reading) {
            struct store_entry *all = NULL;
            size_t n = 0;

            b = read_and_keep(db, false, &all, &n, e);
            free(all);
            return b;
        }
        (void)pthread_cond_wait(&db->list_read, &db->lock);
    }
}

int backup_list_get(struct service *s, const char *name,
                    const struct backup_list **out, struct err *e)
{
    struct database *db = service_database(s, name, e);
    struct list_box *b;

    if (db == NULL)
        return -1;
    (void)pthread_mutex_lock(&db->lock);
    b = get_box(db, e);
    if (b != NULL)
        (void)__atomic_add_fetch(&b->refs, 1, __ATOMIC_ACQ_REL);
    (void)pthread_mutex_unlock(&db->lock);
    if (b == NULL)
        return -1;
    if (b->unknown)
        adopt_in_background(db);
    settle_again(db);
    *out = &b->list;
    return 0;
}

int list_start(struct database *db, struct store_entry **out, size_t *n,
               struct err *e)
{
    struct list_box *b;

    (void)pthread_mutex_lock(&db->lock);
    while (db->reading)
        (void)pthread_cond_wait(&db->list_read, &db->lock);
    b = read_and_keep(db, true, out, n, e);
    (void)pthread_mutex_unlock(&db->lock);
    return b != NULL ? 0 : -1;
}

int find_entry(struct database *db, const struct backup_name *name,
               struct store_entry *out, struct err *e)
{
    if (store_find(db->store, name, out, e) != 0)
        return -1;
    if (out->pending)
        return err_set_reason(e, ERR_NOT_FOUND, "backup",
                              "there is no backup %s", name->s);
    if (out->whole)
        return 0;
    /* Found, not hidden (P7): but it is not listed, since it may be being
     * copied there right now. */
    if (store_explain(db->store, name, e) == 0) {
        out->whole = true;
        return 0;
    }
    return err_wrap(e, "backup %s is not whole", name->s);
}

/* A backup whose own facts are damaged: that is all that is known of it. */
static void without_facts(const struct store_entry *en, const char *problem,
                          struct facts *f)
{
    memset(f, 0, sizeof *f);
    f->name = en->name;
    f->created_at = en->created_at;
    f->state = BACKUP_SUSPECT;
    f->size_bytes = en->size_bytes;
    f->stored_bytes = en->size_bytes;
    f->proof.result = PROOF_DAMAGED;
    f->proof.at = clock_now_s();
    (void)snprintf(f->proof.what, sizeof f->proof.what, "facts");
    f->proof.problem = xstrdup(problem);
}

int entry_facts(struct database *db, const struct store_entry *en,
                struct facts *out, struct err *e)
{
    if (!en->has_facts)
        return adopted_facts(db, en, out, e);
    if (store_get_facts(db->store, &en->name, en->suspect, out, e) == 0)
        return 0;
    if (e->code != ERR_DAMAGED)
        return -1;
    without_facts(en, e->message, out);
    return 0;
}

int backup_details(struct service *s, const char *name, const char *filename,
                   struct facts *out, struct err *e)
{
    struct database *db = service_database(s, name, e);
    struct store_entry en;
    struct backup_name n;
    int64_t t;

    if (db == NULL || parse_filename(filename, &n, &t, e) != 0 ||
        find_entry(db, &n, &en, e) != 0)
        return -1;
    if (entry_facts(db, &en, out, e) != 0)
        return -1;
    if (out->sha256[0] == '\0' && !en.has_facts)
        adopt_in_background(db);
    return 0;
}

int backup_details_list(struct service *s, const char *name, size_t limit,
                        const struct backup_name *before, struct facts **out,
                        size_t *n, struct err *e)
{
    struct database *db = service_database(s, name, e);
    struct store_entry *all = NULL;
    size_t n_all = 0;
    int rc = 0;

    if (db == NULL || store_scan(db->store, true, &all, &n_all, e) != 0)
        return -1;
    *out = xcalloc(limit, sizeof **out);
    *n = 0;
    for (size_t i = 0; rc == 0 && i < n_all && *n < limit; i++) {
        struct err gone;

        if (all[i].pending || !all[i].whole ||
            (before != NULL && strcmp(all[i].name.s, before->s) >= 0))
            continue;
        /* One that is deleted meanwhile is left out. */
        if (entry_facts(db, &all[i], &(*out)[*n], &gone) == 0)
            (*n)++;
    }
    free(all);
    return rc;
}
