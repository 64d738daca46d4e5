/*
 * The facts of one backup, kept beside it as app_….json and written before
 * the backup itself is published (docs/design.md, "On disk").
 */
#ifndef HOLDFAST_STORE_FACTS_H
#define HOLDFAST_STORE_FACTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define BACKUP_NAME_LEN 22 /* app_YYYYMMDD_HHMMSS.db */

struct backup_name {
    char s[BACKUP_NAME_LEN + 1];
};

/* backup_name_parse: false unless s is of the pattern with a real date. */
bool backup_name_parse(const char *s, struct backup_name *name,
                       int64_t *created_at);

/* backup_name_format: the name of the second t. */
void backup_name_format(int64_t t, struct backup_name *name);

enum backup_state { BACKUP_GOOD, BACKUP_SUSPECT };

enum backup_origin { ORIGIN_MANUAL, ORIGIN_SAFETY, ORIGIN_ADOPTED };

enum proof_result { PROOF_NONE, PROOF_OK, PROOF_DAMAGED, PROOF_NOT_PROVEN };

struct facts {
    struct backup_name name;
    int64_t created_at;
    enum backup_state state;
    enum backup_origin origin;
    uint64_t size_bytes;
    uint64_t stored_bytes; /* what it takes on disk */
    char sha256[65];       /* lowercase hex, or "" while unknown */
    uint32_t page_size;    /* 0 while unknown */
    uint64_t n_pages;
    bool pin;
    char *note; /* NULL is none; the facts' own */
    struct {
        enum proof_result result;
        int64_t at;
        char what[24];     /* "quick_check" or "integrity_check" */
        char *problem;     /* NULL is none; the facts' own */
        char *not_checked; /* NULL is none; the facts' own */
    } proof;
};

void facts_fini(struct facts *f);

/* Words of the enums, as in JSON. */
const char *backup_state_name(enum backup_state s);
const char *backup_origin_name(enum backup_origin o);
const char *proof_result_name(enum proof_result r);

/*
 * facts_to_json: the details object of the API (a new reference):
 * {"filename","size","created_at","state","digest","sha256","pages",
 *  "page_size","stored_size","origin","pin","note",
 *  "proof":{"result","checked_at","checked","problem","not_checked"}}
 * Unknown values are null; digest is "sha256:HEX" or null.
 */
json_t *facts_to_json(const struct facts *f);

/*
 * facts_put: append the text that is kept: that object on one line, without
 * an end of line, with one more member, "check", the checksum128 of the text
 * without it.  Whoever edits facts by hand makes them damaged.
 */
void facts_put(struct buf *out, const struct facts *f);

/* facts_parse: strict; ERR_DAMAGED, with what is wrong, for anything that
 * facts_put would not have written, to the byte (an end of line may follow). */
int facts_parse(const char *text, size_t len, struct facts *out, struct err *e);

#endif
