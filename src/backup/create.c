/*
 * Creating a backup (P1, P2): a page-order copy of one committed state,
 * hashed while it is written, checked by quick_check in a limited child at
 * the very same snapshot meanwhile, synced, published with its facts.
 */
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
#include "base/phase.h"
#include "sqlite/copy.h"
#include "sqlite/image.h"

/* What a copy needs besides its own bytes: facts, folders, hashes. */
#define SPARE_BYTES ((uint64_t)1 << 20)

/* ---- requests that share one copy ---- */

struct waiter {
    struct waiter *next;
    struct call call;
};

struct create_batch {
    struct database *db;
    struct waiter *first;
    unsigned n;
};

/* ---- one copy ---- */

/* A check that runs in a limited child beside the copying. */
struct beside {
    struct service *service;
    struct check_opts opts;
    uint8_t id[SNAPSHOT_ID_SIZE];
    pthread_t thread;
    bool started;
    bool cancel; /* atomic */
    struct check_report report;
    struct err error;
    int rc;
};

struct create {
    struct database *db;
    struct live_opts live;
    struct live_file file;
    bool wal; /* its journal mode */
    struct sqlite3 *source;
    struct stage *stage;
    struct outfile *out;
    struct copy copy;
    struct beside beside;
    struct facts facts;
    const struct call *call; /* of the first waiter, for progress; or NULL */
};

static void *check_thread(void *arg)
{
    struct beside *b = arg;

    b->rc = check_run(b->service->guard, &b->opts, &b->report, &b->error);
    return NULL;
}

/* Called with the snapshot pinned, before its pages are read. */
static void start_check(void *arg, const struct snapshot *s)
{
    struct create *c = arg;
    struct beside *b = &c->beside;

    memcpy(b->id, s->id, sizeof b->id);
    b->opts = (struct check_opts){
        .path = c->live.path,
        .live = true,
        .snapshot = s->has_id ? b->id : NULL,
        .wal = true,
        .size_bytes = s->n_pages * s->page_size,
        .cancel = &b->cancel,
    };
    b->service = c->db->service;
    b->started = pthread_create(&b->thread, NULL, check_thread, b) == 0;
}

/* How often somebody looks whether the check may go on. */
#define LOOK_MS 50

/*
 * Wait for the check.  It reads in a transaction too: when the WAL grows past
 * the limit because of it, it is given up (P6), and the copy is checked.
 */
static void join_check(struct create *c)
{
    struct beside *b = &c->beside;
    struct live_file f;
    struct err ignored;

    while (b->started) {
        struct timespec until;

        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        if (pthread_timedjoin_np(b->thread, NULL, &until) == 0)
            break;
        if (service_stopping(c->db->service) ||
            live_stat(&c->live, &f, &ignored) != 0 ||
            f.wal_bytes > c->live.wal_limit_bytes)
            __atomic_store_n(&b->cancel, true, __ATOMIC_RELEASE);
    }
}

static int check_space(const struct create *c, uint64_t need, struct err *e)
{
    uint64_t free_bytes;

    need += SPARE_BYTES;
    if (store_free_bytes(c->db->store, &free_bytes, e) != 0)
        return -1;
    if (free_bytes >= need)
        return 0;
    return err_set(e, ERR_NO_SPACE,
                   "a backup of database %s needs %llu bytes and %llu are "
                   "free; nothing was written",
                   c->db->name, (unsigned long long)need,
                   (unsigned long long)free_bytes);
}

/* What the copy will need, and whether it can begin: before anything is
 * written. */
static int probe(struct create *c, struct err *e)
{
    struct snapshot s = {0};
    uint64_t need;
    int rc;

    if (live_connect(&c->live, &c->source, e) != 0 ||
        snapshot_begin(&s, c->source, &c->live, e) != 0)
        return -1;
    need = s.n_pages * s.page_size;
    c->wal = s.wal;
    /* Space before the WAL: where none is free none is short enough. */
    rc = snapshot_check_whole(&s, e);
    if (rc == 0)
        rc = check_space(c, need, e);
    if (rc == 0)
        rc = snapshot_check_wal(&s, e);
    snapshot_end(&s);
    return rc;
}

