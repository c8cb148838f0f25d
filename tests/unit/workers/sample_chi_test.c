/*
 * sample_chi_test.c - drawn ids against the distribution that the parameters state, by Pearson's
 * chi-square on a fixed vector of logits. Seeds are fixed, so a run is the same every time; the
 * bound is the 99.9 % point. Each case is also judged against a sampler that is wrong by a little,
 * and must find that out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/kern/chi.h"

enum { DRAWS = 40000 };

struct work {
    void *bytes;
    struct kern_ops ops;
};

static int set_up(void **state)
{
    static struct work work;
    work.bytes = calloc(1, sample_work_bytes(CHI_VOCAB));
    assert_non_null(work.bytes);
    kern_ops_init(&work.ops, KERN_ISA_REF);
    *state = &work;
    return 0;
}

static int tear_down(void **state)
{
    struct work *work = *state;
    free(work->bytes);
    return 0;
}

static void draw_all(struct work *work, const struct sample_params *params, uint32_t *seen)
{
    for (uint32_t position = 0; position < DRAWS; position++) {
        const struct sample_row row = {.logits = chi_logits,
                                       .vocab = CHI_VOCAB,
                                       .position = position,
                                       .params = params,
                                       .ops = &work->ops,
                                       .work = work->bytes};
        struct sample_result result;
        sample_run(&row, &result);
        assert_in_range(result.id, 0, CHI_VOCAB - 1);
        seen[result.id]++;
    }
}

struct chi_case {
    const char *name;
    struct sample_params right;
    struct sample_params wrong; /* What a sampler with a small fault would draw from. */
};

static const struct chi_case cases[] = {
    {"temperature",
     {.temperature = 1.0f, .top_p = 1.0f, .seed = 1},
     {.temperature = 1.06f, .top_p = 1.0f, .seed = 1}},
    {"high temperature",
     {.temperature = 2.5f, .top_p = 1.0f, .seed = 2},
     {.temperature = 2.3f, .top_p = 1.0f, .seed = 2}},
    {"top_k in a tie",
     {.temperature = 1.0f, .top_p = 1.0f, .top_k = 5, .seed = 3},
     {.temperature = 1.0f, .top_p = 1.0f, .top_k = 6, .seed = 3}},
    {"top_k too few",
     {.temperature = 1.5f, .top_p = 1.0f, .top_k = 4, .seed = 4},
     {.temperature = 1.5f, .top_p = 1.0f, .top_k = 3, .seed = 4}},
    {"top_p",
     {.temperature = 1.0f, .top_p = 0.8f, .seed = 5},
     {.temperature = 1.0f, .top_p = 0.9f, .seed = 5}},
    {"top_p without the token that crosses it",
     {.temperature = 1.2f, .top_p = 0.6f, .seed = 6},
     {.temperature = 1.2f, .top_p = 0.5f, .seed = 6}},
    {"min_p",
     {.temperature = 1.0f, .top_p = 1.0f, .min_p = 0.15f, .seed = 7},
     {.temperature = 1.0f, .top_p = 1.0f, .min_p = 0.3f, .seed = 7}},
    {"min_p before the temperature",
     {.temperature = 2.0f, .top_p = 1.0f, .min_p = 0.4f, .seed = 8},
     {.temperature = 2.0f, .top_p = 1.0f, .min_p = 0.6325f /* sqrt(0.4) */, .seed = 8}},
    {"all of them",
     {.temperature = 1.7f, .top_p = 0.85f, .min_p = 0.1f, .top_k = 8, .seed = 9},
     {.temperature = 1.7f, .top_p = 0.85f, .min_p = 0.1f, .top_k = 0, .seed = 9}},
};

static void draws_follow_the_parameters(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t seen[CHI_VOCAB] = {0};
        double p[CHI_VOCAB];
        draw_all(*state, &cases[i].right, seen);
        chi_distribution(&cases[i].right, p);
        if (chi_surprise(seen, p, DRAWS) > 1) {
            fail_msg("%s: %.3f of the bound", cases[i].name, chi_surprise(seen, p, DRAWS));
        }
    }
}

static void a_sampler_that_is_wrong_is_found_out(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t seen[CHI_VOCAB] = {0};
        double p[CHI_VOCAB];
        draw_all(*state, &cases[i].wrong, seen);
        chi_distribution(&cases[i].right, p);
        if (!(chi_surprise(seen, p, DRAWS) > 1)) {
            fail_msg("%s: %.3f of the bound", cases[i].name, chi_surprise(seen, p, DRAWS));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(draws_follow_the_parameters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sampler_that_is_wrong_is_found_out, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("sample_chi", tests, NULL, NULL);
}
