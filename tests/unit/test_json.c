/* JSON from outside: what is taken and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/json.h"

static void refused_n(const char *text, size_t n, const char *message)
{
    struct err e = {0};

    assert_null(json_parse(text, n, &e));
    assert_int_equal(e.code, ERR_BAD_REQUEST);
    if (strstr(e.message, message) == NULL)
        fail_msg("\"%s\" is not in: %s", message, e.message);
}

static void refused(const char *text, const char *message)
{
    refused_n(text, strlen(text), message);
}

static json_t *taken(const char *text)
{
    struct err e = {0};
    json_t *v = json_parse(text, strlen(text), &e);

    if (v == NULL)
        fail_msg("refused: %s", e.message);
    return v;
}

static void objects_and_arrays(void **state)
{
    json_t *v = taken(" {\"name\": \"caf\xc3\xa9\", \"n\": -5} \n");

    (void)state;
    assert_string_equal(json_string_value(json_object_get(v, "name")),
                        "caf\xc3\xa9");
    assert_int_equal(json_integer_value(json_object_get(v, "n")), -5);
    json_decref(v);
    v = taken("[1,2.5,true,null,\"]\\\"}\"]");
    assert_int_equal(json_array_size(v), 5);
    json_decref(v);
}

static void other_values(void **state)
{
    (void)state;
    refused("", "line 1");
    refused("5", "malformed JSON at line 1");
    refused("\"text\"", "malformed JSON at line 1");
    refused("null", "malformed JSON at line 1");
}

static void broken_documents(void **state)
{
    (void)state;
    refused("{\"a\":1", "malformed JSON");
    refused("{\"a\":1,}", "malformed JSON");
    refused("{'a':1}", "malformed JSON");
    refused("{\"a\":01}", "malformed JSON");
    refused("{\"a\":NaN}", "malformed JSON");
    refused("{\"a\":99999999999999999999}", "too big");
    refused("\xef\xbb\xbf{}", "malformed JSON"); /* a byte order mark */
}

static void duplicates(void **state)
{
    (void)state;
    refused("{\"a\":1,\"a\":2}", "duplicate");
}

static void trailing(void **state)
{
    (void)state;
    refused("{} {}", "end of file expected");
    refused_n("{}\0", 3, "malformed JSON");
}

static void bad_text(void **state)
{
    (void)state;
    refused("{\"a\":\"\xff\"}", "unable to decode byte 0xff");
    refused("{\"a\":\"\xc0\xaf\"}", "unable to decode byte 0xc0");
    refused("{\"a\":\"\xed\xa0\x80\"}", "unable to decode byte 0xed");
    refused("{\"a\":\"\\u0000\"}", "u0000");
    refused("{\"a\":\"\\ud800\"}", "malformed JSON");
}

static void depth(void **state)
{
    char text[80];

    (void)state;
    memset(text, '[', 32);
    memset(text + 32, ']', 32);
    text[64] = '\0';
    json_decref(taken(text));
    memset(text, '[', 33);
    memset(text + 33, ']', 33);
    text[66] = '\0';
    refused(text, "deeper than 32");
    json_decref(taken("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"\"]"));
}

static void written(void **state)
{
    json_t *v =
        json_pack("{s:s,s:i,s:[b,n]}", "zulu", "a\"\n", "alpha", 1, "list", 1);
    struct buf b = {0};

    (void)state;
    buf_puts(&b, "=");
    json_put(&b, v);
    assert_string_equal(
        b.data, "={\"zulu\":\"a\\\"\\n\",\"alpha\":1,\"list\":[true,null]}");
    buf_fini(&b);
    json_decref(v);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        {"json: an object and an array are taken, blanks around them too",
         objects_and_arrays, NULL, NULL, NULL},
        {"json: a bare value is no document", other_values, NULL, NULL, NULL},
        {"json: a broken document is refused with line and column",
         broken_documents, NULL, NULL, NULL},
        {"json: a key given twice is refused", duplicates, NULL, NULL, NULL},
        {"json: nothing may follow the document", trailing, NULL, NULL, NULL},
        {"json: text that is not UTF-8, or has NUL, is refused", bad_text, NULL,
         NULL, NULL},
        {"json: 32 levels are taken and 33 refused, brackets in strings do "
         "not count",
         depth, NULL, NULL, NULL},
        {"json: values are written compactly, keys in the order they were set",
         written, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
