/*
 * sample_test.c - sampling against a slow specification (sort everything, filter in the stated
 * order, walk the distribution), and the rules at the edges: ties, masks, logprobs, NaN.
 */
#include "workers/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "kernels/choice.h"

enum { VOCAB = 300, VOCAB_LARGE = 49152 };

/* Plain spellings of what kern_ops has for it, so that this test stands on its own. */
static void plain_logits(const struct kern_logits_args *args)
{
    struct kern_softmax_stats stats = {.max = args->logits[0], .finite = true};
    for (uint32_t i = 0; i < args->vocab; i++) {
        stats.finite = stats.finite && isfinite(args->logits[i]);
        if (args->logits[i] > stats.max) {
            stats.max = args->logits[i];
            stats.argmax = i;
        }
    }
    double sum = 0;
    for (uint32_t i = 0; i < args->vocab; i++) {
        sum += exp((double)args->logits[i] - (double)stats.max);
    }
    stats.sum = (float)sum;
    *args->stats = stats;
}

static void plain_odds(const struct kern_odds_args *args)
{
    for (uint32_t i = 0; i < args->count; i++) {
        args->odds[i] = choice_odds((args->values[i] - args->max) * args->coldness);
    }
}

static const struct kern_ops ops = {.logits = plain_logits, .odds = plain_odds};

static struct sample_result sample(const float *logits, uint32_t vocab, uint32_t position,
                                   const struct sample_params *params)
{
    void *work = calloc(1, sample_work_bytes(vocab));
    assert_non_null(work);
    const struct sample_row row = {.logits = logits,
                                   .vocab = vocab,
                                   .position = position,
                                   .params = params,
                                   .ops = &ops,
                                   .work = work};
    struct sample_result result;
    memset(&result, 0xff, sizeof result);
    sample_run(&row, &result);
    free(work);
    return result;
}

/* Coarse values, so that there are many ties. */
static void fill(float *logits, uint32_t count, uint64_t seed, bool coarse)
{
    for (uint32_t i = 0; i < count; i++) {
        const float value = 16.0f * prng_uniform(seed, i, 1) - 8.0f;
        logits[i] = coarse ? roundf(value) : value;
    }
}

struct entry {
    uint32_t id;
    double logit;
    double weight;
};

static int falling(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    if (x->logit != y->logit) {
        return x->logit > y->logit ? -1 : 1;
    }
    return x->id < y->id ? -1 : 1;
}

static int rising_id(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* The ids that the filters leave, in the order of ids. Returns their number. */
static uint32_t slow_filter(const float *logits, uint32_t vocab, const struct sample_params *params,
                            struct entry *kept)
{
    for (uint32_t i = 0; i < vocab; i++) {
        kept[i] = (struct entry){.id = i, .logit = (double)logits[i]};
    }
    qsort(kept, vocab, sizeof *kept, falling);
    const double max = kept[0].logit;
    uint32_t count = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        kept[i].weight = exp((kept[i].logit - max) / (double)params->temperature);
        count += kept[i].weight >= (double)params->min_p;
    }
    count = params->top_k > 0 && params->top_k < count ? params->top_k : count;
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += kept[i].weight;
    }
    double reached = 0;
    for (uint32_t i = 0; i < count && params->top_p < 1.0f; i++) {
        reached += kept[i].weight;
        if (reached >= (double)params->top_p * sum * (1 - 1e-9)) {
            count = i + 1;
        }
    }
    qsort(kept, count, sizeof *kept, rising_id);
    return count;
}

