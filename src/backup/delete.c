/*
 * Deleting.  It answers at once: it does not wait behind a copy, and running
 * downloads keep their descriptor.  Only a restore from the same backup is
 * waited for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/backup_internal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/phase.h"

struct delete_job {
    struct database *db;
    struct backup_name name;
    struct call call;
};

static bool is_leased(struct database *db, const struct backup_name *name)
{
    bool leased = false;

    (void)pthread_mutex_lock(&db->lock);
    for (const struct lease *l = db->leases; l != NULL && !leased; l = l->next)
        leased = strcmp(l->name.s, name->s) == 0;
    (void)pthread_mutex_unlock(&db->lock);
    return leased;
}

/*
 * On a full disk there may be no room to note the name, and deleting is what
 * makes room: then the backup goes first.
 */
static int delete_first(const struct delete_job *j,
                        const struct store_entry *en, struct err *e)
{
    struct err failed = {0};

    if (store_delete(j->db->store, &j->name, en->suspect, e) != 0)
        return -1;
    if (name_keep(j->db, en->created_at, &failed) != 0)
        log_error("name.failed", &failed, call_request(&j->call));
    return 0;
}

static int delete_now(const struct delete_job *j, struct err *e)
{
    struct store_entry en;

    if (service_stopping(j->db->service))
        return err_set_reason(e, ERR_BUSY, "stopping",
                              "the service is stopping");
    if (find_entry(j->db, &j->name, &en, e) != 0)
        return -1;
    if (en.has_facts && name_keep(j->db, en.created_at, e) != 0)
        return e->code == ERR_NO_SPACE ? delete_first(j, &en, e) : -1;
    return store_delete(j->db->store, &j->name, en.suspect, e);
}

static void run(void *arg)
{
    struct delete_job *j = arg;
    struct backup_answer a = {.fd = -1, .name = j->name};
    struct err e = {0};
    int rc = 0;

    if (is_leased(j->db, &j->name)) {
        rc = strand_put(j->db->work, run, j, &e);
        if (rc == 0)
            return; /* behind the restore, which was queued before */
    }
    (void)snprintf(a.database, sizeof a.database, "%s", j->db->name);
    if (rc == 0)
        rc = delete_now(j, &e);
    if (rc == 0) {
        log_event(LOG_INFO, "backup.deleted", "request", call_request(&j->call),
                  "database", j->db->name, "filename", j->name.s, NULL);
        j->call.c.done(j->call.c.arg, NULL, &a);
    } else {
        call_fail(&j->call, &e);
    }
    (void)phase_enter("idle", &(struct err){0});
    free(j);
}

void backup_delete(struct service *s, const char *name, const char *filename,
                   const struct backup_call *call)
{
    struct err e = {0};
    struct database *db = service_database(s, name, &e);
    struct delete_job *j = xcalloc(1, sizeof *j);
    int64_t t;

    j->db = db;
    call_init(&j->call, call);
    if (db == NULL || parse_filename(filename, &j->name, &t, &e) != 0 ||
        strand_put(db->quick, run, j, &e) != 0) {
        call_fail(&j->call, &e);
        free(j);
    }
}
