/*
 * int8_test.c - eight-bit weights in the whole engine: how far logits of seeded models move from
 * those in f32, what a NaN does, and the refusal without VNNI. That company changes no bit is shown
 * by tests/property/batch_test.c, products alone by tests/kern/check_int8.c.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/tiny_model.h"

enum { TOKENS = 48, VOCAB = 211, POISON = 7 };

static const struct tiny_model plain = {.hidden = 96,
                                        .layers = 3,
                                        .heads = 6,
                                        .kv_heads = 2,
                                        .head_dim = 16,
                                        .ffn = 170,
                                        .vocab = VOCAB,
                                        .positions = 128,
                                        .seed = 11};

static struct engine_options options_of(enum matmul_weights weights)
{
    return (struct engine_options){
        .dtype = KERN_F32, .weights = weights, .isa = kern_isa_detect(), .threads = 2};
}

static void need_vnni(void)
{
    if (!(kern_isa_detect() & KERN_ISA_AVX512_VNNI)) {
        print_message("skipped: this CPU has no AVX512_VNNI\n");
        skip();
    }
}

/* Root mean square of the difference, relative to that of the f32 logits, over all positions. */
static double distance(const struct tiny_model *model)
{
    char path[TINY_MODEL_PATH_BYTES];
    double apart = 0;
    double size = 0;
    tiny_model_write(model, path);
    struct probe exact = probe_open(path, options_of(MATMUL_WEIGHTS_DTYPE));
    struct probe int8 = probe_open(path, options_of(MATMUL_WEIGHTS_INT8));
    for (uint32_t i = 0; i < TOKENS; i++) {
        const uint32_t id = (i * 37 + 5) % VOCAB;
        const float *want = probe_feed(&exact, &id, 1);
        const float *got = probe_feed(&int8, &id, 1);
        for (uint32_t j = 0; j < VOCAB; j++) {
            assert_true(isfinite(got[j]));
            apart += pow((double)got[j] - (double)want[j], 2);
            size += pow((double)want[j], 2);
        }
    }
    assert_true(engine_weight_bytes(int8.engine) < engine_weight_bytes(exact.engine));
    probe_close(&exact);
    probe_close(&int8);
    tiny_model_remove(path);
    return sqrt(apart / size);
}

/* Two roundings to 1/127 of the largest of a row a product, four products a layer, three layers. */
static void logits_stay_near(void **state)
{
    (void)state;
    need_vnni();
    const double near = distance(&plain);
    print_message("  %.2f %% of the logits' size\n", 100 * near);
    assert_true(near > 0 && near <= 0.03);
}

/* The choice of experts is not in eight bits, but its input has been through some. */
static void logits_of_experts_stay_near(void **state)
{
    (void)state;
    need_vnni();
    struct tiny_model mixture = plain;
    mixture.experts = 5;
    mixture.experts_used = 2;
    const double near = distance(&mixture);
    print_message("  %.2f %% of the logits' size\n", 100 * near);
    assert_true(near > 0 && near <= 0.10);
}

static void a_nan_is_not_rounded_away(void **state)
{
    (void)state;
    need_vnni();
    char path[TINY_MODEL_PATH_BYTES];
    struct tiny_model poisoned = plain;
    poisoned.poison_id = POISON;
    tiny_model_write(&poisoned, path);
    struct probe probe = probe_open(path, options_of(MATMUL_WEIGHTS_INT8));
    const uint32_t id = POISON;
    assert_true(isnan(probe_feed(&probe, &id, 1)[0]));
    probe_close(&probe);
    tiny_model_remove(path);
}

static void refused_without_vnni(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    struct model_error error = {{0}};
    struct weights *weights = NULL;
    struct engine *engine = NULL;
    const struct engine_options options = {.weights = MATMUL_WEIGHTS_INT8,
                                           .isa = KERN_ISA_AVX2 | KERN_ISA_AVX512,
                                           .threads = 1,
                                           .tokens_max = 1,
                                           .rows_max = 1,
                                           .context_max = 16,
                                           .page_tokens = 16,
                                           .device_pages = 1};
    tiny_model_write(&plain, path);
    assert_int_equal(weights_open(&weights, path, &error), 0);
    assert_int_equal(engine_open(&engine, weights, &options, &error), -ENOTSUP);
    assert_non_null(strstr(error.text, "AVX512_VNNI"));
    assert_non_null(strstr(error.text, "set model.weights to auto"));
    weights_close(weights);
    tiny_model_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_stay_near),
        cmocka_unit_test(logits_of_experts_stay_near),
        cmocka_unit_test(a_nan_is_not_rounded_away),
        cmocka_unit_test(refused_without_vnni),
    };
    return cmocka_run_group_tests_name("int8", tests, NULL, NULL);
}
