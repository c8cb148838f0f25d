/*
 * gguf_hparams.c - reads the numbers of a GGUF into hparams: keys of the family's own prefix
 * (llama.block_count, ...) and tokenizer.ggml.*. Called by weights.c and the tools at start; pure.
 * Invariant: the same ranges and relations hold afterwards as after hparams_from_config().
 */
#include "model/gguf_hparams.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES_MAX = 96 };

struct reader {
    const struct gguf *gguf;
    const char *prefix; /* Of the family's own keys. */
    struct model_error *error;
    int code; /* The first failure stays. */
};

/* A value of another kind than the key's is not taken for an absent one. */
static void check_kind(struct reader *reader, const char *key, bool found, const char *wanted)
{
    if (!found && gguf_has(reader->gguf, key) && !reader->code) {
        reader->code = model_error_set(reader->error, -EINVAL, "%s is not %s", key, wanted);
    }
}

/* Integer in [min, max]; a fallback outside the range means required. */
static uint32_t read_u32(struct reader *reader, const char *key, uint64_t min, uint64_t max,
                         uint64_t fallback)
{
    uint64_t value = fallback;
    const bool found = gguf_u64(reader->gguf, key, &value);
    check_kind(reader, key, found, "a whole number from 0 up");
    if ((value < min || value > max) && !reader->code) {
        reader->code =
            found ? model_error_set(reader->error, -EINVAL, "%s is %llu, must be from %llu to %llu",
                                    key, (unsigned long long)value, (unsigned long long)min,
                                    (unsigned long long)max)
                  : model_error_set(reader->error, -EINVAL, "%s is missing", key);
    }
    return (uint32_t)value;
}

static double read_f64(struct reader *reader, const char *key, double min, double max,
                       double fallback)
{
    double value = fallback;
    check_kind(reader, key, gguf_f64(reader->gguf, key, &value), "a floating-point number");
    if (!(value >= min && value <= max) && !reader->code) {
        reader->code =
            model_error_set(reader->error, -EINVAL, "%s is missing or out of range", key);
    }
    return value;
}

/* PREFIX.suffix */
static const char *own_key(const struct reader *reader, const char *suffix, char key[KEY_BYTES_MAX])
{
    (void)snprintf(key, KEY_BYTES_MAX, "%s.%s", reader->prefix, suffix);
    return key;
}

static uint32_t own_u32(struct reader *reader, const char *suffix, uint64_t min, uint64_t max,
                        uint64_t fallback)
{
    char key[KEY_BYTES_MAX];
    return read_u32(reader, own_key(reader, suffix, key), min, max, fallback);
}

static double own_f64(struct reader *reader, const char *suffix, double min, double max,
                      double fallback)
{
    char key[KEY_BYTES_MAX];
    return read_f64(reader, own_key(reader, suffix, key), min, max, fallback);
}

static bool text_is(const struct gguf *gguf, const char *key, const char *wanted)
{
    const char *bytes;
    size_t count;
    return gguf_string(gguf, key, &bytes, &count) && count == strlen(wanted) &&
           memcmp(bytes, wanted, count) == 0;
}

/* Files may override parts of the formulas; only the values that change nothing are served. */
static void refuse_overrides(struct reader *reader)
{
    (void)own_f64(reader, "rope.scaling.attn_factor", 1, 1, 1);
    (void)own_f64(reader, "rope.scale_linear", 1, 1, 1); /* An old name of scaling.factor. */
    (void)own_f64(reader, "rope.scaling.yarn_ext_factor", 1, 1, 1);
    (void)own_f64(reader, "rope.scaling.yarn_attn_factor", 1, 1, 1);
    (void)own_f64(reader, "rope.scaling.yarn_log_multiplier", 0, 0, 0);
}

