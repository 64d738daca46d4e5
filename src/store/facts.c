/* The facts of one backup: see facts.h. */
#include "store/facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "crypto/pagehash.h"

bool backup_name_parse(const char *s, struct backup_name *name,
                       int64_t *created_at)
{
    if (strlen(s) != BACKUP_NAME_LEN || strncmp(s, "app_", 4) != 0 ||
        strcmp(s + 19, ".db") != 0 || !clock_parse_stamp(s + 4, created_at))
        return false;
    (void)snprintf(name->s, sizeof name->s, "%s", s);
    return true;
}

void backup_name_format(int64_t t, struct backup_name *name)
{
    char stamp[CLOCK_STAMP_SIZE];

    clock_format_stamp(t, stamp);
    (void)snprintf(name->s, sizeof name->s, "app_%.15s.db", stamp);
}

void facts_fini(struct facts *f)
{
    free(f->note);
    free(f->proof.problem);
    free(f->proof.not_checked);
    memset(f, 0, sizeof *f);
}

static const char *const state_names[] = {"good", "suspect"};
static const char *const origin_names[] = {"manual", "safety", "adopted"};
static const char *const result_names[] = {"none", "ok", "damaged",
                                           "not_proven"};

const char *backup_state_name(enum backup_state s)
{
    return state_names[s];
}

const char *backup_origin_name(enum backup_origin o)
{
    return origin_names[o];
}

const char *proof_result_name(enum proof_result r)
{
    return result_names[r];
}

/* Text that is no UTF-8 (a name in a hostile file) keeps its ASCII part. */
static json_t *ascii(const char *s)
{
    char *copy = xstrdup(s);
    json_t *v;

    for (char *p = copy; *p != '\0'; p++) {
        if ((unsigned char)*p > 0x7f)
            *p = '?';
    }
    v = json_string(copy);
    free(copy);
    return v;
}

static json_t *text_or_null(const char *s)
{
    json_t *v;

    if (s == NULL || s[0] == '\0')
        return json_null();
    v = json_string(s);
    return v != NULL ? v : ascii(s);
}

static json_t *int_or_null(uint64_t v)
{
    return v != 0 ? json_integer((json_int_t)v) : json_null();
}

static json_t *time_or_null(int64_t t)
{
    char iso[CLOCK_ISO_SIZE];

    if (t == 0)
        return json_null();
    clock_format_iso(t, iso);
    return json_string(iso);
}

static json_t *proof_to_json(const struct facts *f)
{
    if (f->proof.result == PROOF_NONE)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "result",
                     proof_result_name(f->proof.result), "checked_at",
                     time_or_null(f->proof.at), "checked",
                     text_or_null(f->proof.what), "problem",
                     text_or_null(f->proof.problem), "not_checked",
                     text_or_null(f->proof.not_checked));
}

#define DIGEST_SIZE 80

/* The digest as the API has it; "" while it is unknown. */
static void put_digest(const struct facts *f, char out[DIGEST_SIZE])
{
    out[0] = '\0';
    if (f->sha256[0] != '\0')
        (void)snprintf(out, DIGEST_SIZE, "sha256:%s", f->sha256);
}

json_t *facts_to_json(const struct facts *f)
{
    char digest[DIGEST_SIZE];

    put_digest(f, digest);
    return json_pack(
        "{s:s, s:I, s:o, s:s, s:o, s:o, s:o, s:o, s:I, s:s, s:b, s:o, s:o}",
        "filename", f->name.s, "size", (json_int_t)f->size_bytes, "created_at",
        time_or_null(f->created_at), "state", backup_state_name(f->state),
        "digest", text_or_null(digest), "sha256", text_or_null(f->sha256),
        "pages", int_or_null(f->n_pages), "page_size",
        int_or_null(f->page_size), "stored_size", (json_int_t)f->stored_bytes,
        "origin", backup_origin_name(f->origin), "pin", f->pin ? 1 : 0, "note",
        text_or_null(f->note), "proof", proof_to_json(f));
}

void facts_put(struct buf *out, const struct facts *f)
{
    struct buf text = {0};
    json_t *o = facts_to_json(f);
    char check[33];

    json_put(&text, o);
    checksum128(text.data, text.len, check);
    (void)json_object_set_new(o, "check", json_string(check));
    json_put(out, o);
    json_decref(o);
    buf_fini(&text);
}

/* ---- reading ---- */

static int word(const char *s, const char *const *names, size_t n)
{
    for (size_t i = 0; s != NULL && i < n; i++) {
        if (strcmp(s, names[i]) == 0)
            return (int)i;
    }
    return -1;
}

static bool get_text(const json_t *o, const char *key, char *out, size_t size)
{
    const json_t *v = json_object_get(o, key);

    out[0] = '\0';
    if (json_is_null(v))
        return true;
    if (!json_is_string(v) || json_string_length(v) >= size)
        return false;
    (void)snprintf(out, size, "%s", json_string_value(v));
    return true;
}

static bool get_new_text(const json_t *o, const char *key, char **out)
{
    const json_t *v = json_object_get(o, key);

    if (json_is_null(v))
        return true;
    if (!json_is_string(v))
        return false;
    *out = xstrdup(json_string_value(v));
    return true;
}

