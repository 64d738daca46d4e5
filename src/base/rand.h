/* Random bytes from the kernel; they never fail once the system is up. */
#ifndef HOLDFAST_BASE_RAND_H
#define HOLDFAST_BASE_RAND_H

#include <stddef.h>

void rand_bytes(void *out, size_t n);

/* rand_hex: n random bytes as 2n lowercase hex digits and a NUL. */
void rand_hex(char *out, size_t n_bytes);

#endif
