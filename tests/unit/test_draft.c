/* Files that appear when they are whole, through src/base/draft.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/draft.h"
#include "base/file.h"
#include "dbutil.h"

static int dir = -1;

static int setup(void **state)
{
    struct err e;

    (void)state;
    dir = file_open_dir(scratch_path("."), &e);
    return dir >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
    file_close(&dir);
    return scratch_clear(state);
}

static int count_files(void)
{
    DIR *d = opendir(scratch_path("."));
    int n = -2;

    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

static void put(struct draft *d, const char *text, size_t n)
{
    struct err e = {0};

    assert_int_equal(draft_open(d, dir, &e), 0);
    assert_int_equal(file_pwrite_all(d->fd, text, n, 0, &e), 0);
}

static void whole_or_not_there(void **state)
{
    struct draft d = {.fd = -1};
    struct err e = {0};
    struct stat st;

    (void)state;
    put(&d, "dropped", 7);
    assert_int_equal(count_files(), 0);
    draft_close(&d);
    draft_close(&d);
    assert_int_equal(count_files(), 0);
    put(&d, "kept", 4);
    assert_int_equal(draft_publish(&d, "name", &e), 0);
    draft_close(&d);
    assert_int_equal(count_files(), 1);
    assert_int_equal(stat(scratch_path("name"), &st), 0);
    assert_int_equal(st.st_size, 4);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void nothing_is_replaced(void **state)
{
    struct draft d = {.fd = -1};
    struct err e = {0};
    struct stat st;

    (void)state;
    put(&d, "one", 3);
    assert_int_equal(draft_publish(&d, "name", &e), 0);
    draft_close(&d);
    put(&d, "two is longer", 13);
    assert_int_equal(draft_publish(&d, "name", &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    draft_close(&d);
    assert_int_equal(count_files(), 1);
    assert_int_equal(stat(scratch_path("name"), &st), 0);
    assert_int_equal(st.st_size, 3);
}

static void no_folder(void **state)
{
    struct draft d = {.fd = -1};
    struct err e = {0};

    (void)state;
    assert_int_equal(draft_open(&d, -1, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    draft_close(&d);
    assert_int_equal(mkdir(scratch_path("gone"), 0700), 0);
    file_close(&dir);
    dir = file_open_dir(scratch_path("gone"), &e);
    put(&d, "x", 1);
    assert_int_equal(rmdir(scratch_path("gone")), 0);
    assert_int_equal(draft_publish(&d, "name", &e), -1);
    draft_close(&d);
}

#define T(name, f)                     \
    {                                  \
        name, f, setup, teardown, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T("draft: there when it is whole, and else nothing is left",
          whole_or_not_there),
        T("draft: nothing is replaced", nothing_is_replaced),
        T("draft: a folder that is not there", no_folder),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
