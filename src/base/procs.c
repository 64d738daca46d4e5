/* Other processes: see procs.h. */
#include "base/procs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool one_has_open(long pid, dev_t dev, ino_t ino)
{
    char path[64];
    const struct dirent *ent;
    bool found = false;
    DIR *d;

    (void)snprintf(path, sizeof path, "/proc/%ld/fd", pid);
    d = opendir(path);
    if (d == NULL) /* gone, or another user's; or who knows */
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    while (!found && (ent = readdir(d)) != NULL) {
        struct stat st;

        found = fstatat(dirfd(d), ent->d_name, &st, 0) == 0 &&
                st.st_dev == dev && st.st_ino == ino;
    }
    (void)closedir(d);
    return found;
}

bool procs_have_open(dev_t dev, ino_t ino)
{
    DIR *d = opendir("/proc");
    const struct dirent *ent;
    bool found = false;

    if (d == NULL)
        return errno != ENOENT;
    while (!found && (ent = readdir(d)) != NULL) {
        char *end;
        long pid = strtol(ent->d_name, &end, 10);

        if (pid > 0 && *end == '\0' && pid != (long)getpid())
            found = one_has_open(pid, dev, ino);
    }
    (void)closedir(d);
    return found;
}