static int find_source(struct create *c, struct err *e)
{
    if (database_live(c->db, &c->live, e) != 0 ||
        live_stat(&c->live, &c->file, e) != 0)
        return -1;
    if (c->file.exists)
        return 0;
    return err_set_reason(e, ERR_NOT_FOUND, "database",
                          "the file of database %s does not exist",
                          c->db->name);
}

static int begin_stage(struct create *c, struct err *e)
{
    /* Direct I/O only where nothing is read back soon: in rollback mode the
     * copy itself is checked, so that it should be in the page cache. */
    bool direct = c->wal;

    if (store_stage(c->db->store, &c->stage, e) != 0)
        return -1;
    c->out = outfile_new(stage_fd(c->stage), direct);
    return 0;
}

/* A live file of 0 bytes is an empty database: so is its backup. */
static int copy_nothing(struct create *c, struct err *e)
{
    struct buf image = {0};
    int rc = -1;

    if (image_empty(&image, e) != 0)
        goto done;
    memcpy(outfile_buffer(c->out), image.data, image.len);
    if (outfile_push(c->out, image.len, e) != 0 ||
        outfile_finish(c->out, image.len, e) != 0)
        goto done;
    c->facts.size_bytes = image.len;
    c->facts.page_size = (uint32_t)image.len;
    c->facts.n_pages = 1;
    rc = read_back(stage_fd(c->stage), image.len, c->facts.sha256,
                   (struct read_back){0}, e);
done:
    buf_fini(&image);
    return rc;
}

static void progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct create *c = arg;

    if (c->call != NULL && c->call->c.progress != NULL)
        c->call->c.progress(c->call->c.arg, done_bytes, total_bytes);
}

static int copy_source(struct create *c, struct err *e)
{
    struct copy_opts o = {
        .live = &c->live,
        .out = c->out,
        .hash_fd = stage_hash_fd(c->stage),
        .backup_fd = -1,
        .progress = progress,
        .progress_arg = c,
        .pinned = start_check,
        .pinned_arg = c,
    };
    int rc = -1;

    if (phase_enter("create.copy", e) == 0)
        rc = copy_live(&c->copy, c->source, &o, e);
    /* The connection lives as long as the check, so that the child finds the
     * -wal and -shm in place. */
    join_check(c);
    live_disconnect(c->source);
    c->source = NULL;
    if (rc != 0)
        return -1;
    c->copy.opts = NULL;
    if (c->copy.n_pages == 0)
        return copy_nothing(c, e);
    c->facts.page_size = c->copy.page_size;
    c->facts.n_pages = c->copy.n_pages;
    c->facts.size_bytes = c->copy.n_pages * c->copy.page_size;
    if (c->copy.sha_known) {
        memcpy(c->facts.sha256, c->copy.sha256, sizeof c->facts.sha256);
        return 0;
    }
    return read_back(stage_fd(c->stage), c->facts.size_bytes, c->facts.sha256,
                     (struct read_back){.cancel = &c->db->service->stopping},
                     e);
}

/*
 * The outcome of the check beside the copy; where there was none (rollback
 * mode), or the live database had moved on, the copy itself is checked.
 */
static int judge(struct create *c, struct err *e)
{
    struct beside *b = &c->beside;

    if (b->started && b->rc == 0 && b->report.result != CHECK_MOVED_ON) {
        apply_report(&c->facts, &b->report, false);
        return 0;
    }
    check_report_fini(&b->report);
    b->opts = (struct check_opts){
        .path = stage_path(c->stage),
        .size_bytes = c->facts.size_bytes,
        .cancel = &c->db->service->stopping,
    };
    /* Bring a file written past the page cache into it in big reads. */
    (void)posix_fadvise(stage_fd(c->stage), 0, 0, POSIX_FADV_WILLNEED);
    if (phase_enter("create.check", e) != 0 ||
        check_run(c->db->service->guard, &b->opts, &b->report, e) != 0)
        return -1;
    apply_report(&c->facts, &b->report, false);
    return 0;
}

static int source_damaged(const struct create *c, const char *problem,
                          struct err *e)
{
    return err_set_reason(e, ERR_DAMAGED, "source",
                          "database %s is damaged: %.300s; the copy is kept "
                          "aside as suspect backup %s",
                          c->db->name, problem, c->facts.name.s);
}

