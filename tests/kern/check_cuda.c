/*
 * check_cuda.c - every CUDA kernel against ref/, on seeded random inputs of odd shapes: on the CPU
 * by the emulator (check_cuda_emu.c), run by ctest as kern_cuda_check, and on a GPU
 * (tests/gpu/check_cuda_gpu.c). With an argument, only the tests whose name holds it. Invariant:
 * whatever the order of threads and blocks, the moment when copies land and the number of CTAs, the
 * bits are the same.
 */
#include "tests/kern/check_cuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

void check_cuda_result(struct check_cuda *check, const void *result, size_t bytes)
{
    const uint8_t *byte = result;
    for (size_t i = 0; i < bytes; i++) { /* FNV-1a. */
        check->digest = (check->digest ^ byte[i]) * 0x100000001b3u;
    }
}

void check_cuda_schedules(check_cuda_run *run, uint32_t rounds)
{
    static const uint32_t ctas[CHECK_CUDA_SCHEDULES] = {0, 3, 1, 0};
    struct CUstream_st *streams[CHECK_CUDA_SCHEDULES];
    for (uint32_t i = 0; i < CHECK_CUDA_SCHEDULES; i++) {
        streams[i] = check_cuda_open(i);
    }
    for (uint32_t round = 0; round < 2 * rounds; round++) {
        uint64_t first = 0;
        for (uint32_t i = 0; i < CHECK_CUDA_SCHEDULES; i++) {
            struct check_cuda check = {.stream = streams[i],
                                       .random = {.seed = round},
                                       .dtype = round % 2 ? KERN_BF16 : KERN_F32,
                                       .ctas = ctas[i]};
            run(&check);
            first = i == 0 ? check.digest : first;
            if (check.digest != first) {
                fail_msg("round %u: other bits with schedule %u than with 0", round, i);
            }
        }
    }
    for (uint32_t i = 0; i < CHECK_CUDA_SCHEDULES; i++) {
        check_cuda_close(streams[i]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_cuda_feed),
        cmocka_unit_test(check_cuda_embed),
        cmocka_unit_test(check_cuda_norm),
        cmocka_unit_test(check_cuda_silu),
        cmocka_unit_test(check_cuda_quantise),
        cmocka_unit_test(check_cuda_weave),
        cmocka_unit_test(check_cuda_logits),
        cmocka_unit_test(check_cuda_route),
        cmocka_unit_test(check_cuda_combine),
        cmocka_unit_test(check_cuda_rope),
        cmocka_unit_test(check_cuda_rope_bytes),
        cmocka_unit_test(check_cuda_kv_pages_move),
        cmocka_unit_test(check_cuda_kv_pages_copy),
        cmocka_unit_test(check_cuda_attend_decode),
        cmocka_unit_test(check_cuda_attend_decode_alone),
        cmocka_unit_test(check_cuda_attend_prefill),
        cmocka_unit_test(check_cuda_attend_prefill_cut),
        cmocka_unit_test(check_cuda_attend_refuses),
        cmocka_unit_test(check_cuda_attend_stain),
        cmocka_unit_test(check_cuda_sample),
        cmocka_unit_test(check_cuda_chi),
        cmocka_unit_test(check_cuda_experts),
        cmocka_unit_test(check_cuda_reduce),
        cmocka_unit_test(check_cuda_reduce_alone),
    };
    char filter[64] = "*";
    if (argc == 2) {
        (void)snprintf(filter, sizeof filter, "*%s*", argv[1]);
    }
    cmocka_set_test_filter(filter);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
