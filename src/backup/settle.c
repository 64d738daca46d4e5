/*
 * Settling a safety copy.  A restore publishes it while writers wait, durable
 * but unproven; afterwards it is read back, compared with the checksums of
 * what was written, checked, and listed.  Where that is not possible just then
 * (no descriptors, no memory for a child), or a crash came between, it is done
 * later: when the backups are listed, or at the next start.
 */
#include <stdlib.h>
#include <string.h>

#include "backup/backup_internal.h"
#include "backup/list.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/phase.h"

/* The bytes are not those that were written: no further check is needed. */
static void mark_damaged(struct facts *f, const struct err *e)
{
    f->state = BACKUP_SUSPECT;
    f->proof.result = PROOF_DAMAGED;
    f->proof.at = clock_now_s();
    strcpy(f->proof.what, "sha256");
    free(f->proof.problem);
    f->proof.problem = xstrdup(e->message);
}

static int prove(struct database *db, int fd, struct facts *f,
                 const char (*sums)[33], size_t n_sums, struct err *e)
{
    struct check_report report = {0};
    struct check_opts check = {.size_bytes = f->size_bytes};
    char *path;
    int rc;

    if (read_back(fd, f->size_bytes, f->sha256,
                  (struct read_back){.sums = sums, .n_sums = n_sums}, e) != 0) {
        if (e->code != ERR_DAMAGED)
            return -1;
        mark_damaged(f, e);
        return 0;
    }
    path = store_path(db->store, &f->name, false);
    check.path = path;
    rc = check_run(db->service->guard, &check, &report, e);
    if (rc == 0) {
        apply_report(f, &report, false);
    } else if (e->code == ERR_DAMAGED || e->code == ERR_NOT_DATABASE ||
               e->code == ERR_ENCRYPTED) {
        mark_damaged(f, e);
        rc = 0;
    }
    check_report_fini(&report);
    free(path);
    return rc;
}

int settle_one(struct database *db, const struct backup_name *name,
               struct facts *out, struct err *e)
{
    char(*sums)[33] = NULL;
    size_t n_sums = 0;
    int fd = -1;
    int rc = -1;

    if (phase_enter("restore.finish", e) != 0 ||
        store_settle_read(db->store, name, out, &sums, &n_sums, e) != 0)
        return -1;
    fd = store_open(db->store, name, false, e);
    if (fd >= 0 && prove(db, fd, out, (const char(*)[33])sums, n_sums, e) == 0)
        rc = store_settle(db->store, out, e);
    if (rc != 0)
        facts_fini(out);
    file_close(&fd);
    free(sums);
    return rc;
}

/* Each that is pending; false where one is still. */
static bool settle_each(struct database *db, const struct store_entry *all,
                        size_t n)
{
    struct err e = {0};
    bool whole = true;

    for (size_t i = 0; i < n; i++) {
        struct facts f = {0};

        if (!all[i].pending || all[i].suspect)
            continue;
        if (settle_one(db, &all[i].name, &f, &e) != 0) {
            log_error("settle.failed", &e, NULL);
            whole = false;
            continue;
        }
        log_event(LOG_INFO, "backup.settled", "database", db->name, "filename",
                  f.name.s, "state", backup_state_name(f.state), NULL);
        facts_fini(&f);
    }
    return whole;
}

void settle_all(struct database *db)
{
    struct store_entry *all = NULL;
    struct err e = {0};
    size_t n = 0;

    if (list_start(db, &all, &n, &e) != 0)
        log_error("settle.failed", &e, NULL);
    if (!settle_each(db, all, n))
        settle_later(db);
    free(all);
}

/* ---- once more ---- */

#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 300000
#define UNDER_WAY INT64_MAX

void settle_later(struct database *db)
{
    (void)pthread_mutex_lock(&db->lock);
    db->settle_pause_ms = db->settle_pause_ms == 0 ? FIRST_PAUSE_MS
                          : db->settle_pause_ms * 4 > LONGEST_PAUSE_MS
                              ? LONGEST_PAUSE_MS
                              : db->settle_pause_ms * 4;
    db->settle_at_ms = clock_monotonic_ms() + db->settle_pause_ms;
    (void)pthread_mutex_unlock(&db->lock);
}

static void again_job(void *arg)
{
    struct database *db = arg;
    struct store_entry *all = NULL;
    struct err e = {0};
    size_t n = 0;
    bool whole = false;

    if (!service_stopping(db->service) &&
        store_scan(db->store, false, &all, &n, &e) == 0)
        whole = settle_each(db, all, n);
    free(all);
    if (!whole) {
        settle_later(db);
        return;
    }
    (void)pthread_mutex_lock(&db->lock);
    db->settle_at_ms = db->settle_pause_ms = 0;
    (void)pthread_mutex_unlock(&db->lock);
}

void settle_again(struct database *db)
{
    struct err ignored;
    bool due;

    (void)pthread_mutex_lock(&db->lock);
    due = db->settle_at_ms != 0 && clock_monotonic_ms() >= db->settle_at_ms;
    if (due)
        db->settle_at_ms = UNDER_WAY;
    (void)pthread_mutex_unlock(&db->lock);
    if (due && strand_put(db->work, again_job, db, &ignored) != 0)
        settle_later(db);
}
