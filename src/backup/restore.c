/*
 * Restoring (P3, P4, P5): the backup is checked, the state before is kept,
 * the transaction is src/sqlite/restore.h's, the safety copy is settled, and
 * only then the answer goes out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backup/backup_internal.h"
#include "base/clock.h"
#include "base/draft.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "base/phase.h"
#include "sqlite/image.h"
#include "sqlite/restore.h"

struct restoration {
    struct database *db;
    struct lease lease;
    struct call call;
    bool force;
    /* the backup */
    struct store_entry entry;
    struct db_header header;
    uint64_t n_pages;
    int fd;            /* where its pages are read from */
    int source;        /* the file itself */
    struct stat stamp; /* of the file, before it was checked */
    uint64_t checked_bytes;
    struct stage *converted; /* with the live page size, or NULL */
    /* the live database */
    struct live_opts live;
    struct live_file file;
    bool unreadable; /* SQLite cannot read its page 1 */
    /* the safety copy */
    struct stage *stage;
    struct outfile *out;
    struct backup_name safety; /* "" until there is one */
    int64_t safety_at;
    bool kept;
    struct restore_result result;
};

/* ---- the backup ---- */

static int refuse_damaged(struct restoration *r, const char *problem,
                          struct err *e)
{
    return err_set_reason(e, ERR_DAMAGED, "backup",
                          "backup %s is damaged: %.300s; nothing was changed",
                          r->entry.name.s, problem);
}

/* It proved damaged: set aside, so that nobody is offered it again. */
static int set_aside(struct restoration *r, struct facts *f,
                     const char *problem, struct err *e)
{
    f->state = BACKUP_SUSPECT;
    f->proof.result = PROOF_DAMAGED;
    f->proof.at = clock_now_s();
    (void)snprintf(f->proof.what, sizeof f->proof.what, "sha256");
    free(f->proof.problem);
    f->proof.problem = xstrdup(problem);
    if (r->entry.has_facts && store_set_aside(r->db->store, f, e) != 0)
        log_error("suspect.failed", e, call_request(&r->call));
    return refuse_damaged(r, problem, e);
}

/*
 * A backup of ours was checked when it was made; that it is the same to the
 * last bit is what its SHA-256 proves now.  An adopted one is checked here.
 */
static int check_bytes(struct restoration *r, struct facts *f, struct err *e)
{
    char sha256[65];
    char problem[BYTES_PROBLEM_SIZE];

    if (!r->entry.has_facts) {
        facts_fini(f);
        if (adopted_examine(r->db, &r->entry, false, NULL, f, e) != 0)
            return -1;
        if (f->state == BACKUP_SUSPECT)
            return refuse_damaged(r, f->proof.problem, e);
        return 0;
    }
    if (read_back(r->fd, r->entry.size_bytes, sha256,
                  (struct read_back){.cancel = &r->db->service->stopping},
                  e) != 0)
        return -1;
    if (!bytes_problem(&r->entry, f, sha256, problem))
        return 0;
    return set_aside(r, f, problem, e);
}

static int read_header(struct restoration *r, struct err *e)
{
    uint8_t head[100];

    if (read_head(r->fd, head, e) != 0 ||
        db_header_parse(head, &r->header, e) != 0)
        return -1;
    r->n_pages = r->entry.size_bytes / r->header.page_size;
    return 0;
}

static bool same_stamp(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
           a->st_size == b->st_size && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* A change within one tick of the kernel's clock would not show. */
#define TICK_NS (20 * 1000000LL)

static bool is_fresh(const struct stat *st)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - st->st_ctim.tv_sec) * 1000000000LL + now.tv_nsec -
               st->st_ctim.tv_nsec <
           TICK_NS;
}

static int say_changed(const struct restoration *r, struct err *e)
{
    return err_set_reason(e, ERR_DAMAGED, "changed",
                          "backup %s changed while it was being restored; "
                          "nothing was restored",
                          r->entry.name.s);
}

/*
 * The file is read several times, and it may belong to somebody else: what is
 * restored must be what was checked.  The time of its last change cannot be
 * set by those who change it.
 */
static int take_stamp(struct restoration *r, struct err *e)
{
    for (int tries = 0; tries < 10; tries++) {
        if (fstat(r->source, &r->stamp) != 0)
            return err_sys(e, "cannot examine backup %s", r->entry.name.s);
        if (!is_fresh(&r->stamp))
            return 0;
        clock_sleep_ms(TICK_NS / 1000000);
    }
    return say_changed(r, e);
}

