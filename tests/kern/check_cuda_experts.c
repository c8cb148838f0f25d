/*
 * check_cuda_experts.c - the experts of a mixture on the device: slots against a stable sort, and
 * products against sums in double. Each round then takes one row alone and wants the same bits as
 * in the batch. Runs in the process of check_cuda.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "kernels/bf16.h"
#include "kernels/cuda/experts_cuda.h"
#include "tests/kern/check_cuda.h"

enum { ROUNDS = 10 };

struct mixture {
    uint32_t rows;
    uint32_t rows_max;
    uint32_t experts;
    uint32_t used;
    uint32_t n;
    uint32_t k;
    uint32_t *expert; /* [rows_max][used] */
    void *x;          /* [rows][k] */
    void *w;          /* [experts][n][k] */
};

struct grouped {
    uint32_t *slot;
    uint32_t *row;
    uint32_t first[LIMIT_EXPERTS_MAX + 1];
    uint32_t tile[LIMIT_EXPERTS_MAX + 1];
    void *y; /* [slots][n] */
};

/* Distinct experts of a row; in some rounds a few are liked by all. */
static void fill_experts(struct check_random *random, struct mixture *mixture, uint32_t row)
{
    uint32_t *expert = mixture->expert + (size_t)row * mixture->used;
    const uint32_t liked = random->seed % 3 ? mixture->experts : mixture->used;
    const uint32_t start = check_between(random, 0, liked - 1);
    for (uint32_t i = 0; i < mixture->used; i++) {
        expert[i] = (start + i * 7919u % mixture->experts) % mixture->experts;
        for (uint32_t j = 0; j < i; j++) {
            if (expert[j] == expert[i]) { /* Look again from the next one on. */
                expert[i] = (expert[i] + 1) % mixture->experts;
                j = UINT32_MAX;
            }
        }
    }
}

static void fill_mixture(struct check_cuda *check, struct mixture *mixture)
{
    struct check_random *random = &check->random;
    const uint32_t counts[] = {1, 2, 8, 60, LIMIT_EXPERTS_MAX};
    mixture->experts = counts[check_between(random, 0, 4)];
    mixture->used = check_between(random, 1, mixture->experts < 6 ? mixture->experts : 6);
    mixture->rows = check_between(random, 0, mixture->experts > 100 ? 20 : 150);
    mixture->rows_max = mixture->rows + check_between(random, 1, 5);
    const uint32_t large = mixture->experts > 100 ? 24 : 200;
    mixture->n = 2 * check_between(random, 1, large / 2);
    mixture->k = 8 * check_between(random, 1, large / 8);
    if (check->dtype == KERN_F32) { /* No alignment is asked for. */
        mixture->n -= check_between(random, 0, 1);
        mixture->k -= check_between(random, 0, 7);
    }
    const size_t weights = (size_t)mixture->experts * mixture->n * mixture->k;
    mixture->x =
        check_acts(random, CHECK_FILL_UNIT, (size_t)mixture->rows_max * mixture->k, check->dtype);
    mixture->w = check_acts(random, CHECK_FILL_UNIT, weights, check->dtype);
    mixture->expert = check_alloc((size_t)mixture->rows_max * mixture->used * sizeof(uint32_t));
    for (uint32_t row = 0; row < mixture->rows; row++) {
        fill_experts(random, mixture, row);
    }
}

static void run_device(struct check_cuda *check, const struct mixture *mixture,
                       struct grouped *grouped)
{
    const size_t slots = (size_t)mixture->rows_max * mixture->used;
    grouped->slot = check_alloc(slots * sizeof *grouped->slot);
    grouped->row = check_alloc(slots * sizeof *grouped->row);
    grouped->y = check_alloc(slots * mixture->n * kern_dtype_bytes(check->dtype));
    const struct cuda_experts_shares shares = {grouped->first, grouped->tile};
    const struct cuda_group_args group = {.expert = mixture->expert,
                                          .slot = grouped->slot,
                                          .row = grouped->row,
                                          .shares = shares,
                                          .rows = &mixture->rows,
                                          .rows_max = mixture->rows_max,
                                          .experts = mixture->experts,
                                          .used = mixture->used};
    assert_int_equal(cuda_group(&group, check->stream), 0);
    const struct cuda_experts_args experts = {.x = mixture->x,
                                              .row = grouped->row,
                                              .w = mixture->w,
                                              .y = grouped->y,
                                              .shares = shares,
                                              .slots_max = (uint32_t)slots,
                                              .experts = mixture->experts,
                                              .n = mixture->n,
                                              .k = mixture->k,
                                              .ctas = check->ctas,
                                              .dtype = check->dtype};
    assert_int_equal(cuda_experts(&experts, check->stream), 0);
}