static void draws_as_specified(void **state)
{
    (void)state;
    static float logits[VOCAB];
    static struct entry kept[VOCAB];
    uint32_t near_a_border = 0;
    for (uint32_t round = 0; round < 2000; round++) {
        fill(logits, VOCAB, round, round % 2 == 0);
        struct sample_params params = {.seed = round * 77ull, .top_p = 1.0f};
        params.temperature = 0.2f + 3.0f * prng_uniform(round, 1, 2);
        params.min_p = round % 3 == 0 ? 0.3f * prng_uniform(round, 2, 2) : 0;
        params.top_k = round % 4 == 0 ? 1 + (uint32_t)(40.0f * prng_uniform(round, 3, 2)) : 0;
        params.top_p = round % 5 < 2 ? 0.05f + 0.9f * prng_uniform(round, 4, 2) : 1.0f;
        const uint32_t count = slow_filter(logits, VOCAB, &params, kept);
        double sum = 0;
        for (uint32_t i = 0; i < count; i++) {
            sum += kept[i].weight;
        }
        const double want = (double)prng_uniform(params.seed, round, 0) * sum;
        double reached = 0;
        double before = 0;
        uint32_t chosen = 0;
        while (reached <= want) {
            before = reached;
            reached += kept[chosen++].weight;
        }
        /* Float weights may fall on the other side of a border; a few rounds do. */
        const bool clear = want - before > 1e-5 * sum && reached - want > 1e-5 * sum;
        const struct sample_result result = sample(logits, VOCAB, round, &params);
        assert_false(result.invalid);
        assert_int_equal(result.logprob_count, 0);
        near_a_border += !clear;
        if (clear) {
            assert_int_equal(result.id, kept[chosen - 1].id);
        }
    }
    assert_in_range(near_a_border, 0, 40);
}

static void greedy_takes_the_smallest_of_equals(void **state)
{
    (void)state;
    float logits[8] = {-1, 3, 2, 3, 0, 3, -5, 1};
    const struct sample_params greedy = {.top_p = 0.5f, .top_k = 4, .min_p = 0.5f};
    assert_int_equal(sample(logits, 8, 0, &greedy).id, 1);
    /* Filters that leave one candidate are greedy too, ties included. */
    struct sample_params params = {.temperature = 1.5f, .top_p = 1.0f, .top_k = 1};
    for (uint32_t position = 0; position < 50; position++) {
        assert_int_equal(sample(logits, 8, position, &params).id, 1);
    }
    const float tops[] = {1e-6f, 0}; /* 0 is what a client's 1e-300 becomes. */
    for (uint32_t position = 0; position < 100; position++) {
        params = (struct sample_params){.temperature = 1.5f, .top_p = tops[position % 2]};
        assert_int_equal(sample(logits, 8, position, &params).id, 1);
    }
    /* A temperature near zero leaves only the ties of the maximum. */
    params = (struct sample_params){.temperature = 1e-40f, .top_p = 1.0f};
    uint32_t seen = 0;
    for (uint32_t position = 0; position < 200; position++) {
        seen |= 1u << sample(logits, 8, position, &params).id;
    }
    assert_int_equal(seen, 1u << 1 | 1u << 3 | 1u << 5);
}

