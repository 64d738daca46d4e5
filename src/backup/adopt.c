/*
 * Adopted backups: files of the pattern that somebody put into the folder.
 * They are listed by header and length; hash and check follow in the
 * background.  What is found out is kept in the catalog, since nothing in a
 * folder of others is changed before someone asks for it.
 */
#include <stdlib.h>
#include <string.h>

#include "backup/backup_internal.h"
#include "backup/list.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
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
    int rc = 0;

    if (catalog_get_adopted(db->service->catalog, &k, &text, e) != 0)
        return -1;
    if (text == NULL)
        minimal_facts(en, out);
    else
        rc = facts_parse(text, strlen(text), out, e);
    free(text);
    return rc;
}

static int remember(struct database *db, const struct store_entry *en,
                    const struct facts *f, struct err *e)
{
    struct catalog_key k = key_of(db, en);
    struct buf text = {0};
    json_t *o = facts_to_json(f);
    int rc;

    json_put(&text, o);
    rc = catalog_put_adopted(db->service->catalog, &k, text.data, e);
    json_decref(o);
    buf_fini(&text);
    return rc;
}

static int read_shape(int fd, struct facts *f, struct err *e)
{
    struct db_header h;
    uint8_t head[100];

    if (file_pread_all(fd, head, sizeof head, 0, e) != 0 ||
        db_header_parse(head, &h, e) != 0)
        return -1;
    f->page_size = h.page_size;
    f->n_pages = f->size_bytes / h.page_size;
    return 0;
}

int adopted_examine(struct database *db, const struct store_entry *en,
                    bool deep, struct facts *out, struct err *e)
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
    if (fd < 0 || read_shape(fd, out, e) != 0 ||
        read_back(fd, en->size_bytes, out->sha256, NULL, 0, &s->stopping, e) !=
            0 ||
        check_run(s->guard, &check, &report, e) != 0)
        goto done;
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

static void examine_job(void *arg)
{
    struct database *db = arg;
    struct store_entry *all = NULL;
    size_t n = 0;
    struct err e = {0};

    if (store_scan(db->store, false, &all, &n, &e) != 0)
        log_error("adopt.failed", &e, NULL);
    for (size_t i = 0; i < n && !service_stopping(db->service); i++) {
        struct facts f = {0};

        if (all[i].has_facts || all[i].pending || !all[i].whole ||
            adopted_facts(db, &all[i], &f, &e) != 0)
            continue;
        if (f.sha256[0] == '\0') {
            facts_fini(&f);
            if (adopted_examine(db, &all[i], false, &f, &e) == 0)
                log_event(LOG_INFO, "backup.adopted", "database", db->name,
                          "filename", all[i].name.s, "state",
                          backup_state_name(f.state), NULL);
            else
                log_error("adopt.failed", &e, NULL);
        }
        facts_fini(&f);
    }
    free(all);
    (void)pthread_mutex_lock(&db->lock);
    db->adopting = false;
    /* A list made meanwhile may hold one that proved damaged. */
    list_forget(db);
    (void)pthread_mutex_unlock(&db->lock);
}

/* Whether any adopted backup is still to be examined. */
static bool anything_unknown(struct database *db)
{
    struct store_entry *all = NULL;
    struct err ignored;
    size_t n = 0;
    bool unknown = false;

    if (store_scan(db->store, false, &all, &n, &ignored) != 0)
        return false;
    for (size_t i = 0; !unknown && i < n; i++) {
        struct facts f = {0};

        if (all[i].has_facts || all[i].pending || !all[i].whole ||
            adopted_facts(db, &all[i], &f, &ignored) != 0)
            continue;
        unknown = f.sha256[0] == '\0';
        facts_fini(&f);
    }
    free(all);
    return unknown;
}

void adopt_in_background(struct database *db)
{
    struct err ignored;
    bool start;

    if (!db->service->background || service_stopping(db->service) ||
        !anything_unknown(db))
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
