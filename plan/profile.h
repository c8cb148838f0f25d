/*
 * profile.h - what a device was measured to do: how long each operation takes alone, over tokens,
 * contexts and unit shares, and how operations of two classes slow each other when they run at one
 * time. Simulations and searches work on this alone, whether a device or a test made it.
 */
#ifndef PLAN_PROFILE_H
#define PLAN_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/must.h"
#include "plan/plan.h"
#include "plan/plankey.h"

enum profile_class { PROFILE_COMPUTE, PROFILE_MEMORY, PROFILE_CLASSES };

enum {
    PROFILE_SHARES_MAX = 16,
    PROFILE_CONTEXTS_MAX = 6,
    PROFILE_TOKENS_MAX = 16,
    PROFILE_UNITS_MAX = 1024,
};

struct profile {
    struct plankey key; /* Whose; its units are all that the device has. */
    uint32_t layers;
    bool experts;
    uint32_t share[PROFILE_SHARES_MAX]; /* Units that were measured: ascending, the last is all. */
    uint32_t share_count;
    uint32_t context[PROFILE_CONTEXTS_MAX]; /* Mean tokens that a row attends to: ascending. */
    uint32_t context_count;
    uint32_t token[PROFILE_TOKENS_MAX]; /* Ascending. */
    uint32_t token_count;
    /* Alone, by [share][context][tokens]; all 0 where the model has no such operation. */
    double duration_us[PLAN_OPERATION_COUNT][PROFILE_SHARES_MAX][PROFILE_CONTEXTS_MAX]
                      [PROFILE_TOKENS_MAX];
    /* P(R): the part of its own speed that the first class keeps while the second runs beside it on
     * R units, by the index of R in share; 1: it feels nothing. */
    double keep[PROFILE_CLASSES][PROFILE_CLASSES][PROFILE_SHARES_MAX];
};

enum { PROFILE_ERROR_BYTES_MAX = 400 };

/* -EINVAL with one line in error. */
int profile_read(struct profile *profile, const struct json *root,
                 char error[PROFILE_ERROR_BYTES_MAX]) MUST_CHECK;

/* What profile_read() reads. The caller frees. */
struct json *profile_json(const struct profile *profile);

/* Attention over the cache moves memory, the rest computes. */
enum profile_class profile_class(enum plan_operation operation);

/* Index of the largest measured share of at most so many units; 0 units are all of them. */
uint32_t profile_share(const struct profile *profile, uint32_t units);

/* Linear between what was measured, and beyond the largest; 0 tokens take no time. */
double profile_duration(const struct profile *profile, enum plan_operation operation,
                        uint32_t share, uint32_t context, uint32_t tokens);

#endif /* PLAN_PROFILE_H */