/*
 * The pages cannot even be read one by one.  A file that is encrypted, or no
 * database, is said to be so and left at that; of a damaged one the bytes are
 * kept.
 */
static int keep_damaged(struct create *c, struct err *e)
{
    struct check_opts o = {.path = c->live.path,
                           .live = true,
                           .size_bytes = c->file.size_bytes,
                           .cancel = &c->db->service->stopping};
    struct err why = *e;
    uint64_t n = 0;

    check_report_fini(&c->beside.report);
    if (check_run(c->db->service->guard, &o, &c->beside.report, e) != 0 &&
        e->code != ERR_DAMAGED)
        return err_wrap(e, "database %s", c->db->name);
    if (c->beside.report.problem[0] == '\0')
        (void)snprintf(c->beside.report.problem,
                       sizeof c->beside.report.problem, "%.400s", why.message);
    /* What the failed copy left is of no use: begin again. */
    outfile_free(c->out);
    c->out = NULL;
    stage_free(c->stage);
    c->stage = NULL;
    if (check_space(c, c->file.size_bytes, e) != 0 || begin_stage(c, e) != 0 ||
        live_copy_raw(&c->live, c->out, &n, e) != 0)
        return -1;
    c->facts.size_bytes = n;
    c->facts.page_size = 0;
    c->facts.n_pages = 0;
    if (read_back(stage_fd(c->stage), n, c->facts.sha256, (struct read_back){0},
                  e) != 0)
        return -1;
    c->beside.report.result = CHECK_DAMAGED;
    apply_report(&c->facts, &c->beside.report, false);
    return 0;
}

static int copy_and_judge(struct create *c, struct err *e)
{
    int rc;

    if (c->file.size_bytes == 0 && !c->file.wal_file)
        rc = check_space(c, 0, e) == 0 && begin_stage(c, e) == 0
                 ? copy_nothing(c, e)
                 : -1;
    else
        rc =
            probe(c, e) == 0 && begin_stage(c, e) == 0 ? copy_source(c, e) : -1;
    if (rc == 0)
        return judge(c, e);
    live_disconnect(c->source);
    c->source = NULL;
    if (e->code == ERR_DAMAGED || e->code == ERR_NOT_DATABASE)
        return keep_damaged(c, e);
    return -1;
}

static int publish(struct create *c, struct err *e)
{
    c->facts.stored_bytes = c->facts.size_bytes;
    if (phase_enter("create.publish", e) != 0 ||
        store_publish(c->db->store, c->stage, &c->facts, e) != 0)
        return -1;
    if (c->facts.state == BACKUP_GOOD)
        return 0;
    log_event(LOG_WARN, "backup.suspect", "database", c->db->name, "filename",
              c->facts.name.s, "problem", c->facts.proof.problem, NULL);
    return source_damaged(c, c->facts.proof.problem, e);
}

static int create_copy(struct create *c, struct err *e)
{
    int rc = -1;

    if (copy_and_judge(c, e) == 0)
        rc = publish(c, e);
    outfile_free(c->out);
    stage_free(c->stage);
    check_report_fini(&c->beside.report);
    copy_fini(&c->copy);
    return rc;
}

static void log_created(const struct create *c, int64_t began_ms)
{
    char size[24];
    char ms[24];

    log_event(LOG_INFO, "backup.created", "request",
              c->call != NULL ? call_request(c->call) : NULL, "database",
              c->db->name, "filename", c->facts.name.s, "size",
              log_i64(size, (long long)c->facts.size_bytes), "proof",
              proof_result_name(c->facts.proof.result), "ms",
              log_i64(ms, clock_monotonic_ms() - began_ms), NULL);
}

/* `close` is called when the name is there and the copy is about to begin. */
static int run_create(struct create *c, void (*close)(struct database *db),
                      struct err *e)
{
    int64_t began_ms = clock_monotonic_ms();
    int rc = -1;

    if (service_stopping(c->db->service)) {
        if (close != NULL)
            close(c->db);
        return err_set_reason(e, ERR_BUSY, "stopping",
                              "the service is stopping");
    }
    rc = name_reserve(c->db, &c->facts.name, &c->facts.created_at, e);
    if (close != NULL)
        close(c->db);
    if (rc == 0)
        rc = find_source(c, e);
    if (rc == 0)
        rc = create_copy(c, e);
    if (rc == 0)
        log_created(c, began_ms);
    free((char *)(uintptr_t)c->live.path);
    return rc;
}

