/*
 * Verifying: the bytes are read back and compared with the SHA-256 that was
 * taken when they were written, then integrity_check looks at all of them.
 * And fetching a backup for a download, which wants its digest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/backup_internal.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

struct read_job {
    struct database *db;
    struct backup_name name;
    struct call call;
};

static void damaged(struct facts *f, const char *what, const char *problem)
{
    f->state = BACKUP_SUSPECT;
    f->proof.result = PROOF_DAMAGED;
    f->proof.at = clock_now_s();
    (void)snprintf(f->proof.what, sizeof f->proof.what, "%s", what);
    free(f->proof.problem);
    f->proof.problem = xstrdup(problem);
}

static int check_deeply(struct database *db, const struct store_entry *en,
                        struct facts *f, struct err *e)
{
    struct check_report report = {0};
    struct check_opts o = {.deep = true,
                           .size_bytes = en->size_bytes,
                           .cancel = &db->service->stopping};
    char *path = store_path(db->store, &en->name, en->suspect);
    int rc;

    o.path = path;
    rc = check_run(db->service->guard, &o, &report, e);
    if (rc == 0) {
        apply_report(f, &report, true);
    } else if (e->code == ERR_NOT_DATABASE || e->code == ERR_ENCRYPTED ||
               e->code == ERR_DAMAGED) {
        damaged(f, "integrity_check", e->message);
        rc = 0;
    }
    check_report_fini(&report);
    free(path);
    return rc;
}

/* Fill f->proof and f->state; only a fault of ours is an error. */
static int examine(const struct read_job *j, const struct store_entry *en,
                   struct facts *f, struct err *e)
{
    struct database *db = j->db;
    char sha256[65];
    char problem[BYTES_PROBLEM_SIZE];
    int fd = store_open(db->store, &en->name, en->suspect, e);
    int rc = -1;

    if (fd < 0)
        return -1;
    if (read_back(fd, en->size_bytes, sha256,
                  (struct read_back){.cancel = &db->service->stopping,
                                     .call = &j->call},
                  e) != 0)
        goto done;
    if (bytes_problem(en, f, sha256, problem)) {
        damaged(f, "sha256", problem);
        rc = 0;
        goto done;
    }
    rc = check_deeply(db, en, f, e);
done:
    file_close(&fd);
    return rc;
}

/* A suspect copy stays set aside, whatever a check says now. */
static int verify_own(const struct read_job *j, const struct store_entry *en,
                      struct facts *f, struct err *e)
{
    struct database *db = j->db;

    if (entry_facts(db, en, f, e) != 0)
        return -1;
    /* Where its facts are damaged there is nothing to compare with. */
    if (f->sha256[0] != '\0' && examine(j, en, f, e) != 0)
        return -1;
    if (en->suspect)
        f->state = BACKUP_SUSPECT;
    if (f->state == BACKUP_SUSPECT && !en->suspect)
        return store_set_aside(db->store, f, e);
    return store_put_facts(db->store, f, e);
}

static int verify_now(const struct read_job *j, struct facts *f, struct err *e)
{
    struct store_entry en;

    if (find_entry(j->db, &j->name, &en, e) != 0)
        return -1;
    if (!en.has_facts)
        return adopted_examine(j->db, &en, true, &j->call, f, e);
    return verify_own(j, &en, f, e);
}

static void verify_job(void *arg)
{
    struct read_job *j = arg;
    struct backup_answer a = {.fd = -1, .name = j->name};
    struct facts f = {0};
    struct err e = {0};

    (void)snprintf(a.database, sizeof a.database, "%s", j->db->name);
    if (verify_now(j, &f, &e) == 0) {
        a.facts = &f;
        a.size_bytes = f.size_bytes;
        a.created_at = f.created_at;
        log_event(f.state == BACKUP_GOOD ? LOG_INFO : LOG_WARN,
                  "backup.verified", "request", call_request(&j->call),
                  "database", j->db->name, "filename", j->name.s, "result",
                  proof_result_name(f.proof.result), "problem", f.proof.problem,
                  NULL);
        j->call.c.done(j->call.c.arg, NULL, &a);
    } else {
        call_fail(&j->call, &e);
    }
    facts_fini(&f);
    free(j);
}

static struct read_job *job_new(struct service *s, const char *name,
                                const char *filename,
                                const struct backup_call *call, struct err *e)
{
    struct read_job *j = xcalloc(1, sizeof *j);
    int64_t t;

    call_init(&j->call, call);
    j->db = service_database(s, name, e);
    if (j->db != NULL && parse_filename(filename, &j->name, &t, e) == 0)
        return j;
    free(j);
    return NULL;
}

void backup_verify(struct service *s, const char *name, const char *filename,
                   const struct backup_call *call)
{
    struct err e = {0};
    struct read_job *j = job_new(s, name, filename, call, &e);

    if (j == NULL || strand_put(j->db->reads, verify_job, j, &e) != 0) {
        call->done(call->arg, &e, NULL);
        free(j);
    }
}

/* ---- fetch ---- */

static void hand_over(const struct read_job *j, const struct facts *f,
                      bool suspect)
{
    struct backup_answer a = {.fd = -1, .name = j->name, .facts = f};
    struct err e = {0};

    (void)snprintf(a.database, sizeof a.database, "%s", j->db->name);
    a.fd = store_open(j->db->store, &j->name, suspect, &e);
    if (a.fd < 0 || file_size(a.fd, &a.size_bytes, &e) != 0) {
        file_close(&a.fd);
        call_fail(&j->call, &e);
        return;
    }
    a.created_at = f->created_at;
    j->call.c.done(j->call.c.arg, NULL, &a);
}

/* An adopted backup whose digest is not known yet. */
static void fetch_job(void *arg)
{
    struct read_job *j = arg;
    struct store_entry en;
    struct facts f = {0};
    struct err e = {0};

    if (find_entry(j->db, &j->name, &en, &e) != 0 ||
        adopted_examine(j->db, &en, false, NULL, &f, &e) != 0)
        call_fail(&j->call, &e);
    else
        hand_over(j, &f, en.suspect);
    facts_fini(&f);
    free(j);
}

static int check_suspect(const struct facts *f, bool wanted, struct err *e)
{
    if (f->state == BACKUP_GOOD || wanted)
        return 0;
    return err_set_reason(e, ERR_DAMAGED, "suspect",
                          "backup %s proved damaged and is set aside; it is "
                          "downloaded only if suspect copies are asked for",
                          f->name.s);
}

void backup_fetch(struct service *s, const char *name, const char *filename,
                  bool suspect, const struct backup_call *call)
{
    struct err e = {0};
    struct read_job *j = job_new(s, name, filename, call, &e);
    struct store_entry en = {0};
    struct facts f = {0};

    if (j == NULL || find_entry(j->db, &j->name, &en, &e) != 0 ||
        entry_facts(j->db, &en, &f, &e) != 0 ||
        check_suspect(&f, suspect, &e) != 0) {
        call->done(call->arg, &e, NULL);
    } else if (f.sha256[0] == '\0' && !en.has_facts) {
        if (strand_put(j->db->reads, fetch_job, j, &e) == 0)
            j = NULL; /* the job has it */
        else
            call_fail(&j->call, &e);
    } else {
        hand_over(j, &f, en.suspect);
    }
    facts_fini(&f);
    free(j);
}
