/* JSON with our limits: see json.h. */
#include "base/json.h"

#include <stdbool.h>
#include <stdlib.h>

#define MAX_DEPTH 32

/*
 * too_deep: whether brackets outside of strings nest deeper than the limit.
 * jansson's own limit is far higher and fixed when it is built.  Text that is
 * no JSON may be counted wrongly; the parser refuses it afterwards.
 */
static bool too_deep(const char *text, size_t len)
{
    bool in_string = false;
    int depth = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_DEPTH)
                return true;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return false;
}

json_t *json_parse(const char *text, size_t len, struct err *e)
{
    json_error_t je;
    json_t *v;

    if (too_deep(text, len)) {
        (void)err_set(e, ERR_BAD_REQUEST, "the JSON nests deeper than %d",
                      MAX_DEPTH);
        return NULL;
    }
    v = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (v == NULL)
        (void)err_set(e, ERR_BAD_REQUEST,
                      "malformed JSON at line %d, column %d: %s", je.line,
                      je.column, je.text);
    return v;
}

static int append(const char *bytes, size_t n, void *arg)
{
    buf_put(arg, bytes, n);
    return 0;
}

void json_put(struct buf *out, const json_t *v)
{
    /* It fails only for what is no JSON value: a fault of the caller. */
    if (json_dump_callback(v, append, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        abort();
}
