/*
 * choice_cut.cuh - the filters of a choice (choice.cuh), without a sort: where the mass of the
 * largest logits reaches a bound is found by histograms over the bits of the values, in shared
 * memory. Bins add integers, so the order in which threads come does not matter.
 */
#ifndef KERNELS_CUDA_CHOICE_CUT_CUH
#define KERNELS_CUDA_CHOICE_CUT_CUH

#include "kernels/cuda/choice.cuh"

GPU_DEVICE void choice_add_bin(struct choice_shared *shared, uint32_t bin, uint64_t mass)
{
    const uint32_t low = (uint32_t)mass;
    const uint32_t before = atomicAdd(&shared->low[bin], low);
    const uint32_t high = (uint32_t)(mass >> 32) + (before + low < before);
    if (high > 0) {
        atomicAdd(&shared->high[bin], high);
    }
}

/* The bin in which the sum that starts with `above` reaches `want`; what lies before it and within
 * is left in `above` and `inside`. */
GPU_DEVICE uint32_t choice_find_bin(struct choice_shared *shared, uint64_t above, uint64_t want)
{
    const uint32_t first = threadIdx.x * CHOICE_THREAD_BINS;
    uint64_t bins[CHOICE_THREAD_BINS];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < CHOICE_THREAD_BINS; i++) {
        bins[i] = (uint64_t)shared->high[first + i] << 32 | shared->low[first + i];
        sum += bins[i];
    }
    const uint64_t scan = choice_warp_scan(sum);
    if (threadIdx.x % 32 == 31) {
        shared->part[threadIdx.x / 32] = scan;
    }
    __syncthreads();
    uint64_t reached = above + choice_before(shared, threadIdx.x / 32) + scan - sum;
    for (uint32_t i = 0; i < CHOICE_THREAD_BINS; i++) {
        if (reached < want && reached + bins[i] >= want) {
            shared->above = reached;
            shared->inside = bins[i];
            shared->found = first + i;
        }
        reached += bins[i];
    }
    __syncthreads();
    return shared->found;
}

/* The bits [shift, known) of keys counted from `first`, of those with the upper bits of `chosen`.
 */
struct choice_range {
    uint32_t first;
    uint32_t chosen;
    uint32_t known;
    uint32_t shift;
};

/* Histogram over a range. */
GPU_DEVICE void choice_fill_bins(const struct choice_field *field, enum choice_mass mass,
                                 struct choice_range range, struct choice_shared *shared)
{
    const struct choice_stretch own = choice_own_stretch(field->count);
    const uint32_t mask = (1u << (range.known - range.shift)) - 1;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < CHOICE_BINS; i += CHOICE_THREADS) {
        shared->low[i] = 0;
        shared->high[i] = 0;
    }
    __syncthreads();
#pragma unroll 4
    for (uint32_t i = own.begin + threadIdx.x % 32; i < own.end; i += 32) {
        const uint64_t key = choice_key(field->value[i]) - range.first;
        const bool inside = key >> range.known == (uint64_t)range.chosen >> range.known;
        const uint64_t each = inside ? choice_weigh(field, mass, i) : 0;
        if (each > 0) {
            choice_add_bin(shared, (uint32_t)(key >> range.shift) & mask, each);
        }
    }
    __syncthreads();
}

/* The value of a key. */
GPU_DEVICE float choice_value(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key : ~key & 0x7fffffffu);
}

/*
 * Cuts a field to its shortest prefix in falling order, smaller ids first among equals, whose mass
 * reaches `want`, from 1 to all of it: bins of the upper bits, then of the next ones within the bin
 * where it is reached. Only the bits in which the candidates differ are looked at.
 */
GPU_DEVICE void choice_cut(struct choice_field *field, enum choice_mass mass, uint64_t want,
                           struct choice_shared *shared)
{
    const uint32_t first = choice_key(field->max);
    struct choice_range range = {first, 0, 32u - __clz((int)(field->cut - first)), 0};
    uint64_t above = 0;
    do {
        range.shift = range.known > CHOICE_BIN_BITS ? range.known - CHOICE_BIN_BITS : 0;
        choice_fill_bins(field, mass, range, shared);
        range.chosen |= choice_find_bin(shared, above, want) << range.shift;
        range.known = range.shift;
        above = shared->above;
    } while (range.known > 0);
    const uint32_t key = first + range.chosen;
    const uint64_t each = mass == CHOICE_COUNT ? 1 : choice_odds_at(field, choice_value(key));
    const uint64_t ties = shared->inside / each; /* Equal values have equal odds. */
    const uint64_t wanted = (want - above + each - 1) / each;
    field->end = key == field->cut ? field->end : UINT32_MAX;
    field->cut = key;
    if (wanted < ties) {
        (void)choice_sum(field, CHOICE_TIES, shared);
        field->end = choice_locate(field, CHOICE_TIES, wanted - 1, shared) + 1;
    }
}

/* Counts the candidates and, where they are few, moves them to shared memory: what follows then
 * looks at them alone. */
GPU_DEVICE uint32_t choice_count(struct choice_field *field, struct choice_shared *shared)
{
    const uint32_t count = (uint32_t)choice_sum(field, CHOICE_COUNT, shared);
    if (count > CHOICE_NEAR || field->value == shared->value) {
        return count;
    }
    const struct choice_stretch own = choice_own_stretch(field->count);
    const uint32_t lane = threadIdx.x % 32;
    uint32_t next = (uint32_t)choice_before(shared, threadIdx.x / 32);
    for (uint32_t first = own.begin; first < own.end; first += 32) {
        const uint32_t index = first + lane;
        const bool kept = index < own.end && choice_weigh(field, CHOICE_COUNT, index) > 0;
        const uint32_t all = __ballot_sync(0xffffffffu, kept);
        if (kept) {
            const uint32_t at = next + (uint32_t)__popc(all & ((1u << lane) - 1));
            shared->value[at] = field->value[index];
            shared->id[at] = choice_id(field, index);
        }
        next += (uint32_t)__popc(all);
    }
    field->value = shared->value;
    field->id = shared->id;
    field->count = count;
    __syncthreads();
    return count;
}

#endif /* KERNELS_CUDA_CHOICE_CUT_CUH */
