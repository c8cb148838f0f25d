/*
 * check_cuda.h - what the checks of the CUDA kernels share. A round draws a shape, runs the kernel
 * on the device of the build and compares with ref; it is repeated with other schedules and must
 * give the same bits each time.
 */
#ifndef TESTS_KERN_CHECK_CUDA_H
#define TESTS_KERN_CHECK_CUDA_H

#include "tests/kern/check.h"

struct CUstream_st;

/* A stream whose launches have ended when they return; the schedules differ in the order of threads
 * and in when copies land, as far as the device lets the caller choose: the emulator does
 * (check_cuda_emu.c), a GPU does not (tests/gpu/check_cuda_gpu.c). */
enum { CHECK_CUDA_SCHEDULES = 4 };
struct CUstream_st *check_cuda_open(uint32_t schedule);
void check_cuda_close(struct CUstream_st *stream);

/* One round: a stream with its schedule set, a seed, a type, and how many CTAs the kernel gets. */
struct check_cuda {
    struct CUstream_st *stream;
    struct check_random random;
    enum kern_dtype dtype;
    uint32_t ctas; /* 0: as many as the kernel likes. */
    uint64_t digest;
};

/* Adds what a kernel wrote to the bits that no schedule may change. */
void check_cuda_result(struct check_cuda *check, const void *result, size_t bytes);

/* Calls run for each round, type and schedule: thread order forward, reverse and random, copies
 * lazy and eager, budgets of CTAs. */
typedef void check_cuda_run(struct check_cuda *check);
void check_cuda_schedules(check_cuda_run *run, uint32_t rounds);

void check_cuda_feed(void **state);
void check_cuda_embed(void **state);
void check_cuda_norm(void **state);
void check_cuda_silu(void **state);
void check_cuda_quantise(void **state);
void check_cuda_weave(void **state);
void check_cuda_logits(void **state);
void check_cuda_route(void **state);
void check_cuda_combine(void **state);
void check_cuda_rope(void **state);
void check_cuda_rope_bytes(void **state);
void check_cuda_kv_pages_move(void **state);
void check_cuda_kv_pages_copy(void **state);
void check_cuda_attend_decode(void **state);
void check_cuda_attend_decode_alone(void **state);
void check_cuda_attend_prefill(void **state);
void check_cuda_attend_prefill_cut(void **state);
void check_cuda_attend_refuses(void **state);
void check_cuda_attend_stain(void **state);
void check_cuda_sample(void **state);
void check_cuda_chi(void **state);
void check_cuda_experts(void **state);
void check_cuda_reduce(void **state);
void check_cuda_reduce_alone(void **state);

#endif /* TESTS_KERN_CHECK_CUDA_H */
