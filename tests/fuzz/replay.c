/*
 * A main for a fuzz target without libFuzzer: runs it once on each file that
 * is named, and on each file in a folder that is named.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "fuzz.h"

#define MAX_BYTES ((size_t)16 << 20)

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rbe");
    uint8_t *bytes = xmalloc(MAX_BYTES);
    uint8_t *exact;
    size_t n;

    require(f != NULL);
    n = fread(bytes, 1, MAX_BYTES, f);
    (void)fclose(f);
    /* A buffer of the very size, so that a sanitizer sees its end. */
    exact = xmalloc(n + (n == 0));
    memcpy(exact, bytes, n);
    free(bytes);
    /* Said before and not after: a crash shows which one it was. */
    (void)fprintf(stderr, "%s\n", path);
    (void)LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

static size_t run_folder(const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *ent;
    size_t n = 0;

    require(d != NULL);
    while ((ent = readdir(d)) != NULL) {
        char *file;

        if (ent->d_name[0] == '.')
            continue;
        file = xasprintf("%s/%s", path, ent->d_name);
        run_file(file);
        free(file);
        n++;
    }
    (void)closedir(d);
    return n;
}

int main(int argc, char **argv)
{
    int out = dup(STDOUT_FILENO); /* a target may take the other one away */
    size_t n = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;

        require(stat(argv[i], &st) == 0);
        if (S_ISDIR(st.st_mode)) {
            n += run_folder(argv[i]);
        } else {
            run_file(argv[i]);
            n++;
        }
    }
    (void)dprintf(out, "%s: %zu inputs\n", argv[0], n);
    return n > 0 ? 0 : 1;
}
