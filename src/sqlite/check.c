/* Checking a database file, the caller's side: see check.h. */
#include "sqlite/check.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sqlite/check_internal.h"

#define MIB ((uint64_t)1 << 20)
#define CHILD_MEMORY_BYTES (160 * MIB)

/* Whether code point c, written in len bytes, is a character to print: not a
 * control, not overlong, no surrogate (RFC 3629, 3 and 4). */
static bool is_printable(uint32_t c, size_t len)
{
    static const uint32_t least[] = {0, 0x20, 0xa0, 0x800, 0x10000};

    return c >= least[len] && c != 0x7f && (c < 0xd800 || c > 0xdfff) &&
           c <= 0x10ffff;
}

/* The length of the UTF-8 character at p, of which n bytes are there; 0 if
 * there is none to print. */
static size_t character_at(const unsigned char *p, size_t n)
{
    size_t len = *p < 0x80             ? 1
                 : (*p & 0xe0) == 0xc0 ? 2
                 : (*p & 0xf0) == 0xe0 ? 3
                 : (*p & 0xf8) == 0xf0 ? 4
                                       : 0;
    uint32_t c = len == 1 ? *p : *p & (0x7fu >> len);

    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    return is_printable(c, len) ? len : 0;
}

void check_clean_text(char *dst, size_t size, const char *src, size_t len)
{
    size_t to = 0;

    for (size_t from = 0; from < len;) {
        size_t n = character_at((const unsigned char *)src + from, len - from);
        size_t step = n == 0 ? 1 : n;

        if (to + step >= size)
            break;
        if (n == 0)
            dst[to] = '?';
        else
            memcpy(dst + to, src + from, n);
        to += step;
        from += step;
    }
    dst[to] = '\0';
}

/*
 * What the child may open.  A live database in WAL mode: its three files, of
 * which only the -shm is written to (read marks); what is missing cannot be
 * named, so in rollback mode, where a journal may appear at any time, it is
 * the folder.  stat and access do not touch the locks that open and close
 * would.
 */
static void allow_paths(const struct check_opts *o, struct guard_call *call,
                        char names[GUARD_MAX_PATHS][PATH_MAX])
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    size_t n = 0;

    if (!o->live) {
        call->paths[0].path = o->path;
        return;
    }
    if (!o->wal) {
        const char *slash = strrchr(o->path, '/');

        (void)snprintf(names[0], PATH_MAX, "%.*s/", (int)(slash - o->path),
                       o->path);
        call->paths[0].path = names[0];
        return;
    }
    for (size_t i = 0; i < GUARD_MAX_PATHS; i++) {
        (void)snprintf(names[n], PATH_MAX, "%s%s", o->path, suffixes[i]);
        if (i != 0 && access(names[n], F_OK) != 0)
            continue;
        call->paths[n].path = names[n];
        call->paths[n].writable = strcmp(suffixes[i], "-shm") == 0;
        n++;
    }
}

/* A file that the child might make beside a live database must be the
 * application's. */
static void run_as_owner(const struct check_opts *o, struct guard_call *call)
{
    struct stat st;

    if (o->live && geteuid() == 0 && stat(o->path, &st) == 0) {
        call->run_as_uid = st.st_uid;
        call->run_as_gid = st.st_gid;
    }
}

static void set_limits(const struct check_opts *o, struct guard_call *call)
{
    uint64_t s = 5 + o->size_bytes / ((o->deep ? 5 : 20) * MIB);

    call->memory_bytes = CHILD_MEMORY_BYTES;
    call->cpu_s = s < UINT32_MAX / 8 ? (unsigned)s : UINT32_MAX / 8;
    /* A busy machine is no fault of the file. */
    call->wall_s = 30 + 4 * call->cpu_s;
}

static void not_proven(struct check_report *r, const char *problem)
{
    r->result = CHECK_NOT_PROVEN;
    r->n_problems = 1;
    check_clean_text(r->problem, sizeof r->problem, problem, strlen(problem));
}

int check_take_report(const struct buf *bytes, struct check_report *r,
                      struct err *e)
{
    struct check_reply reply;

    if (bytes->len != sizeof reply)
        return err_set(e, ERR_INTERNAL, "a report of %zu bytes", bytes->len);
    memcpy(&reply, bytes->data, sizeof reply);
    if (reply.result > CHECK_MOVED_ON)
        return err_set(e, ERR_INTERNAL, "a report with result %u",
                       (unsigned)reply.result);
    r->result = (enum check_result)reply.result;
    r->n_problems = reply.n_problems;
    check_clean_text(r->problem, sizeof r->problem, reply.problem,
                     strnlen(reply.problem, sizeof reply.problem));
    reply.not_checked[sizeof reply.not_checked - 1] = '\0';
    if (reply.not_checked[0] != '\0') {
        r->not_checked = xmalloc(sizeof reply.not_checked);
        check_clean_text(r->not_checked, sizeof reply.not_checked,
                         reply.not_checked, strlen(reply.not_checked));
    }
    return 0;
}

int check_run(struct guard *g, const struct check_opts *opts,
              struct check_report *report, struct err *e)
{
    struct check_request *rq = xcalloc(1, sizeof *rq);
    char(*names)[PATH_MAX] = xcalloc(GUARD_MAX_PATHS, PATH_MAX);
    struct guard_call call = {.service = check_service.name,
                              .request = rq,
                              .request_len = sizeof *rq,
                              .cancel = opts->cancel};
    struct buf reply = {0};
    int rc = -1;

    assert(opts->path[0] == '/');
    memset(report, 0, sizeof *report);
    if (strlen(opts->path) >= PATH_MAX - sizeof "-journal") {
        (void)err_set(e, ERR_INVALID, "the path is too long");
        goto done;
    }
    rq->live = opts->live;
    rq->wal = opts->wal;
    rq->deep = opts->deep;
    rq->has_snapshot = opts->snapshot != NULL;
    if (opts->snapshot != NULL)
        memcpy(rq->snapshot, opts->snapshot, sizeof rq->snapshot);
    (void)snprintf(rq->path, sizeof rq->path, "%s", opts->path);
    allow_paths(opts, &call, names);
    run_as_owner(opts, &call);
    set_limits(opts, &call);

    rc = guard_call(g, &call, &reply, e);
    if (rc == 0) {
        rc = check_take_report(&reply, report, e);
    } else if (e->code == ERR_LIMIT) {
        not_proven(report, e->message);
        rc = 0;
    } else if (e->code == ERR_DAMAGED) { /* damage itself is a report */
        not_proven(report, "the checker crashed on this file");
        rc = 0;
    }
done:
    buf_fini(&reply);
    free(names);
    free(rq);
    return rc;
}

void check_report_fini(struct check_report *r)
{
    free(r->not_checked);
    r->not_checked = NULL;
}