static int confirm(void *ctx, struct err *e)
{
    const struct restoration *r = ctx;
    struct stat now;

    if (fstat(r->source, &now) != 0)
        return err_sys(e, "cannot examine backup %s", r->entry.name.s);
    if (same_stamp(&r->stamp, &now) &&
        (uint64_t)now.st_size == r->checked_bytes)
        return 0;
    return say_changed(r, e);
}

/* The checker opened the file by its name: that it was this one. */
static int confirm_name(const struct restoration *r, struct err *e)
{
    int fd = store_open(r->db->store, &r->entry.name, false, e);
    struct stat st;
    int rc = 0;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) != 0)
        rc = err_sys(e, "cannot examine backup %s", r->entry.name.s);
    else if (!same_stamp(&r->stamp, &st))
        rc = say_changed(r, e);
    file_close(&fd);
    return rc;
}

static int check_backup(struct restoration *r, struct err *e)
{
    struct facts f = {0};
    int rc = -1;

    if (phase_enter("restore.check", e) != 0 ||
        find_entry(r->db, &r->lease.name, &r->entry, e) != 0 ||
        entry_facts(r->db, &r->entry, &f, e) != 0)
        goto done;
    if (f.state == BACKUP_SUSPECT) {
        /* Not yet set aside: its facts proved damaged just now. */
        if (r->entry.has_facts && !r->entry.suspect &&
            store_set_aside(r->db->store, &f, e) != 0)
            log_error("suspect.failed", e, call_request(&r->call));
        (void)refuse_damaged(
            r, f.proof.problem != NULL ? f.proof.problem : "set aside", e);
        goto done;
    }
    r->source = store_open(r->db->store, &r->entry.name, false, e);
    r->fd = r->source;
    r->checked_bytes = r->entry.size_bytes;
    if (r->fd >= 0 && take_stamp(r, e) == 0 && check_bytes(r, &f, e) == 0 &&
        confirm_name(r, e) == 0)
        rc = read_header(r, e);
done:
    facts_fini(&f);
    return rc;
}

static int copy_bytes(struct restoration *r, int to, struct err *e)
{
    uint8_t *buf = xmalloc(OUTFILE_CHUNK);
    uint64_t size = r->entry.size_bytes;
    int rc = 0;

    for (uint64_t at = 0; rc == 0 && at < size; at += OUTFILE_CHUNK) {
        uint64_t n = size - at < OUTFILE_CHUNK ? size - at : OUTFILE_CHUNK;

        rc = file_pread_all(r->fd, buf, (size_t)n, at, e);
        if (rc == 0)
            rc = file_pwrite_all(to, buf, (size_t)n, at, e);
    }
    free(buf);
    return rc;
}

/* ---- fitting the backup to the live database ---- */

static int check_encoding(const struct restoration *r,
                          const struct db_header *live, struct err *e)
{
    static const char *const names[] = {"?", "UTF-8", "UTF-16le", "UTF-16be"};

    if (r->force || live->encoding == r->header.encoding ||
        live->encoding == 0 || r->header.encoding == 0 || live->encoding > 3 ||
        r->header.encoding > 3)
        return 0;
    return err_set_reason(
        e, ERR_CONFLICT, "encoding",
        "backup %s has the text encoding %s, database %s has %s: open "
        "applications would fail (?force=true restores it all the same)",
        r->entry.name.s, names[r->header.encoding], r->db->name,
        names[live->encoding]);
}

/*
 * What is converted is opened by name as a database: not the backup itself,
 * which might be another file by then, and which must not get a -wal beside
 * it where its header says WAL, but a copy that says rollback.
 */
static int plain_copy(struct restoration *r, struct stage **out, struct err *e)
{
    static const uint8_t rollback[2] = {1, 1};

    if (store_stage(r->db->store, out, e) != 0 ||
        copy_bytes(r, stage_fd(*out), e) != 0)
        return -1;
    return file_pwrite_all(stage_fd(*out), rollback, 2, 18, e);
}

