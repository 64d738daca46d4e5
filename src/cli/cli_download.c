/*
 * holdfast download: a copy of a backup as a file of one's own.
 *
 * The bytes go into a temporary file beside it, which is synced and takes the
 * name only when length and digest are right.  Signals that end a program are
 * blocked meanwhile and looked for between pieces, so that the temporary file
 * goes before the program does.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rand.h"
#include "cli/cli.h"
#include "cli/cli_client.h"
#include "cli/cli_options.h"
#include "cli/cli_value.h"

struct args {
    struct cli_options o;
    const char *out; /* NULL: FILE here; "-": stdout */
    bool force;
    bool suspect;
};

enum { KEY_FORCE = 0x300, KEY_SUSPECT };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->o;
        break;
    case 'o':
        a->out = arg;
        break;
    case KEY_FORCE:
        a->force = true;
        break;
    case KEY_SUSPECT:
        a->suspect = true;
        break;
    case ARGP_KEY_SUCCESS:
        if (a->out != NULL && a->out[0] == '\0')
            argp_error(state, "--output needs a file");
        if (a->out == NULL || strcmp(a->out, "-") != 0)
            break;
        if (a->o.json)
            argp_error(state, "--json and the backup cannot both go to stdout");
        if (isatty(STDOUT_FILENO))
            argp_error(state, "a database on the terminal would be no use; "
                              "give --output FILE");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- where it goes ---- */

struct target {
    char *path; /* for people; "-" is stdout */
    int dir;
    char *name;
    char *temporary;
    int fd;
};

static void target_fini(struct target *t)
{
    struct err ignored;

    if (t->temporary != NULL)
        (void)file_unlink(t->dir, t->temporary, &ignored);
    if (t->fd != STDOUT_FILENO)
        file_close(&t->fd);
    file_close(&t->dir);
    free(t->path);
    free(t->name);
    free(t->temporary);
}

/* What stands at the target already may be replaced only if it was said so,
 * and only if it is a file. */
