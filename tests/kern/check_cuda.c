/*
 * check_cuda.c - every CUDA kernel against ref/, run on the CPU by the emulator, on seeded random
 * inputs of odd shapes. Run by ctest as kern_cuda_check; with an argument, only the tests whose
 * name holds it. Invariant: whatever the order of threads and blocks, the moment when copies land
 * and the number of CTAs, the bits are the same.
 */
#include "tests/kern/check_cuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kern/emu/emu_launch.h"

void check_cuda_result(struct check_cuda *check, const void *result, size_t bytes)
{
    const uint8_t *byte = result;
    for (size_t i = 0; i < bytes; i++) { /* FNV-1a. */
        check->digest = (check->digest ^ byte[i]) * 0x100000001b3u;
    }
}

void check_cuda_schedules(check_cuda_run *run, uint32_t rounds)
{
    static const struct {
        struct emu_schedule schedule;
        uint32_t ctas;
    } ways[] = {
        {{EMU_FORWARD, false, 0}, 0},
        {{EMU_REVERSE, true, 0}, 3},
        {{EMU_RANDOM, false, 1}, 1},
        {{EMU_RANDOM, true, 2}, 0},
    };
    struct emu_block *block = emu_block_new(&ways[0].schedule);
    struct CUstream_st stream = {.block = block};
    for (uint32_t round = 0; round < 2 * rounds; round++) {
        uint64_t first = 0;
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            struct check_cuda check = {.stream = &stream,
                                       .random = {.seed = round},
                                       .dtype = round % 2 ? KERN_BF16 : KERN_F32,
                                       .ctas = ways[i].ctas};
            block->schedule = ways[i].schedule;
            run(&check);
            first = i == 0 ? check.digest : first;
            if (check.digest != first) {
                fail_msg("round %u: other bits with schedule %zu than with 0", round, i);
            }
        }
    }
    emu_block_free(block);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_cuda_embed),
        cmocka_unit_test(check_cuda_norm),
        cmocka_unit_test(check_cuda_silu),
        cmocka_unit_test(check_cuda_logits),
        cmocka_unit_test(check_cuda_route),
        cmocka_unit_test(check_cuda_combine),
        cmocka_unit_test(check_cuda_rope),
        cmocka_unit_test(check_cuda_kv_pages_move),
        cmocka_unit_test(check_cuda_kv_pages_copy),
        cmocka_unit_test(check_cuda_attend_decode),
        cmocka_unit_test(check_cuda_attend_decode_alone),
        cmocka_unit_test(check_cuda_attend_prefill),
        cmocka_unit_test(check_cuda_attend_prefill_cut),
        cmocka_unit_test(check_cuda_attend_refuses),
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
