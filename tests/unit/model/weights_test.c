/*
 * weights_test.c - a generated directory: what opens, and what a file that was changed in one place
 * is refused with.
 */
#include "model/weights.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/workers/tiny_model.h"

enum { FILE_BYTES_MAX = 1 << 18, PATH_BYTES = 128 };

static const struct tiny_model shape = {.hidden = 8,
                                        .layers = 2,
                                        .heads = 2,
                                        .kv_heads = 1,
                                        .head_dim = 6,
                                        .ffn = 10,
                                        .vocab = 17,
                                        .positions = 32,
                                        .seed = 5};

/* Replaces the first `from` in a file of the directory by `to`, which is as long. */
static void change(const char *folder, const char *name, const char *from, const char *to)
{
    char path[PATH_BYTES];
    char *bytes = malloc(FILE_BYTES_MAX);
    assert_non_null(bytes);
    assert_int_equal(strlen(from), strlen(to));
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    const size_t count = fread(bytes, 1, FILE_BYTES_MAX, file);
    const char *found = memmem(bytes, count, from, strlen(from));
    assert_non_null(found);
    assert_int_equal(fseek(file, found - bytes, SEEK_SET), 0);
    assert_int_equal(fwrite(to, 1, strlen(to), file), strlen(to));
    assert_int_equal(fclose(file), 0);
    free(bytes);
}

static void a_directory_gives_rows_and_shapes(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    struct model_error error = {{0}};
    struct weights *weights = NULL;
    tiny_model_write(&shape, path);
    assert_int_equal(weights_open(&weights, path, &error), 0);
    assert_int_equal(weights_hparams(weights)->head_dim, 6);
    assert_int_equal(weights_rows(weights, WEIGHT_Q), 12);
    assert_int_equal(weights_rows(weights, WEIGHT_K), 6);
    assert_int_equal(weights_cols(weights, WEIGHT_O), 12);
    assert_int_equal(weights_cols(weights, WEIGHT_DOWN), 10);
    assert_int_equal(weights_rows(weights, WEIGHT_FFN_NORM), 1);
    /* A part of a matrix is that part of the whole, and what the table holds. */
    float whole[12 * 8];
    float part[3 * 8];
    weights_read(weights, WEIGHT_Q, 1, 0, 12, whole);
    weights_read(weights, WEIGHT_Q, 1, 4, 3, part);
    assert_memory_equal(part, whole + 4 * 8, sizeof part);
    const struct tensor *tensor =
        tensor_find(weights_table(weights), "model.layers.1.self_attn.q_proj.weight");
    assert_non_null(tensor);
    tensor_read_row(tensor, 4, 0, 8, whole);
    assert_memory_equal(part, whole, 8 * sizeof *whole);
    weights_close(weights);
    struct hparams hparams;
    assert_int_equal(weights_peek(&hparams, path, &error), 0);
    assert_int_equal(hparams.vocab, 17);
    tiny_model_remove(path);
}

static void refusals_say_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        const char *from;
        const char *to;
        const char *reason;
    } cases[] = {
        {"model.safetensors", "layers.1.mlp.up_proj", "layers.1.mlp.up_prod",
         "tensor model.layers.1.mlp.up_proj.weight is missing"},
        {"model.safetensors", "lm_head", "ln_head", "tensor lm_head.weight is missing"},
        {"model.safetensors", "\"F32\"", "\"I32\"", "type i32 is not supported"},
        {"model.safetensors", "[17,8]", "[8,17]",
         "is 8 x 17 (2 dimensions), the config wants 17 x 8"},
        {"config.json", "\"LlamaFor", "\"GemmaFor", "GemmaForCausalLM"},
        {"config.json", "hidden_size", "hidden_sise", "hidden_size is missing"},
        {"config.json", "{", "[", "config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[TINY_MODEL_PATH_BYTES];
        struct model_error error = {{0}};
        struct weights *weights = NULL;
        tiny_model_write(&shape, path);
        change(path, cases[i].file, cases[i].from, cases[i].to);
        assert_int_not_equal(weights_open(&weights, path, &error), 0);
        tiny_model_remove(path);
        if (!strstr(error.text, cases[i].reason)) {
            fail_msg("\"%s\" lacks \"%s\"", error.text, cases[i].reason);
        }
    }
    struct model_error error = {{0}};
    struct weights *weights = NULL;
    assert_int_equal(weights_open(&weights, "/nowhere", &error), -ENOENT);
    assert_non_null(strstr(error.text, "/nowhere"));
}

/* A directory that holds config.json alone is enough. */
static void a_seed_gives_a_model(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    char tensors[PATH_BYTES];
    char hidden[PATH_BYTES];
    struct model_error error = {{0}};
    struct weights *weights = NULL;
    struct weights *again = NULL;
    float whole[12 * 8], part[12 * 8], norm[8];
    tiny_model_write(&shape, path);
    (void)snprintf(tensors, sizeof tensors, "%s/model.safetensors", path);
    (void)snprintf(hidden, sizeof hidden, "%s/hidden", path);
    assert_int_equal(rename(tensors, hidden), 0);
    assert_int_equal(weights_open_random(&weights, path, 9, &error), 0);
    assert_int_equal(weights_open_random(&again, path, 9, &error), 0);
    assert_int_equal(weights_rows(weights, WEIGHT_Q), 12);
    weights_read(weights, WEIGHT_Q, 1, 0, 12, whole);
    weights_read(again, WEIGHT_Q, 1, 3, 2, part);
    assert_memory_equal(part, whole + 3 * 8, 2 * 8 * sizeof *part);
    weights_read(weights, WEIGHT_Q, 0, 0, 12, part);
    assert_memory_not_equal(part, whole, sizeof whole);
    double squares = 0;
    for (size_t i = 0; i < 12 * 8; i++) {
        assert_true(whole[i] > -0.62f && whole[i] < 0.62f); /* sqrt(3 / 8) */
        squares += (double)whole[i] * whole[i];
    }
    assert_true(squares > 6 && squares < 18); /* 12 rows of variance 1. */
    weights_read(weights, WEIGHT_FFN_NORM, 0, 0, 1, norm);
    assert_true(norm[0] == 1 && norm[7] == 1);
    weights_close(weights);
    weights_close(again);
    assert_int_not_equal(weights_open(&weights, path, &error), 0);
    assert_int_equal(rename(hidden, tensors), 0);
    tiny_model_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_gives_rows_and_shapes),
        cmocka_unit_test(a_seed_gives_a_model),
        cmocka_unit_test(refusals_say_what_is_wrong),
    };
    return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
