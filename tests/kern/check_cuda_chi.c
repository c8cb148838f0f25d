/*
 * check_cuda_chi.c - what the device draws against the distribution that the parameters state, as
 * sample_chi_test.c does it for the CPU, with fewer draws; so the samplers that must be found out
 * are wrong by more. Runs in the process of check_cuda.c. Seeds are fixed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/sample_cuda.h"
#include "tests/kern/check_cuda.h"
#include "tests/kern/chi.h"

enum { DRAWS = 3000 };

struct draws { /* A row a draw, all with the same logits. */
    float logits[DRAWS][CHI_VOCAB];
    struct cuda_sample_row rows[DRAWS];
    struct cuda_sample_result results[DRAWS];
    struct cuda_sample_top tops[1];
    uint32_t work[2 * CHI_VOCAB];
};

static void draw_all(struct CUstream_st *stream, const struct sample_params *params, uint32_t *seen)
{
    struct draws *draws = check_alloc(sizeof *draws);
    const struct cuda_sample_slot slot = {.seed = params->seed,
                                          .temperature = params->temperature,
                                          .reach = sample_reach(params),
                                          .top_p = params->top_p,
                                          .top_k = params->top_k};
    const uint32_t count = DRAWS;
    uint32_t last;
    const struct cuda_sample_args args = {.logits = draws->logits[0],
                                          .rows = draws->rows,
                                          .row_count = &count,
                                          .slots = &slot,
                                          .last_ids = &last,
                                          .results = draws->results,
                                          .tops = draws->tops,
                                          .work = draws->work,
                                          .vocab = CHI_VOCAB,
                                          .stride = CHI_VOCAB,
                                          .page_tokens = 16,
                                          .rows_max = DRAWS,
                                          .ctas = 1};
    for (uint32_t i = 0; i < DRAWS; i++) {
        memcpy(draws->logits[i], chi_logits, sizeof chi_logits);
        draws->rows[i] = (struct cuda_sample_row){.position = i};
    }
    assert_int_equal(cuda_sample(&args, stream), 0);
    for (uint32_t i = 0; i < DRAWS; i++) {
        assert_in_range(draws->results[i].id, 0, CHI_VOCAB - 1);
        seen[draws->results[i].id]++;
    }
    free(draws);
}

struct chi_case {
    const char *name;
    struct sample_params right;
    struct sample_params wrong; /* What a sampler with a fault would draw from. */
};

static const struct chi_case cases[] = {
    {"temperature",
     {.temperature = 1.0f, .top_p = 1.0f, .seed = 1},
     {.temperature = 1.2f, .top_p = 1.0f, .seed = 1}},
    {"top_k in a tie",
     {.temperature = 1.0f, .top_p = 1.0f, .top_k = 5, .seed = 3},
     {.temperature = 1.0f, .top_p = 1.0f, .top_k = 6, .seed = 3}},
    {"top_p without the token that crosses it",
     {.temperature = 1.2f, .top_p = 0.6f, .seed = 6},
     {.temperature = 1.2f, .top_p = 0.5f, .seed = 6}},
    {"min_p before the temperature",
     {.temperature = 2.0f, .top_p = 1.0f, .min_p = 0.4f, .seed = 8},
     {.temperature = 2.0f, .top_p = 1.0f, .min_p = 0.6325f /* sqrt(0.4) */, .seed = 8}},
    {"all of them",
     {.temperature = 1.7f, .top_p = 0.85f, .min_p = 0.1f, .top_k = 8, .seed = 9},
     {.temperature = 1.7f, .top_p = 0.85f, .min_p = 0.1f, .top_k = 0, .seed = 9}},
};

void check_cuda_chi(void **state)
{
    (void)state;
    struct CUstream_st *stream = check_cuda_open(2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t right[CHI_VOCAB] = {0};
        uint32_t wrong[CHI_VOCAB] = {0};
        double p[CHI_VOCAB];
        chi_distribution(&cases[i].right, p);
        draw_all(stream, &cases[i].right, right);
        draw_all(stream, &cases[i].wrong, wrong);
        if (chi_surprise(right, p, DRAWS) > 1) {
            fail_msg("%s: %.3f of the bound", cases[i].name, chi_surprise(right, p, DRAWS));
        }
        if (!(chi_surprise(wrong, p, DRAWS) > 1)) {
            fail_msg("%s, wrong: %.3f of the bound", cases[i].name, chi_surprise(wrong, p, DRAWS));
        }
    }
    check_cuda_close(stream);
}
