/*
 * choir.h - engines that share a model, as ranks on threads of one process, generate together: what
 * tests compare with an engine that has all of the model.
 */
#ifndef TESTS_UNIT_WORKERS_CHOIR_H
#define TESTS_UNIT_WORKERS_CHOIR_H

#include <stddef.h>
#include <stdint.h>

#include "workers/engine.h"

enum { CHOIR_RANKS_MAX = 4 };

/* A prompt in batches of tokens_max, then token by token what is the most likely. Returns rank 0's
 * logits of each step, [steps][vocab]; the caller frees them. options: but for rank and ranks, with
 * the defaults of probe.h. plan: NULL is the sequential one. Failure is must(). */
float *choir_sing(const char *path, uint32_t ranks, const struct engine_options *options,
                  const struct plan *plan, size_t *count);

/* How many of count numbers differ in any bit. */
size_t choir_differ(const float *a, const float *b, size_t count);

#endif /* TESTS_UNIT_WORKERS_CHOIR_H */
