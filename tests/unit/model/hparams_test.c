/*
 * hparams_test.c - config.json texts: defaults, each refusal with the key it names, and the rope
 * tables of every kind against their published formulas, worked out here by hand.
 */
#include "model/hparams.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TEXT_BYTES = 1024, PAIRS = 8 };

/* The required keys; tests add members behind them. */
static const char base[] = "\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,"
                           "\"num_hidden_layers\":2,\"num_attention_heads\":4,"
                           "\"intermediate_size\":96,\"vocab_size\":100";

static int read_config(struct hparams *hparams, const char *text, struct model_error *error)
{
    struct json *root = NULL;
    struct json_error reason;
    assert_int_equal(json_parse(text, strlen(text), &root, &reason), 0);
    const int code = hparams_from_config(hparams, root, NULL, error);
    json_free(root);
    return code;
}

static int read_more(struct hparams *hparams, const char *more, struct model_error *error)
{
    char text[2 * TEXT_BYTES];
    (void)snprintf(text, sizeof text, "{%s%s%s}", base, *more ? "," : "", more);
    return read_config(hparams, text, error);
}

static void absent_keys_have_defaults(void **state)
{
    (void)state;
    struct hparams hparams;
    struct model_error error = {{0}};
    assert_int_equal(read_more(&hparams, "", &error), 0);
    assert_int_equal(hparams.kv_heads, 4);
    assert_int_equal(hparams.head_dim, 16);
    assert_int_equal(hparams.rope_dim, 16);
    assert_int_equal(hparams.bos_id, UINT32_MAX);
    assert_int_equal(hparams.eos_count, 0);
    assert_true(hparams.rope_theta == 10000.0);
    assert_true(isnan(hparams.temperature) && hparams.top_k == UINT32_MAX);
}

static void generation_config_gives_defaults_for_sampling(void **state)
{
    (void)state;
    static const char text[] = "{\"temperature\":0.7,\"top_p\":0.8,\"top_k\":20,"
                               "\"min_p\":0.1,\"repetition_penalty\":1.05}";
    char config[TEXT_BYTES];
    struct hparams hparams;
    struct model_error error = {{0}};
    struct json *root = NULL;
    struct json *generation = NULL;
    struct json_error reason;
    (void)snprintf(config, sizeof config, "{%s}", base);
    assert_int_equal(json_parse(config, strlen(config), &root, &reason), 0);
    assert_int_equal(json_parse(text, strlen(text), &generation, &reason), 0);
    assert_int_equal(hparams_from_config(&hparams, root, generation, &error), 0);
    assert_true(hparams.temperature == 0.7 && hparams.top_p == 0.8 && hparams.min_p == 0.1);
    assert_true(hparams.repetition_penalty == 1.05);
    assert_int_equal(hparams.top_k, 20);
    json_free(generation);
    assert_int_equal(hparams_from_config(&hparams, root, NULL, &error), 0);
    assert_true(isnan(hparams.repetition_penalty));
    json_free(root);
}

static void a_refusal_names_the_file_of_its_key(void **state)
{
    (void)state;
    static const char text[] = "{\"temperature\":-1}";
    char config[TEXT_BYTES];
    struct hparams hparams;
    struct model_error error = {{0}};
    struct json *root = NULL;
    struct json *generation = NULL;
    struct json_error reason;
    (void)snprintf(config, sizeof config, "{%s}", base);
    assert_int_equal(json_parse(config, strlen(config), &root, &reason), 0);
    assert_int_equal(json_parse(text, strlen(text), &generation, &reason), 0);
    assert_int_equal(hparams_from_config(&hparams, root, generation, &error), -EINVAL);
    assert_string_equal(error.text, "generation_config.json: temperature is out of range");
    json_free(generation);
    json_free(root);
}

static void every_required_key_is_named(void **state)
{
    (void)state;
    static const char *const keys[] = {"architectures",     "hidden_size",
                                       "num_hidden_layers", "num_attention_heads",
                                       "intermediate_size", "vocab_size"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct hparams hparams;
        struct model_error error = {{0}};
        char text[TEXT_BYTES];
        (void)snprintf(text, sizeof text, "{%s}", base);
        char *key = strstr(text, keys[i]);
        assert_non_null(key);
        key[0] = 'X';
        assert_int_equal(read_config(&hparams, text, &error), -EINVAL);
        assert_non_null(strstr(error.text, keys[i]));
    }
}

