/* The facts of a backup, through src/store/facts.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/rand.h"
#include "crypto/pagehash.h"
#include "store/facts.h"

static const char whole[] =
    "{\"filename\":\"app_20260413_142530.db\",\"size\":8192,"
    "\"created_at\":\"2026-04-13T14:25:30.000000\",\"state\":\"good\","
    "\"digest\":\"sha256:"
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\","
    "\"sha256\":"
    "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\","
    "\"pages\":2,\"page_size\":4096,\"stored_size\":8192,"
    "\"origin\":\"manual\",\"pin\":true,\"note\":\"a \\\"note\\\"\","
    "\"proof\":{\"result\":\"ok\","
    "\"checked_at\":\"2026-04-13T14:25:31.000000\","
    "\"checked\":\"quick_check\",\"problem\":null,"
    "\"not_checked\":\"function f\"}}";

/* A details object as it is kept, with the checksum that is right for it. */
static char *kept(const char *json)
{
    size_t n = strlen(json);
    char check[33];

    checksum128(json, n, check);
    return xasprintf("%.*s,\"check\":\"%s\"}", n > 0 ? (int)n - 1 : 0, json,
                     check);
}

static void expect_damaged_text(const char *text)
{
    struct facts f;
    struct err e = {0};

    if (facts_parse(text, strlen(text), &f, &e) == 0) {
        facts_fini(&f);
        fail_msg("taken for facts: %s", text);
    }
    assert_int_equal(e.code, ERR_DAMAGED);
    assert_null(f.note);
    assert_null(f.proof.problem);
}

static void expect_damaged(const char *json)
{
    char *text = kept(json);

    expect_damaged_text(json);
    expect_damaged_text(text);
    free(text);
}

/* `whole` with the first `from` replaced by `to`. */
static void expect_damaged_with(const char *from, const char *to)
{
    const char *at = strstr(whole, from);
    char *text;

    assert_non_null(at);
    text =
        xasprintf("%.*s%s%s", (int)(at - whole), whole, to, at + strlen(from));
    expect_damaged(text);
    free(text);
}

static void round_trip(void **state)
{
    char *want = kept(whole);
    struct buf text = {0};
    struct facts f;
    struct err e = {0};

    (void)state;
    assert_int_equal(facts_parse(want, strlen(want), &f, &e), 0);
    assert_string_equal(f.name.s, "app_20260413_142530.db");
    assert_int_equal(f.created_at, 1776090330);
    assert_int_equal(f.state, BACKUP_GOOD);
    assert_int_equal(f.origin, ORIGIN_MANUAL);
    assert_int_equal(f.size_bytes, 8192);
    assert_int_equal(f.stored_bytes, 8192);
    assert_int_equal(f.page_size, 4096);
    assert_int_equal(f.n_pages, 2);
    assert_true(f.pin);
    assert_string_equal(f.note, "a \"note\"");
    assert_int_equal(f.proof.result, PROOF_OK);
    assert_int_equal(f.proof.at, 1776090331);
    assert_string_equal(f.proof.what, "quick_check");
    assert_null(f.proof.problem);
    assert_string_equal(f.proof.not_checked, "function f");
    facts_put(&text, &f);
    assert_string_equal(text.data, want);
    buf_fini(&text);
    facts_fini(&f);
    free(want);
}

/* Bit rot in whatever place, and a file that was cut short. */
static void any_bit(void **state)
{
    char *text = kept(whole);
    size_t n = strlen(text);
    struct err e = {0};
    struct facts f;

    (void)state;
    for (size_t i = 0; i < 8 * n; i++) {
        text[i / 8] = (char)(text[i / 8] ^ 1 << i % 8);
        expect_damaged_text(text);
        text[i / 8] = (char)(text[i / 8] ^ 1 << i % 8);
    }
    for (size_t len = 0; len < n; len++)
        assert_int_equal(facts_parse(text, len, &f, &e), -1);
    assert_int_equal(facts_parse(text, n, &f, &e), 0);
    facts_fini(&f);
    free(text);
}

