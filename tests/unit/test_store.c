/* The folder of backups, through src/store/store.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "dbutil.h"
#include "sqlite/image.h"
#include "sqlite/sq.h"
#include "store/store.h"

#define NOON 1776081600 /* app_20260413_120000.db */

static int data_dir = -1, tmp_dir = -1;
static struct store *store;
static struct buf image; /* an empty database */
static int n_fds;

static int setup(void **state)
{
    struct err e = {0};

    (void)state;
    n_fds = fds_open();
    if (mkdir(scratch_path("data"), 0700) != 0 ||
        mkdir(scratch_path("data/tmp"), 0700) != 0)
        return -1;
    data_dir = file_open_dir(scratch_path("data"), &e);
    tmp_dir = file_open_dir(scratch_path("data/tmp"), &e);
    store = store_new(data_dir, tmp_dir, scratch_path("data"), "shop");
    return data_dir >= 0 && tmp_dir >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
    store_free(store);
    file_close(&data_dir);
    file_close(&tmp_dir);
    /* A group fixture cannot fail with a message. */
    return fds_open() == n_fds ? scratch_clear(state) : -1;
}

/* --------------------------------------------------------------- helpers */

static const char *in_folder(const char *name)
{
    return scratch_path("data/backups/shop/%s", name);
}

static bool has(const struct backup_name *name)
{
    bool is = false;

    return store_has(store, name, &is, &(struct err){0}) == 0 && is;
}

static void put_file(const char *path, const void *bytes, size_t n)
{
    bytes_write(path, (struct bytes){(uint8_t *)(uintptr_t)bytes, n});
}

static void put_text(const char *path, const char *text)
{
    put_file(path, text, strlen(text));
}

static void expect_text(const char *path, const char *text)
{
    struct bytes b = bytes_read(path);

    assert_int_equal(b.n, strlen(text));
    assert_memory_equal(b.p, text, b.n);
    bytes_fini(&b);
}

static int count_files(const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *ent;
    int n = 0;

    if (d == NULL)
        return 0;
    while ((ent = readdir(d)) != NULL)
        n += strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0;
    (void)closedir(d);
    return n;
}

static struct backup_name name_of(int64_t t)
{
    struct backup_name name;

    backup_name_format(t, &name);
    return name;
}

static struct facts facts_of(int64_t t)
{
    struct facts f = {.name = name_of(t),
                      .created_at = t,
                      .size_bytes = image.len,
                      .stored_bytes = image.len,
                      .page_size = 4096,
                      .n_pages = image.len / 4096};

    memset(f.sha256, 'a', 64);
    return f;
}

static struct stage *staged(const char *text)
{
    struct stage *g = NULL;
    struct err e = {0};

    if (store_stage(store, &g, &e) != 0)
        fail_msg("%s", e.message);
    assert_int_equal(file_pwrite_all(stage_fd(g), text, strlen(text), 0, &e),
                     0);
    return g;
}

static int publish(const struct facts *f, const char *text, struct err *e)
{
    struct stage *g = staged(text);
    int rc = store_publish(store, g, f, e);

    stage_free(g);
    return rc;
}

static void must_publish(int64_t t)
{
    struct facts f = facts_of(t);
    struct err e = {0};

    if (publish(&f, "bytes", &e) != 0)
        fail_msg("%s", e.message);
}

static void keep(int64_t t, const char *text)
{
    struct facts f = facts_of(t);
    struct stage *g = staged(text);
    struct err e = {0};
    char sums[3][33] = {"0123456789abcdef0123456789abcdef", "",
                        "fedcba9876543210fedcba9876543210"};

    f.origin = ORIGIN_SAFETY;
    f.n_pages = 513; /* a checksum for each MiB */
    f.size_bytes = f.n_pages * 4096;
    f.page_size = 4096;
    if (store_keep(store, g, &f, (const char(*)[33])sums, 3, &e) != 0)
        fail_msg("%s", e.message);
    stage_free(g);
}

/* What a listing shows, as "120000 suspect pending adopted part;…". */
static const char *listing(bool suspects)
{
    static char text[512];
    struct store_entry *all = NULL;
    struct err e = {0};
    size_t n = 0;
    size_t len = 0;

    assert_int_equal(store_scan(store, suspects, &all, &n, &e), 0);
    text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(
            text + len, sizeof text - len, "%.6s%s%s%s%s;", all[i].name.s + 13,
            all[i].suspect ? " suspect" : "", all[i].pending ? " pending" : "",
            all[i].has_facts ? "" : " no facts", all[i].whole ? "" : " part");
    free(all);
    return text;
}

