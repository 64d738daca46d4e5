/*
 * A progress bar on stderr: only where stderr is a terminal that can redraw a
 * line, and neither --json nor -q was given.
 */
#ifndef HOLDFAST_CLI_PROGRESS_H
#define HOLDFAST_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct cli_options;

struct cli_progress {
    const char *what; /* "restoring" */
    bool on;
    bool drawn;
    int64_t drawn_at_ms;
};

void cli_progress_init(struct cli_progress *p, const char *what,
                       const struct cli_options *o);

/* cli_progress_update: draw, at most ten times a second; total 0: unknown.
 * From one thread at a time. */
void cli_progress_update(struct cli_progress *p, uint64_t done_bytes,
                         uint64_t total_bytes);

/* cli_progress_end: wipe the bar away. */
void cli_progress_end(struct cli_progress *p);

#endif
