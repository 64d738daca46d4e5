/* Reading files back, and what a check says of them: see backup_internal.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/backup_internal.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/outfile.h"
#include "crypto/pagehash.h"
#include "crypto/sha256.h"

static int check_sum(const uint8_t *chunk, size_t len, uint64_t at,
                     const char want[33], struct err *e)
{
    char sum[33];

    if (want[0] == '\0')
        return 0;
    checksum128(chunk, len, sum);
    if (strcmp(sum, want) == 0)
        return 0;
    return err_set(e, ERR_DAMAGED,
                   "the bytes from %llu on are not those that were written",
                   (unsigned long long)at);
}

static int check_cancelled(const bool *cancel, struct err *e)
{
    if (cancel == NULL || !__atomic_load_n(cancel, __ATOMIC_ACQUIRE))
        return 0;
    return err_set_reason(e, ERR_BUSY, "stopping", "the service is stopping");
}

static void tell(const struct call *call, uint64_t done, uint64_t total)
{
    if (call != NULL && call->c.progress != NULL)
        call->c.progress(call->c.arg, done, total);
}

/* What can be read of a file that has become shorter is no fault of the
 * disk's. */
static int cut_short(struct err *e)
{
    if (e->code == ERR_IO && e->sys == 0)
        (void)err_set(e, ERR_DAMAGED,
                      "the file became shorter while it was read");
    return -1;
}

int read_head(int fd, uint8_t head[100], struct err *e)
{
    return file_pread_all(fd, head, 100, 0, e) == 0 ? 0 : cut_short(e);
}

int read_back(int fd, uint64_t size_bytes, char sha256[65], struct read_back o,
              struct err *e)
{
    struct sha256 *sha = sha256_new();
    uint8_t *chunk = xmalloc(OUTFILE_CHUNK);
    int rc = -1;

    for (uint64_t at = 0; at < size_bytes; at += OUTFILE_CHUNK) {
        uint64_t rest = size_bytes - at;
        size_t len = rest < OUTFILE_CHUNK ? (size_t)rest : OUTFILE_CHUNK;
        uint64_t i = at / OUTFILE_CHUNK;

        if (check_cancelled(o.cancel, e) != 0)
            goto done;
        if (file_pread_all(fd, chunk, len, at, e) != 0) {
            (void)cut_short(e);
            goto done;
        }
        if (i < o.n_sums && check_sum(chunk, len, at, o.sums[i], e) != 0)
            goto done;
        sha256_update(sha, chunk, len);
        tell(o.call, at + len, size_bytes);
    }
    sha256_final(sha, sha256);
    rc = 0;
done:
    sha256_free(sha);
    free(chunk);
    return rc;
}

static char *text_or_null(const char *s)
{
    return s != NULL && s[0] != '\0' ? xstrdup(s) : NULL;
}

bool bytes_problem(const struct store_entry *en, const struct facts *f,
                   const char *sha256, char problem[BYTES_PROBLEM_SIZE])
{
    if (en->size_bytes != f->size_bytes)
        (void)snprintf(problem, BYTES_PROBLEM_SIZE,
                       "it has %llu bytes instead of the %llu that were "
                       "written",
                       (unsigned long long)en->size_bytes,
                       (unsigned long long)f->size_bytes);
    else if (strcmp(sha256, f->sha256) != 0)
        (void)snprintf(problem, BYTES_PROBLEM_SIZE,
                       "its bytes are no longer those that were written: the "
                       "SHA-256 differs from the one taken when it was made");
    else
        return false;
    return true;
}

void apply_report(struct facts *f, const struct check_report *r, bool deep)
{
    free(f->proof.problem);
    free(f->proof.not_checked);
    f->proof.problem = text_or_null(r->problem);
    f->proof.not_checked = text_or_null(r->not_checked);
    f->proof.at = clock_now_s();
    (void)snprintf(f->proof.what, sizeof f->proof.what, "%s",
                   deep ? "integrity_check" : "quick_check");
    switch (r->result) {
    case CHECK_OK:
        f->proof.result = PROOF_OK;
        break;
    case CHECK_DAMAGED:
        f->proof.result = PROOF_DAMAGED;
        f->state = BACKUP_SUSPECT;
        break;
    case CHECK_NOT_PROVEN:
    case CHECK_MOVED_ON:
        f->proof.result = PROOF_NOT_PROVEN;
        break;
    }
}
