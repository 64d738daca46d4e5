/*
 * Errors.  A fallible function takes `struct err *e` last and returns 0, or
 * -1 with *e filled.  The code decides the HTTP status (src/api/api_error.c)
 * and the exit status (src/cli/cli_error.c); the message is for a person.
 *
 * Messages with the codes ERR_IO and ERR_INTERNAL may name
 * paths: they go to the log and to a local command line, never into an HTTP
 * body.  Every other message names objects ("backup app_….db", "database
 * default"), never a path or SQL.
 */
#ifndef HOLDFAST_BASE_ERR_H
#define HOLDFAST_BASE_ERR_H

enum err_code {
    ERR_NONE = 0,
    ERR_BAD_REQUEST,  /* malformed JSON, header, query or option */
    ERR_UNAUTHORIZED, /* not known who is asking, or a wrong password */
    ERR_FORBIDDEN,    /* not allowed to this caller */
    ERR_NOT_FOUND,    /* no such backup, database or route */
    ERR_CONFLICT,     /* exists already, or the state does not allow it */
    ERR_INVALID,      /* a name or field breaks its rule */
    ERR_TOO_LARGE,    /* larger than a limit of ours */
    ERR_DAMAGED,      /* a database or backup proves damaged */
    ERR_NOT_DATABASE, /* a file that is no SQLite database */
    ERR_ENCRYPTED,    /* a file that looks like an encrypted database */
    ERR_THROTTLED,    /* too many attempts; try again later */
    ERR_BUSY,         /* locked past the deadline, or too much under way */
    ERR_NO_SPACE,     /* the disk is full, or would be */
    ERR_CANCELLED,    /* the service is stopping */
    ERR_LIMIT,        /* a limited child ran into its limits */
    ERR_UNREACHABLE,  /* the server of a command does not answer */
    ERR_IO,           /* the operating system refused a file operation */
    ERR_INTERNAL      /* a fault of ours */
};

struct err {
    enum err_code code;
    int sys;           /* errno, or 0 */
    char reason[32];   /* a stable word for programs, or "" */
    char message[512]; /* for a person: lowercase, names the object */
};

/* err_set: fill *e; returns -1 so that `return err_set(…)` reads well. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* err_set_reason: as err_set, with a stable word that programs can test. */
int err_set_reason(struct err *e, enum err_code code, const char *reason,
                   const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * err_sys: fill *e from errno and add its text to the message.  ENOSPC and
 * EDQUOT become ERR_NO_SPACE, EMFILE and ENFILE ERR_BUSY (reason
 * "descriptors"), everything else ERR_IO.  Returns -1.
 */
int err_sys(struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* err_wrap: put "what was being done: " before the message.  Returns -1. */
int err_wrap(struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* err_is_private: whether the message may name paths (see above). */
int err_is_private(const struct err *e);

#endif
