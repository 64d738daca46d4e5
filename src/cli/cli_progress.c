/* A progress bar: see cli_progress.h. */
#include "cli/cli_progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli_options.h"
#include "cli/cli_value.h"

#define BAR_WIDTH 30
#define REDRAW_MS 100

void cli_progress_init(struct cli_progress *p, const char *what,
                       const struct cli_options *o)
{
    const char *term = getenv("TERM");

    *p = (struct cli_progress){.what = what};
    p->on = !o->json && !o->quiet && isatty(STDERR_FILENO) && term != NULL &&
            strcmp(term, "dumb") != 0;
}

static void draw(const struct cli_progress *p, uint64_t done, uint64_t total)
{
    char bar[BAR_WIDTH + 1];
    char done_text[CLI_SIZE_SIZE], total_text[CLI_SIZE_SIZE];
    double share = total == 0 ? 0 : (double)done / (double)total;
    size_t n;

    cli_format_size(done, done_text);
    cli_format_size(total, total_text);
    if (total == 0) {
        (void)fprintf(stderr, "\r\033[K%s  %s", p->what, done_text);
        return;
    }
    if (share > 1)
        share = 1;
    n = (size_t)(share * BAR_WIDTH);
    memset(bar, '#', n);
    memset(bar + n, '.', BAR_WIDTH - n);
    bar[BAR_WIDTH] = '\0';
    (void)fprintf(stderr, "\r\033[K%s  [%s] %3d %%  %s of %s", p->what, bar,
                  (int)(share * 100), done_text, total_text);
}

void cli_progress_update(struct cli_progress *p, uint64_t done_bytes,
                         uint64_t total_bytes)
{
    int64_t now = clock_monotonic_ms();

    if (!p->on || (p->drawn && now - p->drawn_at_ms < REDRAW_MS))
        return;
    draw(p, done_bytes, total_bytes);
    p->drawn = true;
    p->drawn_at_ms = now;
}

void cli_progress_end(struct cli_progress *p)
{
    if (p->drawn)
        (void)fputs("\r\033[K", stderr);
    p->drawn = false;
}
