/*
 * lengths.h - how long answers turn out to be, learnt from those that ended. Pure, part of the
 * scheduler.
 *
 * Answers that max_tokens or a cancel cut short tell only that they would have been longer, so this
 * is an estimate of survival (Kaplan and Meier, 1958) over buckets: exact up to 32 tokens, sixteen
 * to a doubling above. Old answers fade: the weights are halved when they reach LENGTHS_WEIGHT_MAX.
 */
#ifndef AGENT_LENGTHS_H
#define AGENT_LENGTHS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

enum {
    LENGTHS_EXACT = 32,
    LENGTHS_A_DOUBLING = 16,
    LENGTHS_BUCKETS = LENGTHS_EXACT + LENGTHS_A_DOUBLING * 15 + 1, /* Up to LIMIT_CONTEXT_MAX. */
    LENGTHS_WEIGHT_MAX = 2048, /* Answers; some minutes of a busy node. */
    LENGTHS_ENOUGH = 32,       /* Answers from which on a quantile says something. */
};

#define LENGTHS_UNKNOWN UINT32_MAX

struct lengths {
    float ended[LENGTHS_BUCKETS]; /* Answers of this length, */
    float cut[LENGTHS_BUCKETS];   /* and those that were not let go on. */
    float weight;                 /* Of all of them. */
};

uint32_t lengths_bucket(uint32_t tokens);

/* The longest of a bucket. */
uint32_t lengths_bucket_end(uint32_t bucket);

void lengths_learn(struct lengths *lengths, uint32_t tokens, bool cut);

bool lengths_enough(const struct lengths *lengths);

/* The length that so many percent of the answers which go on after `produced` tokens do not exceed;
 * LENGTHS_UNKNOWN where none that was seen to its end was so long. */
uint32_t lengths_predict(const struct lengths *lengths, uint32_t produced, uint32_t percent);

#endif /* AGENT_LENGTHS_H */