static void free_grouped(struct grouped *grouped)
{
    free(grouped->slot);
    free(grouped->row);
    free(grouped->y);
}

/* A stable sort by expert; what lies behind is not touched. */
static void expect_slots(const struct mixture *mixture, const struct grouped *grouped)
{
    const uint32_t choices = mixture->rows * mixture->used;
    uint32_t next = 0;
    for (uint32_t e = 0; e < mixture->experts; e++) {
        const uint32_t first = next;
        assert_int_equal(grouped->first[e], first);
        for (uint32_t i = 0; i < choices; i++) {
            if (mixture->expert[i] == e) {
                assert_int_equal(grouped->slot[i], next);
                assert_int_equal(grouped->row[next], i / mixture->used);
                next++;
            }
        }
        assert_int_equal(grouped->tile[e + 1] - grouped->tile[e], (next - first + 63) / 64);
    }
    assert_int_equal(grouped->tile[0], 0);
    assert_int_equal(grouped->first[mixture->experts], choices);
    for (uint32_t i = choices; i < mixture->rows_max * mixture->used; i++) {
        assert_int_equal(grouped->row[i], UINT32_MAX);
    }
}

static void expect_products(const struct mixture *mixture, const struct grouped *grouped,
                            enum kern_dtype dtype)
{
    for (uint32_t i = 0; i < mixture->rows * mixture->used; i++) {
        const size_t x = (size_t)(i / mixture->used) * mixture->k;
        for (uint32_t c = 0; c < mixture->n; c++) {
            const size_t w = ((size_t)mixture->expert[i] * mixture->n + c) * mixture->k;
            double want = 0;
            for (uint32_t k = 0; k < mixture->k; k++) {
                want += (double)act_load(mixture->x, x + k, dtype) *
                        (double)act_load(mixture->w, w + k, dtype);
            }
            const float got =
                act_load(grouped->y, (size_t)grouped->slot[i] * mixture->n + c, dtype);
            const double rounding = dtype == KERN_BF16 ? 1.0 / 256 : 1e-6;
            if (!(fabs((double)got - want) <= rounding * fabs(want) + 2e-6 * sqrt(mixture->k))) {
                fail_msg("choice %u, column %u: got %.9g, want %.9g", i, c, (double)got, want);
            }
        }
    }
}

/* One row as a batch of its own. */
static void expect_alone(struct check_cuda *check, const struct mixture *mixture,
                         const struct grouped *grouped, uint32_t row)
{
    const size_t act = kern_dtype_bytes(check->dtype);
    const size_t bytes = mixture->n * act;
    struct mixture alone = *mixture;
    struct grouped *other = check_alloc(sizeof *other);
    alone.rows = 1;
    alone.rows_max = 1;
    alone.expert = mixture->expert + (size_t)row * mixture->used;
    alone.x = (uint8_t *)mixture->x + (size_t)row * mixture->k * act;
    run_device(check, &alone, other);
    for (uint32_t i = 0; i < mixture->used; i++) {
        const size_t slot = grouped->slot[(size_t)row * mixture->used + i];
        assert_memory_equal((uint8_t *)other->y + other->slot[i] * bytes,
                            (uint8_t *)grouped->y + slot * bytes, bytes);
    }
    free_grouped(other);
    free(other);
}

static void experts_round(struct check_cuda *check)
{
    struct mixture mixture = {0};
    struct grouped *grouped = check_alloc(sizeof *grouped);
    fill_mixture(check, &mixture);
    run_device(check, &mixture, grouped);
    const size_t slots = (size_t)mixture.rows_max * mixture.used;
    check_cuda_result(check, grouped->slot, slots * sizeof *grouped->slot);
    check_cuda_result(check, grouped->y, slots * mixture.n * kern_dtype_bytes(check->dtype));
    expect_slots(&mixture, grouped);
    expect_products(&mixture, grouped, check->dtype);
    if (mixture.rows > 0) {
        const uint32_t row = check_between(&check->random, 0, mixture.rows - 1);
        expect_alone(check, &mixture, grouped, row);
    }
    free_grouped(grouped);
    free(grouped);
    free(mixture.expert);
    free(mixture.x);
    free(mixture.w);
}

void check_cuda_experts(void **state)
{
    (void)state;
    check_cuda_schedules(experts_round, ROUNDS);
}
