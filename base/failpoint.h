/*
 * failpoint.h - a named place at which a process can be made to die, for the fault tests.
 *
 * SLUICE_FAILPOINT=NAME:COUNT in the environment of a process makes its COUNT-th pass through NAME
 * send itself SIGKILL. Unset, a failpoint is one comparison. Names: prefill, decode, publish.
 */
#ifndef BASE_FAILPOINT_H
#define BASE_FAILPOINT_H

#include <stdint.h>

enum { FAILPOINT_NAME_BYTES_MAX = 32 };

struct failpoint {
    char name[FAILPOINT_NAME_BYTES_MAX]; /* Empty: none armed. */
    uint64_t passes_left;
};

/* Reads the environment. A malformed value arms nothing and is logged. */
struct failpoint failpoint_from_environment(void);

/* Dies here when this is the armed pass. */
void failpoint_pass(struct failpoint *failpoint, const char *name);

#endif /* BASE_FAILPOINT_H */
