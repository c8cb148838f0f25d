/*
 * sampler.cu - see sample_cuda.h. One block a row, blocks go on to further rows; called once a step
 * behind the head's product. A draw is the step's only choice, so nothing comes back to the host
 * before the next step: its embedding reads last_ids.
 *
 * Memory: 4 bytes a logit and walk. Greedy walks once; a draw twice, and twice or thrice more for
 * top_k and for top_p as long as more than CHOICE_NEAR candidates are left; logprobs add one walk,
 * top logprobs up to five. A candidate's odds are some 40 integer operations, other logits take
 * few. Occupancy aim: three blocks of 256 threads a multiprocessor, 33 KB of shared memory each.
 * Share of the memory's peak: not measured.
 */
#include "kernels/cuda/sample_cuda.h"

#include "kernels/cuda/choice_cut.cuh"
#include "kernels/cuda/sampler_adjust.cuh"

/* 32 random bits of (seed, position): what base/prng.c calls draw 0, its upper word. */
GPU_DEVICE uint32_t random_bits(uint64_t seed, uint32_t position)
{
    uint32_t word[4] = {position, 0, 0, 0};
    uint32_t key_low = (uint32_t)seed;
    uint32_t key_high = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * word[0];
        const uint64_t b = (uint64_t)0xCD9E8D57u * word[2];
        word[0] = (uint32_t)(b >> 32) ^ word[1] ^ key_low;
        word[1] = (uint32_t)b;
        word[2] = (uint32_t)(a >> 32) ^ word[3] ^ key_high;
        word[3] = (uint32_t)a;
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return word[1];
}

/* A row's logits and the best of them. */
struct scored {
    const float *logits;
    uint64_t best; /* choice_best() */
};

GPU_DEVICE uint32_t best_id(const struct scored *row)
{
    return (uint32_t)row->best;
}

GPU_DEVICE float best_value(const struct scored *row)
{
    return row->logits[best_id(row)];
}

GPU_DEVICE uint32_t draw(const struct scored *row, const struct cuda_sample_slot *slot,
                         uint32_t vocab, uint32_t random, struct choice_shared *shared)
{
    const float max = best_value(row);
    const uint32_t floor = choice_key(max - slot->reach);
    struct choice_field field = {
        row->logits, nullptr, vocab, floor, UINT32_MAX, max, choice_coldness(slot->temperature)};
    const uint32_t count = choice_count(&field, shared);
    if (slot->top_k > 0 && slot->top_k < count) {
        choice_cut(&field, CHOICE_COUNT, slot->top_k, shared);
        (void)choice_count(&field, shared);
    }
    uint64_t sum = choice_sum(&field, CHOICE_ODDS, shared);
    if (slot->top_p < 1.0f) {
        const uint64_t want = choice_share(sum, (uint32_t)(slot->top_p * 0x1p32f));
        choice_cut(&field, CHOICE_ODDS, want > 0 ? want : 1, shared); /* Never none. */
        sum = choice_sum(&field, CHOICE_ODDS, shared);
    }
    return choice_locate(&field, CHOICE_ODDS, choice_share(sum, random), shared);
}

/* Takes the stop ids out; a mask that leaves nothing is none: some token has to come. */
GPU_DEVICE void mask_stops(const struct adjust_row *row, struct choice_shared *shared)
{
    const struct cuda_sample_slot *slot = row->slot;
    const uint32_t i = threadIdx.x;
    const bool masks = i < slot->stop_id_count;
    const float kept = masks ? row->logits[slot->stop_ids[i]] : 0;
    __syncthreads(); /* An id may stand twice. */
    if (masks) {
        row->logits[slot->stop_ids[i]] = -INFINITY;
    }
    __syncthreads();
    const struct scored left = {row->logits,
                                choice_best(row->logits, row->args->vocab, true, shared)};
    if (best_value(&left) > -INFINITY) {
        return;
    }
    __syncthreads();
    if (masks) {
        row->logits[slot->stop_ids[i]] = kept;
    }
    __syncthreads();
}

/* The row as its request wants it, in work memory. Its ids are those of the model when every one
 * has been taken out, which the core does not let happen. */
GPU_DEVICE struct scored adjust_logits(const struct adjust_row *row, const struct scored *raw,
                                       bool stops_masked, struct choice_shared *shared)
{
    adjust_copy(row, raw->logits);
    adjust_apply(row);
    if (stops_masked) {
        mask_stops(row, shared);
    }
    const struct scored own = {row->logits,
                               choice_best(row->logits, row->args->vocab, true, shared)};
    return best_value(&own) > -INFINITY ? own : *raw;
}

