/* The body of the list: its bytes, and the cache of rendered bodies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_list.h"
#include "base/mem.h"

/* 2026-04-13T14:25:30 */
#define T0 1776090330

static struct backup_list *make(size_t n, uint64_t generation)
{
    struct backup_list *l =
        xcalloc(1, sizeof *l + n * sizeof(struct backup_item));

    l->generation = generation;
    l->n = n;
    for (size_t i = 0; i < n; i++) {
        l->item[i].created_at = T0 - (int64_t)i;
        l->item[i].size_bytes = 5242880;
        (void)snprintf(l->item[i].name.s, sizeof l->item[i].name.s, "%s",
                       "app_20260413_142530.db");
    }
    return l;
}

static void no_backups_render_as_an_empty_list(void **state)
{
    struct backup_list *l = make(0, 1);
    struct buf b = {0};

    (void)state;
    api_list_render(l, &b);
    assert_string_equal(b.data, "{\"backups\":[]}");
    buf_fini(&b);
    free(l);
}

static void fields_and_order_are_those_of_the_contract(void **state)
{
    struct backup_list *l = make(2, 1);
    struct buf b = {0};

    (void)state;
    l->item[1].size_bytes = UINT64_C(9000000000000000000);
    api_list_render(l, &b);
    assert_string_equal(
        b.data, "{\"backups\":[{\"filename\":\"app_20260413_142530.db\","
                "\"size\":5242880,"
                "\"created_at\":\"2026-04-13T14:25:30.000000\"},"
                "{\"filename\":\"app_20260413_142530.db\","
                "\"size\":9000000000000000000,"
                "\"created_at\":\"2026-04-13T14:25:29.000000\"}]}");
    buf_fini(&b);
    free(l);
}

static void ten_thousand_backups_are_one_json_document(void **state)
{
    struct backup_list *l = make(10000, 1);
    struct buf b = {0};
    json_t *v;

    (void)state;
    api_list_render(l, &b);
    v = json_loadb(b.data, b.len, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_array_size(json_object_get(v, "backups")), 10000);
    json_decref(v);
    buf_fini(&b);
    free(l);
}

static void a_body_is_shared_until_the_generation_changes(void **state)
{
    struct api_lists *c = api_lists_new();
    struct backup_list *l = make(3, 7);
    struct http_shared *a, *b, *other, *newer;

    (void)state;
    a = api_lists_get(c, "default", l);
    b = api_lists_get(c, "default", l);
    other = api_lists_get(c, "app2", l);
    l->generation = 8;
    newer = api_lists_get(c, "default", l);
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, other);
    assert_ptr_not_equal(a, newer);
    http_shared_unref(a);
    http_shared_unref(b);
    http_shared_unref(other);
    http_shared_unref(newer);
    api_lists_free(c);
    free(l);
}

static struct http_shared *ask(struct api_lists *c, unsigned i,
                               const struct backup_list *l)
{
    struct http_shared *body;
    char name[32];

    (void)snprintf(name, sizeof name, "db%u", i);
    body = api_lists_get(c, name, l);
    http_shared_unref(body);
    return body; /* only to compare: the cache holds it */
}

static void the_longest_unused_body_goes_first(void **state)
{
    struct api_lists *c = api_lists_new();
    struct backup_list *l = make(1, 7);
    struct http_shared *first, *second;

    (void)state;
    first = api_lists_get(c, "db0", l);
    second = api_lists_get(c, "db1", l);
    for (unsigned i = 2; i < API_LISTS_MAX; i++)
        (void)ask(c, i, l);
    assert_ptr_equal(ask(c, 0, l), first);
    (void)ask(c, API_LISTS_MAX, l); /* takes the place of db1 */
    assert_ptr_equal(ask(c, 0, l), first);
    assert_ptr_not_equal(ask(c, 1, l), second);
    http_shared_unref(first);
    http_shared_unref(second);
    api_lists_free(c);
    free(l);
}

static void bodies_are_bounded_by_their_bytes(void **state)
{
    struct api_lists *c = api_lists_new();
    struct backup_list *huge = make(API_LISTS_MAX_BYTES / 90, 7);
    struct backup_list *small = make(1, 7);
    struct http_shared *before, *after, *one, *two;

    (void)state;
    before = api_lists_get(c, "small", small);
    one = api_lists_get(c, "huge", huge); /* leaves no room for the other */
    two = api_lists_get(c, "huge", huge);
    assert_ptr_equal(one, two);
    after = api_lists_get(c, "small", small);
    assert_ptr_not_equal(before, after);
    http_shared_unref(before);
    http_shared_unref(after);
    http_shared_unref(one);
    http_shared_unref(two);
    api_lists_free(c);
    free(huge);
    free(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_backups_render_as_an_empty_list),
        cmocka_unit_test(fields_and_order_are_those_of_the_contract),
        cmocka_unit_test(ten_thousand_backups_are_one_json_document),
        cmocka_unit_test(a_body_is_shared_until_the_generation_changes),
        cmocka_unit_test(the_longest_unused_body_goes_first),
        cmocka_unit_test(bodies_are_bounded_by_their_bytes),
    };

    return cmocka_run_group_tests_name("api_list", tests, NULL, NULL);
}
