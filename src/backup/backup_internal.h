/* Shared by the files of the domain; nobody else includes it. */
#ifndef HOLDFAST_BACKUP_BACKUP_INTERNAL_H
#define HOLDFAST_BACKUP_BACKUP_INTERNAL_H

#include <pthread.h>

#include "backup/backup.h"
#include "backup/databases.h"
#include "backup/service.h"
#include "base/pool.h"
#include "catalog/catalog.h"
#include "sqlite/check.h"
#include "sqlite/live.h"
#include "store/store.h"

/* Work that waits per database before a request is turned away. */
#define MAX_WAITING 64
#define MAX_WAITERS 4096

struct call;
struct create_batch;
struct list_box;

/* A restore that is queued or runs: a delete of its backup waits for it. */
struct lease {
    struct lease *next;
    struct backup_name name;
};

/* One database at run time.  Never freed before the service is closed. */
struct database {
    struct database *next;
    struct service *service;
    char name[DATABASE_NAME_SIZE];
    struct store *store;
    struct strand *work;          /* create, restore: one at a time, in order */
    struct strand *reads;         /* verify, hashing of adopted backups */
    struct strand *quick;         /* delete: never behind long work */
    pthread_mutex_t lock;         /* guards what follows */
    struct create_batch *pending; /* a create that has not begun */
    struct lease *leases;
    int64_t last_name; /* the newest second we have named; 0: not known yet */
    struct list_box *list;
    pthread_cond_t list_read; /* a reading of the folder has ended */
    bool reading;             /* one is under way */
    uint64_t n_readings;      /* begun */
    uint64_t n_forgotten;     /* calls of list_forget */
    bool adopting;           /* a job that examines adopted backups is queued */
    int64_t settle_at_ms;    /* a copy is still pending: when to try again */
    int64_t settle_pause_ms; /* the last pause before such a try */
};

/* A database that the catalog knows. */
struct registered {
    struct registered *next;
    char name[DATABASE_NAME_SIZE];
    char *path; /* NULL: managed */
};

struct service {
    char *data_path; /* absolute, without symlinks */
    int data_dir;
    int tmp_dir;
    int lock_fd;
    struct catalog *catalog;
    struct guard *guard; /* borrowed */
    struct pool *long_pool;
    struct pool *quick_pool;
    char **roots; /* of registered paths; absolute */
    size_t n_roots;
    unsigned busy_timeout_ms;
    uint64_t wal_limit_bytes;
    unsigned max_stall_ms;
    bool allow_network_fs;
    bool background;
    pthread_mutex_t lock; /* guards what follows */
    struct database *databases;
    struct registered *registered;
    char current[DATABASE_NAME_SIZE];
    int n_settling; /* atomic; folders that start-up is not done with */
    bool stopping;  /* also read atomically, by long work */
};

/* ---- service.c ---- */

/*
 * service_check_data_dir: ERR_BUSY, reason "data_directory", when its path
 * leads elsewhere: SQLite and the limited children go by the path, and what
 * is acknowledged must be there after the next start.
 */
int service_check_data_dir(struct service *s, struct err *e);

/* service_database: the run-time database of a known name (NULL: the current
 * one); ERR_INVALID, ERR_NOT_FOUND, ERR_BUSY as above. */
struct database *service_database(struct service *s, const char *name,
                                  struct err *e);

/* service_get: the same without asking whether such a database exists. */
struct database *service_get(struct service *s, const char *name);

bool service_stopping(struct service *s);

/* ---- databases.c ---- */

int databases_load(struct service *s, struct err *e);
void databases_unload(struct service *s);

/* database_known: whether there is such a database. */
bool database_known(struct service *s, const char *name);

/* database_path: where the live file is (or would be), new. */
char *database_path(struct database *db, bool *managed, struct err *e);

/* database_live: options for src/sqlite; o->path is the caller's to free. */
int database_live(struct database *db, struct live_opts *o, struct err *e);

/* ---- name.c ---- */

/* name_reserve: the name of the copy that is about to begin; only within
 * db->work.  May wait up to a second. */
int name_reserve(struct database *db, struct backup_name *name, int64_t *t,
                 struct err *e);

