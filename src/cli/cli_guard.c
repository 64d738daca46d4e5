/* The helper for limited children: see cli_guard.h. */
#include "cli/cli_guard.h"

#include "sqlite/check.h"

int cli_guard_start(struct guard **out, struct err *e)
{
    static struct guard_service services[2];

    services[0] = check_service;
    services[1] = convert_service;
    return guard_start(services, sizeof services / sizeof services[0], out, e);
}
