/* What the fuzz targets share: see fuzz.h. */
#include "fuzz.h"

#include <ftw.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

char *input_line(struct input *in)
{
    const uint8_t *end = in->left == 0 ? NULL : memchr(in->at, '\n', in->left);
    size_t n = end == NULL ? in->left : (size_t)(end - in->at);
    char *line = xmalloc(n + 1);
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        if (in->at[i] != 0)
            line[len++] = (char)in->at[i];
    }
    line[len] = '\0';
    n += end != NULL;
    if (n > 0)
        in->at += n;
    in->left -= n;
    return line;
}

char *input_rest(struct input *in, size_t *len)
{
    char *rest = xmalloc(in->left + 1);

    if (in->left > 0)
        memcpy(rest, in->at, in->left);
    rest[in->left] = '\0';
    *len = in->left;
    in->left = 0;
    return rest;
}

unsigned input_number(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

const char *input_file(const void *bytes, size_t n)
{
    static char path[64];
    static int fd = -1;

    if (fd < 0) {
        fd = memfd_create("input", MFD_CLOEXEC);
        require(fd >= 0);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0);
    require(n == 0 || pwrite(fd, bytes, n, 0) == (ssize_t)n);
    return path;
}

static char scratch[PATH_MAX];

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_scratch(void)
{
    (void)nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_dir(void)
{
    const char *in = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    if (scratch[0] != '\0')
        return scratch;
    (void)snprintf(scratch, sizeof scratch, "%s/holdfast-fuzz-XXXXXX", in);
    require(mkdtemp(scratch) != NULL);
    require(atexit(remove_scratch) == 0);
    return scratch;
}

void require_error(const struct err *e)
{
    require((int)e->code > ERR_NONE && e->code <= ERR_INTERNAL);
    require(memchr(e->message, '\0', sizeof e->message) != NULL);
    require(memchr(e->reason, '\0', sizeof e->reason) != NULL);
    require(e->message[0] != '\0');
}

void require_utf8(const char *s)
{
    json_t *v = json_string(s);

    require(v != NULL);
    json_decref(v);
}
