/* The folder of backups, reading and removing: see store.h. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/phase.h"
#include "store/store_internal.h"

#define SUSPECTS_KEPT 2

struct store *store_new(int data_dir, int tmp_dir, const char *data_path,
                        const char *name)
{
    struct store *st = xcalloc(1, sizeof *st);

    st->data_dir = data_dir;
    st->tmp_dir = tmp_dir;
    st->data_path = xstrdup(data_path);
    st->name = xstrdup(name);
    st->dir = -1;
    st->suspect = -1;
    (void)pthread_mutex_init(&st->lock, NULL);
    return st;
}

void store_free(struct store *st)
{
    if (st == NULL)
        return;
    file_close(&st->dir);
    file_close(&st->suspect);
    (void)pthread_mutex_destroy(&st->lock);
    free(st->data_path);
    free(st->name);
    free(st);
}

static int open_dir(struct store *st, bool make, struct err *e)
{
    int backups;
    int dir;

    if (make)
        backups = file_make_dir_at(st->data_dir, "backups", e);
    else
        backups = file_open_dir_at(st->data_dir, "backups", e);
    if (backups < 0)
        return -1;
    dir = make ? file_make_dir_at(backups, st->name, e)
               : file_open_dir_at(backups, st->name, e);
    file_close(&backups);
    return dir;
}

/* A folder that was moved away, or removed and made again, is another one:
 * what is put there is not found by the next start. */
static bool still_there(int dir, const char *path, int fd)
{
    struct stat ours;
    struct stat there;

    if (fstatat(dir, path, &there, AT_SYMLINK_NOFOLLOW) != 0)
        return errno != ENOENT;
    return fstat(fd, &ours) != 0 ||
           (ours.st_dev == there.st_dev && ours.st_ino == there.st_ino);
}

int store_dir(struct store *st, bool suspect, bool make, struct err *e)
{
    char path[96];
    int fd = -1;

    (void)snprintf(path, sizeof path, "backups/%.80s", st->name);
    (void)pthread_mutex_lock(&st->lock);
    if (st->dir >= 0 && !still_there(st->data_dir, path, st->dir)) {
        file_close(&st->dir);
        file_close(&st->suspect);
    }
    if (st->suspect >= 0 && !still_there(st->dir, "suspect", st->suspect))
        file_close(&st->suspect);
    if (st->dir < 0)
        st->dir = open_dir(st, make, e);
    fd = st->dir;
    if (fd >= 0 && suspect) {
        if (st->suspect < 0)
            st->suspect = make ? file_make_dir_at(st->dir, "suspect", e)
                               : file_open_dir_at(st->dir, "suspect", e);
        fd = st->suspect;
    }
    (void)pthread_mutex_unlock(&st->lock);
    return fd;
}

void store_sibling(const struct backup_name *name, const char *ending,
                   char out[SIBLING_SIZE])
{
    (void)snprintf(out, SIBLING_SIZE, "%.*s%s", BACKUP_NAME_LEN - 3, name->s,
                   ending);
}

int store_has(struct store *st, const struct backup_name *name, bool *has,
              struct err *e)
{
    static const char *const endings[] = {".db", ".json", ".pending"};
    char file[SIBLING_SIZE];
    struct stat s;

    *has = false;
    for (int suspect = 0; suspect < 2; suspect++) {
        int dir = store_dir(st, suspect != 0, false, e);

        if (dir < 0 && e->code != ERR_NOT_FOUND)
            return -1;
        for (size_t i = 0; dir >= 0 && i < 3; i++) {
            store_sibling(name, endings[i], file);
            *has = fstatat(dir, file, &s, AT_SYMLINK_NOFOLLOW) == 0;
            if (*has)
                return 0;
            if (errno != ENOENT)
                return err_sys(e, "cannot examine %s", file);
        }
    }
    return 0;
}

static int no_such_backup(const struct backup_name *name, struct err *e)
{
    return err_set_reason(e, ERR_NOT_FOUND, "backup", "there is no backup %s",
                          name->s);
}

bool store_owns(int dir, const struct stat *file)
{
    struct stat folder;

    return S_ISREG(file->st_mode) &&
           (file->st_nlink <= 1 ||
            (fstat(dir, &folder) == 0 && folder.st_uid == file->st_uid));
}

int store_open(struct store *st, const struct backup_name *name, bool suspect,
               struct err *e)
{
    int dir = store_dir(st, suspect, false, e);
    struct stat file;
    int fd = -1;

    if (dir >= 0)
        fd = file_open_at(dir, name->s, O_RDONLY, e);
    if (fd >= 0 && (fstat(fd, &file) != 0 || !store_owns(dir, &file))) {
        file_close(&fd);
        e->code = ERR_NOT_FOUND;
    }
    if (fd < 0 && e->code == ERR_NOT_FOUND)
        (void)no_such_backup(name, e);
    return fd;
}

char *store_path(const struct store *st, const struct backup_name *name,
                 bool suspect)
{
    return xasprintf("%s/backups/%s/%s%s", st->data_path, st->name,
                     suspect ? "suspect/" : "", name->s);
}

