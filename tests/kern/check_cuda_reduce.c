/*
 * check_cuda_reduce.c - the sum over ranks, each rank a host thread with its own stream: every rank
 * has the same bits, those of the sum in the order of ranks, round after round in the same memory;
 * and a rank that does not come, or an abort, ends the wait. Runs in the process of check_cuda.c.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/bf16.h"
#include "kernels/cuda/reduce_cuda.h"
#include "tests/kern/check_cuda.h"

enum { ROUNDS = 25, COUNT_MAX = 6000, POLLS_MAX = 20 << 20 };

struct group {
    uint32_t ranks;
    uint32_t count;
    uint32_t blocks;
    enum kern_dtype dtype;
    uint32_t schedule;
    uint64_t seed;
    uint32_t abort;
    uint32_t *flags[CUDA_REDUCE_RANKS_MAX];
    void *input[CUDA_REDUCE_RANKS_MAX];
};

struct rank {
    struct group *group;
    uint32_t index;
    uint32_t rounds[CUDA_REDUCE_BLOCKS_MAX];
    uint32_t fault;
    uint32_t wrong; /* Values that were not as they should be. */
    void *output;
};

static void *alloc_zeros(size_t bytes)
{
    return memset(check_alloc(bytes), 0, bytes);
}

static void open_group(struct group *group, struct check_random *random, uint32_t ranks)
{
    group->ranks = ranks;
    group->count = 8 * check_between(random, 1, COUNT_MAX / 8);
    group->blocks = check_between(random, 1, 4);
    group->seed = random->seed;
    for (uint32_t r = 0; r < ranks; r++) {
        group->flags[r] = alloc_zeros(CUDA_REDUCE_FLAGS * sizeof *group->flags[r]);
        group->input[r] = alloc_zeros(group->count * kern_dtype_bytes(group->dtype));
    }
}

static void close_group(struct group *group)
{
    for (uint32_t r = 0; r < group->ranks; r++) {
        free(group->flags[r]);
        free(group->input[r]);
    }
}

/* What a rank gives in a round; sums of it depend on their order. */
static float given(const struct group *group, uint32_t rank, uint32_t round, uint32_t i)
{
    const uint32_t mixed = (i * 2654435761u + rank * 40503u + round * 9973u) * 2246822519u;
    const float value = (float)(int32_t)mixed * 0x1p-20f;
    return group->dtype == KERN_BF16 ? bf16_to_float(bf16_from_float(value)) : value;
}

static int reduce(struct rank *rank, struct CUstream_st *stream, uint32_t polls_max)
{
    const struct group *group = rank->group;
    struct cuda_reduce_args args = {.output = rank->output,
                                    .rounds = rank->rounds,
                                    .fault = &rank->fault,
                                    .abort = &group->abort,
                                    .rank = rank->index,
                                    .ranks = group->ranks,
                                    .count = group->count,
                                    .blocks = group->blocks,
                                    .polls_max = polls_max,
                                    .dtype = group->dtype};
    for (uint32_t r = 0; r < group->ranks; r++) {
        args.input[r] = group->input[r];
        args.flags[r] = group->flags[r];
    }
    return cuda_reduce(&args, stream);
}

/* All rounds of a rank: the input is overwritten as soon as a launch is over. */
static void *run_rank(void *context)
{
    struct rank *rank = context;
    struct group *group = rank->group;
    struct CUstream_st *stream = check_cuda_open(group->schedule);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < group->count; i++) {
            act_store(group->input[rank->index], i, given(group, rank->index, round, i),
                      group->dtype);
        }
        rank->wrong += reduce(rank, stream, POLLS_MAX) != 0;
        for (uint32_t i = 0; i < group->count; i++) {
            float want = 0;
            float got = act_load(rank->output, i, group->dtype);
            for (uint32_t r = 0; r < group->ranks; r++) {
                want += given(group, r, round, i);
            }
            want = group->dtype == KERN_BF16 ? bf16_to_float(bf16_from_float(want)) : want;
            rank->wrong += memcmp(&got, &want, sizeof got) != 0;
        }
    }
    check_cuda_close(stream);
    return NULL;
}

static void sum_group(struct group *group)
{
    struct rank ranks[CUDA_REDUCE_RANKS_MAX] = {0};
    pthread_t threads[CUDA_REDUCE_RANKS_MAX];
    for (uint32_t r = 0; r < group->ranks; r++) { /* First: pinning may wait for kernels. */
        ranks[r] =
            (struct rank){.group = group,
                          .index = r,
                          .output = alloc_zeros(group->count * kern_dtype_bytes(group->dtype))};
    }
    for (uint32_t r = 0; r < group->ranks; r++) {
        assert_int_equal(pthread_create(&threads[r], NULL, run_rank, &ranks[r]), 0);
    }
    for (uint32_t r = 0; r < group->ranks; r++) {
        assert_int_equal(pthread_join(threads[r], NULL), 0);
        assert_int_equal(ranks[r].wrong, 0);
        assert_int_equal(ranks[r].fault, 0);
        for (uint32_t b = 0; b < group->blocks; b++) {
            assert_int_equal(ranks[r].rounds[b], ROUNDS);
        }
        free(ranks[r].output);
    }
}

void check_cuda_reduce(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 12; round++) {
        struct check_random random = {.seed = round};
        struct group group = {.dtype = round % 2 ? KERN_BF16 : KERN_F32, .schedule = round / 2 % 2};
        open_group(&group, &random, check_between(&random, 1, 4));
        sum_group(&group);
        close_group(&group);
    }
}

/* Rank 1 never comes; then all launches end at once. With an abort, the first one too. */
void check_cuda_reduce_alone(void **state)
{
    (void)state;
    struct CUstream_st *stream = check_cuda_open(0);
    for (uint32_t aborts = 0; aborts < 2; aborts++) {
        struct check_random random = {.seed = 3};
        struct group group = {.dtype = KERN_F32, .abort = aborts};
        open_group(&group, &random, 3);
        struct rank rank = {.group = &group, .index = 0};
        rank.output = alloc_zeros(group.count * sizeof(float));
        group.flags[0][2] = 1; /* Rank 2's block 0 is there. */
        assert_int_equal(reduce(&rank, stream, aborts ? UINT32_MAX : 500), 0);
        assert_int_equal(rank.fault, 2);
        assert_int_equal(rank.rounds[0], 0);
        assert_int_equal(reduce(&rank, stream, UINT32_MAX), 0);
        assert_int_equal(rank.fault, 2);
        free(rank.output);
        close_group(&group);
    }
    check_cuda_close(stream);
}
