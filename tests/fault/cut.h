/*
 * What a power cut leaves.  A model of the folder under test: what every file
 * holds for those that read it, and what of it is durable; which names every
 * folder has, and which of these are durable.  A file's bytes become durable
 * by its fsync, a name by its folder's.  What a failed fsync covered counts as
 * clean afterwards and is not written by a later one, as on Linux.
 *
 * Calls must come one at a time.  Those on files outside the folder are
 * ignored.
 */
#ifndef HOLDFAST_TESTS_CUT_H
#define HOLDFAST_TESTS_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* cut_begin: all that is below root is durable. */
void cut_begin(const char *root);
bool cut_recording(void);

/* A name `name` in folder `dir` was made for file or folder `st`. */
void cut_made(const struct stat *dir, const char *name, const struct stat *st);
/* A file without a name, and one that gets a name. */
void cut_unnamed(const struct stat *st);
void cut_linked(const struct stat *dir, const char *name,
                const struct stat *st);
void cut_removed(const struct stat *dir, const char *name);
void cut_renamed(const struct stat *from_dir, const char *from,
                 const struct stat *to_dir, const char *to);
void cut_written(const struct stat *st, const void *bytes, size_t n,
                 uint64_t at);
void cut_truncated(const struct stat *st, uint64_t size);
void cut_synced(const struct stat *st);
void cut_sync_failed(const struct stat *st);

/* The ways in which a cut is written out. */
enum cut_variant {
    CUT_ALL_LOST,   /* nothing that was not synced */
    CUT_BYTES_LOST, /* all names, only synced bytes */
    CUT_NAMES_LOST, /* only synced names, all bytes */
    CUT_RANDOM,     /* names up to a random moment, random pages of bytes */
    CUT_VARIANTS
};

/* cut_write: what is on the disk after a cut, into the new folder `to`. */
void cut_write(const char *to, enum cut_variant v, uint64_t seed);

#endif
