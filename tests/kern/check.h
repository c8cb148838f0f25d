/* check.h - what the checks of kernels share: seeded inputs, spellings, comparison. */
#ifndef TESTS_KERN_CHECK_H
#define TESTS_KERN_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kern.h"

struct check_random { /* A stream of numbers. */
    uint64_t seed;
    uint64_t next;
};

/* What a row is filled with; the later ones reach the ends of float arithmetic. */
enum check_fill { CHECK_FILL_UNIT, CHECK_FILL_WIDE, CHECK_FILL_TINY, CHECK_FILL_ZERO, CHECK_FILLS };

uint32_t check_between(struct check_random *random, uint32_t least, uint32_t most);
void check_fill(struct check_random *random, enum check_fill fill, float *values, size_t count);

/* Exact-sized heap blocks, so that a sanitizer sees one element too far. */
void *check_alloc(size_t bytes);
float *check_floats(struct check_random *random, enum check_fill fill, size_t count);
void *check_acts(struct check_random *random, enum check_fill fill, size_t count,
                 enum kern_dtype dtype);

/* |got - want| <= relative * max(|want|, floor), a rounding of bf16 allowed on top; NaN where NaN.
 */
void check_close(const void *got, const void *want, size_t count, enum kern_dtype dtype,
                 float relative, float floor);

/* Calls run for each spelling that this machine has beside ref, and each round, with its seed. */
typedef void check_run(const struct kern_ops *ops, struct check_random *random,
                       enum kern_dtype dtype);
void check_spellings(check_run *run, uint32_t rounds);

void check_norm(void **state);
void check_silu(void **state);
void check_logits(void **state);
void check_route(void **state);
void check_odds(void **state);
void check_combine(void **state);
void check_embed(void **state);
void check_rope(void **state);
void check_attend(void **state);
void check_attend_alone(void **state);
void check_quantise(void **state);
void check_rescale(void **state);
void check_matmul(void **state);
void check_matmul_alone(void **state);
void check_matmul_int8(void **state);

/* Prints one line a case: time, rate, and what bounds it. */
void bench_all(void);

#endif /* TESTS_KERN_CHECK_H */
