/* Writing a large file with a thread of its own: see outfile.h. */
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

/* Direct I/O wants memory, length and offset in multiples of this. */
#define ALIGNMENT 4096

struct outfile {
    int fd;
    bool direct;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void *buffer[OUTFILE_BUFFERS];
    size_t length[OUTFILE_BUFFERS]; /* of a buffer that waits to be written */
    uint64_t n_pushed;              /* buffers handed over, ever */
    uint64_t n_written;             /* of those, dealt with */
    uint64_t offset;                /* the thread's own */
    bool stop;
    struct err error; /* code ERR_NONE while all is well */
};

static void set_direct(struct outfile *o, bool on)
{
    int flags = fcntl(o->fd, F_GETFL);

    if (flags < 0)
        return;
    flags = on ? flags | O_DIRECT : flags & ~O_DIRECT;
    if (fcntl(o->fd, F_SETFL, flags) == 0)
        o->direct = on;
    else
        o->direct = false; /* the filesystem refuses: buffered will do */
}

static int write_chunk(struct outfile *o, const void *p, size_t n,
                       struct err *e)
{
    if (o->direct && n % ALIGNMENT != 0)
        set_direct(o, false);
    if (file_pwrite_all(o->fd, p, n, o->offset, e) == 0)
        return 0;
    if (o->direct && e->sys == EINVAL) {
        set_direct(o, false);
        return file_pwrite_all(o->fd, p, n, o->offset, e);
    }
    return -1;
}

static void *writer(void *arg)
{
    struct outfile *o = arg;

    (void)pthread_mutex_lock(&o->lock);
    for (;;) {
        size_t i = o->n_written % OUTFILE_BUFFERS;
        struct err e = {0};
        int rc = 0;

        while (!o->stop && o->n_written == o->n_pushed)
            (void)pthread_cond_wait(&o->changed, &o->lock);
        if (o->n_written == o->n_pushed)
            break;
        if (o->error.code == ERR_NONE && !o->stop) {
            (void)pthread_mutex_unlock(&o->lock);
            rc = write_chunk(o, o->buffer[i], o->length[i], &e);
            (void)pthread_mutex_lock(&o->lock);
        }
        if (rc != 0)
            o->error = e;
        o->offset += o->length[i];
        o->n_written++;
        (void)pthread_cond_broadcast(&o->changed);
    }
    (void)pthread_mutex_unlock(&o->lock);
    return NULL;
}

struct outfile *outfile_new(int fd, bool direct)
{
    struct outfile *o = xcalloc(1, sizeof *o);

    o->fd = fd;
    if (direct)
        set_direct(o, true);
    for (int i = 0; i < OUTFILE_BUFFERS; i++) {
        /* never: no test can do without 4 MiB; without, it is as xmalloc */
        if (posix_memalign(&o->buffer[i], ALIGNMENT, OUTFILE_CHUNK) != 0)
            abort(); /* never: no test can do without 4 MiB */
    }
    (void)pthread_mutex_init(&o->lock, NULL);
    (void)pthread_cond_init(&o->changed, NULL);
    /* never: a thread without which nothing goes on, like those of a pool */
    if (pthread_create(&o->thread, NULL, writer, o) != 0)
        abort(); /* never: like those of a pool */
    return o;
}

void *outfile_buffer(struct outfile *o)
{
    (void)pthread_mutex_lock(&o->lock);
    while (o->n_pushed - o->n_written == OUTFILE_BUFFERS)
        (void)pthread_cond_wait(&o->changed, &o->lock);
    (void)pthread_mutex_unlock(&o->lock);
    return o->buffer[o->n_pushed % OUTFILE_BUFFERS];
}

int outfile_push(struct outfile *o, size_t n, struct err *e)
{
    int rc = 0;

    (void)pthread_mutex_lock(&o->lock);
    if (o->error.code != ERR_NONE) {
        *e = o->error;
        rc = -1;
    } else {
        o->length[o->n_pushed % OUTFILE_BUFFERS] = n;
        o->n_pushed++;
        (void)pthread_cond_broadcast(&o->changed);
    }
    (void)pthread_mutex_unlock(&o->lock);
    return rc;
}

int outfile_drain(struct outfile *o, struct err *e)
{
    int rc = 0;

    (void)pthread_mutex_lock(&o->lock);
    while (o->n_written < o->n_pushed)
        (void)pthread_cond_wait(&o->changed, &o->lock);
    if (o->error.code != ERR_NONE) {
        *e = o->error;
        rc = -1;
    }
    (void)pthread_mutex_unlock(&o->lock);
    if (rc == 0 && o->direct)
        set_direct(o, false);
    return rc;
}

int outfile_patch(struct outfile *o, const void *bytes, size_t n,
                  uint64_t offset, struct err *e)
{
    return file_pwrite_all(o->fd, bytes, n, offset, e);
}

int outfile_finish(struct outfile *o, uint64_t size_bytes, struct err *e)
{
    if (outfile_drain(o, e) != 0)
        return -1;
    if (ftruncate(o->fd, (off_t)size_bytes) != 0)
        return err_sys(e, "cannot set a file's length");
    return file_sync(o->fd, e);
}

int outfile_fd(const struct outfile *o)
{
    return o->fd;
}

void outfile_free(struct outfile *o)
{
    if (o == NULL)
        return;
    (void)pthread_mutex_lock(&o->lock);
    o->stop = true;
    (void)pthread_cond_broadcast(&o->changed);
    (void)pthread_mutex_unlock(&o->lock);
    (void)pthread_join(o->thread, NULL);
    for (int i = 0; i < OUTFILE_BUFFERS; i++)
        free(o->buffer[i]);
    (void)pthread_cond_destroy(&o->changed);
    (void)pthread_mutex_destroy(&o->lock);
    free(o);
}
