/* From an error to an answer: the table, and what never leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/api_error.h"

#define ID "0123456789abcdef"

static const struct api_subject subject = {"backup", "app_20260413_142530.db"};

static const struct {
    enum err_code code;
    int status;
    const char *word;
} expected[] = {
    {ERR_BAD_REQUEST, 400, "BAD_REQUEST"},
    {ERR_UNAUTHORIZED, 401, "INVALID_CREDENTIALS"},
    {ERR_FORBIDDEN, 403, "FORBIDDEN"},
    {ERR_NOT_FOUND, 404, "NOT_FOUND"},
    {ERR_CONFLICT, 409, "CONFLICT"},
    {ERR_INVALID, 422, "VALIDATION_FAILED"},
    {ERR_TOO_LARGE, 413, "PAYLOAD_TOO_LARGE"},
    {ERR_DAMAGED, 422, "OPERATION_FAILED"},
    {ERR_NOT_DATABASE, 422, "OPERATION_FAILED"},
    {ERR_ENCRYPTED, 422, "OPERATION_FAILED"},
    {ERR_THROTTLED, 429, "TOO_MANY_REQUESTS"},
    {ERR_BUSY, 503, "BUSY"},
    {ERR_NO_SPACE, 507, "INSUFFICIENT_STORAGE"},
    {ERR_CANCELLED, 503, "BUSY"},
    {ERR_LIMIT, 422, "OPERATION_FAILED"},
    {ERR_UNREACHABLE, 500, "INTERNAL_ERROR"},
    {ERR_IO, 500, "INTERNAL_ERROR"},
    {ERR_INTERNAL, 500, "INTERNAL_ERROR"},
};
#define N_EXPECTED (sizeof expected / sizeof expected[0])

static void plan(enum err_code code, const char *reason, const char *message,
                 struct api_error *a)
{
    struct err e;

    (void)err_set_reason(&e, code, reason, "%s", message);
    api_error_plan(&e, subject, ID, a);
}

/* The value of a string in details, or NULL. */
static const char *detail(const struct api_error *a, const char *key)
{
    return json_string_value(json_object_get(a->details, key));
}

static void every_code_has_its_status_and_word(void **state)
{
    struct api_error a;

    (void)state;
    assert_int_equal(N_EXPECTED, ERR_INTERNAL);
    for (size_t i = 0; i < N_EXPECTED; i++) {
        assert_int_equal(expected[i].code, i + 1);
        plan(expected[i].code, "", "m", &a);
        assert_int_equal(a.status, expected[i].status);
        assert_string_equal(a.code, expected[i].word);
        json_decref(a.details);
    }
}

static void an_unknown_code_is_a_fault_of_ours(void **state)
{
    struct api_error a;

    (void)state;
    plan(ERR_NONE, "", "m", &a);
    assert_int_equal(a.status, 500);
    assert_true(a.internal);
    json_decref(a.details);
    plan((enum err_code)999, "", "m", &a);
    assert_int_equal(a.status, 500);
    json_decref(a.details);
}

static void a_private_message_never_leaves(void **state)
{
    static const enum err_code codes[] = {ERR_IO, ERR_INTERNAL, ERR_UNREACHABLE,
                                          ERR_NONE};
    struct api_error a;
    char *text;

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        plan(codes[i], "/secret/reason", "/secret/path: SELECT 1", &a);
        assert_true(a.internal);
        assert_null(strstr(a.message, "secret"));
        assert_null(strstr(a.message, "SELECT"));
        assert_string_equal(detail(&a, "request_id"), ID);
        text = json_dumps(a.details, JSON_COMPACT);
        assert_string_equal(text, "{\"request_id\":\"" ID "\"}");
        free(text);
        json_decref(a.details);
    }
}

static void a_public_message_is_kept(void **state)
{
    struct api_error a;

    (void)state;
    plan(ERR_CONFLICT, "", "database default exists", &a);
    assert_false(a.internal);
    assert_string_equal(a.message, "database default exists");
    assert_null(a.details);
    assert_int_equal(a.retry_after_s, 0);
    plan(ERR_CONFLICT, "encoding", "m", &a);
    assert_string_equal(detail(&a, "reason"), "encoding");
    json_decref(a.details);
}

static void what_is_not_found_is_named(void **state)
{
    struct api_error a;

    (void)state;
    plan(ERR_NOT_FOUND, "", "m", &a);
    assert_int_equal(json_object_size(a.details), 2);
    assert_string_equal(detail(&a, "resource_type"), subject.type);
    assert_string_equal(detail(&a, "identifier"), subject.identifier);
    json_decref(a.details);
}

static void busy_has_a_reason_and_a_time_to_retry(void **state)
{
    struct api_error a;

    (void)state;
    plan(ERR_BUSY, "wal_limit", "m", &a);
    assert_string_equal(detail(&a, "reason"), "wal_limit");
    assert_int_equal(a.retry_after_s, 30);
    json_decref(a.details);
    plan(ERR_BUSY, "", "m", &a);
    assert_string_equal(detail(&a, "reason"), "locked");
    assert_int_equal(a.retry_after_s, 5);
    json_decref(a.details);
    plan(ERR_CANCELLED, "", "m", &a);
    assert_string_equal(detail(&a, "reason"), "stopping");
    json_decref(a.details);
}

static void a_message_is_valid_utf8(void **state)
{
    struct api_error a;
    json_t *v;

    (void)state;
    plan(ERR_INVALID, "", "caf\xc3\xa9", &a);
    assert_string_equal(a.message, "caf\xc3\xa9");
    plan(ERR_INVALID, "", "caf\xc3", &a);
    assert_string_equal(a.message, "caf?");
    v = api_text("/srv/\xff/app.db");
    assert_string_equal(json_string_value(v), "/srv/?/app.db");
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_status_and_word),
        cmocka_unit_test(an_unknown_code_is_a_fault_of_ours),
        cmocka_unit_test(a_private_message_never_leaves),
        cmocka_unit_test(a_public_message_is_kept),
        cmocka_unit_test(what_is_not_found_is_named),
        cmocka_unit_test(busy_has_a_reason_and_a_time_to_retry),
        cmocka_unit_test(a_message_is_valid_utf8),
    };

    return cmocka_run_group_tests_name("api_error", tests, NULL, NULL);
}