/* name_keep: the backup of second t is about to be deleted; if it is the
 * newest, remember its name, durably. */
int name_keep(struct database *db, int64_t t, struct err *e);

/* ---- copying.c ---- */

/* read_back: SHA-256 of a file from fd; with sums also compares the known
 * ones (ERR_DAMAGED at the first that differs).  `call`, if there is one, is
 * told how far it is. */
struct read_back {
    const char (*sums)[33];
    size_t n_sums;
    const bool *cancel;
    const struct call *call;
};
int read_back(int fd, uint64_t size_bytes, char sha256[65], struct read_back o,
              struct err *e);

/* bytes_problem: whether length and SHA-256 of what was read back are others
 * than the facts say; then what and where. */
#define BYTES_PROBLEM_SIZE 128
bool bytes_problem(const struct store_entry *en, const struct facts *f,
                   const char *sha256, char problem[BYTES_PROBLEM_SIZE]);

/* read_head: the first bytes of a backup, as db_header_parse takes them;
 * ERR_DAMAGED where it has become shorter than that. */
int read_head(int fd, uint8_t head[100], struct err *e);

/* apply_report: put the outcome of a check into the facts' proof. */
void apply_report(struct facts *f, const struct check_report *r, bool deep);

/* ---- adopt.c ---- */

/* adopted_facts: what is known of an adopted backup; minimal facts if its
 * examination is still to come. */
int adopted_facts(struct database *db, const struct store_entry *en,
                  struct facts *out, struct err *e);
/* adopted_examine: hash and check it now, and remember the outcome; `call` as
 * for read_back. */
int adopted_examine(struct database *db, const struct store_entry *en,
                    bool deep, const struct call *call, struct facts *out,
                    struct err *e);
/* adopt_in_background: examine those of which nothing is known yet. */
void adopt_in_background(struct database *db);

enum adopted_state { ADOPTED_UNKNOWN, ADOPTED_GOOD, ADOPTED_SUSPECT };
struct adopted_set {
    struct catalog_adopted *row; /* by filename; the caller's to free */
    size_t n;
};
int adopted_load(struct database *db, struct adopted_set *out, struct err *e);
enum adopted_state adopted_state(const struct adopted_set *s,
                                 const struct store_entry *en);

/* find_entry: the entry of one name, if it is a backup (good or suspect). */
int find_entry(struct database *db, const struct backup_name *name,
               struct store_entry *out, struct err *e);

/* entry_facts: facts of any entry.  Of an adopted one the SHA-256 may not be
 * known yet.  Where its own facts are damaged it is suspect, with that as the
 * problem and without a SHA-256. */
int entry_facts(struct database *db, const struct store_entry *en,
                struct facts *out, struct err *e);

/* ---- create.c ---- */

/* own_like_folder: give a new live file the owner and mode of the folder that
 * it is for, so that the application can use it. */
int own_like_folder(int dir, int fd, struct err *e);

/* An empty live database, made durable, owned like its folder. */
int make_empty_database(const char *path, struct err *e);

/* create_now: one copy, within db->work, for databases_remove. */
int create_now(struct database *db, struct err *e);

/* ---- settle.c ---- */

/* settle_all: clean the folder and finish what a crash interrupted. */
void settle_all(struct database *db);
/* settle_later: one could not be settled; try again after a pause, each four
 * times as long as the one before.  settle_again: if it is time. */
void settle_later(struct database *db);
void settle_again(struct database *db);
/* settle_one: read back, check and list a pending safety copy. */
int settle_one(struct database *db, const struct backup_name *name,
               struct facts *out, struct err *e);

/* ---- call.c ---- */

/* A copy of struct backup_call that a job keeps. */
struct call {
    struct backup_call c;
    char request_id[40];
};
void call_init(struct call *k, const struct backup_call *c);
const char *call_request(const struct call *k); /* NULL if there is none */
void call_fail(const struct call *k, const struct err *e);

/* parse_filename: ERR_INVALID with the rule. */
int parse_filename(const char *filename, struct backup_name *name, int64_t *t,
                   struct err *e);

#endif