int store_get_facts(struct store *st, const struct backup_name *name,
                    bool suspect, struct facts *out, struct err *e)
{
    struct buf text = {0};
    char file[SIBLING_SIZE];
    int dir = store_dir(st, suspect, false, e);
    int rc = -1;

    if (dir < 0)
        return -1;
    store_sibling(name, ".json", file);
    if (file_read_small(dir, file, MAX_FACTS_BYTES, &text, e) != 0) {
        if (e->code == ERR_TOO_LARGE)
            (void)err_set(e, ERR_DAMAGED, "its facts are far too long");
        goto done;
    }
    rc = facts_parse(text.data, text.len, out, e);
    if (rc == 0 && strcmp(out->name.s, name->s) != 0) {
        rc = err_set(e, ERR_DAMAGED, "its facts are those of backup %s",
                     out->name.s);
        facts_fini(out);
    }
done:
    buf_fini(&text);
    return rc;
}

int store_put_facts(struct store *st, const struct facts *f, struct err *e)
{
    struct buf text = {0};
    char file[SIBLING_SIZE];
    int dir = store_dir(st, f->state == BACKUP_SUSPECT, true, e);
    int rc = -1;

    store_sibling(&f->name, ".json", file);
    facts_put(&text, f);
    buf_puts(&text, "\n");
    if (dir >= 0)
        rc = file_write_durable(dir, file, text.data, text.len, e);
    buf_fini(&text);
    return rc;
}

int store_delete(struct store *st, const struct backup_name *name, bool suspect,
                 struct err *e)
{
    char file[SIBLING_SIZE];
    int dir = store_dir(st, suspect, false, e);

    if (dir < 0 && e->code == ERR_NOT_FOUND)
        return no_such_backup(name, e);
    if (dir < 0 || phase_enter("delete.unlink", e) != 0)
        return -1;
    /* The backup first: facts without one are nothing, and start-up removes
     * them, so that a crash in between has deleted the backup whole. */
    if (unlinkat(dir, name->s, 0) != 0) {
        if (errno == ENOENT)
            return no_such_backup(name, e);
        return err_sys(e, "cannot remove backup %s", name->s);
    }
    if (phase_enter("delete.facts", e) != 0)
        return -1;
    store_sibling(name, ".json", file);
    if (file_unlink(dir, file, e) != 0)
        return -1;
    store_sibling(name, ".pending", file);
    if (file_unlink(dir, file, e) != 0 || phase_enter("delete.sync", e) != 0)
        return -1;
    return file_sync(dir, e);
}

/* Move a copy to the folder of suspects.  A power cut in the middle of such a
 * move may have left the file with both names. */
static int move_aside(int from, int to, const char *name, struct err *e)
{
    struct stat here;
    struct stat there;

    if (file_publish(from, name, to, name, e) == 0)
        return 0;
    if (e->code != ERR_CONFLICT ||
        fstatat(from, name, &here, AT_SYMLINK_NOFOLLOW) != 0 ||
        fstatat(to, name, &there, AT_SYMLINK_NOFOLLOW) != 0 ||
        here.st_dev != there.st_dev || here.st_ino != there.st_ino)
        return -1;
    /* The name there first, as file_publish has it. */
    if (file_sync(to, e) != 0 || file_unlink(from, name, e) != 0)
        return -1;
    return file_sync(from, e);
}

int store_set_aside(struct store *st, const struct facts *f, struct err *e)
{
    char json[SIBLING_SIZE];
    struct err ignored;
    int from = store_dir(st, false, false, e);
    int to = from < 0 ? -1 : store_dir(st, true, true, e);

    if (to < 0)
        return -1;
    store_sibling(&f->name, ".json", json);
    /* Facts first, then the copy, then the old facts: at no moment is it
     * listed as good again once it has moved. */
    if (store_put_facts(st, f, e) != 0 ||
        move_aside(from, to, f->name.s, e) != 0) {
        /* Where it has not moved, nothing of ours stays there. */
        if (faccessat(to, f->name.s, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
            errno == ENOENT)
            (void)unlinkat(to, json, 0);
        return err_wrap(e, "setting backup %s aside", f->name.s);
    }
    /* It is done, durably.  What is left in the old place belongs to nothing
     * any more: if it cannot be removed now the next start does it, and so it
     * is with a suspect too many. */
    (void)unlinkat(from, json, 0);
    store_sibling(&f->name, ".pending", json);
    (void)unlinkat(from, json, 0);
    (void)store_trim_suspects(st, &ignored);
    return 0;
}

/* Whether it is set aside for the sake of its facts: its bytes may be good. */
static bool may_be_good(struct store *st, const struct backup_name *name)
{
    struct facts f = {0};
    struct err why = {0};
    bool only_facts;

    if (store_get_facts(st, name, true, &f, &why) != 0)
        return why.code == ERR_DAMAGED;
    only_facts = f.sha256[0] == '\0';
    facts_fini(&f);
    return only_facts;
}

int store_trim_suspects(struct store *st, struct err *e)
{
    struct store_entry *all = NULL;
    size_t n = 0;
    size_t kept = 0;
    int rc = store_scan(st, true, &all, &n, e);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (all[i].suspect && !may_be_good(st, &all[i].name) &&
            ++kept > SUSPECTS_KEPT)
            rc = store_delete(st, &all[i].name, true, e);
    }
    free(all);
    return rc;
}
