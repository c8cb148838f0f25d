/*
 * gguf_hparams_test.c - metadata built in memory: what a small model's numbers become, and each
 * value that would be bent or ignored refused by the name of its key.
 */
#include "model/gguf_hparams.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/model/gguf_bytes.h"

enum { ALIGNMENT = 32 };

/* One pair of metadata: a text, a whole number, or else a float. */
struct pair {
    const char *key;
    const char *text;
    uint32_t whole;
    float number;
};

/* What every model says; a test's own pairs come behind, so none of them may be here. */
static const struct pair base[] = {
    {.key = "general.architecture", .text = "llama"},
    {.key = "llama.embedding_length", .whole = 64},
    {.key = "llama.block_count", .whole = 2},
    {.key = "llama.feed_forward_length", .whole = 96},
    {.key = "llama.context_length", .whole = 128},
    {.key = "llama.vocab_size", .whole = 100},
    {.key = "llama.attention.layer_norm_rms_epsilon", .number = 1e-5F},
};

enum { BASE_COUNT = sizeof base / sizeof *base, MORE_MAX = 4 };

static const struct pair heads = {.key = "llama.attention.head_count", .whole = 4};
static const struct pair yarn = {.key = "llama.rope.scaling.type", .text = "yarn"};

static void put_pair(struct gguf_bytes *file, const struct pair *pair)
{
    if (pair->text) {
        put_key(file, pair->key, KIND_STRING);
        put_text(file, pair->text);
    } else if (pair->number != 0) {
        put_key(file, pair->key, KIND_F32);
        put(file, &pair->number, sizeof pair->number);
    } else {
        put_key(file, pair->key, KIND_U32);
        put_u32(file, pair->whole);
    }
}

