/* What a crash leaves in a folder of backups: see store_internal.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "store/store_internal.h"

bool store_is_leftover(const char *name)
{
    size_t n = strlen(name);

    if (strncmp(name, ".stage-", 7) == 0)
        return true;
    return strncmp(name, ".app_", 5) == 0 && n > 4 &&
           strcmp(name + n - 4, ".tmp") == 0;
}

/* Whether a file holds facts of ours: others' files are left alone. */
static bool holds_facts(int dir, const char *name)
{
    struct buf text = {0};
    struct facts f = {0};
    struct err ignored;
    const char *nl;
    bool ours = false;

    if (file_read_small(dir, name, MAX_PENDING_BYTES, &text, &ignored) == 0 &&
        text.len > 0 && (nl = memchr(text.data, '\n', text.len)) != NULL)
        ours =
            facts_parse(text.data, (size_t)(nl - text.data), &f, &ignored) == 0;
    facts_fini(&f);
    buf_fini(&text);
    return ours;
}

bool store_remove_orphans(int dir, const struct seconds *beside,
                          const char *ending, const struct seconds *backups)
{
    bool removed = false;

    for (size_t i = 0; i < beside->n; i++) {
        char file[SIBLING_SIZE];
        struct backup_name db;
        struct stat s;

        if (seconds_has(backups, beside->t[i]))
            continue;
        backup_name_format(beside->t[i], &db);
        store_sibling(&db, ending, file);
        if (fstatat(dir, db.s, &s, AT_SYMLINK_NOFOLLOW) != 0 &&
            errno == ENOENT && holds_facts(dir, file))
            removed = unlinkat(dir, file, 0) == 0 || removed;
    }
    return removed;
}
