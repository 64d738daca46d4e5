/*
 * Checking a database file, in the limited child.
 *
 * First the whole database is checked in one go.  If that needed nothing of
 * the application's, it says everything.  Otherwise what it said about pages
 * and b-trees still stands (that part needs no schema and comes first), and
 * the rows are checked table by table, so that only the tables that need
 * something missing go unchecked; those are named.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sqlite/check.h"
#include "sqlite/check_file.h"
#include "sqlite/check_internal.h"
#include "sqlite/check_sql.h"
#include "sqlite/check_stubs.h"
#include "sqlite3.h"

#define MAX_PROBLEMS 20

/* The words with which SQLite begins what it finds in pages and b-trees
 * rather than in rows. */
#define TREES_HEAD "*** in database main ***\n"
#define COUNT_HEAD "wrong # of entries in index "

/* What a check came upon: the first finding, and how many. */
struct found {
    unsigned n;
    char first[512];
};

/* One connection on the file; a second one may be needed. */
struct session {
    sqlite3 *db;
    struct stubs stubs;
    const struct check_request *rq;
    struct check_reply *out;
    struct buf *notes; /* what was not checked, save for stubs */
};

/* How a pragma ended. */
enum outcome {
    RAN,
    STUBBED, /* something of the application's would have been needed */
    REFUSED, /* SQLite refuses to work with this schema or row */
    FAILED   /* see *e */
};

struct run {
    const char *kind;  /* "quick_check" or "integrity_check" */
    const char *table; /* NULL: everything */
    struct found trees;
    struct found rows;
    bool prepared;
    char refusal[256]; /* " (why)", or "" */
};

static void add_line(struct found *f, const char *text, size_t len)
{
    if (f->n == 0)
        check_clean_text(f->first, sizeof f->first, text, len);
    if (f->n < MAX_PROBLEMS)
        f->n++;
}

static void add_lines(struct found *f, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");

        if (len > 0)
            add_line(f, text, len);
        text += len + (text[len] == '\n');
    }
}

static void add_row(struct run *run, const char *text)
{
    if (text == NULL || strcmp(text, "ok") == 0)
        return;
    if (strncmp(text, TREES_HEAD, strlen(TREES_HEAD)) == 0)
        add_lines(&run->trees, text + strlen(TREES_HEAD));
    else if (strncmp(text, COUNT_HEAD, strlen(COUNT_HEAD)) == 0)
        add_lines(&run->trees, text);
    else
        add_lines(&run->rows, text);
}

static void report(struct session *s, const struct found *f)
{
    struct check_reply *out = s->out;

    if (f->n == 0)
        return;
    if (out->n_problems == 0)
        memcpy(out->problem, f->first, sizeof out->problem);
    out->result = CHECK_DAMAGED;
    out->n_problems += f->n;
}

/* Note something that was not checked, as long as there is room. */
__attribute__((format(printf, 2, 3))) static void note(struct session *s,
                                                       const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (s->notes->len < CHECK_NOT_CHECKED_BYTES)
        buf_printf(s->notes, "%s%s", s->notes->len > 0 ? ", " : "", text);
}

static enum outcome outcome_of(struct session *s, int rc, uint64_t n_uses,
                               struct run *run, struct err *e)
{
    switch (rc & 0xff) {
    case SQLITE_DONE:
        return s->stubs.n_uses != n_uses ? STUBBED : RAN;
    case SQLITE_INTERRUPT:
        return STUBBED;
    case SQLITE_ERROR:
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
    case SQLITE_AUTH:
        /* "SQL logic error" would tell nobody anything. */
        if (strcmp(sqlite3_errmsg(s->db), sqlite3_errstr(rc)) != 0)
            (void)snprintf(run->refusal, sizeof run->refusal, " (%s)",
                           sqlite3_errmsg(s->db));
        return s->stubs.n_uses != n_uses ? STUBBED : REFUSED;
    default:
        (void)check_sql_fail(s->db, rc, e);
        if (e->code != ERR_DAMAGED)
            return FAILED;
        add_line(&run->trees, e->message, strlen(e->message));
        return RAN;
    }
}

