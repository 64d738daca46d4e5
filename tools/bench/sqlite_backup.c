/*
 * sqlite_backup LIVE BACKUP: restore BACKUP into the database LIVE, which may
 * be in use, by SQLite's own backup API in one step.  It is what a careful
 * person would do without Holdfast, and what restores are compared with.
 */
#include <stdio.h>
#include <time.h>

#include "sqlite3.h"

/* How often the write lock is asked for: SQLite's own busy handler is not
 * called again after the first SQLITE_BUSY of a backup. */
#define RETRY_MS 1

static void wait_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000L};

    (void)nanosleep(&t, NULL);
}

static int restore(sqlite3 *live, sqlite3 *backup)
{
    sqlite3_backup *b = sqlite3_backup_init(live, "main", backup, "main");
    int rc;

    if (b == NULL)
        return sqlite3_errcode(live);
    while ((rc = sqlite3_backup_step(b, -1)) == SQLITE_BUSY ||
           rc == SQLITE_LOCKED)
        wait_ms(RETRY_MS);
    return sqlite3_backup_finish(b);
}

int main(int argc, char **argv)
{
    sqlite3 *live = NULL;
    sqlite3 *backup = NULL;
    int rc;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: sqlite_backup LIVE BACKUP\n");
        return 2;
    }
    rc = sqlite3_open_v2(argv[1], &live, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_open_v2(argv[2], &backup, SQLITE_OPEN_READONLY, NULL);
    if (rc == SQLITE_OK)
        rc = restore(live, backup);
    (void)sqlite3_close(backup);
    (void)sqlite3_close(live);
    if (rc != SQLITE_OK)
        (void)fprintf(stderr, "sqlite_backup: %s\n", sqlite3_errstr(rc));
    return rc == SQLITE_OK ? 0 : 1;
}