static int check_target(const struct target *t, bool force, struct err *e)
{
    struct stat st;

    if (fstatat(t->dir, t->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : err_sys(e, "cannot examine %s", t->path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_CONFLICT, "%s exists and is not a plain file",
                       t->path);
    if (!force)
        return err_set(e, ERR_CONFLICT,
                       "%s exists already; --force replaces it", t->path);
    return 0;
}

/* Split the path into folder and name; a folder gets the backup's name. */
static int open_folder(struct target *t, const struct args *a, struct err *e)
{
    const char *path = a->out == NULL ? a->o.filename : a->out;
    const char *slash;
    struct stat st;
    char *folder;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        t->path =
            xasprintf("%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
                      a->o.filename);
    else
        t->path = xstrdup(path);
    slash = strrchr(t->path, '/');
    t->name = xstrdup(slash == NULL ? t->path : slash + 1);
    folder = slash == NULL ? xstrdup(".")
             : slash == t->path
                 ? xstrdup("/")
                 : xasprintf("%.*s", (int)(slash - t->path), t->path);
    t->dir = file_open_dir(folder, e);
    free(folder);
    return t->dir < 0 ? -1 : 0;
}

static int target_open(struct target *t, const struct args *a, struct err *e)
{
    char random[17];

    if (a->out != NULL && strcmp(a->out, "-") == 0) {
        t->path = xstrdup("-");
        t->fd = STDOUT_FILENO;
        return 0;
    }
    if (open_folder(t, a, e) != 0 || check_target(t, a->force, e) != 0)
        return -1;
    rand_hex(random, 8);
    t->temporary = xasprintf(".holdfast-%s.part", random);
    t->fd = file_open_at(t->dir, t->temporary, O_WRONLY | O_CREAT | O_EXCL, e);
    if (t->fd < 0) {
        free(t->temporary);
        t->temporary = NULL;
        return err_wrap(e, "%s", t->path);
    }
    return 0;
}

/* Make what was written last, then give it its name. */
static int target_publish(struct target *t, bool force, struct err *e)
{
    if (t->temporary == NULL)
        return 0;
    if (file_sync(t->fd, e) != 0)
        return -1;
    if (!force && file_publish(t->dir, t->temporary, t->dir, t->name, e) != 0)
        return -1;
    if (force) {
        if (check_target(t, force, e) != 0)
            return -1;
        if (renameat(t->dir, t->temporary, t->dir, t->name) != 0)
            return err_sys(e, "cannot replace %s", t->path);
        if (file_sync(t->dir, e) != 0)
            return -1;
    }
    free(t->temporary);
    t->temporary = NULL;
    return 0;
}

/* ---- the bytes ---- */

struct taking {
    struct target target;
    struct sha256 *hash;
    uint64_t n_bytes;
    struct cli_progress *progress;
};

static int take(void *arg, const void *bytes, size_t n, uint64_t total_bytes,
                struct err *e)
{
    struct taking *t = arg;
    const char *p = bytes;

    sha256_update(t->hash, bytes, n);
    t->n_bytes += n;
    while (n > 0) {
        ssize_t r = write(t->target.fd, p, n);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(e, "cannot write %s", t->target.path);
        p += r;
        n -= (size_t)r;
    }
    cli_progress_update(t->progress, t->n_bytes, total_bytes);
    return 0;
}

static const int ending_signals[] = {SIGHUP, SIGINT, SIGTERM};
#define N_SIGNALS (sizeof ending_signals / sizeof ending_signals[0])

static int look_for_signals(void *arg, struct err *e)
{
    sigset_t pending;

    (void)arg;
    if (sigpending(&pending) != 0)
        return 0;
    for (size_t i = 0; i < N_SIGNALS; i++) {
        if (sigismember(&pending, ending_signals[i]))
            return err_set(e, ERR_CANCELLED, "interrupted; nothing was kept");
    }
    return 0;
}

static int check(const struct args *a, const struct taking *t, const char *got,
                 const struct cli_download_facts *said, struct err *e)
{
    if (said->size_bytes != 0 && said->size_bytes != t->n_bytes)
        return err_set(e, ERR_DAMAGED,
                       "%s has %llu bytes, but only %llu arrived; nothing was "
                       "kept",
                       a->o.filename, (unsigned long long)said->size_bytes,
                       (unsigned long long)t->n_bytes);
    if (said->sha256[0] != '\0' && strcmp(said->sha256, got) != 0)
        return err_set(e, ERR_DAMAGED,
                       "what arrived of %s has another SHA-256 than the "
                       "backup should have; nothing was kept (holdfast verify "
                       "tells whether the backup itself is damaged)",
                       a->o.filename);
    return 0;
}

static void print(const struct args *a, const struct taking *t, const char *got,
                  bool compared)
{
    struct buf out = {0};
    char size[CLI_SIZE_SIZE];
    json_t *v;

    if (a->o.json) {
        v = json_pack("{s:s, s:s, s:I, s:s, s:b}", "filename", a->o.filename,
                      "path", t->target.path, "size", (json_int_t)t->n_bytes,
                      "sha256", got, "compared", (int)compared);
        if (v != NULL)
            cli_print_json(v);
        json_decref(v);
        return;
    }
    cli_format_size(t->n_bytes, size);
    cli_put_text(&out, t->target.path);
    buf_printf(&out, ": %llu bytes (%s), %s", (unsigned long long)t->n_bytes,
               size,
               compared ? "SHA-256 compared" : "no SHA-256 to compare with");
    (void)fprintf(strcmp(t->target.path, "-") == 0 ? stderr : stdout, "%s\n",
                  out.data);
    buf_fini(&out);
}

static int run(struct cli_client *c, void *arg, struct err *e)
{
    const struct args *a = arg;
    struct taking t = {.target = {.dir = -1, .fd = -1},
                       .hash = sha256_new(),
                       .progress = c->progress};
    const struct cli_sink sink = {
        .write = take, .tick = look_for_signals, .arg = &t};
    struct cli_download_facts said = {0};
    char got[SHA256_HEX_SIZE];
    int rc;

    rc = target_open(&t.target, a, e);
    if (rc == 0)
        rc = c->ops->download(c, a->o.database, a->o.filename, a->suspect,
                              &sink, &said, e);
    if (rc != 0 && strcmp(e->reason, "suspect") == 0)
        (void)err_set_reason(e, e->code, "suspect",
                             "%s proved damaged and is set aside; --suspect "
                             "downloads it all the same",
                             a->o.filename);
    cli_progress_end(c->progress);
    sha256_final(t.hash, got);
    if (rc == 0)
        rc = check(a, &t, got, &said, e);
    if (rc == 0)
        rc = target_publish(&t.target, a->force, e);
    if (rc == 0 && !a->o.quiet)
        print(a, &t, got, said.sha256[0] != '\0');
    target_fini(&t.target);
    sha256_free(t.hash);
    return rc;
}

int cli_download(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"output", 'o', "OUT", 0,
         "Write to the file OUT, into the folder OUT, or to stdout for -; "
         "default FILE in the current folder",
         0},
        {"force", KEY_FORCE, NULL, 0, "Replace OUT if it exists", 0},
        {"suspect", KEY_SUSPECT, NULL, 0,
         "Also a copy that was set aside as suspect", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .doc = "Download the backup FILE, a SQLite database, and compare its "
               "length and SHA-256.",
        .children = cli_file_child};
    struct args a = {0};
    sigset_t ending, before;
    int status;

    cli_parse(&argp, argc, argv, &a, &a.o);
    (void)sigemptyset(&ending);
    for (size_t i = 0; i < N_SIGNALS; i++)
        (void)sigaddset(&ending, ending_signals[i]);
    (void)sigprocmask(SIG_BLOCK, &ending, &before);
    status = cli_client_run(
        &a.o,
        (struct cli_client_act){.run = run, .arg = &a, .doing = "reading"});
    /* One that came meanwhile ends the program here. */
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}
