/*
 * What the fuzz targets share.
 *
 * Each fuzz_NAME.c is one target: a function that is given any bytes and must
 * neither crash nor break what it states with `require`.  libFuzzer calls it
 * with bytes that it makes up (`make fuzz`), replay.c with the files below
 * corpus/NAME (`make corpora`, a stage of `make test`).
 */
#ifndef HOLDFAST_FUZZ_FUZZ_H
#define HOLDFAST_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

/* The one function of a target; libFuzzer knows it by this name. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* require: what must hold whatever the input is. */
#define require(condition)                                                   \
    do {                                                                     \
        if (!(condition)) {                                                  \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, \
                          #condition);                                       \
            abort();                                                         \
        }                                                                    \
    } while (0)

/* An input that is taken piece by piece. */
struct input {
    const uint8_t *at;
    size_t left;
};

/* input_line: what stands before the next line feed (or the end), as a new
 * string; a NUL in it is left out. */
char *input_line(struct input *in);

/* input_rest: all that is left, as a new string with its length. */
char *input_rest(struct input *in, size_t *len);

/* input_number: the next byte, 0 at the end. */
unsigned input_number(struct input *in);

/* input_file: the path of a file that holds the bytes; always the same file,
 * in memory. */
const char *input_file(const void *bytes, size_t n);

/* scratch_dir: the path of an empty folder, made once and removed when the
 * program ends. */
const char *scratch_dir(void);

/* require_error: a failure must say what it is. */
void require_error(const struct err *e);

/* require_utf8: text that goes into JSON or on a terminal. */
void require_utf8(const char *s);

#endif
