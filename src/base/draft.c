/* Files that appear when they are whole: see draft.h. */
#include "base/draft.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rand.h"

int draft_open(struct draft *d, int dir, struct err *e)
{
    char hex[17];

    d->dir = dir;
    d->name[0] = '\0';
    d->fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (d->fd >= 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != EISDIR)
        return err_sys(e, "cannot make a new file");
    rand_hex(hex, 8);
    (void)snprintf(d->name, sizeof d->name, ".holdfast-%s.tmp", hex);
    d->fd = file_open_at(dir, d->name, O_RDWR | O_CREAT | O_EXCL, e);
    if (d->fd < 0)
        d->name[0] = '\0';
    return d->fd < 0 ? -1 : 0;
}

static int give_name(struct draft *d, const char *name)
{
    char self[40];

    if (d->name[0] != '\0')
        return renameat2(d->dir, d->name, d->dir, name, RENAME_NOREPLACE);
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", d->fd);
    return linkat(AT_FDCWD, self, d->dir, name, AT_SYMLINK_FOLLOW);
}

int draft_publish(struct draft *d, const char *name, struct err *e)
{
    if (file_sync(d->fd, e) != 0)
        return -1;
    if (give_name(d, name) != 0) {
        if (errno == EEXIST)
            return err_set(e, ERR_CONFLICT, "%s exists already", name);
        return err_sys(e, "cannot give a new file the name %s", name);
    }
    d->name[0] = '\0';
    if (file_sync(d->dir, e) == 0)
        return 0;
    (void)unlinkat(d->dir, name, 0);
    return -1;
}

void draft_close(struct draft *d)
{
    if (d->name[0] != '\0')
        (void)unlinkat(d->dir, d->name, 0);
    d->name[0] = '\0';
    file_close(&d->fd);
}
