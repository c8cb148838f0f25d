/*
 * sample_chi_test.c - drawn ids against the distribution that the parameters state, by Pearson's
 * chi-square on a fixed vector of logits. Seeds are fixed, so a run is the same every time; the
 * bound is the 99.9 % point. Each case is also judged against a sampler that is wrong by a little,
 * and must find that out.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "workers/sample.h"

enum { VOCAB = 12, DRAWS = 40000 };

/* Two of them are equal, at the border of top_k = 5. */
static const float logits[VOCAB] = {0.3f,  2.1f, -1.0f, 1.4f, 0.0f,  2.6f,
                                    -2.5f, 0.9f, 1.4f,  0.9f, -0.4f, 1.7f};

struct work {
    void *bytes;
    struct kern_ops ops;
};

static int set_up(void **state)
{
    static struct work work;
    work.bytes = calloc(1, sample_work_bytes(VOCAB));
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

/* Rank of an id among all, larger logits and smaller ids first. */
static uint32_t rank_of(uint32_t id)
{
    uint32_t rank = 0;
    for (uint32_t i = 0; i < VOCAB; i++) {
        rank += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
    }
    return rank;
}

/* The definition: softmax(l / T), min_p, top_k, top_p, each over what the one before left. */
static void distribution(const struct sample_params *params, double *p)
{
    uint32_t by_rank[VOCAB];
    double kept = 0;
    double sum = 0;
    for (uint32_t id = 0; id < VOCAB; id++) {
        by_rank[rank_of(id)] = id;
    }
    for (uint32_t rank = 0; rank < VOCAB; rank++) {
        const uint32_t id = by_rank[rank];
        const double best = (double)logits[by_rank[0]];
        p[id] = exp(((double)logits[id] - best) / (double)params->temperature);
        if (p[id] < (double)params->min_p || (params->top_k > 0 && rank >= params->top_k)) {
            p[id] = 0;
        }
        sum += p[id];
    }
    for (uint32_t rank = 0; rank < VOCAB; rank++) {
        const double share = p[by_rank[rank]];
        p[by_rank[rank]] = kept >= (double)params->top_p * sum ? 0 : share;
        kept += share;
    }
    sum = 0;
    for (uint32_t id = 0; id < VOCAB; id++) {
        sum += p[id];
    }
    for (uint32_t id = 0; id < VOCAB; id++) {
        p[id] /= sum;
    }
}

/* Pearson's statistic over its 99.9 % point (Wilson and Hilferty, 1931): above 1 the draws are not
 * of this distribution. An id of probability 0 that was drawn makes it infinite. */
static double surprise(const uint32_t *seen, const double *p)
{
    double statistic = 0;
    double freedom = -1;
    for (uint32_t id = 0; id < VOCAB; id++) {
        const double expected = p[id] * DRAWS;
        if (p[id] == 0) {
            statistic += seen[id] > 0 ? (double)INFINITY : 0;
            continue;
        }
        assert_true(expected >= 5); /* The statistic needs it. */
        statistic += ((double)seen[id] - expected) * ((double)seen[id] - expected) / expected;
        freedom++;
    }
    const double spread = 2 / (9 * freedom);
    return statistic / (freedom * pow(1 - spread + 3.0902 * sqrt(spread), 3));
}

static void draw_all(struct work *work, const struct sample_params *params, uint32_t *seen)
{
    for (uint32_t position = 0; position < DRAWS; position++) {
        const struct sample_row row = {.logits = logits,
                                       .vocab = VOCAB,
                                       .position = position,
                                       .params = params,
                                       .ops = &work->ops,
                                       .work = work->bytes};
        struct sample_result result;
        sample_run(&row, &result);
        assert_in_range(result.id, 0, VOCAB - 1);
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
        uint32_t seen[VOCAB] = {0};
        double p[VOCAB];
        draw_all(*state, &cases[i].right, seen);
        distribution(&cases[i].right, p);
        if (surprise(seen, p) > 1) {
            fail_msg("%s: %.3f of the bound", cases[i].name, surprise(seen, p));
        }
    }
}

static void a_sampler_that_is_wrong_is_found_out(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t seen[VOCAB] = {0};
        double p[VOCAB];
        draw_all(*state, &cases[i].wrong, seen);
        distribution(&cases[i].right, p);
        if (!(surprise(seen, p) > 1)) {
            fail_msg("%s: %.3f of the bound", cases[i].name, surprise(seen, p));
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
