/*
 * For tests of live databases: the application, played by a process of its
 * own with connections of its own, a scratch folder, and files as bytes.
 * Whatever fails here fails the test.
 */
#ifndef HOLDFAST_TESTS_DBUTIL_H
#define HOLDFAST_TESTS_DBUTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- a scratch folder, as cmocka's group setup and teardown ---- */

int scratch_setup(void **state);
int scratch_teardown(void **state);

/* scratch_clear: as cmocka's setup or teardown of one test. */
int scratch_clear(void **state);

/* scratch_path: an absolute path in it; the text stays for 32 calls. */
const char *scratch_path(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

/* ---- the application ---- */

#define APP_SLOTS 4

/* app_start: first thing in main, before any thread or SQLite connection. */
int app_start(void);
void app_stop(void);

/* Connections are known by their slot.  None of them waits for locks, but
 * for app_send. */
void app_open(int slot, const char *path);
void app_close(int slot);

/* app_reserve: bytes that a new database keeps unused at the end of pages. */
void app_reserve(int slot, int n);

/* app_try: run statements; SQLite's result code. */
int app_try(int slot, const char *sql);
void app_sql(int slot, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
int64_t app_int(int slot, const char *sql);

/* app_image: write the pages that a new connection sees.  (One that has just
 * written may remember free pages otherwise than they stand on disk.) */
void app_image(const char *path, const char *to);

/* app_send: run statements that wait for locks up to a minute, and return at
 * once; app_waits: until they wait for a lock (true) or have ended;
 * app_result: until they have ended; SQLite's result code. */
void app_send(int slot, const char *sql);
bool app_waits(void);
int app_result(void);

/*
 * app_commit_between: for a step within a slice of a rollback-mode copy: the
 * statements wait for our lock and so keep us from taking it again once the
 * slice is over, which it is when this returns.  app_end_pending: until what
 * app_commit_between began has ended well.
 */
void app_commit_between(int slot, const char *sql);
void app_end_pending(void);
void app_drop_pending(void); /* however it ended */

/* Gives 1 for a database that is whole. */
#define APP_INTEGRITY "SELECT integrity_check='ok' FROM pragma_integrity_check"

/* app_check: the file is a database that is whole. */
void app_check(const char *path);

/* A query part that gives rows n(i), their number for a %d. */
#define APP_ROWS \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT %d)"

/* ---- files that nobody has open ---- */

struct bytes {
    uint8_t *p;
    size_t n;
};

struct bytes bytes_read(const char *path);
void bytes_write(const char *path, struct bytes b);
void bytes_fini(struct bytes *b);

/* bytes_equal: the same but for `skip`, pairs of first and last offset ended
 * by a last of 0; on a difference prints where. */
bool bytes_equal(struct bytes a, struct bytes b, const size_t (*skip)[2]);

/* What may differ between a database and its copy: the journal mode. */
extern const size_t bytes_skip_mode[][2];
/* Between a backup and what was restored from it: the journal mode, the change
 * counter, the schema cookie and what SQLite notes at a commit. */
extern const size_t bytes_skip_commit[][2];

/* file_copy_all: copy a file as it is. */
void file_copy_all(const char *from, const char *to);
bool file_exists(const char *path);

/* fds_open: how many descriptors this process has. */
int fds_open(void);

#endif
