/*
 * emu_fault.c - see emu_fault.h. Called by accel_emu.c on a worker's main thread; owns nothing.
 * Invariant: what is not well formed ends the process, so that no test passes without its fault.
 */
#include "tests/kern/emu/emu_fault.h"

#include <stdlib.h>
#include <string.h>

#include "base/must.h"

struct emu_fault emu_fault_from_environment(void)
{
    struct emu_fault fault = {.name = ""};
    const char *text = getenv("SLUICE_EMU_FAULT");
    if (text) {
        const char *colon = strchr(text, ':');
        must(colon && (size_t)(colon - text) < sizeof fault.name);
        memcpy(fault.name, text, (size_t)(colon - text));
        fault.calls_left = strtoull(colon + 1, NULL, 10);
        must(fault.calls_left > 0);
    }
    return fault;
}

bool emu_fault_comes(struct emu_fault *fault, const char *name)
{
    if (strcmp(fault->name, name) != 0) {
        return false;
    }
    fault->calls_left -= fault->calls_left > 0 ? 1 : 0;
    return fault->calls_left == 0;
}
