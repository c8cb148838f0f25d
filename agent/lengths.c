/*
 * lengths.c - see lengths.h. Called by the scheduler on the core's loop thread and by tests; owns
 * nothing. Invariant: weight is the sum of both histograms, but for rounding.
 */
#include "agent/lengths.h"

#include <assert.h>

#include "base/must.h"

enum { EXACT_BITS = 5, SHARE_BITS = 4 };

static_assert(LENGTHS_EXACT == 1 << EXACT_BITS && LENGTHS_A_DOUBLING == 1 << SHARE_BITS, "shifts");
static_assert(LIMIT_CONTEXT_MAX == LENGTHS_EXACT << 15, "the last bucket");

uint32_t lengths_bucket(uint32_t tokens)
{
    must(tokens <= LIMIT_CONTEXT_MAX);
    if (tokens < LENGTHS_EXACT) {
        return tokens;
    }
    const uint32_t shift = 31 - (uint32_t)__builtin_clz(tokens) - SHARE_BITS;
    const uint32_t doubling = shift + SHARE_BITS - EXACT_BITS;
    return LENGTHS_EXACT + doubling * LENGTHS_A_DOUBLING + (tokens >> shift) - LENGTHS_A_DOUBLING;
}

uint32_t lengths_bucket_end(uint32_t bucket)
{
    if (bucket < LENGTHS_EXACT) {
        return bucket;
    }
    const uint32_t doubling = (bucket - LENGTHS_EXACT) / LENGTHS_A_DOUBLING;
    const uint32_t share = (bucket - LENGTHS_EXACT) % LENGTHS_A_DOUBLING + LENGTHS_A_DOUBLING;
    const uint32_t shift = doubling + EXACT_BITS - SHARE_BITS;
    return ((share + 1) << shift) - 1;
}

void lengths_learn(struct lengths *lengths, uint32_t tokens, bool cut)
{
    (cut ? lengths->cut : lengths->ended)[lengths_bucket(tokens)] += 1;
    lengths->weight += 1;
    if (lengths->weight < LENGTHS_WEIGHT_MAX) {
        return;
    }
    lengths->weight /= 2;
    for (uint32_t i = 0; i < LENGTHS_BUCKETS; i++) {
        lengths->ended[i] /= 2;
        lengths->cut[i] /= 2;
    }
}

bool lengths_enough(const struct lengths *lengths)
{
    return lengths->weight >= LENGTHS_ENOUGH;
}

uint32_t lengths_predict(const struct lengths *lengths, uint32_t produced, uint32_t percent)
{
    const uint32_t first =
        produced < LIMIT_CONTEXT_MAX ? lengths_bucket(produced + 1) : LENGTHS_BUCKETS;
    const float wanted = 1 - (float)percent / 100;
    float at_risk = 0;
    float survive = 1;
    for (uint32_t i = first; i < LENGTHS_BUCKETS; i++) {
        at_risk += lengths->ended[i] + lengths->cut[i];
    }
    for (uint32_t i = first; i < LENGTHS_BUCKETS && at_risk >= 1; i++) {
        survive *= 1 - lengths->ended[i] / at_risk;
        if (survive <= wanted) {
            return lengths_bucket_end(i);
        }
        at_risk -= lengths->ended[i] + lengths->cut[i];
    }
    return LENGTHS_UNKNOWN;
}