/* Reads base and, up to the first without a key, more. */
static int read_more(struct hparams *hparams, const struct pair more[MORE_MAX],
                     struct model_error *error)
{
    struct gguf_bytes file;
    struct gguf *gguf = NULL;
    uint64_t count = 0;
    while (count < MORE_MAX && more[count].key) {
        count++;
    }
    put_head(&file, 0, BASE_COUNT + count);
    for (size_t i = 0; i < BASE_COUNT; i++) {
        put_pair(&file, &base[i]);
    }
    for (size_t i = 0; i < count; i++) {
        put_pair(&file, &more[i]);
    }
    file.count = (file.count + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    assert_int_equal(gguf_open_bytes(&gguf, file.bytes, file.count, error), 0);
    const int code = hparams_from_gguf(hparams, gguf, error);
    gguf_close(gguf);
    return code;
}

static void absent_keys_have_defaults(void **state)
{
    (void)state;
    struct hparams hparams;
    struct model_error error = {{0}};
    assert_int_equal(read_more(&hparams, (const struct pair[MORE_MAX]){heads}, &error), 0);
    assert_int_equal(hparams.kv_heads, 4);
    assert_int_equal(hparams.head_dim, 16);
    assert_int_equal(hparams.rope_dim, 16);
    assert_int_equal(hparams.bos_id, UINT32_MAX);
    assert_int_equal(hparams.eos_count, 0);
    assert_true(hparams.rope_theta == 10000 && hparams.rope.kind == ROPE_NONE);
}

static void ends_of_text_are_kept_once(void **state)
{
    (void)state;
    struct hparams hparams;
    struct model_error error = {{0}};
    const struct pair two[MORE_MAX] = {heads,
                                       {.key = "tokenizer.ggml.eos_token_id", .whole = 99},
                                       {.key = "tokenizer.ggml.eot_token_id", .whole = 98}};
    const struct pair same[MORE_MAX] = {heads,
                                        {.key = "tokenizer.ggml.eos_token_id", .whole = 99},
                                        {.key = "tokenizer.ggml.eot_token_id", .whole = 99}};
    assert_int_equal(read_more(&hparams, two, &error), 0);
    assert_int_equal(hparams.eos_count, 2);
    assert_int_equal(hparams.eos_ids[0], 99);
    assert_int_equal(hparams.eos_ids[1], 98);
    assert_int_equal(read_more(&hparams, same, &error), 0);
    assert_int_equal(hparams.eos_count, 1);
}

static void yarn_is_read(void **state)
{
    (void)state;
    struct hparams hparams;
    struct model_error error = {{0}};
    const struct pair more[MORE_MAX] = {heads,
                                        yarn,
                                        {.key = "llama.rope.scaling.factor", .number = 4},
                                        {.key = "llama.rope.scaling.yarn_beta_fast", .number = 24}};
    assert_int_equal(read_more(&hparams, more, &error), 0);
    assert_int_equal(hparams.rope.kind, ROPE_YARN);
    assert_true(hparams.rope.factor == 4 && hparams.rope.beta_fast == 24);
    assert_true(hparams.rope.beta_slow == 1 && hparams.rope.original_positions == 128);
    assert_true(fabs(hparams.rope.attention_factor - (0.1 * log(4) + 1)) < 1e-12);
}

static void refusals_name_the_key(void **state)
{
    (void)state;
    const struct {
        struct pair more[MORE_MAX];
        const char *reason;
    } cases[] = {
        {{{.key = "llama.attention.head_count", .whole = 3}}, "64 is no multiple"},
        {{{.key = "llama.attention.head_count", .whole = 3}}, "attention.head_count 3"},
        {{heads, {.key = "tokenizer.ggml.bos_token_id", .whole = 100}}, "bos id 100"},
        {{heads, {.key = "tokenizer.ggml.eos_token_id", .whole = 100}}, "eos_token_id is 100"},
        {{heads, {.key = "tokenizer.ggml.eot_token_id", .whole = 100}}, "eot_token_id is 100"},
        {{heads, {.key = "llama.rope.scaling.attn_factor", .number = 0.5F}}, "attn_factor"},
        {{heads, {.key = "llama.rope.scale_linear", .number = 2}}, "rope.scale_linear"},
        {{heads, yarn, {.key = "llama.rope.scaling.attn_factor", .number = 2}}, "attn_factor"},
        {{heads, yarn, {.key = "llama.rope.scaling.yarn_ext_factor", .number = 0.5F}},
         "yarn_ext_factor"},
        {{heads, yarn, {.key = "llama.rope.scaling.yarn_attn_factor", .number = 2}},
         "yarn_attn_factor"},
        {{heads, yarn, {.key = "llama.rope.scaling.yarn_log_multiplier", .number = 0.1F}},
         "yarn_log_multiplier"},
        {{heads, yarn, {.key = "llama.rope.scaling.factor", .number = -1}}, "scaling.factor"},
        {{heads, yarn, {.key = "llama.rope.scaling.factor", .number = (float)INFINITY}},
         "scaling.factor"},
        {{heads, yarn, {.key = "llama.rope.scaling.factor", .number = (float)NAN}},
         "scaling.factor"},
        {{heads, yarn, {.key = "llama.rope.scaling.original_context_length", .whole = 0}},
         "original_context_length is 0"},
        {{heads, yarn, {.key = "llama.rope.scaling.yarn_beta_slow", .number = 32}}, "beta_fast 32"},
        {{heads, yarn, {.key = "llama.rope.freq_base", .number = 1}}, "base 1"},
        {{heads, {.key = "llama.rope.freq_base", .whole = 500000}}, "freq_base is not"},
        {{heads, {.key = "llama.attention.sliding_window", .number = 4096}},
         "sliding_window is not"},
        {{heads, {.key = "llama.attention.head_count_kv", .text = "2"}}, "head_count_kv is not"},
        {{heads, {.key = "llama.rope.scaling.type", .whole = 2}}, "scaling.type is not a text"},
        {{heads, {.key = "tokenizer.ggml.eos_token_id", .text = "2"}}, "eos_token_id is not"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hparams hparams;
        struct model_error error = {{0}};
        const int code = read_more(&hparams, cases[i].more, &error);
        if (code != -EINVAL || !strstr(error.text, cases[i].reason)) {
            fail_msg("%s: %d, \"%s\"", cases[i].reason, code, error.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_keys_have_defaults),
        cmocka_unit_test(ends_of_text_are_kept_once),
        cmocka_unit_test(yarn_is_read),
        cmocka_unit_test(refusals_name_the_key),
    };
    return cmocka_run_group_tests_name("gguf_hparams", tests, NULL, NULL);
}