static enum outcome run_pragma(struct session *s, struct run *run,
                               struct err *e)
{
    uint64_t n_uses = s->stubs.n_uses;
    sqlite3_stmt *st = NULL;
    enum outcome how;
    char *sql =
        run->table != NULL
            ? sqlite3_mprintf("PRAGMA main.%s(\"%w\")", run->kind, run->table)
            : sqlite3_mprintf("PRAGMA main.%s(%d)", run->kind, MAX_PROBLEMS);
    int rc = sql == NULL ? SQLITE_NOMEM : stubs_prepare(&s->stubs, sql, &st);

    sqlite3_free(sql);
    if (rc == SQLITE_OK) {
        run->prepared = true;
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            add_row(run, (const char *)sqlite3_column_text(st, 0));
    }
    how = outcome_of(s, rc, n_uses, run, e);
    (void)sqlite3_finalize(st);
    return how;
}

static int exec(struct session *s, const char *sql, struct err *e)
{
    int rc;

    do
        rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    while (rc != SQLITE_OK && stubs_supply(&s->stubs));
    return rc == SQLITE_OK ? 0 : check_sql_fail(s->db, rc, e);
}

/* ------------------------------------------------------ opening the file */

/* Whether the database is in WAL mode; known once it has been read. */
static int is_wal(struct session *s, bool *wal, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int rc =
        sqlite3_prepare_v2(s->db, "PRAGMA main.journal_mode", -1, &st, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *wal = sqlite3_stricmp((const char *)sqlite3_column_text(st, 0),
                               "wal") == 0;
    (void)sqlite3_finalize(st);
    return rc == SQLITE_ROW ? 0 : check_sql_fail(s->db, rc, e);
}

/*
 * Go to the snapshot that is to be checked: 0 if the transaction is there, 1
 * if the database has moved on.
 */
static int enter_snapshot(struct session *s, struct err *e)
{
    sqlite3_snapshot snapshot;
    sqlite3_snapshot *now = NULL;
    int rc;

    if (s->rq->has_snapshot) {
        _Static_assert(sizeof snapshot == sizeof s->rq->snapshot,
                       "a snapshot's size");
        memcpy(&snapshot, s->rq->snapshot, sizeof snapshot);
        rc = sqlite3_snapshot_open(s->db, "main", &snapshot);
        if (rc == SQLITE_OK)
            return 0;
        return (rc & 0xff) == SQLITE_ERROR ? 1 : check_sql_fail(s->db, rc, e);
    }
    /* A WAL without frames has no snapshot to name. */
    rc = sqlite3_snapshot_get(s->db, "main", &now);
    sqlite3_snapshot_free(now);
    if (rc == SQLITE_OK)
        return 1;
    return (rc & 0xff) == SQLITE_ERROR ? 0 : check_sql_fail(s->db, rc, e);
}

/*
 * Begin the read transaction in which a live database is checked; returns as
 * enter_snapshot.  The first read comes before it: sqlite3_snapshot_open
 * works only for a connection that knows the database to be in WAL mode.
 */
static int begin_live(struct session *s, struct err *e)
{
    bool wal = false;

    if (exec(s, "PRAGMA main.application_id", e) != 0 ||
        exec(s, "BEGIN", e) != 0)
        return -1;
    if (!s->rq->has_snapshot && exec(s, "PRAGMA main.application_id", e) != 0)
        return -1;
    if (is_wal(s, &wal, e) != 0)
        return -1;
    if (wal != s->rq->wal)
        return 1;
    return wal ? enter_snapshot(s, e) : 0;
}

/* Open the file; returns as begin_live. */
static int open_session(const struct check_request *rq, struct session *s,
                        struct err *e)
{
    int rc = 0;

    if (check_sql_open(rq->path, rq->live ? CHECK_SQL_LIVE : CHECK_SQL_PRIVATE,
                       &s->db, e) != 0)
        return -1;
    stubs_init(&s->stubs, s->db);
    s->stubs.stop = true;
    s->rq = rq;
    if (rq->live)
        rc = begin_live(s, e);
    if (rc == 0)
        rc = exec(s, "PRAGMA main.cache_size=-16384", e);
    return rc;
}

static void close_session(struct session *s)
{
    (void)sqlite3_close(s->db);
    stubs_fini(&s->stubs);
    s->db = NULL;
}

/* ------------------------------------------------------------- checking */

/*
 * The trees alone, where the schema as a whole cannot be worked with: on a
 * connection that knows no modules, so that no virtual table is looked at,
 * and without CHECK constraints.
 */
static int check_trees(struct session *s, struct err *e)
{
    struct session bare = {.out = s->out, .notes = s->notes};
    struct run run = {.kind = "quick_check"};
    char text[sizeof run.refusal + 32];
    int rc = open_session(s->rq, &bare, e);

    if (rc != 0)
        goto done;
    (void)sqlite3_drop_modules(bare.db, NULL);
    rc = exec(&bare, "PRAGMA ignore_check_constraints=ON", e);
    if (rc != 0)
        goto done;
    if (run_pragma(&bare, &run, e) == FAILED) {
        rc = -1;
        goto done;
    }
    report(s, &run.trees);
    if (!run.prepared && s->out->result == CHECK_OK) {
        s->out->result = CHECK_NOT_PROVEN;
        s->out->n_problems = 1;
        (void)snprintf(text, sizeof text, "SQLite refuses the schema%s",
                       run.refusal);
        check_clean_text(s->out->problem, sizeof s->out->problem, text,
                         strlen(text));
    }
done:
    close_session(&bare);
    return rc;
}

/*
 * The rows of one table.  Where a CHECK constraint is what needs something of
 * the application's, the rest is checked without the constraints.
 */
static int check_table(struct session *s, const char *name, struct err *e)
{
    const char *kind = s->rq->deep ? "integrity_check" : "quick_check";
    struct run full = {.kind = kind, .table = name};
    struct run plain = {.kind = kind, .table = name};
    enum outcome how = run_pragma(s, &full, e);

    if (how == RAN) {
        report(s, &full.trees);
        report(s, &full.rows);
    }
    if (how == RAN || how == FAILED)
        return how == RAN ? 0 : -1;
    if (exec(s, "PRAGMA ignore_check_constraints=ON", e) != 0)
        return -1;
    how = run_pragma(s, &plain, e);
    if (exec(s, "PRAGMA ignore_check_constraints=OFF", e) != 0 || how == FAILED)
        return -1;
    if (how == RAN) {
        report(s, &plain.trees);
        report(s, &plain.rows);
        note(s, "CHECK constraints of table %s", name);
    } else {
        note(s, "rows of table %s%s", name, plain.refusal);
    }
    return 0;
}

/* A virtual table whose module is not here. */
static int check_module(struct session *s, const char *name, struct err *e)
{
    static const char words[] = "no such module: ";
    sqlite3_stmt *st = NULL;
    char *sql = sqlite3_mprintf("SELECT 1 FROM main.\"%w\"", name);
    int rc = sql == NULL ? SQLITE_NOMEM
                         : sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);
    const char *message = sqlite3_errmsg(s->db);

    (void)e;
    sqlite3_free(sql);
    if (rc != SQLITE_OK && strncmp(message, words, strlen(words)) == 0)
        note(s, "module %s", message + strlen(words));
    (void)sqlite3_finalize(st);
    return 0;
}

