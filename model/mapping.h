/* mapping.h - a file mapped read-only. The model directory must not be writable by others: a file
 * that shrinks while it is mapped ends the process that touches it. */
#ifndef MODEL_MAPPING_H
#define MODEL_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

struct mapping {
    const uint8_t *bytes; /* NULL for an empty file. */
    size_t count;
    bool borrowed; /* The caller's bytes, no mapping: closing leaves them alone. */
};

/* 0 or -errno; -EINVAL when path is not a regular file. */
int mapping_open(struct mapping *mapping, const char *path) MUST_CHECK;
void mapping_close(struct mapping *mapping);

#endif /* MODEL_MAPPING_H */
