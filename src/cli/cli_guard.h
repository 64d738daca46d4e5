/* The helper for limited children, with all the work that Holdfast gives
 * them. */
#ifndef HOLDFAST_CLI_GUARD_H
#define HOLDFAST_CLI_GUARD_H

#include "base/err.h"
#include "guard/guard.h"

/* cli_guard_start: guard_start with our services; before any thread. */
int cli_guard_start(struct guard **out, struct err *e);

#endif
