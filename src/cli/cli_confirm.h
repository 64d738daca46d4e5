/* Asking before something that a slip of the hand should not do. */
#ifndef HOLDFAST_CLI_CONFIRM_H
#define HOLDFAST_CLI_CONFIRM_H

#include "base/err.h"

/*
 * cli_confirm: where stdin and stderr are a terminal, ask `question` and take
 * y or yes for an answer; elsewhere nobody can be asked, and it goes on.
 * ERR_CANCELLED (reason "declined") for anything else.
 */
int cli_confirm(const char *question, struct err *e);

#endif
