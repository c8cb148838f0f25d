/*
 * failpoint.c - see failpoint.h. Called by a worker's main thread at the transitions that the kill
 * tests want to hit; owns nothing. Invariant: without the variable nothing ever dies here.
 */
#include "base/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct failpoint failpoint_from_environment(void)
{
    struct failpoint failpoint = {{0}, 0};
    const char *value = getenv("SLUICE_FAILPOINT");
    if (!value) {
        return failpoint;
    }
    const char *colon = strchr(value, ':');
    char *end = NULL;
    errno = 0;
    const unsigned long long passes = colon ? strtoull(colon + 1, &end, 10) : 0;
    if (!colon || (size_t)(colon - value) >= sizeof failpoint.name || errno || *end != '\0' ||
        passes == 0) {
        log_warning("SLUICE_FAILPOINT ignored: want NAME:COUNT");
        return failpoint;
    }
    memcpy(failpoint.name, value, (size_t)(colon - value));
    failpoint.passes_left = passes;
    return failpoint;
}

void failpoint_pass(struct failpoint *failpoint, const char *name)
{
    if (failpoint->passes_left == 0 || strcmp(failpoint->name, name) != 0) {
        return;
    }
    if (--failpoint->passes_left == 0) {
        (void)raise(SIGKILL);
    }
}