/* A live database keeps its page size: the backup is converted. */
static int convert(struct restoration *r, uint32_t page_size, struct err *e)
{
    struct stage *plain = NULL;
    uint64_t size;
    int rc = -1;

    if (plain_copy(r, &plain, e) != 0)
        goto done;
    if (store_stage(r->db->store, &r->converted, e) != 0)
        goto done;
    /* VACUUM INTO makes its own file. */
    if (unlink(stage_path(r->converted)) != 0) {
        (void)err_sys(e, "cannot prepare a conversion");
        goto done;
    }
    if (convert_run(r->db->service->guard, stage_path(plain),
                    stage_path(r->converted), page_size, r->entry.size_bytes,
                    e) != 0)
        goto done;
    r->fd = open(stage_path(r->converted), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (r->fd < 0) {
        (void)err_sys(e, "cannot open a converted backup");
        goto done;
    }
    if (file_size(r->fd, &size, e) != 0)
        goto done;
    r->entry.size_bytes = size;
    rc = read_header(r, e);
done:
    stage_free(plain);
    return rc;
}

static int fit(struct restoration *r, struct err *e)
{
    struct db_header live;
    uint64_t n = 0;

    if (live_header(&r->live, &live, &n, e) != 0) {
        r->unreadable = e->code == ERR_DAMAGED || e->code == ERR_NOT_DATABASE;
        return -1;
    }
    if (n == 0)
        return 0;
    if (check_encoding(r, &live, e) != 0)
        return -1;
    if (live.page_size != r->header.page_size)
        return convert(r, live.page_size, e);
    return 0;
}

/* ---- the safety copy ---- */

static void safety_facts(const struct restoration *r, const struct copy *c,
                         struct facts *f)
{
    memset(f, 0, sizeof *f);
    f->name = r->safety;
    f->created_at = r->safety_at;
    f->state = BACKUP_GOOD;
    f->origin = ORIGIN_SAFETY;
    f->page_size = c->page_size;
    f->n_pages = c->n_pages;
    f->size_bytes = c->n_pages * c->page_size;
    f->stored_bytes = f->size_bytes;
}

/* With the write lock held: the state before becomes durable. */
static int keep(void *ctx, const struct copy *c, struct err *e)
{
    struct restoration *r = ctx;
    struct facts f;

    safety_facts(r, c, &f);
    if (store_keep(r->db->store, r->stage, &f, (const char(*)[33])c->chunk_sums,
                   (size_t)c->n_chunks, e) != 0)
        return err_wrap(e, "keeping the state before the restore");
    r->kept = true;
    return 0;
}

/*
 * The restore has happened, whatever becomes of this: a fault here is logged,
 * and it is tried again later.
 */
static void settle(struct restoration *r)
{
    struct facts f = {0};
    struct err e = {0};

    if (!r->kept) {
        r->safety.s[0] = '\0';
        return;
    }
    if (settle_one(r->db, &r->safety, &f, &e) != 0) {
        log_error("settle.failed", &e, call_request(&r->call));
        settle_later(r->db);
    }
    facts_fini(&f);
}

/* ---- the ways to restore ---- */

static void progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct restoration *r = arg;

    if (r->call.c.progress != NULL)
        r->call.c.progress(r->call.c.arg, done_bytes, total_bytes);
}

static int into_live(struct restoration *r, struct err *e)
{
    struct restore_opts o = {
        .live = &r->live,
        .backup_fd = r->fd,
        .backup_page_size = r->header.page_size,
        .backup_pages = r->n_pages,
        .safety = r->out,
        .hash_fd = stage_hash_fd(r->stage),
        .max_stall_ms = r->db->service->max_stall_ms,
        .keep = keep,
        .confirm = confirm,
        .ctx = r,
        .progress = progress,
        .progress_arg = r,
    };
    int rc = restore_run(&o, &r->result, e);

    if (rc != 0 && r->result.in_doubt) {
        (void)err_wrap(e, "the state before is kept as backup %s", r->safety.s);
    } else if (rc != 0 && r->kept) {
        /* Nothing was restored: the copy of what is still there is not
         * needed, and nobody is told of it. */
        struct err ignored;

        (void)store_delete(r->db->store, &r->safety, false, &ignored);
        r->kept = false;
    }
    return rc;
}

/* Space for the safety copy, before anything is written. */
static int check_space(const struct restoration *r, struct err *e)
{
    uint64_t need = r->file.size_bytes + ((uint64_t)1 << 20);
    uint64_t free_bytes;

    if (store_free_bytes(r->db->store, &free_bytes, e) != 0)
        return -1;
    if (free_bytes >= need)
        return 0;
    return err_set(e, ERR_NO_SPACE,
                   "keeping the present state of database %s needs %llu bytes "
                   "and %llu are free; nothing was changed",
                   r->db->name, (unsigned long long)need,
                   (unsigned long long)free_bytes);
}

static int over_present(struct restoration *r, struct err *e)
{
    if (fit(r, e) != 0 || check_space(r, e) != 0 ||
        name_reserve(r->db, &r->safety, &r->safety_at, e) != 0 ||
        store_stage(r->db->store, &r->stage, e) != 0)
        return -1;
    r->out = outfile_new(stage_fd(r->stage), r->file.wal_file);
    return into_live(r, e);
}