/*
 * Call `visit` for every table of a kind.  No statement may run meanwhile: a
 * stub's interruption would end it too.
 */
static int each_table(struct session *s, const char *which,
                      int (*visit)(struct session *s, const char *name,
                                   struct err *e),
                      struct err *e)
{
    sqlite3_int64 last = INT64_MIN;
    char *sql = sqlite3_mprintf("SELECT rowid, name FROM main.sqlite_schema "
                                "WHERE rowid>?1 AND type='table' AND %s "
                                "ORDER BY rowid LIMIT 1",
                                which);
    sqlite3_stmt *st = NULL;
    int rc = sql == NULL ? SQLITE_NOMEM
                         : sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);
    int result = 0;

    sqlite3_free(sql);
    while (rc == SQLITE_OK && result == 0) {
        char *name = NULL;

        (void)sqlite3_bind_int64(st, 1, last);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            const char *text = (const char *)sqlite3_column_text(st, 1);

            last = sqlite3_column_int64(st, 0);
            name = text == NULL ? NULL : xstrdup(text);
            rc = SQLITE_OK;
        }
        (void)sqlite3_reset(st);
        if (name != NULL && s->out->n_problems < MAX_PROBLEMS)
            result = visit(s, name, e);
        free(name);
    }
    if (result == 0 && rc != SQLITE_DONE)
        result = check_sql_fail(s->db, rc, e);
    (void)sqlite3_finalize(st);
    return result;
}

