/*
 * bed.h - a model in f32 whose steps run by any plan, and what the sequential plan gave for them:
 * on one engine, or on the ranks of a group, whose expected logits are those of one engine.
 */
#ifndef TESTS_UNIT_WORKERS_BED_H
#define TESTS_UNIT_WORKERS_BED_H

#include <stdbool.h>
#include <stdint.h>

#include "plan/graph.h"
#include "plan/plan.h"
#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/relay.h"
#include "tests/unit/workers/tiny_model.h"

enum {
    BED_SEQUENCES = 8,
    BED_CONTEXT = 128,
    BED_PAGE_TOKENS = 16,
    BED_PAGES = BED_CONTEXT / BED_PAGE_TOKENS,
    BED_TOKENS = 96, /* Of a batch. Cuts go to multiples of 8, within prompts of 16 positions. */
    BED_MIXES = 2,
    BED_RANKS_MAX = 2,
};

struct bed {
    char path[TINY_MODEL_PATH_BYTES];
    uint32_t ranks;
    struct probe probe[BED_RANKS_MAX];
    struct relay relay; /* Of several ranks. */
    struct graph graph;
    uint32_t layers;
    uint32_t ids[BED_TOKENS];
    uint32_t pages[BED_SEQUENCES][BED_PAGES];
    struct engine_row rows[BED_SEQUENCES];
    uint32_t row_count;
    float *expected[BED_MIXES]; /* [BED_SEQUENCES][vocab] */
};

/* path NULL: of the tiny model. Failure is must(). */
struct bed *bed_open(const char *path, const struct tiny_model *model, uint32_t threads,
                     uint32_t ranks);
void bed_close(struct bed *bed);

/* Runs the batch of this mix on every rank, chaos_seed as in engine.h. Whether the logits are, bit
 * for bit, what is expected. */
bool bed_run(struct bed *bed, uint32_t mix, const struct plan *plan, uint64_t chaos_seed);

#endif /* TESTS_UNIT_WORKERS_BED_H */