static void read_rope(struct reader *reader, struct hparams *hparams)
{
    struct rope_scaling *rope = &hparams->rope;
    const char *type;
    size_t type_bytes;
    char key[KEY_BYTES_MAX];
    hparams->rope_theta = own_f64(reader, "rope.freq_base", 1, 1e12, 10000);
    hparams->rope_dim =
        own_u32(reader, "rope.dimension_count", 1, hparams->head_dim, hparams->head_dim);
    rope->attention_factor = 1;
    refuse_overrides(reader);
    const bool scaled =
        gguf_string(reader->gguf, own_key(reader, "rope.scaling.type", key), &type, &type_bytes);
    check_kind(reader, key, scaled, "a text");
    if (scaled && !text_is(reader->gguf, key, "none")) {
        rope->factor = own_f64(reader, "rope.scaling.factor", 1, 1e6, 1);
        rope->original_positions = own_u32(reader, "rope.scaling.original_context_length", 1,
                                           LIMIT_CONTEXT_MAX, hparams->positions_max);
        if (text_is(reader->gguf, key, "linear")) {
            rope->kind = ROPE_LINEAR;
        } else if (text_is(reader->gguf, key, "yarn")) {
            rope->kind = ROPE_YARN;
            rope->beta_fast = own_f64(reader, "rope.scaling.yarn_beta_fast", 1e-6, 1e6, 32);
            rope->beta_slow = own_f64(reader, "rope.scaling.yarn_beta_slow", 1e-6, 1e6, 1);
            rope->attention_factor = 0.1 * log(rope->factor) + 1;
        } else if (!reader->code) {
            reader->code =
                model_error_set(reader->error, -ENOTSUP, "%s is not linear or yarn", key);
        }
    }
}

/* Llama 3.1 and later: the converter stores a divisor a pair in place of the scaling's numbers. */
static void read_rope_factors(struct reader *reader, struct hparams *hparams)
{
    const struct tensor *factors = tensor_find(gguf_tensors(reader->gguf), "rope_freqs.weight");
    if (!factors || reader->code) {
        return;
    }
    const uint32_t pairs = hparams->rope_dim / 2;
    if (factors->dtype != TENSOR_F32 || factors->dims != 1 || factors->shape[0] != pairs ||
        pairs > ROPE_PAIRS_MAX) {
        reader->code = model_error_set(reader->error, -EINVAL,
                                       "rope_freqs.weight must be %u f32 values", pairs);
        return;
    }
    hparams->rope.kind = ROPE_FACTORS;
    tensor_read_row(factors, 0, 0, pairs, hparams->rope.factors);
    for (uint32_t i = 0; i < pairs; i++) {
        if (!(hparams->rope.factors[i] > 0) && !reader->code) {
            reader->code = model_error_set(reader->error, -EINVAL,
                                           "rope_freqs.weight holds a value that is not positive");
        }
    }
}

static void read_eos(struct reader *reader, struct hparams *hparams, const char *key)
{
    uint64_t id;
    const bool found = gguf_u64(reader->gguf, key, &id);
    check_kind(reader, key, found, "a whole number from 0 up");
    if (!found || reader->code) {
        return;
    }
    if (id >= hparams->vocab) {
        reader->code =
            model_error_set(reader->error, -EINVAL, "%s is %llu, outside the vocabulary of %u", key,
                            (unsigned long long)id, hparams->vocab);
    } else if (hparams->eos_count == 0 || hparams->eos_ids[0] != id) {
        hparams->eos_ids[hparams->eos_count++] = (uint32_t)id;
    }
}

static void read_tokens(struct reader *reader, struct hparams *hparams)
{
    uint64_t vocab = 0;
    (void)gguf_array_count(reader->gguf, "tokenizer.ggml.tokens", &vocab);
    hparams->vocab = own_u32(reader, "vocab_size", 1, LIMIT_VOCAB_MAX, vocab);
    hparams->bos_id = read_u32(reader, "tokenizer.ggml.bos_token_id", 0, UINT32_MAX, UINT32_MAX);
    read_eos(reader, hparams, "tokenizer.ggml.eos_token_id");
    read_eos(reader, hparams, "tokenizer.ggml.eot_token_id");
}

/* The family by general.architecture; a mixture of experts has a row of its own. */
static void read_architecture(struct reader *reader, struct hparams *hparams)
{
    const char *name = "";
    size_t name_bytes = 0;
    (void)gguf_string(reader->gguf, "general.architecture", &name, &name_bytes);
    (void)snprintf(hparams->architecture, sizeof hparams->architecture, "%.*s",
                   (int)(name_bytes < sizeof hparams->architecture ? name_bytes : 0), name);
    reader->prefix = hparams->architecture;
    hparams->experts = own_u32(reader, "expert_count", 0, LIMIT_EXPERTS_MAX, 0);
    hparams->family = family_by_gguf(hparams->architecture, hparams->experts > 0);
    if (!hparams->family && !reader->code) {
        char known[96];
        family_list_gguf(known, sizeof known);
        reader->code =
            model_error_set(reader->error, -ENOTSUP,
                            "general.architecture %s with %u experts is not supported (%s are)",
                            hparams->architecture, hparams->experts, known);
    }
}