/* With the owner and mode of its folder; nothing is replaced. */
static int place_file(struct restoration *r, int dir, const char *base,
                      struct err *e)
{
    struct draft draft = {.fd = -1};
    int rc = -1;

    if (draft_open(&draft, dir, e) == 0 &&
        own_like_folder(dir, draft.fd, e) == 0 &&
        copy_bytes(r, draft.fd, e) == 0 && confirm(r, e) == 0)
        rc = draft_publish(&draft, base, e);
    draft_close(&draft);
    return rc;
}

/* The live file is missing: nothing to keep, nobody to disturb. */
static int over_nothing(struct restoration *r, struct err *e)
{
    const char *base = strrchr(r->live.path, '/') + 1;
    char *folder;
    int dir;
    int rc = -1;

    if (r->file.wal_file || r->file.journal_file)
        return err_set_reason(e, ERR_CONFLICT, "leftovers",
                              "the file of database %s is missing but its "
                              "-wal or -journal is there: move that away "
                              "first",
                              r->db->name);
    folder = xasprintf("%.*s", (int)(base - r->live.path), r->live.path);
    dir = file_open_folder(folder, e);
    if (dir < 0 && e->code == ERR_NOT_FOUND)
        (void)err_set_reason(e, ERR_CONFLICT, "folder",
                             "the folder of database %s does not exist",
                             r->db->name);
    if (dir >= 0 && phase_enter("restore.place", e) == 0)
        rc = place_file(r, dir, base, e);
    file_close(&dir);
    free(folder);
    return rc;
}

/* ---- a live file that SQLite cannot read ---- */

static int keep_raw(void *ctx, uint64_t raw_bytes, struct err *e)
{
    struct restoration *r = ctx;
    struct facts f = {.name = r->safety,
                      .created_at = r->safety_at,
                      .state = BACKUP_SUSPECT,
                      .origin = ORIGIN_SAFETY,
                      .size_bytes = raw_bytes,
                      .stored_bytes = raw_bytes};
    int rc;

    f.proof.result = PROOF_DAMAGED;
    f.proof.at = clock_now_s();
    (void)snprintf(f.proof.what, sizeof f.proof.what, "quick_check");
    f.proof.problem = xstrdup("the live file could not be read as a database; "
                              "these are its bytes before a restore");
    rc = read_back(stage_fd(r->stage), raw_bytes, f.sha256,
                   (struct read_back){0}, e);
    if (rc == 0)
        rc = store_publish(r->db->store, r->stage, &f, e);
    facts_fini(&f);
    return rc;
}

/* Whether the file is no database at all or encrypted: never overwritten. */
static int refuse_foreign(struct restoration *r, struct err *e)
{
    struct check_opts o = {.path = r->live.path,
                           .live = true,
                           .size_bytes = r->file.size_bytes,
                           .cancel = &r->db->service->stopping};
    struct check_report report = {0};
    struct db_header h;
    struct err ignored;
    uint64_t n;
    int rc = check_run(r->db->service->guard, &o, &report, e);
    bool sound = rc == 0 && report.result == CHECK_OK;

    check_report_fini(&report);
    if (sound && live_header(&r->live, &h, &n, &ignored) == 0)
        return err_set_reason(e, ERR_BUSY, "changed",
                              "database %s could not be read a moment ago and "
                              "can now; try again",
                              r->db->name);
    if (rc != 0 && (e->code == ERR_NOT_DATABASE || e->code == ERR_ENCRYPTED))
        return err_set_reason(
            e, ERR_CONFLICT,
            e->code == ERR_ENCRYPTED ? "encrypted" : "not_a_database",
            e->code == ERR_ENCRYPTED
                ? "the file of database %s looks encrypted; it is not "
                  "overwritten: move it away first"
                : "the file of database %s is no SQLite database; it is not "
                  "overwritten: move it away first",
            r->db->name);
    if (rc != 0 && e->code != ERR_DAMAGED)
        return -1;
    return 0;
}

static int over_damage(struct restoration *r, struct err *e)
{
    struct restore_opts o = {
        .live = &r->live,
        .backup_page_size = r->header.page_size,
        .confirm = confirm,
        .ctx = r,
    };
    uint32_t page_size;

    if (refuse_foreign(r, e) != 0 || check_space(r, e) != 0)
        return -1;
    if (r->file.wal_file)
        return err_set_reason(
            e, ERR_CONFLICT, "wal",
            "database %s is too damaged to be opened and has a -wal: stop "
            "the application and move app.db-wal away first",
            r->db->name);
    if (restore_damaged_page_size(&o, &page_size, e) != 0 ||
        (page_size != r->header.page_size && convert(r, page_size, e) != 0))
        return -1;
    o.backup_fd = r->fd;
    o.backup_page_size = r->header.page_size;
    o.backup_pages = r->n_pages;
    outfile_free(r->out);
    stage_free(r->stage);
    r->out = NULL;
    r->stage = NULL;
    if ((r->safety.s[0] == '\0' &&
         name_reserve(r->db, &r->safety, &r->safety_at, e) != 0) ||
        store_stage(r->db->store, &r->stage, e) != 0)
        return -1;
    r->out = outfile_new(stage_fd(r->stage), false);
    o.safety = r->out;
    return restore_over_damage(&o, keep_raw, &r->result, e);
}