static void frequencies_follow_the_distribution(void **state)
{
    (void)state;
    const float logits[4] = {0.0f, 1.0f, 2.0f, -1.0f};
    const struct sample_params params = {.temperature = 2.0f, .top_p = 1.0f, .seed = 5};
    uint32_t seen[4] = {0};
    const uint32_t draws = 20000;
    for (uint32_t position = 0; position < draws; position++) {
        seen[sample(logits, 4, position, &params).id]++;
    }
    double sum = 0;
    for (uint32_t i = 0; i < 4; i++) {
        sum += exp((double)logits[i] / 2.0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        const double expected = exp((double)logits[i] / 2.0) / sum;
        assert_true(fabs((double)seen[i] / draws - expected) < 0.015); /* Over 4 sigma. */
    }
}

static void depends_on_seed_and_position_alone(void **state)
{
    (void)state;
    static float logits[VOCAB];
    fill(logits, VOCAB, 3, false);
    struct sample_params params = {.temperature = 3.0f, .top_p = 0.99f, .seed = 1};
    const uint32_t first = sample(logits, VOCAB, 10, &params).id;
    assert_int_equal(sample(logits, VOCAB, 10, &params).id, first);
    uint32_t same = 0;
    for (uint32_t i = 0; i < 100; i++) {
        params.seed = 2 + i;
        same += sample(logits, VOCAB, 10, &params).id == first;
        params.seed = 1;
        same += sample(logits, VOCAB, 11 + i, &params).id == first;
    }
    assert_in_range(same, 0, 40);
}

static void masks_stop_ids_before_min_position(void **state)
{
    (void)state;
    const float logits[5] = {1, 9, 8, 3, 2};
    struct sample_params params = {.top_p = 1.0f,
                                   .min_position = 10,
                                   .stop_id_count = 2,
                                   .stop_ids = {1, 2},
                                   .logprobs = true,
                                   .top_logprobs = 2};
    const struct sample_result before = sample(logits, 5, 9, &params);
    assert_int_equal(before.id, 3);
    assert_int_equal(before.logprobs[0].id, 3);
    assert_int_equal(before.logprobs[1].id, 1); /* Logprobs are of the raw logits. */
    assert_int_equal(before.logprobs[2].id, 2);
    assert_int_equal(sample(logits, 5, 10, &params).id, 1);
    params.temperature = 5.0f;
    for (uint32_t seed = 0; seed < 300; seed++) {
        params.seed = seed;
        const uint32_t id = sample(logits, 5, 9, &params).id;
        assert_true(id != 1 && id != 2);
    }
    params.temperature = 0;
    params.stop_id_count = 5;
    const uint32_t all[5] = {0, 1, 2, 3, 4};
    memcpy(params.stop_ids, all, sizeof all);
    assert_int_equal(sample(logits, 5, 9, &params).id, 1); /* Nothing left: no mask. */
}

/* What a request changes decides the token, and not what is said of it. */
static void adjusts_the_choice_and_not_the_logprobs(void **state)
{
    (void)state;
    const float logits[6] = {1, 5, 4, 3, 2, 0};
    struct record_bias biases[2] = {{1, -INFINITY}, {3, 50.0f}};
    uint32_t allowed[2] = {4, 2};
    struct sample_params params = {.top_p = 1.0f,
                                   .logprobs = true,
                                   .top_logprobs = 2,
                                   .adjust = {.active = true,
                                              .repetition = 1.0f,
                                              .bias_count = 1,
                                              .biases = biases,
                                              .allowed = allowed}};
    const struct sample_result result = sample(logits, 6, 0, &params);
    assert_int_equal(result.id, 2);
    double sum = 0;
    for (uint32_t i = 0; i < 6; i++) {
        sum += exp((double)logits[i]);
    }
    assert_true(fabs((double)result.logprobs[0].logprob - (4 - log(sum))) < 1e-6);
    assert_int_equal(result.logprobs[1].id, 1); /* Out of the choice, still the likeliest. */
    assert_true(fabs((double)result.logprobs[1].logprob - (5 - log(sum))) < 1e-6);
    params.adjust.bias_count = 2;
    assert_int_equal(sample(logits, 6, 0, &params).id, 3);
    params.adjust.allowed_count = 2;
    assert_int_equal(sample(logits, 6, 0, &params).id, 2);
    params.temperature = 3.0f;
    uint32_t seen = 0;
    for (uint32_t position = 0; position < 200; position++) {
        seen |= 1u << sample(logits, 6, position, &params).id;
    }
    assert_int_equal(seen, 1u << 4 | 1u << 2);
}

/* A mask of stop ids yields to the allowed ids when it would leave none of them. */
static void allowed_ids_outlast_the_stop_mask(void **state)
{
    (void)state;
    const float logits[5] = {1, 9, 8, 3, 2};
    uint32_t allowed[2] = {0, 4};
    struct sample_params params = {
        .top_p = 1.0f,
        .min_position = 10,
        .stop_id_count = 2,
        .stop_ids = {4, 4},
        .adjust = {.active = true, .repetition = 1.0f, .allowed_count = 2, .allowed = allowed}};
    assert_int_equal(sample(logits, 5, 9, &params).id, 0);
    assert_int_equal(sample(logits, 5, 10, &params).id, 4);
    params.stop_id_count = 3;
    params.stop_ids[2] = 0;
    assert_int_equal(sample(logits, 5, 9, &params).id, 4);
}

static void lists_logprobs(void **state)
{
    (void)state;
    static float logits[VOCAB];
    fill(logits, VOCAB, 8, true);
    struct sample_params params = {
        .temperature = 2.0f, .top_p = 0.9f, .logprobs = true, .top_logprobs = 20, .seed = 4};
    const struct sample_result result = sample(logits, VOCAB, 1, &params);
    assert_int_equal(result.logprob_count, 21);
    assert_int_equal(result.logprobs[0].id, result.id);
    static struct entry sorted[VOCAB];
    const struct sample_params off = {.temperature = 1.0f, .top_p = 1.0f};
    assert_int_equal(slow_filter(logits, VOCAB, &off, sorted), VOCAB);
    double sum = 0;
    for (uint32_t i = 0; i < VOCAB; i++) {
        sum += exp(sorted[i].logit);
    }
    qsort(sorted, VOCAB, sizeof sorted[0], falling);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(result.logprobs[1 + i].id, sorted[i].id);
        const double expected = sorted[i].logit - log(sum);
        assert_true(fabs((double)result.logprobs[1 + i].logprob - expected) < 1e-5);
    }
    params.top_logprobs = 0;
    assert_int_equal(sample(logits, VOCAB, 1, &params).logprob_count, 1);
    params.top_logprobs = 20; /* More than there are ids. */
    assert_int_equal(sample(logits, 7, 1, &params).logprob_count, 8);
}

