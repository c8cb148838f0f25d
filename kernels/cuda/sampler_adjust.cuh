/*
 * sampler_adjust.cuh - what a request changes in its logits before it samples (workers/adjust.h
 * says what, in which order), done by all threads of a block on a copy of the row. Products are
 * rounded before they are subtracted, as on the CPU.
 *
 * `times` counts ids of the vocabulary; it is zero before and after.
 */
#ifndef KERNELS_CUDA_SAMPLER_ADJUST_CUH
#define KERNELS_CUDA_SAMPLER_ADJUST_CUH

#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/sample_cuda.h"

struct adjust_row {
    const struct cuda_sample_args *args;
    const struct cuda_sample_slot *slot;
    const uint32_t *pages; /* Its block table. */
    uint32_t tokens;       /* So many came before. */
    float *logits;         /* [vocab] its own */
    uint32_t *times;       /* [vocab] */
};

/* Top bit of a count: the id is in the prompt. */
#define ADJUST_IN_PROMPT (1u << 31)

GPU_DEVICE uint32_t adjust_token(const struct adjust_row *row, uint32_t position)
{
    const uint32_t page_tokens = row->args->page_tokens;
    const size_t page = row->pages[position / page_tokens];
    return row->args->history[page * page_tokens + position % page_tokens];
}

GPU_DEVICE float adjust_penalised(const struct cuda_sample_slot *slot, float logit, uint32_t count)
{
    const uint32_t generated = count & ~ADJUST_IN_PROMPT;
    float value = logit;
    if (slot->repetition != 1.0f) {
        value = value > 0 ? value / slot->repetition : gpu_product(value, slot->repetition);
    }
    if (generated > 0) {
        value -= gpu_product(slot->frequency, (float)generated);
        value -= slot->presence;
    }
    return fminf(fmaxf(value, -1e30f), 1e30f);
}

/* Counts each id of the past, then changes it once, by whoever takes its count. */
GPU_DEVICE void adjust_penalise(const struct adjust_row *row)
{
    const struct cuda_sample_slot *slot = row->slot;
    if (slot->repetition == 1.0f && slot->presence == 0 && slot->frequency == 0) {
        return;
    }
    const uint32_t first = slot->repetition == 1.0f ? slot->prompt_tokens : 0;
    for (uint32_t at = first + threadIdx.x; at < row->tokens; at += blockDim.x) {
        uint32_t *times = &row->times[adjust_token(row, at)];
        if (at < slot->prompt_tokens) {
            atomicOr(times, ADJUST_IN_PROMPT);
        } else {
            atomicAdd(times, 1u);
        }
    }
    __syncthreads();
    for (uint32_t at = first + threadIdx.x; at < row->tokens; at += blockDim.x) {
        const uint32_t id = adjust_token(row, at);
        const uint32_t count = atomicExch(&row->times[id], 0u);
        if (count > 0) {
            row->logits[id] = adjust_penalised(slot, row->logits[id], count);
        }
    }
    __syncthreads();
}

/* An id may be listed as finite once, and as out besides. */
GPU_DEVICE void adjust_bias(const struct adjust_row *row)
{
    const struct cuda_sample_bias *biases = row->args->biases + row->slot->bias_first;
    for (uint32_t i = threadIdx.x; i < row->slot->bias_count; i += blockDim.x) {
        if (biases[i].bias > -INFINITY) {
            row->logits[biases[i].id] += biases[i].bias;
        }
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < row->slot->bias_count; i += blockDim.x) {
        if (!(biases[i].bias > -INFINITY)) {
            row->logits[biases[i].id] = -INFINITY;
        }
    }
    __syncthreads();
}

/* Keeps the logits of the allowed ids, where any are listed. */
GPU_DEVICE void adjust_restrict(const struct adjust_row *row)
{
    const uint32_t *allowed = row->args->allowed + row->slot->allowed_first;
    const uint32_t count = row->slot->allowed_count;
    if (count == 0) {
        return;
    }
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
        row->times[allowed[i]] = 1;
    }
    __syncthreads();
    for (uint32_t id = threadIdx.x; id < row->args->vocab; id += blockDim.x) {
        row->logits[id] = row->times[id] > 0 ? row->logits[id] : -INFINITY;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
        row->times[allowed[i]] = 0;
    }
    __syncthreads();
}

GPU_DEVICE void adjust_copy(const struct adjust_row *row, const float *raw)
{
    for (uint32_t id = threadIdx.x; id < row->args->vocab; id += blockDim.x) {
        row->logits[id] = raw[id];
    }
    __syncthreads();
}

GPU_DEVICE void adjust_apply(const struct adjust_row *row)
{
    if (row->slot->adjusts) {
        adjust_penalise(row);
        adjust_bias(row);
        adjust_restrict(row);
    }
}

#endif /* KERNELS_CUDA_SAMPLER_ADJUST_CUH */