GPU_DEVICE uint32_t choose(const struct cuda_sample_args *args, const struct cuda_sample_row *row,
                           const struct scored *raw, struct choice_shared *shared)
{
    const struct cuda_sample_slot *slot = &args->slots[row->slot];
    const bool stops_masked = slot->stop_id_count > 0 && row->position < slot->min_position;
    struct scored own = *raw;
    if (slot->adjusts || stops_masked) {
        float *work = (float *)args->work + (size_t)blockIdx.x * 2 * args->vocab;
        const struct adjust_row adjust = {args,          slot, args->pages + row->pages_first,
                                          row->position, work, (uint32_t *)work + args->vocab};
        own = adjust_logits(&adjust, raw, stops_masked, shared);
    }
    return slot->temperature > 0
               ? draw(&own, slot, args->vocab, random_bits(slot->seed, row->position), shared)
               : best_id(&own);
}

/* The `count` largest logits in falling order: cut, then each finds its place among them. */
GPU_DEVICE void list_top(const struct choice_field *all, uint32_t count, float log_sum,
                         struct cuda_sample_top *tops, struct choice_shared *shared)
{
    struct choice_field field = *all;
    choice_cut(&field, CHOICE_COUNT, count, shared);
    (void)choice_count(&field, shared);
    if (threadIdx.x < count) {
        const float value = field.value[threadIdx.x];
        const uint32_t key = choice_key(value);
        uint32_t place = 0;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t other = choice_key(field.value[i]);
            place += other < key || (other == key && i < threadIdx.x);
        }
        tops[place] = {choice_id(&field, threadIdx.x), value - field.max - log_sum};
    }
}

/* Logprobs of the raw logits: of an id, and of the `top` largest. */
GPU_DEVICE void add_logprobs(const struct cuda_sample_args *args, const struct scored *raw,
                             uint32_t top, uint32_t index, struct choice_shared *shared)
{
    struct cuda_sample_result *result = &args->results[index];
    const struct choice_field all = {
        raw->logits, nullptr,         args->vocab, choice_key(-INFINITY),
        UINT32_MAX,  best_value(raw), 1.0f};
    const uint64_t sum = choice_sum(&all, CHOICE_ODDS, shared);
    const float log_sum = logf((float)sum * 0x1p-43f); /* CHOICE_UNIT_BITS */
    if (top > 0) {
        list_top(&all, top, log_sum, args->tops + (size_t)index * LIMIT_TOP_LOGPROBS_MAX, shared);
    }
    if (threadIdx.x == 0) {
        result->top_count = top;
        result->logprob = raw->logits[result->id] - all.max - log_sum;
    }
}

GPU_DEVICE void run_row(const struct cuda_sample_args *args, uint32_t index,
                        struct choice_shared *shared)
{
    const struct cuda_sample_row *row = &args->rows[index];
    const struct cuda_sample_slot *slot = &args->slots[row->slot];
    const float *logits = args->logits + (size_t)index * args->stride;
    const struct scored raw = {logits, choice_best(logits, args->vocab, false, shared)};
    const bool invalid = raw.best == 0;
    uint32_t id = 0;
    if (!invalid) {
        id = row->judges ? row->id : choose(args, row, &raw, shared);
    }
    if (threadIdx.x == 0) {
        args->results[index] = {id, invalid, 0, 0};
        if (!row->judges) {
            args->last_ids[row->last] = id;
        }
    }
    if (!invalid && (row->judges || slot->logprobs)) {
        const uint32_t wanted = row->judges ? slot->score_top : slot->top_logprobs;
        add_logprobs(args, &raw, min(wanted, args->vocab), index, shared);
    }
}

static __global__ void __launch_bounds__(CHOICE_THREADS, 3)
    sample(const struct cuda_sample_args args)
{
    GPU_SHARED(bytes);
    struct choice_shared *shared = (struct choice_shared *)bytes;
    const uint32_t count = *args.row_count;
    for (uint32_t i = blockIdx.x; i < count; i += gridDim.x) {
        run_row(&args, i, shared);
    }
}

size_t cuda_sample_work_bytes(uint32_t vocab)
{
    return (sizeof(float) + sizeof(uint32_t)) * vocab;
}

int cuda_sample(const struct cuda_sample_args *args, struct CUstream_st *stream)
{
    if (args->vocab == 0 || args->vocab > LIMIT_VOCAB_MAX || args->stride < args->vocab ||
        args->page_tokens == 0 || args->rows_max == 0 || args->ctas == 0) {
        return -EINVAL;
    }
    const uint32_t blocks = args->ctas < args->rows_max ? args->ctas : args->rows_max;
    return GPU_LAUNCH(sample, dim3(blocks), dim3(CHOICE_THREADS), sizeof(struct choice_shared),
                      stream, *args);
}