/* Say whose tree a finding is about. */
static void name_tree(struct session *s)
{
    struct check_reply *out = s->out;
    size_t len = strlen(out->problem);
    unsigned root = 0;
    sqlite3_stmt *st = NULL;

    if (strncmp(out->problem, "Tree ", 5) == 0)
        root = (unsigned)strtoul(out->problem + 5, NULL, 10);
    if (root != 0 &&
        sqlite3_prepare_v2(s->db,
                           "SELECT printf(' (%s %s)', type, name) "
                           "FROM main.sqlite_schema WHERE rootpage=?1",
                           -1, &st, NULL) == SQLITE_OK &&
        sqlite3_bind_int64(st, 1, root) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(st, 0);

        if (text != NULL)
            check_clean_text(out->problem + len, sizeof out->problem - len,
                             text, strlen(text));
    }
    (void)sqlite3_finalize(st);
}

static int check_database(struct session *s, struct err *e)
{
    struct run run = {.kind = s->rq->deep ? "integrity_check" : "quick_check"};
    enum outcome how = run_pragma(s, &run, e);
    int rc = 0;

    report(s, &run.trees);
    /* Damage that was found counts, whatever came after it. */
    if (how == FAILED && s->out->result != CHECK_DAMAGED)
        return -1;
    if (how == RAN)
        report(s, &run.rows);
    else if (!run.prepared)
        rc = check_trees(s, e);
    if (rc == 0 && how != RAN && s->out->result == CHECK_OK)
        rc = each_table(s, "1", check_table, e);
    if (rc == 0 && s->out->result == CHECK_OK)
        rc = each_table(s, "rootpage=0", check_module, e);
    if (s->out->result == CHECK_DAMAGED)
        name_tree(s);
    return rc;
}

static int check_file(const struct check_request *rq, struct check_reply *out,
                      struct err *e)
{
    struct buf not_checked = {0};
    struct buf notes = {0};
    struct session s = {.out = out, .notes = &notes};
    int rc = rq->live ? 0 : check_file_examine(rq->path, e);

    if (rc != 0)
        return rc;
    rc = open_session(rq, &s, e);
    if (rc == 0)
        rc = check_database(&s, e);
    if (rc > 0) {
        out->result = CHECK_MOVED_ON;
        rc = 0;
    }
    stubs_put_used(&s.stubs, &not_checked);
    if (notes.len > 0)
        buf_printf(&not_checked, "%s%s", not_checked.len > 0 ? ", " : "",
                   notes.data);
    if (not_checked.len > 0)
        check_clean_text(out->not_checked, sizeof out->not_checked,
                         not_checked.data, not_checked.len);
    close_session(&s);
    buf_fini(&notes);
    buf_fini(&not_checked);
    /* Only now, with SQLite's descriptors and locks gone, may it be opened. */
    if (rc != 0 && e->code == ERR_NOT_DATABASE)
        return check_file_explain(rq->path, e);
    return rc;
}

static int run_check(const void *request, size_t len, struct buf *reply,
                     struct err *e)
{
    struct check_request *rq = xmalloc(sizeof *rq);
    struct check_reply *out = xcalloc(1, sizeof *out);
    int rc = -1;

    if (len != sizeof *rq) {
        (void)err_set(e, ERR_INTERNAL, "a check request of %zu bytes", len);
        goto done;
    }
    memcpy(rq, request, sizeof *rq);
    out->result = CHECK_OK;
    rc = check_file(rq, out, e);
    if (rc != 0 && e->code == ERR_DAMAGED) {
        out->result = CHECK_DAMAGED;
        out->n_problems++;
        if (out->problem[0] == '\0')
            check_clean_text(out->problem, sizeof out->problem, e->message,
                             strlen(e->message));
        rc = 0;
    }
    if (rc == 0)
        buf_put(reply, out, sizeof *out);
done:
    free(out);
    free(rq);
    return rc;
}

const struct guard_service check_service = {"check", run_check};
