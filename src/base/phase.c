/* Named steps for the tests: see phase.h. */
#include "base/phase.h"

#ifdef HOLDFAST_TEST

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int kill_count;

static void tell(const char *name)
{
    const char *path = getenv("HOLDFAST_TEST_PHASE");
    char text[33];
    ssize_t r;
    int fd;

    if (path == NULL ||
        (fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) < 0)
        return;
    (void)snprintf(text, sizeof text, "%-32s", name);
    r = pwrite(fd, text, 32, 0);
    (void)r;
    (void)close(fd);
}

static void maybe_kill(const char *name)
{
    const char *aim = getenv("HOLDFAST_TEST_KILL");
    size_t n = strlen(name);

    if (aim == NULL || strncmp(aim, name, n) != 0 || aim[n] != ':')
        return;
    if (++kill_count == atoi(aim + n + 1))
        (void)kill(getpid(), SIGKILL);
}

static int wanted_errno(const char *word)
{
    if (strncmp(word, "ENOSPC", 6) == 0)
        return ENOSPC;
    if (strncmp(word, "EMFILE", 6) == 0)
        return EMFILE;
    return EIO;
}

static int maybe_fail(const char *name, struct err *e)
{
    const char *path = getenv("HOLDFAST_TEST_FAULT_FILE");
    char text[64] = "";
    size_t n = strlen(name);
    FILE *f;

    if (path == NULL || (f = fopen(path, "re")) == NULL)
        return 0;
    if (fgets(text, sizeof text, f) == NULL)
        text[0] = '\0';
    (void)fclose(f);
    if (strncmp(text, name, n) != 0 || text[n] != ':')
        return 0;
    errno = wanted_errno(text + n + 1);
    return err_sys(e, "a test makes %s fail", name);
}

int phase_enter(const char *name, struct err *e)
{
    (void)pthread_mutex_lock(&lock);
    tell(name);
    maybe_kill(name);
    (void)pthread_mutex_unlock(&lock);
    return maybe_fail(name, e);
}

#else
typedef int phase_is_for_tests_only;
#endif
