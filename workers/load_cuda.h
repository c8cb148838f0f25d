/*
 * load_cuda.h - a model's weights from files into an accelerator's memory. Called by the engine
 * while it opens.
 */
#ifndef WORKERS_LOAD_CUDA_H
#define WORKERS_LOAD_CUDA_H

#include "base/must.h"
#include "model/weights.h"
#include "workers/crew.h"
#include "workers/model_cuda.h"

enum { LOAD_CUDA_EVENTS = 2 }; /* That it uses, from 0 on, on lane 0. */

/* Bytes that the weights and the rope tables take: wants hparams, dtype and the layers' list. */
uint64_t load_cuda_bytes(struct cuda_model *model, uint32_t positions);

/* Takes memory for the weights and fills it: wants the same, and accel with lanes and events. 0,
 * -ENOMEM, -EIO, -ETIMEDOUT. */
int load_cuda(struct cuda_model *model, const struct weights *weights, struct crew *crew,
              uint32_t positions) MUST_CHECK;

#endif /* WORKERS_LOAD_CUDA_H */
