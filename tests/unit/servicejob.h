/*
 * A service on a data directory in the scratch folder, and its asynchronous
 * calls as functions that wait, for the tests of src/backup.  Its clock is the
 * file "clock" (see src/base/clock.h).
 */
#ifndef HOLDFAST_TESTS_SERVICEJOB_H
#define HOLDFAST_TESTS_SERVICEJOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backup/backup.h"
#include "backup/databases.h"
#include "backup/service.h"
#include "base/err.h"
#include "store/facts.h"

/* servicejob_main: run the tests with the helper processes started. */
struct CMUnitTest;
int servicejob_main(const struct CMUnitTest *tests, size_t n);

/* As cmocka's setup and teardown of one test: an opened service whose
 * database "default" slot 0 of the application has open (dbutil.h). */
int servicejob_setup(void **state);
int servicejob_teardown(void **state);

/* The service of the test; its options may be changed before a reopening. */
extern struct service *service;
extern struct service_opts service_options;
void servicejob_reopen(void);
extern unsigned servicejob_busy_timeout_ms; /* from the setup on; 30 s */

/* Where the database "default" and its backups are. */
#define SERVICEJOB_LIVE scratch_path("data/databases/default/app.db")
#define SERVICEJOB_BACKUP(name) \
    scratch_path("data/backups/default/%s", (name).s)

/* ---- calls ---- */

struct outcome {
    int n_done; /* how often `done` was called */
    int turn;   /* among all that ended, from 1 */
    struct err e;
    char database[DATABASE_NAME_SIZE];
    struct backup_name name;
    struct backup_name safety;
    uint64_t size_bytes;
    int64_t created_at;
    int fd;
    /* of the facts, where there were any */
    bool has_facts;
    enum backup_state state;
    enum proof_result proof;
    char what[24];
    char sha256[65];
    /* what the progress function does */
    bool gated;   /* wait until servicejob_open_gate */
    bool at_gate; /* it is waiting there */
    int n_progress;
};

/* Begin a call, which ends in *o. */
void begin_create(struct outcome *o, const char *db);
void begin_restore(struct outcome *o, const char *db, const char *filename,
                   bool force);
void begin_delete(struct outcome *o, const char *db, const char *filename);
void begin_verify(struct outcome *o, const char *db, const char *filename);
void begin_fetch(struct outcome *o, const char *db, const char *filename,
                 bool suspect);
void begin_remove(struct outcome *o, const char *db);

/* Until it has ended; until it waits at the gate. */
void await(struct outcome *o);
void await_gate(struct outcome *o);
void servicejob_open_gate(void);

/* Ended with success, or with this failure. */
void must(struct outcome *o);
void must_fail(struct outcome *o, enum err_code code, const char *reason);

/* A backup of the current database, made now. */
struct backup_name made(void);

/* ---- looking ---- */

/* expect_list: the good backups of the current database, newest first. */
void expect_list(size_t n, const struct backup_name *names);
size_t count_list(void);

/* Files in a folder below the data directory; 0 if there is none. */
size_t count_in(const char *folder);

/* The clock: `offset` seconds from real time. */
void set_clock(int64_t offset);

/* fault: this step fails so ("create.copy:EIO"); "" for none. */
void set_fault(const char *step);

#endif
