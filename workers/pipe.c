/*
 * pipe.c - see pipe.h. Called by the engine on a worker's main thread; owns nothing. Invariant: an
 * operation starts when the one before it has ended on all threads, so no two overlap.
 */
#include "workers/pipe.h"

#include <string.h>

#include "base/clock.h"
#include "base/must.h"

bool pipe_accepts(const struct plan *plan, bool experts)
{
    struct plan sequential;
    plan_sequential(&sequential, experts);
    return plan->nano_count == sequential.nano_count &&
           memcmp(plan->nano, sequential.nano, sequential.nano_count * sizeof sequential.nano[0]) ==
               0;
}

void pipe_run(struct pipe *pipe, const struct plan *plan)
{
    uint64_t start_ns = clock_now_ns();
    for (uint32_t layer = 0; layer < pipe->layers; layer++) {
        for (uint32_t i = 0; i < plan->nano_count; i++) {
            const uint32_t operation = plan->nano[i].operation;
            must(operation < PLAN_OPERATION_COUNT && pipe->operation[operation]);
            pipe->operation[operation](pipe->model, layer);
            const uint64_t end_ns = clock_now_ns();
            pipe->spent_ns[operation] += end_ns - start_ns;
            start_ns = end_ns;
        }
    }
}
