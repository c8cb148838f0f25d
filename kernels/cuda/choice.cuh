/*
 * choice.cuh - steps of a choice among the logits of one row, each done by all threads of a block
 * together: the best one, sums of odds, the id at which a sum is passed. choice_cut.cuh has the
 * filters.
 *
 * Every warp owns one stretch of the row, in id order. Sums are of integers (choice.h), so no bit
 * depends on how many warps there are. Each step ends with its result known to all threads, and
 * begins with a barrier, so that what it shares is free.
 */
#ifndef KERNELS_CUDA_CHOICE_CUH
#define KERNELS_CUDA_CHOICE_CUH

#define CHOICE_INLINE static __device__ __forceinline__

#include "kernels/choice.h"
#include "kernels/cuda/gpu.cuh"

enum {
    CHOICE_THREADS = 256,
    CHOICE_WARPS = CHOICE_THREADS / 32,
    CHOICE_BIN_BITS = 11,
    CHOICE_BINS = 1 << CHOICE_BIN_BITS,
    CHOICE_THREAD_BINS = CHOICE_BINS / CHOICE_THREADS,
    CHOICE_NEAR = 2048, /* Candidates that fit shared memory. */
};

struct choice_shared {
    uint32_t low[CHOICE_BINS]; /* A sum in two words: shared memory adds words at once. */
    uint32_t high[CHOICE_BINS];
    float value[CHOICE_NEAR];
    uint32_t id[CHOICE_NEAR];
    uint64_t part[CHOICE_WARPS];
    uint64_t above;
    uint64_t inside;
    uint32_t found;
};

/* The candidates of a row: those of (key, id) below (cut, end). */
struct choice_field {
    const float *value;
    const uint32_t *id; /* NULL: an id is its index. */
    uint32_t count;
    uint32_t cut;
    uint32_t end;
    float max;
    float coldness; /* 1 / temperature */
};

enum choice_mass {
    CHOICE_COUNT, /* 1 each */
    CHOICE_ODDS,  /* exp((value - max) / temperature) */
    CHOICE_TIES,  /* 1 each, of those with the key of the cut */
};

struct choice_stretch {
    uint32_t begin;
    uint32_t end;
};

GPU_DEVICE struct choice_stretch choice_own_stretch(uint32_t count)
{
    const uint32_t each = ((count + CHOICE_WARPS - 1) / CHOICE_WARPS + 31) / 32 * 32;
    const uint32_t begin = min(threadIdx.x / 32 * each, count);
    return {begin, min(begin + each, count)};
}

GPU_DEVICE uint32_t choice_id(const struct choice_field *field, uint32_t index)
{
    return field->id ? field->id[index] : index;
}

GPU_DEVICE uint64_t choice_odds_at(const struct choice_field *field, float value)
{
    return choice_odds((value - field->max) * field->coldness);
}

/* What a candidate adds, 0 where it is none. */
GPU_DEVICE uint64_t choice_weigh(const struct choice_field *field, enum choice_mass mass,
                                 uint32_t index)
{
    const float value = field->value[index];
    const uint32_t key = choice_key(value);
    const bool tie = key == field->cut;
    if (key > field->cut || (tie && choice_id(field, index) >= field->end)) {
        return 0;
    }
    if (mass == CHOICE_ODDS) {
        return choice_odds_at(field, value);
    }
    return mass == CHOICE_COUNT || tie;
}

GPU_DEVICE uint64_t choice_warp_sum(uint64_t value)
{
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    }
    return value;
}

/* Sums over the lanes up to the own one. */
GPU_DEVICE uint64_t choice_warp_scan(uint64_t value)
{
    for (unsigned distance = 1; distance < 32; distance *= 2) {
        const uint64_t before = __shfl_up_sync(0xffffffffu, value, distance);
        value += threadIdx.x % 32 >= distance ? before : 0;
    }
    return value;
}

/* The sum over the parts of the warps before `warp`. */
GPU_DEVICE uint64_t choice_before(const struct choice_shared *shared, uint32_t warp)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < warp; i++) {
        sum += shared->part[i];
    }
    return sum;
}

/* Each warp's sum is left in `part`. */
GPU_DEVICE uint64_t choice_sum(const struct choice_field *field, enum choice_mass mass,
                               struct choice_shared *shared)
{
    const struct choice_stretch own = choice_own_stretch(field->count);
    uint64_t sum = 0;
#pragma unroll 4
    for (uint32_t i = own.begin + threadIdx.x % 32; i < own.end; i += 32) {
        sum += choice_weigh(field, mass, i);
    }
    sum = choice_warp_sum(sum);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        shared->part[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    return choice_before(shared, CHOICE_WARPS);
}

/* The id at which the sum in id order passes `want`, which is less than all of it. choice_sum() of
 * the same field and mass came just before. */
GPU_DEVICE uint32_t choice_locate(const struct choice_field *field, enum choice_mass mass,
                                  uint64_t want, struct choice_shared *shared)
{
    const uint32_t warp = threadIdx.x / 32;
    const struct choice_stretch own = choice_own_stretch(field->count);
    uint64_t reached = choice_before(shared, warp);
    if (reached <= want && want < reached + shared->part[warp]) {
        uint32_t first = own.begin;
        uint32_t passed = 0; /* A bit for each lane that is past it. */
        uint32_t index = 0;
        for (; passed == 0 && first < own.end; first += 32) {
            index = first + threadIdx.x % 32;
            const uint64_t sum =
                choice_warp_scan(index < own.end ? choice_weigh(field, mass, index) : 0);
            passed = __ballot_sync(0xffffffffu, reached + sum > want);
            reached += __shfl_sync(0xffffffffu, sum, 31);
        }
        if ((int)(threadIdx.x % 32) == __ffs(passed) - 1) {
            shared->found = choice_id(field, index);
        }
    }
    __syncthreads();
    return shared->found;
}

/* The smallest (key, id) of a row as one number, 0 when a value is a NaN or, where infinities are
 * no way to take an id out, infinite. */
GPU_DEVICE uint64_t choice_best(const float *row, uint32_t count, bool infinities,
                                struct choice_shared *shared)
{
    const uint32_t lane = threadIdx.x % 32;
    uint64_t best = UINT64_MAX;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < count; i += CHOICE_THREADS) {
        const bool number = infinities || isfinite(row[i]);
        best = min(best, number ? (uint64_t)choice_key(row[i]) << 32 | i : 0);
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        best = min(best, __shfl_xor_sync(0xffffffffu, best, distance));
    }
    __syncthreads();
    if (lane == 0) {
        shared->part[threadIdx.x / 32] = best;
    }
    __syncthreads();
    for (uint32_t i = 0; i < CHOICE_WARPS; i++) {
        best = min(best, shared->part[i]);
    }
    return best;
}

#endif /* KERNELS_CUDA_CHOICE_CUH */
