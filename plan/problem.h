/*
 * problem.h - a planning problem: the operations of one layer with their durations over token
 * counts, the streams they run on, and what needs what. Read from JSON; the search and its check
 * work on this alone, so a device's profile becomes a problem as a published table does.
 *
 * Tokens are counted in grid units here: unit u is tokens [u * grid, (u + 1) * grid).
 */
#ifndef PLAN_PROBLEM_H
#define PLAN_PROBLEM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/must.h"

enum problem_operation {
    PROBLEM_KQV,
    PROBLEM_GEMV,   /* Decode attention. */
    PROBLEM_PF,     /* Prefill attention. */
    PROBLEM_AG_ATT, /* All-gather of attention's output, before O. */
    PROBLEM_O,      /* Split by columns: AG_ATT before, AG_O after. */
    PROBLEM_AG_O,
    PROBLEM_O2, /* Split by rows: AR_O after. A token takes O or O2. */
    PROBLEM_AR_O,
    PROBLEM_UG,
    PROBLEM_D,
    PROBLEM_AR_D,
    PROBLEM_OPERATIONS,
};

enum problem_stream { PROBLEM_COMPUTE, PROBLEM_MEMORY, PROBLEM_NET, PROBLEM_STREAMS };

enum {
    PROBLEM_UNITS_MAX = 64, /* Of a batch. */
    PROBLEM_PIECES_MAX = 4, /* Nano-operations of one operation. */
    PROBLEM_DEPS_MAX = 64,
};

struct problem_dep { /* `after` of layer l needs `before` of layer l - offset on common tokens. */
    enum problem_operation after;
    enum problem_operation before;
    uint32_t offset;
    bool prefix; /* And on all earlier tokens: a prompt attends backwards. */
};

struct problem {
    uint32_t grid; /* Tokens of a unit. */
    uint32_t units;
    struct {
        uint32_t first; /* Units of the batch that it handles: [first, end); none: it is absent. */
        uint32_t end;
        uint32_t pieces_max; /* Of O and O2 together. */
        enum problem_stream stream;
        double duration_us[PROBLEM_UNITS_MAX + 1]; /* By units; 0: this size is not allowed. */
    } operation[PROBLEM_OPERATIONS];
    struct problem_dep dep[PROBLEM_DEPS_MAX];
    uint32_t dep_count;
};

enum { PROBLEM_ERROR_BYTES_MAX = 160 };

/* given_sizes: durations from given_us, else from duration_us. -EINVAL with one line in error. */
int problem_read(struct problem *problem, const struct json *root, bool given_sizes,
                 char error[PROBLEM_ERROR_BYTES_MAX]) MUST_CHECK;

const char *problem_name(enum problem_operation operation);

#endif /* PLAN_PROBLEM_H */
