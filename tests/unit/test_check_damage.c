/*
 * The limited child on thousands of damaged files, through src/sqlite/check.h:
 * every byte of the header, every page, and random damage.  It must say what
 * SQLite says in a process of its own, and it must not crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "dbfile.h"
#include "sqlite/check.h"
#include "sqlite3.h"

#define PAGE ((size_t)1024)
#define N_MUTATIONS 2000
#define SEED 20260413u

static struct guard *guard;
static uint8_t *sound; /* the file's bytes */
static size_t n_sound;
static const char *path;

static struct {
    unsigned ok, damaged, not_proven, refused;
} count;

static void make_sound(void)
{
    FILE *f;

    path = dbfile_make(
        "damage.db",
        "PRAGMA page_size=1024; CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
        "CREATE INDEX i ON t(b); CREATE TABLE big(x); CREATE TABLE gone(x);"
        "CREATE TABLE w(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID;"
        "CREATE VIRTUAL TABLE ft USING fts5(body);"
        "CREATE VIRTUAL TABLE rt USING rtree(id, x0, x1);" DBFILE_ROWS
        "INSERT INTO t SELECT i, hex(randomblob(i % 40)) FROM n;"
        "INSERT INTO big VALUES(zeroblob(9000)); INSERT INTO gone "
        "VALUES(zeroblob(20000)); DROP TABLE gone;"
        "INSERT INTO w SELECT b, a FROM t; INSERT INTO ft SELECT b FROM t;"
        "INSERT INTO rt SELECT a, a, a + 1 FROM t");
    n_sound = (size_t)dbfile_size(path);
    sound = xmalloc(n_sound);
    f = fopen(path, "rbe");
    assert_non_null(f);
    assert_int_equal(fread(sound, 1, n_sound, f), n_sound);
    (void)fclose(f);
}

static void write_file(const uint8_t *bytes, size_t n)
{
    assert_int_equal(truncate(path, 0), 0);
    if (n > 0)
        dbfile_write(path, 0, bytes, n);
}

/* What may come out, whatever the file is; its result, or -1.  `whole` (may be
 * NULL): whether it says that everything was checked. */
static int look(bool deep, const char *what, bool *whole)
{
    struct check_opts o = {.path = path, .deep = deep, .size_bytes = n_sound};
    struct check_report r;
    struct err e = {0};
    int result;

    if (check_run(guard, &o, &r, &e) != 0) {
        if (e.code != ERR_NOT_DATABASE && e.code != ERR_ENCRYPTED)
            fail_msg("%s: %d %s", what, (int)e.code, e.message);
        count.refused++;
        return -1;
    }
    if (strstr(r.problem, "crashed") != NULL)
        fail_msg("%s: %s", what, r.problem);
    if ((r.result == CHECK_OK) != (r.problem[0] == '\0'))
        fail_msg("%s: %d %s", what, (int)r.result, r.problem);
    assert_true(r.result != CHECK_MOVED_ON);
    count.ok += r.result == CHECK_OK;
    count.damaged += r.result == CHECK_DAMAGED;
    count.not_proven += r.result == CHECK_NOT_PROVEN;
    result = (int)r.result;
    if (whole != NULL)
        *whole = r.not_checked == NULL || r.not_checked[0] == '\0';
    check_report_fini(&r);
    return result;
}

/* Whether SQLite itself, without our limits, has nothing to object to. */
static bool is_fine(void)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    bool fine = false;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
        sqlite3_exec(db, "PRAGMA cell_size_check=ON", NULL, NULL, NULL) ==
            SQLITE_OK &&
        sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &st, NULL) ==
            SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        fine = strcmp((const char *)sqlite3_column_text(st, 0), "ok") == 0;
    (void)sqlite3_finalize(st);
    (void)sqlite3_close(db);
    return fine;
}

static void say(const char *what)
{
    print_message("%s: %u ok, %u damaged, %u not proven, %u no database\n",
                  what, count.ok, count.damaged, count.not_proven,
                  count.refused);
    memset(&count, 0, sizeof count);
}

static void header_bits(void **state)
{
    uint8_t *bytes = xmalloc(n_sound);
    char what[64];

    (void)state;
    memcpy(bytes, sound, n_sound);
    for (unsigned i = 0; i < 800; i += 1 + i % 5) { /* two to four a byte */
        (void)snprintf(what, sizeof what, "byte %u bit %u", i / 8, i % 8);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        write_file(bytes, n_sound);
        (void)look(false, what, NULL);
        bytes[i / 8] = sound[i / 8];
    }
    assert_true(count.damaged > 50 && count.ok > 50);
    say("header bits");
    free(bytes);
}

static void lengths(void **state)
{
    char what[64];

    (void)state;
    for (size_t n = 0; n < n_sound; n += n < 2 * PAGE ? 100 : PAGE) {
        (void)snprintf(what, sizeof what, "%zu bytes", n);
        write_file(sound, n);
        assert_true(look(false, what, NULL) != CHECK_OK);
    }
    assert_int_equal(count.ok, 0);
    say("lengths");
}

static unsigned next(unsigned *seed, unsigned n)
{
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 8) % n;
}

static void mutate(uint8_t *bytes, unsigned *seed)
{
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    static const unsigned times[] = {1, 1, 2, 4, 16};

    for (unsigned n = times[next(seed, 5)]; n > 0; n--) {
        size_t page = next(seed, (unsigned)(n_sound / PAGE));
        size_t spot = next(seed, next(seed, 2) == 0 ? 16 : PAGE);
        unsigned v = next(seed, 6);

        bytes[page * PAGE + spot] =
            v < 5 ? values[v] : (uint8_t)next(seed, 256);
    }
}

static void mutations(void **state)
{
    uint8_t *bytes = xmalloc(n_sound);
    unsigned seed = SEED;
    unsigned unlike = 0;
    char what[64];

    (void)state;
    for (unsigned i = 0; i < N_MUTATIONS; i++) {
        bool whole = false;
        int result;

        (void)snprintf(what, sizeof what, "mutation %u of seed %u", i, SEED);
        memcpy(bytes, sound, n_sound);
        mutate(bytes, &seed);
        write_file(bytes, n_sound);
        result = look(true, what, &whole);
        /* Nothing is called sound that SQLite objects to.  Where a virtual
         * table's module refuses to work, which need not be damage, the
         * report says that it was not checked. */
        if (result == CHECK_OK && whole && !is_fine()) {
            print_error("%s: called sound\n", what);
            unlike++;
        }
    }
    assert_int_equal(unlike, 0);
    assert_true(count.damaged > N_MUTATIONS / 4);
    say("mutations");
    free(bytes);
}

#define T(name, f)                \
    {                             \
        name, f, NULL, NULL, NULL \
    }

static int set_up(void **state)
{
    if (dbfile_setup(state) != 0)
        return -1;
    make_sound();
    return 0;
}

static int tear_down(void **state)
{
    free(sound);
    return dbfile_teardown(state);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T("check: any byte of the header may be wrong", header_bits),
        T("check: a file may end anywhere", lengths),
        T("check: random damage is never a crash, and never called sound "
          "where SQLite objects",
          mutations),
    };
    struct err e;
    int failed;

    if (guard_start(&check_service, 1, &guard, &e) != 0)
        return 1;
    failed = cmocka_run_group_tests(tests, set_up, tear_down);
    guard_stop(guard);
    return failed;
}
