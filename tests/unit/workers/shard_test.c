/*
 * shard_test.c - the cut: it covers every row once; and engines that share a model give, bit for
 * bit, the logits of one that has all of it. f32; models of many shapes, stories260K with
 * SLUICE_TEST_DATA.
 */
#include "workers/shard.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/workers/choir.h"
#include "tests/unit/workers/tiny_model.h"

enum { TOKENS_MAX = 16 };

static void parts_cover_all_once(void **state)
{
    (void)state;
    for (uint32_t ranks = 1; ranks <= 16; ranks++) {
        for (uint32_t total = 0; total < 200; total++) {
            uint32_t next = 0;
            for (uint32_t rank = 0; rank < ranks; rank++) {
                const struct span part = span_part(total, rank, ranks);
                assert_int_equal(part.first, next);
                assert_true(part.count >= total / ranks && part.count <= total / ranks + 1);
                next += part.count;
            }
            assert_int_equal(next, total);
        }
    }
    assert_int_equal(span_part(UINT32_MAX, 15, 16).first + span_part(UINT32_MAX, 15, 16).count,
                     UINT32_MAX);
}

static void kv_heads_are_cut_or_replicated(void **state)
{
    (void)state;
    const struct hparams hparams = {
        .heads = 8, .kv_heads = 2, .head_dim = 4, .hidden = 30, .ffn = 31, .vocab = 33};
    struct shard shard = shard_of(&hparams, 1, 2);
    assert_int_equal(shard.heads.first, 4);
    assert_int_equal(shard.kv_heads.first, 1);
    assert_int_equal(shard_rows(&shard, &hparams, WEIGHT_Q).first, 16);
    assert_int_equal(shard_rows(&shard, &hparams, WEIGHT_V).count, 4);
    assert_int_equal(shard_rows(&shard, &hparams, WEIGHT_UP).first, 15);
    shard = shard_of(&hparams, 2, 4); /* Ranks 0 and 1 have KV head 0, 2 and 3 head 1. */
    assert_int_equal(shard.heads.first, 4);
    assert_int_equal(shard.heads.count, 2);
    assert_int_equal(shard.kv_heads.first, 1);
    assert_int_equal(shard.kv_heads.count, 1);
}

static void what_does_not_fit_is_refused_with_both_numbers(void **state)
{
    (void)state;
    const struct hparams hparams = {
        .heads = 12, .kv_heads = 4, .head_dim = 4, .hidden = 30, .ffn = 11, .vocab = 33};
    const uint32_t fit[] = {1, 2, 4, 0};
    const uint32_t unfit[] = {3, 5, 6, 8, 16, 0};
    struct model_error error;
    for (uint32_t i = 0; fit[i] > 0; i++) {
        assert_int_equal(hparams_check_ranks(&hparams, fit[i], &error), 0);
    }
    for (uint32_t i = 0; unfit[i] > 0; i++) {
        char number[32];
        (void)snprintf(number, sizeof number, "workers.tp %u ", unfit[i]);
        assert_int_equal(hparams_check_ranks(&hparams, unfit[i], &error), -ENOTSUP);
        assert_non_null(strstr(error.text, number));
        assert_non_null(strstr(error.text, "4 KV heads"));
    }
    assert_int_equal(hparams_check_ranks(&hparams, 12, &error), -ENOTSUP); /* An ffn of 11. */
    assert_non_null(strstr(error.text, "11"));
}

static void assert_same_bits(const char *path, uint32_t ranks, enum matmul_weights weights)
{
    size_t count;
    size_t shared_count;
    const struct engine_options options = {
        .dtype = KERN_F32, .weights = weights, .isa = kern_isa_detect(), .tokens_max = TOKENS_MAX};
    float *alone = choir_sing(path, 1, &options, NULL, &count);
    float *shared = choir_sing(path, ranks, &options, NULL, &shared_count);
    assert_int_equal(count, shared_count);
    const size_t differ = choir_differ(alone, shared, count);
    if (differ > 0) {
        fail_msg("%s, %u ranks, weights %d: %zu of %zu logits differ", path, ranks, (int)weights,
                 differ, count);
    }
    free(alone);
    free(shared);
}

static void tiny_models_give_the_same_bits(void **state)
{
    (void)state;
    const struct {
        struct tiny_model model;
        uint32_t ranks;
    } cases[] = {
        {{.hidden = 64, .heads = 8, .kv_heads = 4, .head_dim = 8, .ffn = 96, .vocab = 64}, 2},
        {{.hidden = 64, .heads = 8, .kv_heads = 4, .head_dim = 8, .ffn = 96, .vocab = 64}, 4},
        {{.hidden = 70, .heads = 6, .kv_heads = 3, .head_dim = 16, .ffn = 131, .vocab = 67}, 3},
        {{.hidden = 50, .heads = 4, .kv_heads = 1, .head_dim = 12, .ffn = 77, .vocab = 45}, 4},
        {{.hidden = 64,
          .heads = 8,
          .kv_heads = 2,
          .head_dim = 8,
          .ffn = 50,
          .vocab = 99,
          .tied = true},
         4},
        {{.hidden = 48,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 16,
          .ffn = 33,
          .vocab = 41,
          .experts = 6,
          .experts_used = 2},
         2},
        {{.hidden = 600, .heads = 4, .kv_heads = 2, .head_dim = 64, .ffn = 1031, .vocab = 2003}, 2},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[TINY_MODEL_PATH_BYTES];
        struct tiny_model model = cases[i].model;
        model.layers = 2;
        model.positions = 64;
        model.seed = 11 + i;
        tiny_model_write(&model, path);
        assert_same_bits(path, cases[i].ranks, MATMUL_WEIGHTS_DTYPE);
        if (kern_isa_detect() & KERN_ISA_AVX512_VNNI) {
            assert_same_bits(path, cases[i].ranks, MATMUL_WEIGHTS_INT8);
        }
        tiny_model_remove(path);
    }
}

static void stories_gives_the_same_bits(void **state)
{
    (void)state;
    const char *root = getenv("SLUICE_TEST_DATA");
    char path[512];
    if (!root) {
        print_message("SLUICE_TEST_DATA is not set: 1 skipped\n");
        skip();
    }
    (void)snprintf(path, sizeof path, "%s/models/stories260K-hf", root);
    for (uint32_t ranks = 2; ranks <= CHOIR_RANKS_MAX; ranks += 2) {
        assert_same_bits(path, ranks, MATMUL_WEIGHTS_DTYPE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_cover_all_once),
        cmocka_unit_test(kv_heads_are_cut_or_replicated),
        cmocka_unit_test(what_does_not_fit_is_refused_with_both_numbers),
        cmocka_unit_test(tiny_models_give_the_same_bits),
        cmocka_unit_test(stories_gives_the_same_bits),
    };
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}