/* What a file of experts may say that would compute something else here. */
static void read_experts(struct reader *reader, struct hparams *hparams)
{
    enum { GATING_SOFTMAX = 1 };
    char key[KEY_BYTES_MAX];
    hparams->ffn = own_u32(reader, "feed_forward_length", 0, 1 << 20, 0);
    if (hparams->experts > 0) {
        hparams->ffn = own_u32(reader, "expert_feed_forward_length", 0, 1 << 20, hparams->ffn);
        hparams->experts_used = own_u32(reader, "expert_used_count", 1, LIMIT_EXPERTS_USED_MAX, 0);
        hparams->experts_normed = true;
        const bool told = gguf_bool(reader->gguf, own_key(reader, "expert_weights_norm", key),
                                    &hparams->experts_normed);
        check_kind(reader, key, told, "a boolean");
        hparams->experts_normed |= hparams->family->experts->normed;
        (void)own_u32(reader, "expert_gating_func", GATING_SOFTMAX, GATING_SOFTMAX, GATING_SOFTMAX);
        (void)own_u32(reader, "expert_shared_count", 0, 0, 0);
        (void)own_u32(reader, "leading_dense_block_count", 0, 0, 0);
        (void)own_f64(reader, "expert_weights_scale", 1, 1, 1);
    }
    if (hparams->ffn == 0 && !reader->code) {
        reader->code = model_error_set(reader->error, -EINVAL, "%s is missing",
                                       own_key(reader, "feed_forward_length", key));
    }
}

static void read_head_dim(struct reader *reader, struct hparams *hparams)
{
    uint64_t given;
    char key[KEY_BYTES_MAX];
    const char *name = own_key(reader, "attention.key_length", key);
    if (!gguf_u64(reader->gguf, name, &given) && hparams->hidden % hparams->heads) {
        reader->code = model_error_set(reader->error, -EINVAL,
                                       "%s is missing, and embedding_length %u is no multiple of "
                                       "attention.head_count %u",
                                       name, hparams->hidden, hparams->heads);
        return;
    }
    hparams->head_dim =
        read_u32(reader, name, 1, (uint64_t)2 * ROPE_PAIRS_MAX, hparams->hidden / hparams->heads);
}

int hparams_from_gguf(struct hparams *hparams, const struct gguf *gguf, struct model_error *error)
{
    struct reader reader = {.gguf = gguf, .error = error};
    *hparams = (struct hparams){.temperature = (double)NAN,
                                .top_p = (double)NAN,
                                .min_p = (double)NAN,
                                .repetition_penalty = (double)NAN,
                                .top_k = UINT32_MAX};
    read_architecture(&reader, hparams);
    if (reader.code) {
        return reader.code;
    }
    hparams->hidden = own_u32(&reader, "embedding_length", 1, 1 << 18, 0);
    hparams->layers = own_u32(&reader, "block_count", 1, LIMIT_LAYERS_MAX, 0);
    hparams->heads = own_u32(&reader, "attention.head_count", 1, 4096, 0);
    hparams->kv_heads = own_u32(&reader, "attention.head_count_kv", 1, 4096, hparams->heads);
    read_experts(&reader, hparams);
    hparams->positions_max = own_u32(&reader, "context_length", 1, LIMIT_CONTEXT_MAX, 0);
    hparams->rms_eps = own_f64(&reader, "attention.layer_norm_rms_epsilon", 0, 1, -1);
    if (reader.code) {
        return reader.code;
    }
    read_head_dim(&reader, hparams);
    hparams->sliding_window = own_u32(&reader, "attention.sliding_window", 0, UINT32_MAX, 0);
    read_rope(&reader, hparams);
    read_rope_factors(&reader, hparams);
    read_tokens(&reader, hparams);
    hparams->tied_embeddings = !tensor_find(gguf_tensors(gguf), "output.weight");
    const struct tensor *typical =
        tensor_find(gguf_tensors(gguf),
                    hparams->experts > 0 ? "blk.0.ffn_up_exps.weight" : "blk.0.ffn_up.weight");
    if (typical) {
        (void)snprintf(hparams->stored_dtype, sizeof hparams->stored_dtype, "%s",
                       tensor_dtype_name(typical->dtype));
    }
    return reader.code ? reader.code : hparams_check(hparams, error);
}