/* ---- the whole ---- */

static int restore_file(struct restoration *r, struct err *e)
{
    int rc;

    if (service_stopping(r->db->service))
        return err_set_reason(e, ERR_BUSY, "stopping",
                              "the service is stopping");
    if (check_backup(r, e) != 0 || database_live(r->db, &r->live, e) != 0 ||
        live_stat(&r->live, &r->file, e) != 0)
        return -1;
    if (!r->file.exists)
        return over_nothing(r, e);
    rc = over_present(r, e);
    if (rc != 0 && r->unreadable)
        return over_damage(r, e);
    if (rc == 0 || r->result.in_doubt)
        settle(r);
    return rc;
}

static int restore_now(struct restoration *r, struct err *e)
{
    struct err changed;

    if (restore_file(r, e) == 0)
        return 0;
    /* Reading past the end of a file that became shorter is no fault of
     * ours. */
    if (e->code == ERR_IO && e->sys == 0 && r->source >= 0 &&
        !r->result.in_doubt && confirm(r, &changed) != 0)
        *e = changed;
    return -1;
}

static void log_restored(const struct restoration *r, int64_t began_ms)
{
    char pages[24];
    char locked[24];
    char ms[24];

    log_event(LOG_INFO, "backup.restored", "request", call_request(&r->call),
              "database", r->db->name, "filename", r->entry.name.s, "safety",
              r->safety.s[0] != '\0' ? r->safety.s : NULL, "pages_written",
              log_i64(pages, (long long)r->result.n_written), "locked_ms",
              log_i64(locked, r->result.locked_ms), "ms",
              log_i64(ms, clock_monotonic_ms() - began_ms), NULL);
}

static void drop_lease(struct restoration *r)
{
    struct lease **at;

    (void)pthread_mutex_lock(&r->db->lock);
    for (at = &r->db->leases; *at != &r->lease; at = &(*at)->next)
        ;
    *at = r->lease.next;
    (void)pthread_mutex_unlock(&r->db->lock);
}

static void restore_job(void *arg)
{
    struct restoration *r = arg;
    struct backup_answer a = {.fd = -1};
    struct err e = {0};
    int64_t began_ms = clock_monotonic_ms();
    int rc = restore_now(r, &e);

    drop_lease(r);
    if (r->fd != r->source)
        file_close(&r->fd);
    file_close(&r->source);
    outfile_free(r->out);
    stage_free(r->stage);
    stage_free(r->converted);
    if (rc == 0) {
        log_restored(r, began_ms);
        (void)snprintf(a.database, sizeof a.database, "%s", r->db->name);
        a.name = r->lease.name;
        a.size_bytes = r->entry.size_bytes;
        a.created_at = r->entry.created_at;
        a.safety = r->safety;
        (void)phase_enter("restore.answer", &(struct err){0});
        r->call.c.done(r->call.c.arg, NULL, &a);
    } else {
        call_fail(&r->call, &e);
    }
    free((char *)(uintptr_t)r->live.path);
    free(r);
    (void)phase_enter("idle", &(struct err){0});
}

void backup_restore(struct service *s, const char *name, const char *filename,
                    bool force, const struct backup_call *call)
{
    struct err e = {0};
    struct database *db = service_database(s, name, &e);
    struct restoration *r = xcalloc(1, sizeof *r);
    int64_t t;

    r->db = db;
    r->fd = -1;
    r->source = -1;
    r->force = force;
    call_init(&r->call, call);
    if (db == NULL || parse_filename(filename, &r->lease.name, &t, &e) != 0) {
        call_fail(&r->call, &e);
        free(r);
        return;
    }
    (void)pthread_mutex_lock(&db->lock);
    r->lease.next = db->leases;
    db->leases = &r->lease;
    (void)pthread_mutex_unlock(&db->lock);
    if (strand_put(db->work, restore_job, r, &e) != 0) {
        drop_lease(r);
        call_fail(&r->call, &e);
        free(r);
    }
}