int create_now(struct database *db, struct err *e)
{
    struct create c = {.db = db};
    int rc = run_create(&c, NULL, e);

    facts_fini(&c.facts);
    return rc;
}

/* ---- the batch ---- */

/* Requests that come from now on are answered with the next copy. */
static void close_batch(struct database *db)
{
    (void)pthread_mutex_lock(&db->lock);
    db->pending = NULL;
    (void)pthread_mutex_unlock(&db->lock);
}

static void answer(struct waiter *w, const struct create *c,
                   const struct err *e)
{
    struct backup_answer a = {.fd = -1};

    if (e != NULL) {
        call_fail(&w->call, e);
        return;
    }
    (void)snprintf(a.database, sizeof a.database, "%s", c->db->name);
    a.name = c->facts.name;
    a.size_bytes = c->facts.size_bytes;
    a.created_at = c->facts.created_at;
    a.facts = &c->facts;
    w->call.c.done(w->call.c.arg, NULL, &a);
}

static void create_job(void *arg)
{
    struct create_batch *b = arg;
    struct create c = {.db = b->db, .call = &b->first->call};
    struct err e = {0};
    int rc = run_create(&c, close_batch, &e);

    (void)phase_enter("create.answer", &(struct err){0});
    while (b->first != NULL) {
        struct waiter *w = b->first;

        b->first = w->next;
        answer(w, &c, rc == 0 ? NULL : &e);
        free(w);
    }
    facts_fini(&c.facts);
    free(b);
    (void)phase_enter("idle", &(struct err){0});
}

/* With db->lock held: join the copy that has not begun, or queue one. */
static int enlist(struct database *db, struct waiter *w, struct err *e)
{
    struct create_batch *b = db->pending;

    if (b != NULL && b->n < MAX_WAITERS) {
        /* Behind the first, whose progress function is the one that runs. */
        w->next = b->first->next;
        b->first->next = w;
        b->n++;
        return 0;
    }
    b = xcalloc(1, sizeof *b);
    b->db = db;
    b->first = w;
    b->n = 1;
    if (strand_put(db->work, create_job, b, e) != 0) {
        free(b);
        return -1;
    }
    db->pending = b;
    return 0;
}

void backup_create(struct service *s, const char *name,
                   const struct backup_call *call)
{
    struct err e = {0};
    struct database *db = service_database(s, name, &e);
    struct waiter *w = xcalloc(1, sizeof *w);
    int rc = -1;

    call_init(&w->call, call);
    if (db != NULL) {
        (void)pthread_mutex_lock(&db->lock);
        rc = enlist(db, w, &e);
        (void)pthread_mutex_unlock(&db->lock);
    }
    if (rc != 0) {
        call_fail(&w->call, &e);
        free(w);
    }
}

/* ---- an empty database ---- */

int own_like_folder(int dir, int fd, struct err *e)
{
    struct stat st;

    if (fstat(dir, &st) != 0 || fchmod(fd, st.st_mode & 0666) != 0 ||
        (geteuid() == 0 && fchown(fd, st.st_uid, st.st_gid) != 0))
        return err_sys(e, "cannot set owner and mode of a new database");
    return 0;
}

int make_empty_database(const char *path, struct err *e)
{
    struct buf image = {0};
    struct draft draft = {.fd = -1};
    const char *slash = strrchr(path, '/');
    char *folder = xasprintf("%.*s", (int)(slash - path) + 1, path);
    int dir = file_open_folder(folder, e);
    int rc = -1;

    if (dir >= 0 && image_empty(&image, e) == 0 &&
        draft_open(&draft, dir, e) == 0 &&
        own_like_folder(dir, draft.fd, e) == 0 &&
        file_pwrite_all(draft.fd, image.data, image.len, 0, e) == 0)
        rc = draft_publish(&draft, slash + 1, e);
    draft_close(&draft);
    file_close(&dir);
    buf_fini(&image);
    free(folder);
    return rc;
}
