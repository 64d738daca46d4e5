/*
 * Adopted backups: files of the pattern that somebody put into the folder.
 * They are listed by header and length; hash and check follow in the
 * background.  What is found out is kept in the catalog, since nothing in a
 * folder of others is changed before someone asks for it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/backup_internal.h"
#include "backup/list.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

static struct catalog_key key_of(const struct database *db,
                                 const struct store_entry *en)
{
    return (struct catalog_key){.database = db->name,
                                .filename = en->name.s,
                                .size_bytes = en->size_bytes,
                                .mtime_ns = en->mtime_ns};
}

static void minimal_facts(const struct store_entry *en, struct facts *f)
{
    memset(f, 0, sizeof *f);
    f->name = en->name;
    f->created_at = en->created_at;
    f->state = BACKUP_GOOD;
    f->origin = ORIGIN_ADOPTED;
    f->size_bytes = en->size_bytes;
    f->stored_bytes = en->size_bytes;
}

int adopted_facts(struct database *db, const struct store_entry *en,
                  struct facts *out, struct err *e)
{
    struct catalog_key k = key_of(db, en);
    char *text = NULL;
    struct err ignored;

    if (catalog_get_adopted(db->service->catalog, &k, &text, e) != 0)
        return -1;
    /* The catalog only remembers: a row that cannot be read is forgotten. */
    if (text == NULL || facts_parse(text, strlen(text), out, &ignored) != 0)
        minimal_facts(en, out);
    free(text);
    return 0;
}

static int remember(struct database *db, const struct store_entry *en,
                    const struct facts *f, struct err *e)
{
    struct catalog_key k = key_of(db, en);
    struct buf text = {0};
    int rc;

    facts_put(&text, f);
    rc = catalog_put_adopted(db->service->catalog, &k, f->state == BACKUP_GOOD,
                             text.data, e);
    buf_fini(&text);
    return rc;
}

static int read_shape(int fd, struct facts *f, struct err *e)
{
    struct db_header h;
    uint8_t head[100];

    if (read_head(fd, head, e) != 0 || db_header_parse(head, &h, e) != 0)
        return -1;
    f->page_size = h.page_size;
    f->n_pages = f->size_bytes / h.page_size;
    return 0;
}

static bool says_damage(const struct err *e)
{
    return e->code == ERR_DAMAGED || e->code == ERR_NOT_DATABASE ||
           e->code == ERR_ENCRYPTED;
}

int adopted_examine(struct database *db, const struct store_entry *en,
                    bool deep, const struct call *call, struct facts *out,
                    struct err *e)
{
    struct service *s = db->service;
    struct check_report report = {0};
    struct check_opts check = {
        .deep = deep, .size_bytes = en->size_bytes, .cancel = &s->stopping};
    char *path = store_path(db->store, &en->name, false);
    int fd = store_open(db->store, &en->name, false, e);
    int rc = -1;

    minimal_facts(en, out);
    check.path = path;
    if (fd < 0)
        goto done;
    if (read_shape(fd, out, e) != 0 ||
        read_back(fd, en->size_bytes, out->sha256,
                  (struct read_back){.cancel = &s->stopping, .call = call},
                  e) != 0 ||
        check_run(s->guard, &check, &report, e) != 0) {
        if (!says_damage(e))
            goto done;
        /* Not even its header can be relied on. */
        report.result = CHECK_DAMAGED;
        (void)snprintf(report.problem, sizeof report.problem, "%.500s",
                       e->message);
    }
    apply_report(out, &report, deep);
    rc = remember(db, en, out, e);
done:
    if (rc != 0)
        facts_fini(out);
    check_report_fini(&report);
    file_close(&fd);
    free(path);
    return rc;
}

/* ---- what the list needs to know of many ---- */

int adopted_load(struct database *db, struct adopted_set *out, struct err *e)
{
    return catalog_list_adopted(db->service->catalog, db->name, &out->row,
                                &out->n, e);
}

static int by_filename(const void *key, const void *row)
{
    return strcmp(key, ((const struct catalog_adopted *)row)->filename);
}

enum adopted_state adopted_state(const struct adopted_set *s,
                                 const struct store_entry *en)
{
    const struct catalog_adopted *row =
        s->n == 0
            ? NULL
            : bsearch(en->name.s, s->row, s->n, sizeof *s->row, by_filename);

    if (row == NULL || row->size_bytes != en->size_bytes ||
        row->mtime_ns != en->mtime_ns)
        return ADOPTED_UNKNOWN;
    return row->good ? ADOPTED_GOOD : ADOPTED_SUSPECT;
}

/* ---- in the background ---- */

static bool wants_examining(const struct adopted_set *known,
                            const struct store_entry *en)
{
    return !en->has_facts && !en->pending && en->whole &&
           adopted_state(known, en) == ADOPTED_UNKNOWN;
}

static void examine_job(void *arg)
{
    struct database *db = arg;
    struct adopted_set known = {0};
    struct store_entry *all = NULL;
    size_t n = 0;
    struct err e = {0};

    if (adopted_load(db, &known, &e) != 0 ||
        store_scan(db->store, false, &all, &n, &e) != 0)
        log_error("adopt.failed", &e, NULL);
    for (size_t i = 0; i < n && !service_stopping(db->service); i++) {
        struct facts f = {0};

        if (!wants_examining(&known, &all[i]))
            continue;
        if (adopted_examine(db, &all[i], false, NULL, &f, &e) == 0)
            log_event(LOG_INFO, "backup.adopted", "database", db->name,
                      "filename", all[i].name.s, "state",
                      backup_state_name(f.state), NULL);
        else
            log_error("adopt.failed", &e, NULL);
        facts_fini(&f);
    }
    free(all);
    free(known.row);
    (void)pthread_mutex_lock(&db->lock);
    db->adopting = false;
    /* A list made meanwhile may hold one that proved damaged. */
    list_forget(db);
    (void)pthread_mutex_unlock(&db->lock);
}

void adopt_in_background(struct database *db)
{
    struct err ignored;
    bool start;

    if (!db->service->background || service_stopping(db->service))
        return;
    (void)pthread_mutex_lock(&db->lock);
    start = !db->adopting;
    db->adopting = true;
    (void)pthread_mutex_unlock(&db->lock);
    if (start && strand_put(db->reads, examine_job, db, &ignored) != 0) {
        (void)pthread_mutex_lock(&db->lock);
        db->adopting = false;
        (void)pthread_mutex_unlock(&db->lock);
    }
}
