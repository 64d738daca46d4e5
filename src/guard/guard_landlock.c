/*
 * Landlock: a child opens the files named in its call and no others.  The
 * system calls have no wrappers in the C library.  Every right that this
 * kernel's version of landlock knows is denied unless it is granted below, so
 * that a newer kernel restricts more, not less.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "guard/guard_internal.h"

/* Rights and fields of versions that the build machine's headers may lack
 * (kernel documentation, userspace-api/landlock). */
#define FS_TRUNCATE (UINT64_C(1) << 14)
#define FS_ALL_V1 ((UINT64_C(1) << 13) - 1)
#define FS_ALL_V2 ((UINT64_C(1) << 14) - 1)
#define FS_ALL_V3 ((UINT64_C(1) << 15) - 1)
#define FS_ALL_V5 ((UINT64_C(1) << 16) - 1)
#define NET_ALL_V4 UINT64_C(3)
#define SCOPED_ALL_V6 UINT64_C(3)

struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

static long landlock_version(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0,
                   LANDLOCK_CREATE_RULESET_VERSION);
}

bool guard_landlocked(void)
{
    return landlock_version() > 0;
}

static struct ruleset_attr all_rights(long version)
{
    struct ruleset_attr a = {0};

    a.handled_access_fs = version >= 5   ? FS_ALL_V5
                          : version >= 3 ? FS_ALL_V3
                          : version == 2 ? FS_ALL_V2
                                         : FS_ALL_V1;
    if (version >= 4)
        a.handled_access_net = NET_ALL_V4;
    if (version >= 6)
        a.scoped = SCOPED_ALL_V6;
    return a;
}

static uint64_t rights_for(bool is_dir, bool writable)
{
    uint64_t rights = LANDLOCK_ACCESS_FS_READ_FILE;

    if (is_dir)
        rights |= LANDLOCK_ACCESS_FS_READ_DIR;
    if (writable)
        rights |= LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE;
    if (is_dir && writable)
        rights |= LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE;
    return rights;
}

static int add_path(int ruleset, uint64_t handled,
                    const struct guard_job_path *p, struct stat *st,
                    struct err *e)
{
    struct landlock_path_beneath_attr rule = {0};
    int fd = file_open_straight(p->path, O_PATH, 0);
    int rc = 0;

    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP ||
            errno == EISDIR)
            return err_set(e, ERR_NOT_FOUND, "no such file");
        return err_sys(e, "cannot open %s", p->path);
    }
    if (fstat(fd, st) != 0) {
        rc = err_sys(e, "cannot examine %s", p->path);
        goto done;
    }
    if (ruleset < 0)
        goto done;
    rule.parent_fd = fd;
    rule.allowed_access =
        rights_for(S_ISDIR(st->st_mode), p->writable) & handled;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH,
                &rule, 0) != 0)
        rc = err_sys(e, "cannot allow %s", p->path);
done:
    file_close(&fd);
    return rc;
}

int guard_landlock_prepare(const struct guard_job_path *paths, int *ruleset_fd,
                           bool *grow, uint64_t *max_file_bytes, struct err *e)
{
    long version = landlock_version();
    struct ruleset_attr attr = all_rights(version);
    int fd = -1;

    *grow = false;
    *max_file_bytes = 0;
    if (version > 0) {
        fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
        if (fd < 0)
            return err_sys(e, "cannot make a landlock ruleset");
    }
    for (int i = 0; i < GUARD_MAX_PATHS && paths[i].path[0] != '\0'; i++) {
        struct stat st = {0};

        if (add_path(fd, attr.handled_access_fs, &paths[i], &st, e) != 0) {
            file_close(&fd);
            return -1;
        }
        if (!paths[i].writable)
            continue;
        *grow = *grow || S_ISDIR(st.st_mode);
        if ((uint64_t)st.st_size > *max_file_bytes)
            *max_file_bytes = (uint64_t)st.st_size;
    }
    *ruleset_fd = fd;
    return 0;
}

int guard_landlock_enter(int ruleset_fd, struct err *e)
{
    if (ruleset_fd >= 0 &&
        syscall(SYS_landlock_restrict_self, ruleset_fd, 0) != 0)
        return err_sys(e, "cannot enter the landlock ruleset");
    return 0;
}
