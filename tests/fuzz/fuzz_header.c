/* The first bytes of a database file, and a look at the file they begin. */
#include "fuzz.h"

#include <string.h>

#include "sqlite/check.h"
#include "sqlite/check_file.h"

#define HEADER_BYTES 100

static void try_header(const uint8_t *data)
{
    struct db_header h;
    struct err e = {0};

    if (db_header_parse(data, &h, &e) != 0) {
        require_error(&e);
        require(e.code == ERR_DAMAGED || e.code == ERR_NOT_DATABASE ||
                e.code == ERR_ENCRYPTED);
        return;
    }
    require(h.page_size >= 512 && h.page_size <= 65536);
    require((h.page_size & (h.page_size - 1)) == 0);
    require(h.encoding <= 3 && h.auto_vacuum <= 2);
}

static void try_file(const uint8_t *data, size_t size)
{
    const char *path = input_file(data, size);
    struct err e = {0};
    int rc = check_file_examine(path, &e);

    if (rc != 0)
        require_error(&e);
    else
        require(size >= 512 && size % 512 == 0);
    memset(&e, 0, sizeof e);
    require(check_file_explain(path, &e) == -1);
    require_error(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t header[HEADER_BYTES] = {0};

    memcpy(header, data, size < sizeof header ? size : sizeof header);
    try_header(header);
    try_file(data, size);
    return 0;
}
