/* Empty images, headers, raw copies: see image.h. */
#include "sqlite/image.h"

#include <string.h>

#include "sqlite/snapshot.h"
#include "sqlite/sq.h"
#include "sqlite3.h"

int image_empty(struct buf *out, struct err *e)
{
    struct sqlite3 *db = NULL;
    sqlite3_int64 size = 0;
    unsigned char *image = NULL;
    int rc = sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE, NULL);

    /* Any write makes page 1. */
    if (rc == SQLITE_OK)
        rc =
            sqlite3_exec(db, "PRAGMA user_version=0; VACUUM", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        image = sqlite3_serialize(db, "main", &size, 0);
    if (image != NULL && size > 0)
        buf_put(out, image, (size_t)size);
    else
        rc = sq_fail(db, rc, e, "cannot make an empty database");
    sqlite3_free(image);
    (void)sqlite3_close(db);
    return rc == SQLITE_OK ? 0 : -1;
}

int live_header(const struct live_opts *o, struct db_header *h, uint64_t *n,
                struct err *e)
{
    struct sqlite3 *db = NULL;
    struct snapshot s = {0};
    const uint8_t *page;
    int rc = -1;

    memset(h, 0, sizeof *h);
    if (live_connect(o, &db, e) != 0 || snapshot_begin(&s, db, o, e) != 0)
        goto done;
    *n = s.n_pages;
    if (s.n_pages == 0) {
        rc = 0;
        goto done;
    }
    page = snapshot_page(&s, 1, e);
    if (page != NULL)
        rc = db_header_parse(page, h, e);
done:
    snapshot_end(&s);
    live_disconnect(db);
    return rc;
}

int live_copy_raw(const struct live_opts *o, struct outfile *out,
                  uint64_t *n_bytes, struct err *e)
{
    struct sqlite3 *db = NULL;
    sqlite3_file *f = NULL;
    sqlite3_int64 size = 0;
    int rc = -1;

    /* Not live_connect: reading its schema is what fails. */
    if (sqlite3_open_v2(o->path, &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW,
                        NULL) != SQLITE_OK ||
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) !=
            SQLITE_OK ||
        sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f) !=
            SQLITE_OK ||
        f->pMethods->xFileSize(f, &size) != SQLITE_OK) {
        (void)err_set(e, ERR_IO, "cannot read the file of database %s",
                      o->label);
        goto done;
    }
    for (sqlite3_int64 at = 0; at < size; at += (sqlite3_int64)OUTFILE_CHUNK) {
        sqlite3_int64 n = size - at;
        int r;

        if (n > (sqlite3_int64)OUTFILE_CHUNK)
            n = (sqlite3_int64)OUTFILE_CHUNK;
        r = f->pMethods->xRead(f, outfile_buffer(out), (int)n, at);
        if (r != SQLITE_OK && r != SQLITE_IOERR_SHORT_READ) {
            (void)sq_fail(NULL, r, e, "cannot read the file of database %s",
                          o->label);
            goto done;
        }
        if (outfile_push(out, (size_t)n, e) != 0)
            goto done;
    }
    *n_bytes = (uint64_t)size;
    rc = outfile_finish(out, (uint64_t)size, e);
done:
    (void)sqlite3_close(db);
    return rc;
}
