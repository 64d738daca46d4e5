/* A look at a file without SQLite: see check_file.h. */
#include "sqlite/check_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "sqlite/check.h"

#define HEADER_BYTES 100
#define SAMPLE_BYTES 4096

/* Every encrypted database has pages, and no page is smaller. */
#define MIN_PAGE_BYTES 512

/*
 * Whether the bytes look like those of a cipher, each value as likely as the
 * others.  A long sample is judged by chi-squared: 255 with a deviation of 23
 * for random bytes, thousands for text, code or tables.  A short one by the
 * number of values that occur: of 100 random bytes 83, with a deviation of 3,
 * of 100 characters of text at most some 50.
 */
static bool looks_random(const uint8_t *bytes, size_t n)
{
    unsigned count[256] = {0};
    double expected = (double)n / 256;
    double missing = 256; /* expected number of values that do not occur */
    double chi2 = 0;
    unsigned distinct = 0;

    for (size_t i = 0; i < n; i++) {
        count[bytes[i]]++;
        missing *= 255.0 / 256;
    }
    for (size_t i = 0; i < 256; i++) {
        double d = (double)count[i] - expected;

        chi2 += d * d / expected;
        distinct += count[i] != 0;
    }
    if (n >= 1024)
        return chi2 < 400;
    return distinct >= (256 - missing) * 0.8;
}

/* What a torn write or a lost block leaves is no sign of another format. */
static bool begins_with_zeroes(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < HEADER_BYTES && i < n; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return n >= HEADER_BYTES;
}

int check_file_foreign(const uint8_t *bytes, size_t n, struct err *e)
{
    if (begins_with_zeroes(bytes, n))
        return err_set(e, ERR_DAMAGED, "the header is overwritten with zeroes");
    if (n >= HEADER_BYTES && looks_random(bytes, n))
        return err_set(e, ERR_ENCRYPTED,
                       "the file looks like an encrypted database");
    return err_set(e, ERR_NOT_DATABASE, "the file is no SQLite database");
}

/* The start of a regular file, and its size. */
static int read_start(int fd, uint8_t sample[SAMPLE_BYTES], size_t *n,
                      uint64_t *size_bytes, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return err_sys(e, "cannot examine the file");
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_NOT_FOUND, "not a regular file");
    *size_bytes = (uint64_t)st.st_size;
    return file_pread_some(fd, sample, SAMPLE_BYTES, 0, n, e);
}

static int open_file(const char *path, struct err *e)
{
    int fd = file_open_straight(path, O_RDONLY, 0);

    /* Under landlock EACCES means another file than was to be checked. */
    if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == EACCES))
        return err_set(e, ERR_NOT_FOUND, "no such file");
    if (fd < 0 && errno == EISDIR)
        return err_set(e, ERR_NOT_FOUND, "not a regular file");
    if (fd < 0)
        return err_sys(e, "cannot open the file");
    return fd;
}

static bool has_magic(const uint8_t *sample, size_t n)
{
    size_t part = n < CHECK_FILE_MAGIC_BYTES ? n : CHECK_FILE_MAGIC_BYTES;

    return part > 0 && memcmp(sample, CHECK_FILE_MAGIC, part) == 0;
}

static int foreign(const uint8_t *sample, size_t n, uint64_t size_bytes,
                   struct err *e)
{
    if (size_bytes % MIN_PAGE_BYTES != 0)
        return err_set(e, ERR_NOT_DATABASE, "the file is no SQLite database");
    return check_file_foreign(sample, n, e);
}

int check_file_look(int fd, struct err *e)
{
    uint8_t sample[SAMPLE_BYTES];
    size_t n = 0;
    uint64_t size_bytes = 0;
    struct db_header h;

    if (read_start(fd, sample, &n, &size_bytes, e) != 0)
        return -1;
    if (size_bytes == 0)
        return err_set(e, ERR_DAMAGED, "the file is empty");
    if (!has_magic(sample, n))
        return foreign(sample, n, size_bytes, e);
    if (n < HEADER_BYTES)
        return err_set(e, ERR_DAMAGED, "the file ends inside its header");
    if (db_header_parse(sample, &h, e) != 0)
        return -1;
    if (size_bytes % h.page_size != 0)
        return err_set(e, ERR_DAMAGED,
                       "the file is %llu bytes long, not a multiple of its "
                       "page size, %u",
                       (unsigned long long)size_bytes, (unsigned)h.page_size);
    if (h.n_pages != 0 && size_bytes / h.page_size != h.n_pages)
        return err_set(e, ERR_DAMAGED,
                       "the file has %llu pages where its header says %u",
                       (unsigned long long)(size_bytes / h.page_size),
                       (unsigned)h.n_pages);
    return 0;
}

int check_file_examine(const char *path, struct err *e)
{
    int fd = open_file(path, e);
    int rc = fd < 0 ? -1 : check_file_look(fd, e);

    file_close(&fd);
    return rc;
}

int check_file_explain(const char *path, struct err *e)
{
    uint8_t sample[SAMPLE_BYTES];
    size_t n = 0;
    uint64_t size_bytes = 0;
    struct db_header h;
    int fd = open_file(path, e);
    int rc = fd < 0 ? -1 : read_start(fd, sample, &n, &size_bytes, e);

    file_close(&fd);
    if (rc != 0)
        return -1;
    if (!has_magic(sample, n))
        return foreign(sample, n, size_bytes, e);
    if (n >= HEADER_BYTES && db_header_parse(sample, &h, e) != 0)
        return -1;
    return err_set(e, ERR_DAMAGED, "the header cannot be read");
}