static void unknown_is_null(void **state)
{
    struct facts f = {.created_at = 1776090330};
    struct facts again;
    struct buf text = {0};
    char *want;
    struct err e = {0};

    (void)state;
    backup_name_format(f.created_at, &f.name);
    f.origin = ORIGIN_ADOPTED;
    f.state = BACKUP_SUSPECT;
    facts_put(&text, &f);
    want = kept(
        "{\"filename\":\"app_20260413_142530.db\",\"size\":0,"
        "\"created_at\":\"2026-04-13T14:25:30.000000\","
        "\"state\":\"suspect\",\"digest\":null,\"sha256\":null,\"pages\":null,"
        "\"page_size\":null,\"stored_size\":0,\"origin\":\"adopted\","
        "\"pin\":false,\"note\":null,\"proof\":null}");
    assert_string_equal(text.data, want);
    free(want);
    assert_int_equal(facts_parse(text.data, text.len, &again, &e), 0);
    assert_memory_equal(&f, &again, sizeof f);
    buf_fini(&text);
}

static void every_word(void **state)
{
    struct err e = {0};

    (void)state;
    for (int i = 0; i < 24; i++) {
        struct facts f = {.created_at = 1};
        struct facts again;
        struct buf text = {0};

        backup_name_format(1, &f.name);
        f.state = (enum backup_state)(i % 2);
        f.origin = (enum backup_origin)(i / 2 % 3);
        f.proof.result = (enum proof_result)(i / 6);
        f.proof.at = f.proof.result == PROOF_NONE ? 0 : 5;
        facts_put(&text, &f);
        assert_int_equal(facts_parse(text.data, text.len, &again, &e), 0);
        assert_memory_equal(&f, &again, sizeof f);
        buf_fini(&text);
    }
    assert_string_equal(backup_state_name(BACKUP_SUSPECT), "suspect");
    assert_string_equal(backup_origin_name(ORIGIN_SAFETY), "safety");
    assert_string_equal(proof_result_name(PROOF_NOT_PROVEN), "not_proven");
}

/* Names in a hostile file may be any bytes. */
static void no_utf8(void **state)
{
    struct facts f = {.created_at = 1};
    struct facts again;
    struct buf text = {0};
    struct err e = {0};

    (void)state;
    backup_name_format(1, &f.name);
    f.proof.result = PROOF_DAMAGED;
    f.proof.problem = xstrdup("table \xff\xc3(\x01");
    f.note = xstrdup("caf\xc3\xa9");
    facts_put(&text, &f);
    assert_int_equal(facts_parse(text.data, text.len, &again, &e), 0);
    assert_string_equal(again.proof.problem, "table \?\?(\x01");
    assert_string_equal(again.note, "caf\xc3\xa9");
    facts_fini(&f);
    facts_fini(&again);
    buf_fini(&text);
}

static void strict(void **state)
{
    static const char *const other[][2] = {
        {"app_20260413_142530.db", "app_20260413_142531.db"},
        {"app_20260413_142530.db", "../20260413_142530.db"},
        {"app_20260413_142530.db", "app_20260230_142530.db"},
        {"2026-04-13T14:25:30.000000", "2026-04-13T14:25:30.000001"},
        {"2026-04-13T14:25:30.000000", "2026-04-13T14:25:30Z"},
        {"2026-04-13T14:25:30.000000", "2026-13-13T14:25:30.000000"},
        {"8192", "-1"},
        {"8192", "\"8192\""},
        {"8192", "8192.5"},
        {"8192", "99999999999999999999"},
        {"\"good\"", "\"bad\""},
        {"\"good\"", "null"},
        {"\"good\"", "0"},
        {"\"manual\"", "\"auto\""},
        {"\"sha256\":\"0", "\"sha256\":\"X"},
        {"\"sha256\":\"0", "\"sha256\":\""},
        {"\"sha256\":\"0", "\"sha256\":\"00"},
        {":4096", ":65537"},
        {":4096", ":-4096"},
        {"true", "1"},
        {"true", "null"},
        {"\"a \\\"note\\\"\"", "7"},
        {"\"ok\"", "\"fine\""},
        {"\"quick_check\"", "\"a much longer word than there is\""},
        {"\"function f\"", "[]"},
        {"\"pin\":true,", ""},
        {"\"size\":8192,", ""},
        {"\"note\"", "\"not\""},
        {"\"proof\":{", "\"proof\":[],\"x\":{"},
        {"}}", "}"},
        {"}}", "}}x"},
        {"}}", "},\"pin\":false}"},
    };

    (void)state;
    expect_damaged("");
    expect_damaged("{}");
    expect_damaged("[]");
    expect_damaged("null");
    expect_damaged("{\"filename\":\"app_20260413_142530.db\"}");
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        expect_damaged_with(other[i][0], other[i][1]);
}

