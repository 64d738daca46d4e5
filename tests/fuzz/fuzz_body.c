/* A JSON body as a call takes it: parsed, its fields known, its names right. */
#include "fuzz.h"

#include <string.h>

#include "api/api_request.h"
#include "base/json.h"
#include "base/mem.h"
#include "http/http_internal.h"

/* What is written is read back as the same. */
static void check_again(const json_t *v)
{
    struct buf text = {0};
    struct err e;
    json_t *again;

    json_put(&text, v);
    again = json_parse(text.data, text.len, &e);
    require(again != NULL && json_equal(v, again));
    json_decref(again);
    buf_fini(&text);
}

static void check_field(const struct api_field *f)
{
    struct err e = {0};

    if (f->value == NULL)
        return;
    require_utf8(f->value);
    if (database_name_check(f->value, &e) != 0)
        require_error(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_field f[] = {{.name = "name", .required = true},
                            {.name = "path"}};
    struct http_request *rq = xcalloc(1, sizeof *rq + 2);
    struct input in = {data, size};
    struct err e = {0};
    json_t *v = NULL;

    rq->body = input_rest(&in, &rq->body_len);
    if (api_body_fields(rq, f, 2, &v, &e) == 0) {
        require(f[0].value != NULL);
        check_field(&f[0]);
        check_field(&f[1]);
    } else {
        require(v == NULL);
        require_error(&e);
    }
    json_decref(v);
    v = json_parse(rq->body, rq->body_len, &e);
    if (v != NULL)
        check_again(v);
    else
        require_error(&e);
    json_decref(v);
    free(rq->body);
    free(rq);
    return 0;
}