static void a_row_that_is_not_finite_is_invalid(void **state)
{
    (void)state;
    float logits[4] = {1, NAN, 0, 2};
    const struct sample_params params = {.temperature = 1.0f, .top_p = 1.0f, .logprobs = true};
    assert_true(sample(logits, 4, 0, &params).invalid);
    logits[1] = INFINITY;
    const struct sample_result result = sample(logits, 4, 0, &params);
    assert_true(result.invalid);
    assert_int_equal(result.logprob_count, 0);
    assert_int_equal(result.id, 0);
}

static void a_large_vocabulary_keeps_exactly_k(void **state)
{
    (void)state;
    static float logits[VOCAB_LARGE];
    static struct entry sorted[VOCAB_LARGE];
    fill(logits, VOCAB_LARGE, 11, true); /* 17 different values: the cut is in a tie. */
    const struct sample_params params = {.temperature = 50.0f, .top_p = 1.0f, .top_k = 4000};
    const uint32_t count = slow_filter(logits, VOCAB_LARGE, &params, sorted);
    assert_int_equal(count, 4000);
    for (uint32_t position = 0; position < 200; position++) {
        const uint32_t id = sample(logits, VOCAB_LARGE, position, &params).id;
        const struct entry key = {.id = id};
        assert_non_null(bsearch(&key, sorted, count, sizeof key, rising_id));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_as_specified),
        cmocka_unit_test(greedy_takes_the_smallest_of_equals),
        cmocka_unit_test(frequencies_follow_the_distribution),
        cmocka_unit_test(depends_on_seed_and_position_alone),
        cmocka_unit_test(masks_stop_ids_before_min_position),
        cmocka_unit_test(adjusts_the_choice_and_not_the_logprobs),
        cmocka_unit_test(allowed_ids_outlast_the_stop_mask),
        cmocka_unit_test(lists_logprobs),
        cmocka_unit_test(a_row_that_is_not_finite_is_invalid),
        cmocka_unit_test(a_large_vocabulary_keeps_exactly_k),
    };
    return cmocka_run_group_tests_name("sample", tests, NULL, NULL);
}