static void refusals_name_the_key(void **state)
{
    (void)state;
    static const struct {
        const char *more;
        int code;
        const char *reason;
    } cases[] = {
        {"\"num_key_value_heads\":3", -EINVAL, "no multiple"},
        {"\"num_key_value_heads\":0", -EINVAL, "num_key_value_heads"},
        {"\"head_dim\":15", -ENOTSUP, "head_dim"},
        {"\"head_dim\":-1", -EINVAL, "head_dim"},
        {"\"hidden_act\":\"gelu\"", -ENOTSUP, "hidden_act"},
        {"\"attention_bias\":true", -ENOTSUP, "attention_bias"},
        {"\"mlp_bias\":1", -EINVAL, "mlp_bias"},
        {"\"quantization_config\":{}", -ENOTSUP, "quantization_config"},
        {"\"rope_scaling\":{\"rope_type\":\"dynamic\"}", -ENOTSUP, "rope_scaling"},
        {"\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":0}", -EINVAL, "factor"},
        {"\"rope_theta\":0", -EINVAL, "rope_theta"},
        {"\"rope_theta\":1,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}", -EINVAL, "base 1"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"beta_fast\":1,\"beta_slow\":2}", -EINVAL,
         "beta_fast 1"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"beta_fast\":0}", -EINVAL, "beta_fast"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"factor\":-1}", -EINVAL, "factor"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"truncate\":false}", -ENOTSUP, "truncate"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"original_max_position_embeddings\":0}", -EINVAL,
         "original_max_position_embeddings"},
        {"\"rope_scaling\":{\"type\":\"llama3\",\"original_max_position_embeddings\":-1}", -EINVAL,
         "original_max_position_embeddings"},
        {"\"rope_scaling\":{\"type\":\"llama3\",\"low_freq_factor\":4}", -EINVAL,
         "low_freq_factor"},
        {"\"rope_scaling\":{\"type\":\"llama3\",\"low_freq_factor\":0}", -EINVAL,
         "low_freq_factor"},
        {"\"partial_rotary_factor\":0.5", -EINVAL, "partial_rotary_factor"},
        {"\"rms_norm_eps\":\"x\"", -EINVAL, "rms_norm_eps"},
        {"\"eos_token_id\":100", -EINVAL, "eos_token_id"},
        {"\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", -EINVAL, "eos_token_id"},
        {"\"bos_token_id\":100", -EINVAL, "bos id 100"},
        {"\"tie_word_embeddings\":\"yes\"", -EINVAL, "tie_word_embeddings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hparams hparams;
        struct model_error error = {{0}};
        const int code = read_more(&hparams, cases[i].more, &error);
        if (code != cases[i].code || !strstr(error.text, cases[i].reason)) {
            fail_msg("%s: %d, \"%s\"", cases[i].more, code, error.text);
        }
    }
}

static void head_dim_is_not_rounded(void **state)
{
    (void)state;
    static const char text[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":66,\"num_hidden_layers\":1,"
        "\"num_attention_heads\":4,\"intermediate_size\":8,\"vocab_size\":9%s}";
    char config[TEXT_BYTES];
    struct hparams hparams;
    struct model_error error = {{0}};
    (void)snprintf(config, sizeof config, text, "");
    assert_int_equal(read_config(&hparams, config, &error), -EINVAL);
    assert_non_null(strstr(error.text, "head_dim is missing"));
    assert_non_null(strstr(error.text, "66 is no multiple of num_attention_heads 4"));
    (void)snprintf(config, sizeof config, text, ",\"head_dim\":16");
    assert_int_equal(read_config(&hparams, config, &error), 0);
}

/* The required keys under another architecture's name. */
static int read_as(struct hparams *hparams, const char *architecture, const char *more,
                   struct model_error *error)
{
    char text[2 * TEXT_BYTES];
    const char *rest = strchr(base, ']');
    (void)snprintf(text, sizeof text, "{\"architectures\":[\"%s\"%s%s}", architecture, rest, more);
    return read_config(hparams, text, error);
}

static void an_unknown_architecture_is_named_with_the_known_ones(void **state)
{
    (void)state;
    struct hparams hparams;
    struct model_error error = {{0}};
    assert_int_equal(read_as(&hparams, "GemmaForCausalLM", "", &error), -ENOTSUP);
    assert_non_null(strstr(error.text, "GemmaForCausalLM is not supported"));
    assert_non_null(strstr(error.text, "LlamaForCausalLM, "));
    assert_non_null(strstr(error.text, "Qwen3MoeForCausalLM"));
}

static void a_window_counts_where_the_family_says_so(void **state)
{
    (void)state;
    static const struct {
        const char *architecture;
        const char *more;
        uint32_t window;
        const char *refusal;
    } cases[] = {
        {"MistralForCausalLM", ",\"sliding_window\":7", 7, NULL},
        {"MistralForCausalLM", ",\"sliding_window\":null", 0, NULL},
        {"Qwen2ForCausalLM", ",\"sliding_window\":7", 0, NULL},
        {"Qwen2ForCausalLM", ",\"sliding_window\":7,\"use_sliding_window\":false", 0, NULL},
        {"Qwen2ForCausalLM", ",\"sliding_window\":7,\"use_sliding_window\":true", 0, NULL},
        {"Qwen3ForCausalLM",
         ",\"sliding_window\":7,\"use_sliding_window\":true,\"max_window_layers\":0", 7, NULL},
        {"Qwen3ForCausalLM",
         ",\"sliding_window\":7,\"use_sliding_window\":true,\"max_window_layers\":1", 0,
         "max_window_layers"},
        {"Qwen3ForCausalLM", ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]", 0,
         "layer_types"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hparams hparams;
        struct model_error error = {{0}};
        const int code = read_as(&hparams, cases[i].architecture, cases[i].more, &error);
        assert_int_equal(code, cases[i].refusal ? -ENOTSUP : 0);
        if (cases[i].refusal) {
            assert_non_null(strstr(error.text, cases[i].refusal));
        } else {
            assert_int_equal(hparams.sliding_window, cases[i].window);
        }
    }
}

static void experts_are_read_by_the_names_of_their_family(void **state)
{
    (void)state;
    static const char qwen3[] = ",\"num_experts\":6,\"num_experts_per_tok\":2,"
                                "\"moe_intermediate_size\":24";
    struct hparams hparams;
    struct model_error error = {{0}};
    assert_int_equal(read_as(&hparams, "Qwen3MoeForCausalLM", qwen3, &error), 0);
    assert_int_equal(hparams.experts, 6);
    assert_int_equal(hparams.experts_used, 2);
    assert_int_equal(hparams.ffn, 24);
    assert_false(hparams.experts_normed);
    /* Each of 2 layers: q, k, v, o 64 x 64, experts, router, norms, q and k norms; tables, norm. */
    assert_int_equal(hparams_parameters(&hparams),
                     2 * (4 * 64 * 64 + 6 * 3 * 64 * 24 + 6 * 64 + 2 * 64 + 2 * 16) + 2 * 100 * 64 +
                         64);
    char text[HPARAMS_TEXT_BYTES_MAX];
    hparams_text(&hparams, text);
    assert_string_equal(text, "qwen3moe 2x64, 4/4 heads of 16, ffn 24, 2 of 6 experts, vocab 100");
    assert_int_equal(read_as(&hparams, "MixtralForCausalLM",
                             ",\"num_local_experts\":4,\"num_experts_per_tok\":1", &error),
                     0);
    assert_int_equal(hparams.experts, 4);
    assert_int_equal(hparams.ffn, 96);
    assert_true(hparams.experts_normed);
    static const struct {
        const char *experts;
        const char *used;
        const char *more;
        int code;
        const char *reason;
    } refused[] = {
        {"6", "2", ",\"decoder_sparse_step\":2", -ENOTSUP, "decoder_sparse_step"},
        {"6", "2", ",\"mlp_only_layers\":[0]", -ENOTSUP, "mlp_only_layers"},
        {"1", "2", "", -EINVAL, "uses 2 of 1 experts"},
        {"100000", "2", "", -EINVAL, "num_experts"},
        {"100", "33", "", -EINVAL, "num_experts_per_tok"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char more[TEXT_BYTES];
        (void)snprintf(
            more, sizeof more,
            ",\"num_experts\":%s,\"num_experts_per_tok\":%s,\"moe_intermediate_size\":24%s",
            refused[i].experts, refused[i].used, refused[i].more);
        assert_int_equal(read_as(&hparams, "Qwen3MoeForCausalLM", more, &error), refused[i].code);
        assert_non_null(strstr(error.text, refused[i].reason));
    }
}

/* Angle of pair `pair` at position 1, from the tables; scale: of cosine and sine. */
static double angle_of(const char *scaling, uint32_t pair, double *scale)
{
    struct hparams hparams;
    struct model_error error = {{0}};
    float cosine[PAIRS];
    float sine[PAIRS];
    char more[TEXT_BYTES / 2];
    (void)snprintf(more, sizeof more,
                   "\"max_position_embeddings\":1024,\"rope_theta\":10000,\"rope_scaling\":%s",
                   scaling);
    assert_int_equal(read_more(&hparams, more, &error), 0);
    assert_int_equal(hparams.rope_dim, 2 * PAIRS);
    hparams_rope_table(&hparams, 1, 1, cosine, sine);
    *scale = hypot((double)cosine[pair], (double)sine[pair]);
    return atan2((double)sine[pair], (double)cosine[pair]);
}

static void assert_near(double actual, double expected)
{
    if (!(fabs(actual - expected) <= 1e-5 * fabs(expected))) {
        fail_msg("%.9g, expected %.9g", actual, expected);
    }
}

/* theta^(-2i/16) is 10^(-i/2): 1, 0.316, 0.1, ... */
static void rope_follows_its_formulas(void **state)
{
    (void)state;
    static const char llama3[] = "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
                                 "\"high_freq_factor\":4,\"original_max_position_embeddings\":256}";
    static const char yarn[] = "{\"type\":\"yarn\",\"factor\":4,"
                               "\"original_max_position_embeddings\":256}";
    double scale;
    assert_near(angle_of("null", 3, &scale), pow(10, -1.5));
    assert_near(scale, 1);
    assert_near(angle_of("{\"rope_type\":\"linear\",\"factor\":4}", 3, &scale), pow(10, -1.5) / 4);
    /* Wavelength 62.8 lies below 256 / 4: kept. */
    assert_near(angle_of(llama3, 2, &scale), 0.1);
    /* 198.7 lies between 64 and 256: smooth = (256 / 198.7 - 1) / 3. */
    const double frequency = pow(10, -1.5);
    const double smooth = (256 * frequency / (2 * M_PI) - 1) / 3;
    assert_near(angle_of(llama3, 3, &scale), (1 - smooth) * frequency / 8 + smooth * frequency);
    /* 628 lies above 256: divided. */
    assert_near(angle_of(llama3, 4, &scale), 0.01 / 8);
    /* 32 turns are reached at dimension 0.2 and 1 at 3.2: a ramp from 0 to 4. */
    assert_near(angle_of(yarn, 0, &scale), 1);
    assert_near(scale, 0.1 * log(4) + 1);
    assert_near(angle_of(yarn, 2, &scale), 0.1 / 4 * 0.5 + 0.1 * 0.5);
    assert_near(angle_of(yarn, 5, &scale), pow(10, -2.5) / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_keys_have_defaults),
        cmocka_unit_test(generation_config_gives_defaults_for_sampling),
        cmocka_unit_test(a_refusal_names_the_file_of_its_key),
        cmocka_unit_test(every_required_key_is_named),
        cmocka_unit_test(refusals_name_the_key),
        cmocka_unit_test(head_dim_is_not_rounded),
        cmocka_unit_test(an_unknown_architecture_is_named_with_the_known_ones),
        cmocka_unit_test(a_window_counts_where_the_family_says_so),
        cmocka_unit_test(experts_are_read_by_the_names_of_their_family),
        cmocka_unit_test(rope_follows_its_formulas),
    };
    return cmocka_run_group_tests_name("hparams", tests, NULL, NULL);
}