static void make_folder(void)
{
    must_publish(NOON);
    assert_int_equal(store_delete(store,
                                  &(struct backup_name){"app_20260413_"
                                                        "120000.db"},
                                  false, &(struct err){0}),
                     0);
}

/* --------------------------------------------------------------- staging */

static void staging(void **state)
{
    struct stage *g = staged("work");
    uint64_t size;
    struct err e = {0};
    struct stat st;

    (void)state;
    assert_int_equal(count_files(scratch_path("data/tmp")), 1);
    expect_text(stage_path(g), "work");
    assert_int_equal(stat(stage_path(g), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_size(stage_hash_fd(g), &size, &e), 0);
    assert_int_equal(size, 0);
    assert_int_equal(file_pwrite_all(stage_hash_fd(g), "x", 1, 0, &e), 0);
    stage_free(g);
    stage_free(NULL);
    assert_int_equal(count_files(scratch_path("data/tmp")), 0);
}

/* ------------------------------------------------------------ publishing */

static void publishing(void **state)
{
    struct facts f = facts_of(NOON);
    struct facts got;
    struct backup_name name = name_of(NOON);
    struct err e = {0};
    char text[6] = "";
    char *path;
    int fd;

    (void)state;
    assert_false(has(&name));
    f.note = xstrdup("n");
    f.pin = true;
    assert_int_equal(publish(&f, "bytes", &e), 0);
    free(f.note);
    assert_true(has(&name));
    assert_string_equal(listing(false), "120000;");
    assert_int_equal(count_files(scratch_path("data/tmp")), 0);
    assert_int_equal(count_files(in_folder("")), 2);
    fd = store_open(store, &name, false, &e);
    assert_true(fd >= 0);
    assert_int_equal(file_pread_all(fd, text, 5, 0, &e), 0);
    assert_string_equal(text, "bytes");
    file_close(&fd);
    assert_int_equal(store_get_facts(store, &name, false, &got, &e), 0);
    assert_string_equal(got.note, "n");
    assert_true(got.pin);
    facts_fini(&got);
    path = store_path(store, &name, false);
    assert_string_equal(path, in_folder("app_20260413_120000.db"));
    free(path);
    path = store_path(store, &name, true);
    assert_string_equal(path, in_folder("suspect/app_20260413_120000.db"));
    free(path);
    /* Facts are replaced as a whole. */
    f = facts_of(NOON);
    assert_int_equal(store_put_facts(store, &f, &e), 0);
    assert_int_equal(store_get_facts(store, &name, false, &got, &e), 0);
    assert_null(got.note);
    facts_fini(&got);
}

static void newest_first(void **state)
{
    (void)state;
    must_publish(NOON + 1);
    must_publish(NOON + 3);
    must_publish(NOON);
    must_publish(NOON + 2);
    assert_string_equal(listing(false), "120003;120002;120001;120000;");
}

/* A name that is taken stays what it is, facts and all. */
static void taken(void **state)
{
    struct facts f = facts_of(NOON);
    struct bytes before;
    struct bytes after;
    struct err e = {0};

    (void)state;
    must_publish(NOON);
    before = bytes_read(in_folder("app_20260413_120000.json"));
    memset(f.sha256, 'b', 64);
    assert_int_equal(publish(&f, "other bytes", &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    expect_text(in_folder("app_20260413_120000.db"), "bytes");
    after = bytes_read(in_folder("app_20260413_120000.json"));
    assert_true(bytes_equal(before, after, NULL));
    bytes_fini(&before);
    bytes_fini(&after);
    assert_int_equal(count_files(in_folder("")), 2);
    assert_int_equal(count_files(scratch_path("data/tmp")), 0);
}

/* The same for a file that somebody put there: it gets no facts of ours. */
static void taken_by_another(void **state)
{
    struct facts f = facts_of(NOON);
    struct err e = {0};

    (void)state;
    make_folder();
    put_file(in_folder("app_20260413_120000.db"), image.data, image.len);
    assert_string_equal(listing(false), "120000 no facts;");
    assert_int_equal(publish(&f, "other bytes", &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_string_equal(listing(false), "120000 no facts;");
    assert_int_equal(count_files(in_folder("")), 1);
    assert_int_equal(count_files(scratch_path("data/tmp")), 0);
}

static void keep_taken(void **state)
{
    struct facts f = facts_of(NOON);
    struct stage *g;
    struct err e = {0};

    (void)state;
    must_publish(NOON);
    g = staged("safety");
    assert_int_equal(store_keep(store, g, &f, NULL, 0, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    stage_free(g);
    assert_string_equal(listing(false), "120000;");
    assert_int_equal(count_files(in_folder("")), 2);
    assert_int_equal(count_files(scratch_path("data/tmp")), 0);
}

/* ---------------------------------------------------------- safety copies */

static void pending(void **state)
{
    struct backup_name name = name_of(NOON);
    struct facts f;
    char(*sums)[33] = NULL;
    size_t n = 0;
    struct err e = {0};

    (void)state;
    keep(NOON, "safety");
    assert_string_equal(listing(false), "120000 pending no facts;");
    assert_true(has(&name));
    assert_int_equal(store_get_facts(store, &name, false, &f, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(store_settle_read(store, &name, &f, &sums, &n, &e), 0);
    assert_int_equal(f.origin, ORIGIN_SAFETY);
    assert_int_equal(n, 3);
    assert_string_equal(sums[0], "0123456789abcdef0123456789abcdef");
    assert_string_equal(sums[1], "");
    assert_string_equal(sums[2], "fedcba9876543210fedcba9876543210");
    free(sums);
    assert_int_equal(store_settle(store, &f, &e), 0);
    facts_fini(&f);
    assert_string_equal(listing(false), "120000;");
    assert_int_equal(count_files(in_folder("")), 2);
    expect_text(in_folder("app_20260413_120000.db"), "safety");
}

static void pending_suspect(void **state)
{
    struct facts f = facts_of(NOON);
    struct err e = {0};

    (void)state;
    keep(NOON, "safety");
    f.state = BACKUP_SUSPECT;
    assert_int_equal(store_settle(store, &f, &e), 0);
    assert_string_equal(listing(true), "120000 suspect;");
    assert_int_equal(count_files(in_folder("")), 1);
    assert_int_equal(count_files(in_folder("suspect")), 2);
}

static void expect_damaged_pending(const char *text)
{
    struct backup_name name = name_of(NOON);
    struct facts f = {0};
    char(*sums)[33] = NULL;
    size_t n = 0;
    struct err e = {0};

    put_text(in_folder("app_20260413_120000.pending"), text);
    if (store_settle_read(store, &name, &f, &sums, &n, &e) == 0) {
        facts_fini(&f);
        free(sums);
        fail_msg("taken: %s", text);
    }
    assert_int_equal(e.code, ERR_DAMAGED);
    assert_null(sums);
}

static void pending_damaged(void **state)
{
    struct backup_name name = name_of(NOON + 1);
    struct bytes right;
    char *text;
    struct facts f = {0};
    char(*sums)[33] = NULL;
    size_t n = 0;
    struct err e = {0};

    (void)state;
    keep(NOON, "safety");
    right = bytes_read(in_folder("app_20260413_120000.pending"));
    right.p[right.n] = '\0';
    text = (char *)right.p;
    expect_damaged_pending("");
    expect_damaged_pending("\n");
    expect_damaged_pending("{}\n");
    expect_damaged_pending("-\n-\n");
    text[right.n - 2] = 'G'; /* no digit */
    expect_damaged_pending(text);
    text[right.n - 2] = '\n'; /* a checksum that is too short */
    text[right.n - 1] = '\0';
    expect_damaged_pending(text);
    text[right.n - 2] = '\0'; /* cut off */
    expect_damaged_pending(text);
    bytes_fini(&right);
    keep(NOON + 2, "safety"); /* more checksums than that length has */
    right = bytes_read(in_folder("app_20260413_120002.pending"));
    text = xasprintf("%.*s-\n", (int)right.n, (const char *)right.p);
    memcpy(strstr(text, "120002.db"), "120000", 6);
    memcpy(strstr(text, "12:00:02"), "12:00:00", 8);
    expect_damaged_pending(text);
    free(text);
    bytes_fini(&right);
    assert_int_equal(store_settle_read(store, &name, &f, &sums, &n, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
}

/* Settling it would overwrite the facts of that other one. */
static void pending_of_another(void **state)
{
    struct bytes b;

    (void)state;
    keep(NOON + 1, "safety");
    b = bytes_read(in_folder("app_20260413_120001.pending"));
    b.p[b.n] = '\0';
    expect_damaged_pending((const char *)b.p);
    bytes_fini(&b);
}

/* -------------------------------------------------------------- deleting */

static void deleting(void **state)
{
    struct backup_name name = name_of(NOON);
    struct err e = {0};
    char text[6] = "";
    int fd;

    (void)state;
    must_publish(NOON);
    fd = store_open(store, &name, false, &e);
    assert_true(fd >= 0);
    assert_int_equal(store_delete(store, &name, true, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(store_delete(store, &name, false, &e), 0);
    assert_int_equal(count_files(in_folder("")), 0);
    assert_false(has(&name));
    assert_int_equal(file_pread_all(fd, text, 5, 0, &e), 0);
    assert_string_equal(text, "bytes");
    file_close(&fd);
    assert_int_equal(store_delete(store, &name, false, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.reason, "backup");
    assert_non_null(strstr(e.message, "app_20260413_120000.db"));
    keep(NOON, "safety");
    assert_int_equal(store_delete(store, &name, false, &e), 0);
    assert_int_equal(count_files(in_folder("")), 0);
}

/* -------------------------------------------------------------- suspects */

static void set_aside(void **state)
{
    struct backup_name name = name_of(NOON);
    struct facts f = facts_of(NOON);
    struct facts got;
    struct store_entry en;
    struct err e = {0};
    int fd;

    (void)state;
    must_publish(NOON);
    must_publish(NOON + 1);
    f.state = BACKUP_SUSPECT;
    f.proof.result = PROOF_DAMAGED;
    f.proof.at = NOON;
    assert_int_equal(store_set_aside(store, &f, &e), 0);
    assert_string_equal(listing(false), "120001;");
    assert_string_equal(listing(true), "120001;120000 suspect;");
    assert_true(has(&name));
    assert_int_equal(store_find(store, &name, &en, &e), 0);
    assert_true(en.suspect && en.has_facts && en.whole);
    assert_int_equal(store_open(store, &name, false, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    fd = store_open(store, &name, true, &e);
    assert_true(fd >= 0);
    file_close(&fd);
    assert_int_equal(store_get_facts(store, &name, true, &got, &e), 0);
    assert_int_equal(got.state, BACKUP_SUSPECT);
    facts_fini(&got);
    assert_int_equal(store_delete(store, &name, true, &e), 0);
    assert_int_equal(count_files(in_folder("suspect")), 0);
}

static void newest_two_suspects(void **state)
{
    struct err e = {0};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct facts f = facts_of(NOON + i);

        f.state = BACKUP_SUSPECT;
        assert_int_equal(publish(&f, "raw", &e), 0);
    }
    assert_string_equal(listing(true), "120003 suspect;120002 suspect;");
    assert_int_equal(count_files(in_folder("suspect")), 4);
    must_publish(NOON + 9);
    {
        struct facts f = facts_of(NOON + 9);

        f.state = BACKUP_SUSPECT;
        assert_int_equal(store_set_aside(store, &f, &e), 0);
    }
    assert_string_equal(listing(true), "120009 suspect;120003 suspect;");
    assert_string_equal(listing(false), "");
}

/* --------------------------------------------------------------- adopted */

static void adopted(void **state)
{
    struct backup_name name = name_of(NOON);
    struct store_entry en;
    struct err e = {0};
    uint8_t *b = xmalloc(image.len);

    (void)state;
    make_folder();
    put_file(in_folder("app_20260413_120000.db"), image.data, image.len);
    put_file(in_folder("app_20260413_120001.db"), image.data, image.len - 1);
    put_file(in_folder("app_20260413_120002.db"), image.data, 99);
    put_text(in_folder("app_20260413_120003.db"), "");
    memcpy(b, image.data, image.len);
    b[31]++; /* one page more than there is */
    put_file(in_folder("app_20260413_120004.db"), b, image.len);
    b[27]++; /* a page count that is stale says nothing */
    put_file(in_folder("app_20260413_120005.db"), b, image.len);
    b[0] = 'X';
    put_file(in_folder("app_20260413_120006.db"), b, image.len);
    free(b);
    assert_string_equal(listing(false),
                        "120006 no facts part;120005 no facts;"
                        "120004 no facts part;120003 no facts part;"
                        "120002 no facts part;120001 no facts part;"
                        "120000 no facts;");
    assert_int_equal(store_find(store, &name, &en, &e), 0);
    assert_true(en.whole && !en.has_facts && !en.suspect && !en.pending);
    assert_int_equal(en.size_bytes, image.len);
    assert_int_equal(en.created_at, NOON);
}

/* Nothing but regular files of the pattern with a real date. */
static void not_ours(void **state)
{
    static const char *const names[] = {
        "app.db",
        "app_20260413_120000.db.bak",
        "app_20260413_120000",
        "app_20260230_120000.db",
        "App_20260413_120000.db",
        "app_20260413_120000.db-wal",
        ".app_20260413_120000.db",
    };
    struct backup_name name = name_of(NOON);
    struct backup_name link = name_of(NOON + 1);
    struct err e = {0};

    (void)state;
    make_folder();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        put_file(in_folder(names[i]), image.data, image.len);
    assert_int_equal(mkdir(in_folder("app_20260413_120000.db"), 0700), 0);
    assert_int_equal(symlink("app.db", in_folder("app_20260413_120001.db")), 0);
    assert_int_equal(mkfifo(in_folder("app_20260413_120002.db"), 0600), 0);
    assert_string_equal(listing(true), "");
    assert_int_equal(store_open(store, &name, false, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(store_open(store, &link, false, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    link = name_of(NOON + 2);
    assert_int_equal(store_open(store, &link, false, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    /* But the names are taken. */
    assert_true(has(&name));
    assert_true(has(&link));
}

static void facts_of_another(void **state)
{
    struct backup_name name = name_of(NOON);
    struct facts f = {0};
    struct err e = {0};

    (void)state;
    must_publish(NOON);
    must_publish(NOON + 1);
    assert_int_equal(rename(in_folder("app_20260413_120001.json"),
                            in_folder("app_20260413_120000.json")),
                     0);
    assert_int_equal(store_get_facts(store, &name, false, &f, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    put_text(in_folder("app_20260413_120000.json"), "{");
    assert_int_equal(store_get_facts(store, &name, false, &f, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
}

/* -------------------------------------------------------------- start-up */

static void cleaning(void **state)
{
    static const char *const others[] = {"notes.txt",
                                         "app.json",
                                         "app_20260413.json",
                                         "app_20260230_120000.json",
                                         ".hidden",
                                         "app_20260413_120009.json",
                                         "app_20260413_120009.txt"};
    struct store_entry *left = NULL;
    struct err e = {0};
    size_t n = 7;

    (void)state;
    must_publish(NOON);
    must_publish(NOON + 1);
    keep(NOON + 2, "safety");
    keep(NOON + 3, "safety");
    assert_int_equal(unlink(in_folder("app_20260413_120001.db")), 0);
    assert_int_equal(unlink(in_folder("app_20260413_120003.db")), 0);
    put_text(in_folder(".stage-0123456789abcdef"), "half");
    put_text(in_folder(".app_20260413_120000.json.0123456789abcdef.tmp"), "h");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        put_text(in_folder(others[i]), "somebody's own");
    assert_int_equal(store_clean(store, &left, &n, &e), 0);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_text(in_folder(others[i]), "somebody's own");
    assert_string_equal(listing(true), "120002 pending no facts;120000;");
    assert_int_equal(count_files(in_folder("")),
                     4 + sizeof others / sizeof *others);
    assert_int_equal(n, 2);
    assert_string_equal(left[0].name.s, "app_20260413_120002.db");
    assert_true(left[0].pending);
    assert_string_equal(left[1].name.s, "app_20260413_120000.db");
    assert_false(left[1].pending);
    free(left);
}

static void cleaning_nothing(void **state)
{
    struct store_entry *left = NULL;
    struct err e = {0};
    size_t n = 7;

    (void)state;
    assert_int_equal(store_clean(store, &left, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_null(left);
    assert_false(file_exists(scratch_path("data/backups")));
}

/* ------------------------------------------------------------ the folder */

static void no_folder(void **state)
{
    struct backup_name name = name_of(NOON);
    struct store_stamp stamp;
    struct store_entry en;
    bool settled;
    struct err e = {0};

    (void)state;
    assert_string_equal(listing(true), "");
    assert_false(store_stamp(store, &stamp, &settled));
    assert_int_equal(store_find(store, &name, &en, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(store_open(store, &name, false, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.reason, "backup");
    assert_int_equal(store_delete(store, &name, false, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_false(has(&name));
    assert_int_equal(count_files(scratch_path("data/backups")), 0);
}

static void stamps(void **state)
{
    struct backup_name name = name_of(NOON);
    struct store_stamp a;
    struct store_stamp b;
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    bool settled;
    struct err e = {0};

    (void)state;
    must_publish(NOON);
    assert_int_equal(utimensat(AT_FDCWD, in_folder(""), old, 0), 0);
    assert_true(store_stamp(store, &a, &settled));
    assert_true(settled);
    assert_true(store_stamp(store, &b, &settled));
    assert_int_equal(a.mtime_ns, b.mtime_ns);
    assert_int_equal(a.ino, b.ino);
    must_publish(NOON + 1);
    assert_true(store_stamp(store, &b, &settled));
    assert_false(settled);
    assert_true(a.mtime_ns != b.mtime_ns);
    assert_int_equal(utimensat(AT_FDCWD, in_folder(""), old, 0), 0);
    assert_int_equal(store_delete(store, &name, false, &e), 0);
    assert_true(store_stamp(store, &b, &settled));
    assert_true(a.mtime_ns != b.mtime_ns);
}

/* A folder that was moved away and made again is looked at anew. */
static void folder_replaced(void **state)
{
    (void)state;
    must_publish(NOON);
    assert_int_equal(unlink(in_folder("app_20260413_120000.db")), 0);
    assert_int_equal(unlink(in_folder("app_20260413_120000.json")), 0);
    assert_int_equal(rmdir(in_folder("")), 0);
    assert_string_equal(listing(true), "");
    must_publish(NOON + 1);
    assert_string_equal(listing(true), "120001;");
    assert_true(file_exists(in_folder("app_20260413_120001.db")));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"store: a staged file is private and goes with its stage", staging,
         setup, teardown, NULL},
        {"store: a published file is a backup with its facts", publishing,
         setup, teardown, NULL},
        {"store: the list is newest first", newest_first, setup, teardown,
         NULL},
        {"store: a taken name is refused and stays what it is", taken, setup,
         teardown, NULL},
        {"store: a name that an adopted backup has is refused",
         taken_by_another, setup, teardown, NULL},
        {"store: a safety copy does not take another's name", keep_taken, setup,
         teardown, NULL},
        {"store: a kept safety copy is pending until it is settled", pending,
         setup, teardown, NULL},
        {"store: a safety copy that proves damaged is set aside",
         pending_suspect, setup, teardown, NULL},
        {"store: what is pending and damaged is told", pending_damaged, setup,
         teardown, NULL},
        {"store: what is pending says which backup it belongs to",
         pending_of_another, setup, teardown, NULL},
        {"store: a deleted backup is gone, open descriptors stay readable",
         deleting, setup, teardown, NULL},
        {"store: a backup set aside is found among the suspects", set_aside,
         setup, teardown, NULL},
        {"store: the newest two suspects are kept", newest_two_suspects, setup,
         teardown, NULL},
        {"store: an adopted file is judged by header and length", adopted,
         setup, teardown, NULL},
        {"store: other files are no backups", not_ours, setup, teardown, NULL},
        {"store: facts of another backup, or damaged ones, are told",
         facts_of_another, setup, teardown, NULL},
        {"store: start-up removes what a crash left and nothing else", cleaning,
         setup, teardown, NULL},
        {"store: start-up makes no folders", cleaning_nothing, setup, teardown,
         NULL},
        {"store: without a folder there is nothing", no_folder, setup, teardown,
         NULL},
        {"store: the stamp changes when files come and go", stamps, setup,
         teardown, NULL},
        {"store: a folder that was replaced is looked at anew", folder_replaced,
         setup, teardown, NULL},
    };
    struct err e;
    int failed;

    if (sq_init(&e) != 0 || image_empty(&image, &e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    buf_fini(&image);
    return failed;
}
