/*
 * probe.h - drives an engine without rings, for tests and measuring programs. A probe is an engine
 * and one sequence whose pages are 0, 1, 2, ...; batches of several sequences are the caller's.
 */
#ifndef TESTS_UNIT_WORKERS_PROBE_H
#define TESTS_UNIT_WORKERS_PROBE_H

#include <stdint.h>

#include "plan/plan.h"
#include "workers/engine.h"

struct probe {
    struct engine *engine;
    struct engine_options options;
    struct plan plan;
    uint32_t vocab;
    uint32_t fed;    /* Tokens of the sequence so far. */
    uint32_t *pages; /* [pages of the context] 0, 1, 2, ... */
};

/* Opens path. Zero fields of options get small defaults: reference kernels' isa excepted, which is
 * as given; context_max 0 is the model's own up to 2048. Prints and exits where that fails. */
struct probe probe_open(const char *path, struct engine_options options);
void probe_close(struct probe *probe);

/* Appends tokens to the sequence in batches of tokens_max; logits of the last one. */
const float *probe_feed(struct probe *probe, const uint32_t *ids, uint32_t count);

/* Forgets the sequence. */
void probe_restart(struct probe *probe);

/* Smallest id among the largest; *gap (if wanted) is its distance to the second best. */
uint32_t probe_best(const float *logits, uint32_t vocab, float *gap);

#endif /* TESTS_UNIT_WORKERS_PROBE_H */
