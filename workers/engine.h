/*
 * engine.h - a model ready to run on this device: packed weights, KV pool, buffers, threads. It
 * knows nothing of rings or processes: step.c feeds it from records, tests feed it directly.
 */
#ifndef WORKERS_ENGINE_H
#define WORKERS_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "kernels/kern.h"
#include "kernels/matmul.h"
#include "model/weights.h"
#include "plan/plan.h"
#include "workers/sample.h"

struct comm;
struct engine;

enum engine_kv { ENGINE_KV_DTYPE, ENGINE_KV_E4M3 };

struct engine_options {
    enum kern_dtype dtype;       /* Weights, activations into products, KV. */
    enum matmul_weights weights; /* Of the layers; int8 needs KERN_ISA_AVX512_VNNI, fp8 a GPU. */
    enum engine_kv kv;           /* E4M3: a byte a number in the pages, on GPUs. */
    unsigned isa;                /* kern_isa_detect(), or less for tests. */
    uint32_t threads;
    uint32_t tokens_max;  /* Dense batch. */
    uint32_t rows_max;    /* Sequences of one batch; also logit rows. */
    uint32_t context_max; /* Positions. */
    uint32_t page_tokens;
    uint32_t device_pages;
    uint32_t rank;       /* Of a tensor-parallel group of `ranks`. */
    uint32_t ranks;      /* 0 is 1: alone. */
    uint32_t slots_max;  /* 0: rows_max. */
    uint32_t device;     /* Which of the machine's; CPUs are one. */
    bool timed;          /* A device's operations are timed, one by one: see engine_profile. */
    uint32_t timeout_ms; /* Of a step; after it a device counts as dead. 0: a minute. */
};

static inline uint32_t engine_ranks(const struct engine_options *options)
{
    return options->ranks > 0 ? options->ranks : 1;
}

/* What model.dtype auto is on this device. */
enum kern_dtype engine_dtype_auto(unsigned isa);

/* Loads and packs. -ENOTSUP, -ENOMEM with *error in one line (names what did not fit and the
 * setting that would make it fit). weights may be closed afterwards. */
int engine_open(struct engine **out, const struct weights *weights,
                const struct engine_options *options, struct model_error *error) MUST_CHECK;
void engine_close(struct engine *engine);

/* With ranks: what joins this engine to its siblings, borrowed, before the first run and again for
 * each epoch. When one of its collectives fails (comm_error()), so has the run. 0; -ECANCELED: the
 * epoch is over; -EIO: see engine_failure(). */
int engine_join(struct engine *engine, struct comm *comm) MUST_CHECK;

/* A word that the engine moves as a run gets on, borrowed until the next call: a long step is no
 * hang. On a device, whose steps are short, it stands still. */
void engine_watch(struct engine *engine, _Atomic uint32_t *progress);

/* Rows of one sequence in a batch. */
struct engine_row {
    const uint32_t *pages; /* Block table of the sequence from position 0. */
    uint32_t first;        /* Index of its first token in ids. */
    uint32_t tokens;
    uint32_t position; /* Of the first token. */
    bool wants_logits; /* Of the last token. */
    uint32_t fed; /* Not 0: its one token is what slot fed - 1 was given last. ids has it too, or,
                     while engine_take() owes it, any id. */
};

struct engine_batch {
    const uint32_t *ids; /* [sum of tokens], checked against the vocabulary. */
    const struct engine_row *rows;
    uint32_t row_count;
    const struct plan *plan; /* Passes workers/trial.h. */
    uint64_t chaos_seed;     /* Not 0: a random order, poisoned on the way, for tests of plans. */
};

/* Runs one dense batch, or begins to. Afterwards engine_logits(i) is the i-th row that wants
 * logits: [vocab], on rank 0. */
void engine_run(struct engine *engine, const struct engine_batch *batch);

/* Until all that was run has ended: for what measures it. */
void engine_wait(struct engine *engine);

/* Why nothing that this engine computed or will compute counts: its device has failed. NULL while
 * it has not. */
const char *engine_failure(const struct engine *engine);
const float *engine_logits(struct engine *engine, uint32_t index);

/* What becomes of a row of logits: a token is drawn, or one is judged. */
struct engine_choice {
    const struct sample_params *params;
    const uint32_t *pages; /* Block table: what stands there is counted, as engine_run() took it. */
    uint32_t position;     /* Of the token, at least 1. */
    uint32_t slot;         /* That is given it, if it is drawn: see engine_row. */
    bool judged;
    uint32_t id; /* Then: this one. */
};

/* results[i]: what choices[i] makes of engine_logits(i). They are there when engine_take() has
 * returned for this call; the choices are used up when this one returns. */
void engine_choose(struct engine *engine, const struct engine_choice *choices, uint32_t count,
                   struct sample_result *results);

/* Waits for the results of the oldest engine_choose() that it has not been called for: at most
 * ENGINE_AHEAD_MAX. So a device can have the next batch and its choices before the host asks for
 * those of this one. */
enum { ENGINE_AHEAD_MAX = 2 };
void engine_take(struct engine *engine);

/* How long a device stood still before the batch of the engine_choose() that was taken last; 0
 * where the host itself computes, and before the first. At most one other is put since. */
uint64_t engine_idle_us(struct engine *engine);

/* Whether engine_take() would wait, and may: not for longer than a step is given. Costs about a
 * microsecond. */
bool engine_busy(struct engine *engine);

/* Logits of other tokens of the batch that ran last, by their index in it, at most rows_max: from
 * now on engine_logits(i) is that of tokens[i]. */
void engine_head(struct engine *engine, const uint32_t *tokens, uint32_t count);

/* Copies whole pages, their KV and which tokens they hold: sources[i] to targets[i], one after the
 * other. */
void engine_copy_pages(struct engine *engine, const uint32_t *sources, const uint32_t *targets,
                       uint32_t count);

const struct hparams *engine_hparams(const struct engine *engine);
uint64_t engine_weight_bytes(const struct engine *engine);
uint64_t engine_kv_bytes(const struct engine *engine);

/* What computes, as far as plans depend on it: device, library, kernels and units of the key. */
struct plankey;
void engine_device(const struct engine *engine, struct plankey *key);
uint32_t engine_sharing(const struct engine *engine); /* As in record_ready. */

/* Time spent in the runs since the last call, summed over layers; on a device in the last run, and
 * only if the engine is timed. */
struct engine_profile {
    uint64_t embed_ns;
    uint64_t operation_ns[PLAN_OPERATION_COUNT];
    uint64_t head_ns;
};
void engine_take_profile(struct engine *engine, struct engine_profile *out);

#endif /* WORKERS_ENGINE_H */
