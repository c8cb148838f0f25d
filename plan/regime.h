/*
 * regime.h - what a step is made of, and which of the plans at hand was made for the like. Plan
 * files name their regime; the core asks for a plan with each step. Pure.
 */
#ifndef PLAN_REGIME_H
#define PLAN_REGIME_H

#include <stdint.h>

enum {
    REGIME_TOKENS_MAX = 1 << 20,
    REGIME_CONTEXT_MAX = 1 << 28,
};

#define REGIME_NONE UINT32_MAX

struct regime {
    uint32_t tokens;  /* Of the dense batch; 1 to REGIME_TOKENS_MAX. */
    uint32_t decode;  /* Of these, how many are the only one of their sequence. */
    uint32_t context; /* Mean count of tokens that a token attends to. */
};

/*
 * Index of the regime [count] nearest to a step's: by the ratio of tokens, the difference of decode
 * shares and, with half the weight, the ratio of contexts. The first of equals. REGIME_NONE where
 * all have less than half or more than twice the step's tokens: the sequential plan serves then.
 */
uint32_t regime_nearest(const struct regime *regimes, uint32_t count, const struct regime *step);

#endif /* PLAN_REGIME_H */
