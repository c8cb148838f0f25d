/*
 * pick_cuda.h - tokens from rows of logits on an accelerator: parameters of the rows go there,
 * ids and logprobs come back, logits and history stay. Part of the engine (engine_cuda.c).
 */
#ifndef WORKERS_PICK_CUDA_H
#define WORKERS_PICK_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "kernels/cuda/sample_cuda.h"
#include "workers/carve.h"
#include "workers/engine.h"
#include "workers/model_cuda.h"

/* A call between its two halves: what the host has of it. */
struct pick_cuda_call {
    uint32_t count;
    uint8_t *asked;                     /* pinned: what goes to the device */
    struct cuda_sample_result *results; /* pinned: [rows] */
    struct cuda_sample_top *tops;       /* pinned: [rows][LIMIT_TOP_LOGPROBS_MAX] */
    bool *wants_tops;                   /* [rows] */
    struct sample_result *out;          /* The caller's. */
};

struct pick_cuda {
    uint32_t ctas; /* Of the launch. */
    struct pick_cuda_call calls[ENGINE_AHEAD_MAX];
    uint8_t *device; /* The device's copy of what is asked. */
    struct cuda_sample_result *device_results;
    struct cuda_sample_top *device_tops;
    uint8_t *work; /* [ctas][cuda_sample_work_bytes()] zero between calls */
    size_t work_bytes;
};

/* The parts, in memory of the device and of the host. */
void pick_cuda_lay_out(struct pick_cuda *pick, const struct cuda_model *model,
                       const struct engine_options *options, struct carve *device,
                       struct carve *host);

/* Once, when the memory is there. 0 or -errno. */
int pick_cuda_start(const struct pick_cuda *pick, const struct cuda_model *model,
                    uint32_t lane) MUST_CHECK;

/* Puts the choices of a call on the lane, of the first rows of logits; their results' way to the
 * host behind them. Its count and out are set, and what it put before was taken. 0 or -errno. */
int pick_cuda_put(const struct pick_cuda *pick, const struct cuda_model *model, uint32_t lane,
                  struct pick_cuda_call *call, const struct engine_choice *choices) MUST_CHECK;

/* When that has ended: fills out. */
void pick_cuda_take(const struct pick_cuda_call *call);

#endif /* WORKERS_PICK_CUDA_H */
