/*
 * regime.c - see regime.h. Called by the core's loop once a step; owns nothing. Invariant: the
 * answer depends on its arguments alone, so that a replay chooses the same plan.
 */
#include "plan/regime.h"

#include <math.h>
#include <stdbool.h>

static const double context_weight = 0.5;

static bool is_near(uint32_t tokens, uint32_t step_tokens)
{
    return tokens <= 2 * (uint64_t)step_tokens && 2 * (uint64_t)tokens >= step_tokens;
}

/* In doublings; all decode against none counts as much as twice the tokens. */
static double distance(const struct regime *regime, const struct regime *step)
{
    const double share = (double)regime->decode / regime->tokens;
    const double step_share = (double)step->decode / step->tokens;
    return fabs(log2((double)regime->tokens / step->tokens)) + fabs(share - step_share) +
           context_weight * fabs(log2((1.0 + regime->context) / (1.0 + step->context)));
}

uint32_t regime_nearest(const struct regime *regimes, uint32_t count, const struct regime *step)
{
    uint32_t nearest = REGIME_NONE;
    double least = INFINITY;
    for (uint32_t i = 0; i < count && step->tokens > 0; i++) {
        if (!is_near(regimes[i].tokens, step->tokens)) {
            continue;
        }
        const double here = distance(&regimes[i], step);
        if (here < least) {
            least = here;
            nearest = i;
        }
    }
    return nearest;
}
