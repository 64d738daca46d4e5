/* Asking first: see cli_confirm.h. */
#include "cli/cli_confirm.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

int cli_confirm(const char *question, struct err *e)
{
    char answer[16] = "";

    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return 0;
    (void)fprintf(stderr, "%s [y/N] ", question);
    if (fgets(answer, sizeof answer, stdin) == NULL)
        (void)fputs("\n", stderr);
    answer[strcspn(answer, "\n")] = '\0';
    if (strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0)
        return 0;
    return err_set_reason(e, ERR_CANCELLED, "declined", "nothing was done");
}
