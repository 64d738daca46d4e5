/*
 * What commands ask for, of a server or of a data directory; they need not
 * know which.  JSON is the API's, whoever made it; it is set on success only
 * and the caller's.  `db` NULL means the current database.
 */
#ifndef HOLDFAST_CLI_CLIENT_H
#define HOLDFAST_CLI_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/cli_options.h"
#include "cli/cli_progress.h"
#include "crypto/sha256.h"
#include "store/facts.h"

/* Where the bytes of a download go. */
struct cli_sink {
    int (*write)(void *arg, const void *bytes, size_t n, uint64_t total_bytes,
                 struct err *e);
    int (*tick)(void *arg, struct err *e); /* now and then; -1 gives up */
    void *arg;
};

/* What a download was said to be; sha256 is "" where nobody knows it yet. */
struct cli_download_facts {
    uint64_t size_bytes;
    char sha256[SHA256_HEX_SIZE];
};

/* Where the rich list goes on: at most `limit`, older than `before`. */
struct cli_page {
    unsigned limit;     /* 1 to 1000 */
    const char *before; /* a filename, or NULL */
};

struct cli_client;

struct cli_client_ops {
    int (*create)(struct cli_client *c, const char *db, json_t **out,
                  struct err *e);
    int (*list)(struct cli_client *c, const char *db, json_t **out,
                struct err *e);
    int (*list_details)(struct cli_client *c, const char *db,
                        struct cli_page page, json_t **out, struct err *e);
    /* *safety is "" where there was nothing to keep. */
    int (*restore)(struct cli_client *c, const char *db, const char *filename,
                   bool force, struct backup_name *safety, json_t **out,
                   struct err *e);
    int (*download)(struct cli_client *c, const char *db, const char *filename,
                    bool suspect, const struct cli_sink *sink,
                    struct cli_download_facts *said, struct err *e);
    int (*delete_backup)(struct cli_client *c, const char *db,
                         const char *filename, json_t **out, struct err *e);
    int (*verify)(struct cli_client *c, const char *db, const char *filename,
                  json_t **out, struct err *e);
    int (*databases)(struct cli_client *c, json_t **out, struct err *e);
    int (*current)(struct cli_client *c, json_t **out, struct err *e);
    int (*add)(struct cli_client *c, const char *name, const char *path,
               json_t **out, struct err *e);
    int (*remove)(struct cli_client *c, const char *name, struct err *e);
    int (*use)(struct cli_client *c, const char *name, json_t **out,
               struct err *e);
    void (*close)(struct cli_client *c);
};

struct cli_client {
    const struct cli_client_ops *ops;
    struct cli_progress *progress; /* NULL: none */
    json_t *details; /* of the error that a server answered with last, or NULL;
                        cli_client_run's to free */
};

/*
 * cli_client_run: connect to the target, let `act` do a command's work with
 * it, report its error, and return the exit status.  `doing` stands before
 * the progress bar.  Call it before the program has any thread.
 */
struct cli_client_act {
    int (*run)(struct cli_client *c, void *arg, struct err *e);
    void *arg;
    const char *doing; /* NULL: no bar */
    bool make;         /* make a data directory that is not there */
};
int cli_client_run(const struct cli_options *o, struct cli_client_act act);

/* The two kinds, for cli_client_run. */
int cli_local_open(const char *data_dir, bool make, struct cli_client **out,
                   struct err *e);
int cli_remote_open(const char *server, struct cli_client **out, struct err *e);

#endif
