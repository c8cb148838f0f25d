/*
 * rig.h - an engine in a worker process that serves nobody, and batches of any make whose tokens
 * mean nothing: what the measuring modes of a worker stand on. sluice-tune starts them and
 * reads lines of JSON from their stdout.
 */
#ifndef WORKERS_RIG_H
#define WORKERS_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/must.h"
#include "kernels/kern.h"
#include "plan/plankey.h"
#include "plan/regime.h"
#include "workers/engine.h"

enum { RIG_THREADS_MAX = 256, RIG_SECONDS_MAX = 3600 };

struct rig {
    struct engine *engine;
    bool timed;           /* As in engine_options; wanted by the caller, */
    uint32_t tokens_max;  /* as are the tokens of a batch, */
    uint32_t context_max; /* as are the positions, of which the model may have fewer, */
    uint32_t threads;     /* the threads, */
    uint32_t seed;        /* the seed of random weights, 0 for the model's own, */
    const char *dtype;    /* "auto", "bf16" or "f32" as in model.dtype, */
    const char *weights;  /* "int8" or "fp8", or else as dtype, */
    const char *kv;       /* and "fp8_e4m3", or else as dtype. */
    struct plankey key;   /* What profiles and plan files of this rig are for. */
    uint32_t sequence_pages;
    uint32_t *pages; /* [tokens_max][sequence_pages]. From a pool of thousands in turn, so that
                      * attention reads memory as in a real batch, not one hot page. */
    uint32_t *ids;   /* [tokens_max] */
    struct engine_row *rows; /* [tokens_max] */
};

/* Below 0: it cannot be, and a line has said why. */
int rig_open(struct rig *rig, const char *path) MUST_CHECK;
void rig_close(struct rig *rig);

/* A step of this regime, single tokens first, then one prompt. Valid until the next. */
struct engine_batch rig_batch(struct rig *rig, const struct regime *regime,
                              const struct plan *plan);

void rig_print(struct json *root);               /* A line; frees it. */
int rig_fail(const char *what, const char *why); /* The line {"error": "what: why"}; -EIO. */

/* Ascending: what is in the middle, or at another part, is the figure of many runs. */
void rig_sort(double *values, size_t count);

/* A whole number from least to most. */
bool rig_number(const char *text, uint32_t least, uint32_t most, uint32_t *out) MUST_CHECK;

#endif /* WORKERS_RIG_H */