/* What facts_put would never have written, though each part is right. */
static void stricter(void **state)
{
    static const char *const other[][2] = {
        {"2026-04-13T14:25:30.000000", "2026/04/13 14.25.30.000000"},
        {"sha256:0", "sha256:f"},
        {"\"digest\":\"sha256:", "\"digest\":\"md5:"},
        {":4096", ":4095"},
        {"\"result\":\"ok\"", "\"result\":\"none\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        expect_damaged_with(other[i][0], other[i][1]);
}

/* What a later version adds does not make them damaged; losing it does. */
static void more_members(void **state)
{
    const char *at = strstr(whole, "\"note\"");
    char *more = xasprintf("%.*s\"more\":1,%s", (int)(at - whole), whole, at);
    char *good = kept(more);
    struct facts f;
    struct err e = {0};

    (void)state;
    assert_int_equal(facts_parse(good, strlen(good), &f, &e), 0);
    facts_fini(&f);
    strstr(good, "more")[0] = 'M';
    expect_damaged_text(good);
    free(more);
    free(good);
}

static void names(void **state)
{
    static const char *const wrong[] = {
        "",
        "app_20260413_142530",
        "app_20260413_142530.dbx",
        "app_20260413_142530.DB",
        "App_20260413_142530.db",
        "app-20260413_142530.db",
        "app_20260413-142530.db",
        "app_20260431_142530.db",
        "app_20260413_242530.db",
        "app_20260413_142560.db",
        "app_00000413_142530.db",
        "app_2026 413_142530.db",
        "app_+0260413_142530.db",
        "/pp_20260413_142530.db",
        "app_20260413_142530.db\n",
    };
    struct backup_name name;
    int64_t t;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(backup_name_parse(wrong[i], &name, &t));
    assert_true(backup_name_parse("app_20240229_235959.db", &name, &t));
    assert_string_equal(name.s, "app_20240229_235959.db");
    backup_name_format(t, &name);
    assert_string_equal(name.s, "app_20240229_235959.db");
    backup_name_format(0, &name);
    assert_string_equal(name.s, "app_19700101_000000.db");
}

/* Damaged files never crash, and what is taken comes back as it went in. */
static void mutations(void **state)
{
    unsigned seed;
    size_t n_taken = 0;

    (void)state;
    rand_bytes(&seed, sizeof seed);
    print_message("           seed %u\n", seed);
    for (int i = 0; i < 20000; i++) {
        char text[sizeof whole + 8];
        char *with_check;
        size_t len = sizeof whole - 1;
        struct facts f;
        struct err e = {0};

        memcpy(text, whole, len);
        for (int n = rand_r(&seed) % 3; n >= 0 && len > 0; n--) {
            size_t at = (size_t)rand_r(&seed) % len;

            switch (rand_r(&seed) % 4) {
            case 0:
                text[at] = (char)rand_r(&seed);
                break;
            case 1:
                text[at] = whole[(size_t)rand_r(&seed) % len];
                break;
            case 2:
                memmove(text + at, text + at + 1, len - at - 1);
                len--;
                break;
            default:
                len = at + 1;
            }
        }
        text[len] = '\0';
        with_check = kept(text);
        if (facts_parse(with_check, strlen(with_check), &f, &e) == 0) {
            struct buf once = {0};
            struct buf twice = {0};
            struct facts again;

            facts_put(&once, &f);
            assert_int_equal(facts_parse(once.data, once.len, &again, &e), 0);
            facts_put(&twice, &again);
            assert_string_equal(once.data, twice.data);
            facts_fini(&again);
            buf_fini(&once);
            buf_fini(&twice);
            n_taken++;
        } else {
            assert_int_equal(e.code, ERR_DAMAGED);
        }
        facts_fini(&f);
        free(with_check);
    }
    assert_true(n_taken < 10000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"facts: come back from their text as they were", round_trip, NULL,
         NULL, NULL},
        {"facts: what is unknown is null", unknown_is_null, NULL, NULL, NULL},
        {"facts: every state, origin and result has a word", every_word, NULL,
         NULL, NULL},
        {"facts: text that is no UTF-8 keeps its ASCII part", no_utf8, NULL,
         NULL, NULL},
        {"facts: a value of the wrong type, range or word is damage", strict,
         NULL, NULL, NULL},
        {"facts: a member that is not known yet is none", more_members, NULL,
         NULL, NULL},
        {"facts: what we would not have written is damage", stricter, NULL,
         NULL, NULL},
        {"facts: a name has the pattern and a real date", names, NULL, NULL,
         NULL},
        {"facts: any flipped bit and any byte less is damage", any_bit, NULL,
         NULL, NULL},
        {"facts: random damage never crashes", mutations, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
