/*
 * check.c - inputs and comparisons of the checks of kernels, and the spellings that this CPU can
 * run. Linked into kern_check and kern_cuda_check. Seeds are the numbers of the rounds. Invariant:
 * a spelling is asked for by its bits alone, so that a machine with the newest instructions also
 * runs the older forms.
 */
#include "tests/kern/check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "kernels/bf16.h"

uint32_t check_between(struct check_random *random, uint32_t least, uint32_t most)
{
    return least + (uint32_t)(prng_bits(random->seed, random->next++, 0) % (most - least + 1));
}

void check_fill(struct check_random *random, enum check_fill fill, float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float unit = 2 * prng_uniform(random->seed, random->next++, 0) - 1;
        const float by_fill[CHECK_FILLS] = {unit, 90 * unit, 1e-30f * unit, 0};
        values[i] = by_fill[fill];
    }
}

void *check_alloc(size_t bytes)
{
    void *block = malloc(bytes);
    assert_non_null(block);
    memset(block, 0xff, bytes); /* NaN in either type. */
    return block;
}

float *check_floats(struct check_random *random, enum check_fill fill, size_t count)
{
    float *values = check_alloc(count * sizeof *values);
    check_fill(random, fill, values, count);
    return values;
}

void *check_acts(struct check_random *random, enum check_fill fill, size_t count,
                 enum kern_dtype dtype)
{
    float *values = check_floats(random, fill, count);
    void *acts = check_alloc(count * kern_dtype_bytes(dtype));
    for (size_t i = 0; i < count; i++) {
        act_store(acts, i, values[i], dtype);
    }
    free(values);
    return acts;
}

void check_close(const void *got, const void *want, size_t count, enum kern_dtype dtype,
                 float relative, float floor)
{
    const float rounding = dtype == KERN_BF16 ? 1.0f / 128 : 0;
    for (size_t i = 0; i < count; i++) {
        const float a = act_load(got, i, dtype);
        const float b = act_load(want, i, dtype);
        const float allowed = relative * fmaxf(fabsf(b), floor) + rounding * fabsf(b);
        if (isnan(a) != isnan(b) || fabsf(a - b) > allowed) {
            fail_msg("element %zu of %zu: got %.9g, want %.9g", i, count, (double)a, (double)b);
        }
    }
}

void check_spellings(check_run *run, uint32_t rounds)
{
    static const unsigned isas[] = {
        KERN_ISA_AVX2,
        KERN_ISA_AVX2 | KERN_ISA_AVX512,
        KERN_ISA_AVX2 | KERN_ISA_AVX512 | KERN_ISA_AVX512_BF16,
    };
    const unsigned have = kern_isa_detect();
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        struct kern_ops ops;
        if (isas[i] & ~have) {
            print_message("isa bits 0x%x: skipped, this CPU has 0x%x\n", isas[i], have);
            continue;
        }
        kern_ops_init(&ops, isas[i]);
        for (uint32_t round = 0; round < 2 * rounds; round++) {
            const enum kern_dtype dtype = round % 2 ? KERN_BF16 : KERN_F32;
            struct check_random random = {.seed = round};
            run(&ops, &random, dtype);
        }
    }
}
