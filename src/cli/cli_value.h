/* The values of options, and numbers in a form for people. */
#ifndef HOLDFAST_CLI_VALUE_H
#define HOLDFAST_CLI_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/*
 * cli_parse_duration: seconds with at most three decimals ("10", "0.5"), or a
 * number with a unit: "500ms", "10s", "2min".  At most a day.
 */
int cli_parse_duration(const char *text, unsigned *out_ms, struct err *e);

/*
 * cli_parse_size: bytes, or a number with a unit: KiB, MiB, GiB, TiB (powers
 * of 1024; also K, M, G, T) and kB, MB, GB, TB (powers of 1000).  At most
 * three decimals, and at most 2^63 - 1 bytes.
 */
int cli_parse_size(const char *text, uint64_t *out_bytes, struct err *e);

struct cli_listen {
    char host[64]; /* numeric, without brackets */
    uint16_t port;
    bool loopback;
};

/*
 * cli_parse_listen: HOST:PORT, HOST a numeric IPv4 address, an IPv6 address
 * in brackets, or localhost (which is 127.0.0.1); port 0 is any free one.
 */
int cli_parse_listen(const char *text, struct cli_listen *out, struct err *e);

/* cli_parse_switch: "on" or "off". */
int cli_parse_switch(const char *text, bool *out, struct err *e);

/* cli_check_host: a name or address as it stands in a Host header, without
 * a port. */
int cli_check_host(const char *text, struct err *e);

/* cli_format_size: "5.0 MiB", "812 B". */
#define CLI_SIZE_SIZE 16
void cli_format_size(uint64_t bytes, char out[CLI_SIZE_SIZE]);

#endif
