/*
 * pick_cuda.h - tokens from rows of logits on an accelerator: parameters of the rows go there,
 * ids and logprobs come back, logits and history stay. Part of the engine (engine_cuda.c).
 */
#ifndef WORKERS_PICK_CUDA_H
#define WORKERS_PICK_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "kernels/cuda/sample_cuda.h"
#include "workers/carve.h"
#include "workers/engine.h"
#include "workers/model_cuda.h"

struct pick_cuda {
    uint32_t ctas;                      /* Of the launch. */
    struct cuda_sample_result *results; /* host, pinned: [rows] */
    struct cuda_sample_top *tops;       /* host, pinned: [rows][LIMIT_TOP_LOGPROBS_MAX] */
    uint8_t *host;                      /* host, pinned: what a call asks, */
    uint8_t *device;                    /* and the device's copy of it. */
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

/* Puts the choices of the first `count` rows of logits on the lane, their results' way to the host
 * behind them. What the last call put there has ended. 0 or -errno. */
int pick_cuda_put(const struct pick_cuda *pick, const struct cuda_model *model, uint32_t lane,
                  const struct engine_choice *choices, uint32_t count) MUST_CHECK;

/* When that has ended. */
void pick_cuda_take(const struct pick_cuda *pick, const struct engine_choice *choices,
                    uint32_t count, struct sample_result *results);

#endif /* WORKERS_PICK_CUDA_H */
