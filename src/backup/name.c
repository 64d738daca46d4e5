/*
 * Names.  A backup is named after the UTC second at which its copy begins.
 * Names are unique and ascend: a second that is taken is waited out, at most
 * a second long; when the clock stands behind our newest name, that plus one
 * second is taken without waiting.  A name is never used again, also not when
 * its backup has been deleted: the catalog keeps the newest of those.
 */
#include <stdlib.h>

#include "backup/backup_internal.h"
#include "base/clock.h"

/* The newest second among the backups that we made; others' do not count. */
static int newest_own(struct database *db, int64_t *newest, struct err *e)
{
    struct store_entry *all = NULL;
    size_t n = 0;

    if (catalog_get_mark(db->service->catalog, db->name, newest, e) != 0 ||
        store_scan(db->store, true, &all, &n, e) != 0)
        return -1;
    if (*newest == 0)
        *newest = 1; /* known, and older than anything */
    for (size_t i = 0; i < n; i++) {
        bool own = all[i].has_facts || all[i].pending;

        if (own && all[i].created_at > *newest)
            *newest = all[i].created_at;
    }
    free(all);
    return 0;
}

static int taken(struct database *db, int64_t t, bool *is, struct err *e)
{
    struct backup_name name;

    backup_name_format(t, &name);
    return store_has(db->store, &name, is, e);
}

int name_keep(struct database *db, int64_t t, struct err *e)
{
    int64_t newest;

    if (newest_own(db, &newest, e) != 0)
        return -1;
    if (t < newest)
        return 0;
    return catalog_put_mark(db->service->catalog, db->name, t, e);
}

int name_reserve(struct database *db, struct backup_name *name, int64_t *t,
                 struct err *e)
{
    int64_t last = db->last_name;
    bool is_taken = false;
    int64_t now;
    int rc;

    if (last == 0 && newest_own(db, &last, e) != 0)
        return -1;
    now = clock_now_s();
    if (now > last && taken(db, now, &is_taken, e) != 0)
        return -1;
    if (now == last || is_taken) {
        clock_wait_until(now + 1, 1000);
        now = clock_now_s();
    }
    *t = now > last ? now : last + 1;
    while ((rc = taken(db, *t, &is_taken, e)) == 0 && is_taken)
        (*t)++;
    if (rc != 0)
        return -1;
    db->last_name = *t;
    backup_name_format(*t, name);
    return 0;
}
