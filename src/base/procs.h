/* Other processes, as far as /proc shows them to us. */
#ifndef HOLDFAST_BASE_PROCS_H
#define HOLDFAST_BASE_PROCS_H

#include <stdbool.h>
#include <sys/types.h>

/* procs_have_open: whether another process has the file open. */
bool procs_have_open(dev_t dev, ino_t ino);

#endif
