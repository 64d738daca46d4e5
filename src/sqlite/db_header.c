/* The header of a database file: see check.h. */
#include <string.h>

#include "sqlite/check.h"
#include "sqlite/check_file.h"

#define HEADER_BYTES 100
#define MIN_USABLE_BYTES 480 /* of a page, without what is reserved */
#define MAX_SCHEMA_FORMAT 4

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           (uint32_t)p[3];
}

/* The page size in bytes; 0 if the header's value is impossible. */
static uint32_t page_size_of(const uint8_t *bytes)
{
    uint32_t n = (uint32_t)bytes[16] << 8 | bytes[17];

    if (n == 1)
        return 65536;
    if (n < 512 || (n & (n - 1)) != 0)
        return 0;
    return n;
}

static int check_values(const uint8_t *bytes, const struct db_header *h,
                        struct err *e)
{
    uint32_t format = get32(bytes + 44);

    if (h->page_size == 0)
        return err_set(e, ERR_DAMAGED,
                       "the header names an impossible page size");
    if (h->page_size - bytes[20] < MIN_USABLE_BYTES)
        return err_set(e, ERR_DAMAGED,
                       "the header reserves %u of %u bytes of each page",
                       bytes[20], (unsigned)h->page_size);
    if (bytes[18] > 2 || bytes[19] > 2)
        return err_set(e, ERR_DAMAGED,
                       "the header names an unknown file format, %u and %u",
                       bytes[18], bytes[19]);
    if (bytes[21] != 64 || bytes[22] != 32 || bytes[23] != 32)
        return err_set(e, ERR_DAMAGED,
                       "the header has wrong payload fractions");
    if (format > MAX_SCHEMA_FORMAT)
        return err_set(e, ERR_DAMAGED,
                       "the header names an unknown schema format, %u",
                       (unsigned)format);
    if (h->encoding > 3)
        return err_set(e, ERR_DAMAGED,
                       "the header names an unknown text encoding, %u",
                       (unsigned)h->encoding);
    return 0;
}

int db_header_parse(const uint8_t bytes[100], struct db_header *h,
                    struct err *e)
{
    if (memcmp(bytes, CHECK_FILE_MAGIC, CHECK_FILE_MAGIC_BYTES) != 0)
        return check_file_foreign(bytes, HEADER_BYTES, e);
    memset(h, 0, sizeof *h);
    h->page_size = page_size_of(bytes);
    h->wal = bytes[18] == 2 && bytes[19] == 2;
    h->change_counter = get32(bytes + 24);
    h->version_valid_for = get32(bytes + 92);
    /* An old SQLite does not keep the page count; then these differ. */
    if (h->change_counter == h->version_valid_for)
        h->n_pages = get32(bytes + 28);
    h->schema_cookie = get32(bytes + 40);
    h->encoding = get32(bytes + 56);
    h->user_version = get32(bytes + 60);
    h->application_id = get32(bytes + 68);
    if (get32(bytes + 52) != 0)
        h->auto_vacuum = get32(bytes + 64) != 0 ? 2 : 1;
    return check_values(bytes, h, e);
}
