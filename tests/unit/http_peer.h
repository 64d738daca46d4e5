/*
 * The other end of a connection, byte by byte: tests say exactly what goes
 * over the wire.  Nothing waits longer than PEER_PATIENCE_S; what does not
 * come by then fails the test.
 */
#ifndef HOLDFAST_TESTS_HTTP_PEER_H
#define HOLDFAST_TESTS_HTTP_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_PATIENCE_S 60

struct answer {
    int status;
    char *head; /* the status line and header lines */
    char *body; /* followed by a NUL */
    size_t body_len;
};

/* peer_use: where the server listens, for all that follows. */
void peer_use(const char *address, uint16_t port);

int peer_dial(void);

/* peer_send: all of the n bytes; false when the connection is gone. */
bool peer_send(int fd, const char *bytes, size_t n);
void peer_say(int fd, const char *text);

/* peer_read: the next answer; `no_body` for the answer to a HEAD.  False when
 * the connection ends before it begins. */
bool peer_read(int fd, bool no_body, struct answer *a);

/* peer_ended: whether the server closes now, without another byte. */
bool peer_ended(int fd);

/* answer_header: the value of a header of the answer, or NULL; the memory is
 * the thread's until its next call. */
const char *answer_header(struct answer *a, const char *name);
void answer_fini(struct answer *a);

/* ask: send one request on a connection of its own and take the answer; true
 * if that said Connection: close, and then the server must have closed. */
bool ask(const char *request, struct answer *a);
bool ask_bytes(const char *request, size_t n, struct answer *a);

/* answered: the status of a request whose body does not matter. */
int answered(const char *request);

/* refused: the request must get the error body with this status and code, and
 * a message that has `part` in it.  Returns what ask does. */
bool refused(const char *request, int status, const char *code,
             const char *part);
bool refused_bytes(const char *request, size_t n, int status, const char *code,
                   const char *part);

#endif
