/*
 * What lies beside a backup: the facts, and the file of a safety copy that is
 * pending.  The first byte says which (a tab: pending), the rest is the file.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "store/store.h"

#define NAME "app_20260413_142530"

/* What was read is what would be written. */
static void check(const struct facts *f)
{
    json_t *v = facts_to_json(f);
    struct facts again;
    struct buf text = {0};
    struct err e;

    require(v != NULL);
    json_put(&text, v);
    require(facts_parse(text.data, text.len, &again, &e) == 0);
    require(again.size_bytes == f->size_bytes);
    require(strcmp(again.name.s, f->name.s) == 0);
    facts_fini(&again);
    json_decref(v);
    buf_fini(&text);
}

static void try_facts(const char *text, size_t len)
{
    struct facts f;
    struct err e = {0};

    if (facts_parse(text, len, &f, &e) == 0)
        check(&f);
    else
        require_error(&e);
    facts_fini(&f);
}

/* A store with one safety copy, whose file is written anew each time. */
static struct store *store(int *folder)
{
    static struct store *st;
    static int dir = -1;
    struct err e;
    int data, tmp, backups, file;

    if (st == NULL) {
        data = file_open_dir(scratch_dir(), &e);
        tmp = file_make_dir_at(data, "tmp", &e);
        backups = file_make_dir_at(data, "backups", &e);
        dir = file_make_dir_at(backups, "default", &e);
        require(data >= 0 && tmp >= 0 && backups >= 0 && dir >= 0);
        file = file_open_at(dir, NAME ".db", O_WRONLY | O_CREAT, &e);
        require(file >= 0);
        (void)close(file);
        (void)close(backups);
        st = store_new(data, tmp, scratch_dir(), "default");
    }
    *folder = dir;
    return st;
}

static void try_pending(const char *text, size_t len)
{
    static const struct backup_name name = {NAME ".db"};
    int dir;
    struct store *st = store(&dir);
    struct facts f = {0};
    struct err e = {0};
    char(*sums)[33] = NULL;
    size_t n = 0;
    int fd = openat(dir, NAME ".pending", O_WRONLY | O_CREAT | O_TRUNC, 0600);

    require(fd >= 0 && write(fd, text, len) == (ssize_t)len);
    (void)close(fd);
    if (store_settle_read(st, &name, &f, &sums, &n, &e) == 0) {
        check(&f);
        require(strcmp(f.name.s, name.s) == 0);
        for (size_t i = 0; i < n; i++)
            require(strlen(sums[i]) == 0 || strlen(sums[i]) == 32);
    } else {
        require_error(&e);
    }
    free(sums);
    facts_fini(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    bool pending = size > 0 && data[0] == '\t';
    size_t len;
    char *text;

    if (pending)
        (void)input_number(&in);
    text = input_rest(&in, &len);
    if (pending)
        try_pending(text, len);
    else
        try_facts(text, len);
    free(text);
    return 0;
}