static bool get_size(const json_t *o, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(o, key);

    *out = 0;
    if (json_is_null(v))
        return true;
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static bool get_word(const json_t *o, const char *key, const char *const *names,
                     size_t n, int *out)
{
    *out = word(json_string_value(json_object_get(o, key)), names, n);
    return *out >= 0;
}

/* "2026-04-13T14:25:30.000000", or null for none. */
static bool get_time(const json_t *o, const char *key, int64_t *out)
{
    char iso[CLOCK_ISO_SIZE];
    char again[CLOCK_ISO_SIZE];
    char stamp[CLOCK_STAMP_SIZE];

    *out = 0;
    if (!get_text(o, key, iso, sizeof iso))
        return false;
    if (iso[0] == '\0')
        return true;
    if (strlen(iso) != 26 || strcmp(iso + 19, ".000000") != 0)
        return false;
    (void)snprintf(stamp, sizeof stamp, "%.4s%.2s%.2s_%.2s%.2s%.2s", iso,
                   iso + 5, iso + 8, iso + 11, iso + 14, iso + 17);
    if (!clock_parse_stamp(stamp, out))
        return false;
    clock_format_iso(*out, again);
    return strcmp(again, iso) == 0;
}

static bool get_proof(const json_t *o, struct facts *f)
{
    const json_t *p = json_object_get(o, "proof");
    int result;

    if (json_is_null(p))
        return true;
    if (!json_is_object(p) ||
        !get_word(p, "result", result_names, 4, &result) ||
        result == PROOF_NONE)
        return false;
    f->proof.result = (enum proof_result)result;
    return get_time(p, "checked_at", &f->proof.at) &&
           get_text(p, "checked", f->proof.what, sizeof f->proof.what) &&
           get_new_text(p, "problem", &f->proof.problem) &&
           get_new_text(p, "not_checked", &f->proof.not_checked);
}

/* The SHA-256, and the same once more as the digest. */
static bool get_sha(const json_t *o, struct facts *f)
{
    char digest[DIGEST_SIZE];
    char want[DIGEST_SIZE];

    if (!get_text(o, "sha256", f->sha256, sizeof f->sha256) ||
        !get_text(o, "digest", digest, sizeof digest))
        return false;
    put_digest(f, want);
    return strcmp(digest, want) == 0 &&
           (f->sha256[0] == '\0' ||
            strspn(f->sha256, "0123456789abcdef") == 64);
}

static bool get_name(const json_t *o, struct facts *f)
{
    char name[BACKUP_NAME_LEN + 1];
    int64_t stamped;

    return get_text(o, "filename", name, sizeof name) &&
           backup_name_parse(name, &f->name, &stamped) &&
           get_time(o, "created_at", &f->created_at) &&
           f->created_at == stamped;
}

static bool fill(const json_t *o, struct facts *f)
{
    uint64_t page_size;
    int state;
    int origin;

    if (!json_is_object(o) || !get_name(o, f) ||
        !get_word(o, "state", state_names, 2, &state) ||
        !get_word(o, "origin", origin_names, 3, &origin) ||
        !get_size(o, "size", &f->size_bytes) ||
        !get_size(o, "stored_size", &f->stored_bytes) ||
        !get_size(o, "pages", &f->n_pages) ||
        !get_size(o, "page_size", &page_size) || page_size > 65536 ||
        !get_sha(o, f) || !json_is_boolean(json_object_get(o, "pin")) ||
        !get_new_text(o, "note", &f->note) || !get_proof(o, f))
        return false;
    f->state = (enum backup_state)state;
    f->origin = (enum backup_origin)origin;
    f->page_size = (uint32_t)page_size;
    f->pin = json_is_true(json_object_get(o, "pin"));
    return true;
}

/* Page size and count are known together, and make the size. */
static bool has_a_shape(const struct facts *f)
{
    uint32_t n = f->page_size;

    if (n == 0)
        return f->n_pages == 0;
    return n >= 512 && n <= 65536 && (n & (n - 1)) == 0 &&
           f->n_pages <= UINT32_MAX && f->n_pages * n == f->size_bytes;
}

/* The text ends with its check, which is that of the object without it. */
static bool is_unchanged(const char *text, size_t len)
{
    static const char member[] = ",\"check\":\"";
    size_t tail = sizeof member - 1 + 32 + 2; /* and "} */
    struct buf rest = {0};
    char check[33];
    bool same;

    if (len <= tail ||
        memcmp(text + len - tail, member, sizeof member - 1) != 0)
        return false;
    buf_put(&rest, text, len - tail);
    buf_puts(&rest, "}");
    checksum128(rest.data, rest.len, check);
    buf_fini(&rest);
    same = memcmp(text + len - 34, check, 32) == 0;
    return same && memcmp(text + len - 2, "\"}", 2) == 0;
}

int facts_parse(const char *text, size_t len, struct facts *out, struct err *e)
{
    json_t *o;
    int rc = 0;

    if (len > 0 && text[len - 1] == '\n')
        len--;
    o = json_parse(text, len, e);
    memset(out, 0, sizeof *out);
    if (o == NULL) {
        rc = err_set(e, ERR_DAMAGED, "its facts are cut short or no JSON");
    } else if (!fill(o, out) || !has_a_shape(out)) {
        rc = err_set(e, ERR_DAMAGED, "its facts say what cannot be");
    } else if (!is_unchanged(text, len)) {
        rc = err_set(e, ERR_DAMAGED,
                     "its facts are no longer those that were written: their "
                     "checksum differs");
    }
    if (rc != 0)
        facts_fini(out);
    json_decref(o);
    return rc;
}
