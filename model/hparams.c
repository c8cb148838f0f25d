/*
 * hparams.c - reads and checks a model's numbers from config.json and generation_config.json, and
 * fills rope tables. Called by weights.c and the tools at start; pure. Invariant: on success every
 * field lies within limits.h and the relations between heads, sizes and vocabulary hold.
 */
#include "model/hparams.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct reader {
    const struct json *map;
    struct model_error *error;
    const char *file; /* Whose values are read. */
    int code;         /* The first failure stays. */
};

static void refuse(struct reader *reader, int code, const char *key, const char *why)
{
    if (!reader->code) {
        reader->code = model_error_set(reader->error, code, "%s: %s %s", reader->file, key, why);
    }
}

/* Integer in [min, max]; fallback when absent or null. A fallback outside the range: required. */
static uint32_t read_u32(struct reader *reader, const char *key, uint64_t min, uint64_t max,
                         uint64_t fallback)
{
    const struct json *value = json_get(reader->map, key);
    uint64_t number = fallback;
    const bool absent = json_kind(value) <= JSON_KIND_NULL;
    if (absent && (fallback < min || fallback > max)) {
        refuse(reader, -EINVAL, key, "is missing");
        return 0;
    }
    if (!absent && (!json_u64(value, &number) || number < min || number > max)) {
        char why[96];
        (void)snprintf(why, sizeof why, "must be an integer from %llu to %llu",
                       (unsigned long long)min, (unsigned long long)max);
        refuse(reader, -EINVAL, key, why);
        return 0;
    }
    return (uint32_t)number;
}

static double read_f64(struct reader *reader, const struct json *map, const char *key, double min,
                       double max, double fallback)
{
    const struct json *value = json_get(map, key);
    double number = fallback;
    if (json_kind(value) > JSON_KIND_NULL &&
        (!json_f64(value, &number) || !(number >= min && number <= max))) {
        refuse(reader, -EINVAL, key, "is out of range");
        return fallback;
    }
    return number;
}

static bool read_bool(struct reader *reader, const char *key, bool fallback)
{
    const struct json *value = json_get(reader->map, key);
    bool flag = fallback;
    if (json_kind(value) > JSON_KIND_NULL && !json_bool(value, &flag)) {
        refuse(reader, -EINVAL, key, "must be true or false");
    }
    return flag;
}

static bool text_is(const struct json *value, const char *wanted)
{
    const char *bytes;
    size_t count;
    return json_text(value, &bytes, &count) && count == strlen(wanted) &&
           memcmp(bytes, wanted, count) == 0;
}

static void copy_text(char *out, size_t out_bytes, const struct json *value)
{
    const char *bytes;
    size_t count;
    if (json_text(value, &bytes, &count)) {
        (void)snprintf(out, out_bytes, "%.*s", (int)(count < out_bytes ? count : out_bytes - 1),
                       bytes);
    }
}

static void read_architecture(struct reader *reader, struct hparams *hparams)
{
    const struct json *list = json_get(reader->map, "architectures");
    const struct json *name = json_at(list, 0);
    if (json_kind(name) != JSON_KIND_STRING) {
        refuse(reader, -EINVAL, "architectures", "must be a list with one name");
        return;
    }
    copy_text(hparams->architecture, sizeof hparams->architecture, name);
    hparams->family = family_by_hugging_face(hparams->architecture);
    if (!hparams->family) {
        char known[192];
        char why[288];
        family_list_hugging_face(known, sizeof known);
        (void)snprintf(why, sizeof why, "%.60s is not supported (%s are)", hparams->architecture,
                       known);
        refuse(reader, -ENOTSUP, "architectures", why);
    }
}

static void read_unsupported(struct reader *reader, const struct family *family)
{
    const struct json *act = json_get(reader->map, "hidden_act");
    if (json_kind(act) > JSON_KIND_NULL && !text_is(act, "silu")) {
        refuse(reader, -ENOTSUP, "hidden_act", "is not silu: not supported");
    }
    const bool bias = read_bool(reader, "attention_bias", false) && !family->qkv_bias;
    if (read_bool(reader, "mlp_bias", false) || bias) {
        refuse(reader, -ENOTSUP, "attention_bias / mlp_bias", "true is not supported");
    }
    if (json_kind(json_get(reader->map, "quantization_config")) > JSON_KIND_NULL) {
        refuse(reader, -ENOTSUP, "quantization_config", "is not supported");
    }
}

/* layer_types, where it is there, must say of every layer what the window says of all. */
static void check_layer_types(struct reader *reader, const struct hparams *hparams)
{
    const struct json *types = json_get(reader->map, "layer_types");
    const char *wanted = hparams->sliding_window > 0 ? "sliding_attention" : "full_attention";
    for (size_t i = 0; i < json_count(types); i++) {
        if (!text_is(json_at(types, i), wanted)) {
            refuse(reader, -ENOTSUP, "layer_types", "with layers of two kinds is not supported");
            return;
        }
    }
}

/* Qwen: use_sliding_window is false by default, and the first max_window_layers have none. */
static void read_window(struct reader *reader, struct hparams *hparams)
{
    enum { WINDOW_LAYERS = 28 }; /* Default of Qwen2 and Qwen3 in transformers. */
    const bool on = read_bool(reader, "use_sliding_window", !hparams->family->window_on_request);
    hparams->sliding_window = on ? read_u32(reader, "sliding_window", 0, UINT32_MAX, 0) : 0;
    if (on && hparams->family->window_on_request) {
        const uint32_t full = read_u32(reader, "max_window_layers", 0, UINT32_MAX, WINDOW_LAYERS);
        if (full >= hparams->layers) {
            hparams->sliding_window = 0;
        } else if (full > 0) {
            refuse(reader, -ENOTSUP, "max_window_layers", "below the last layer is not supported");
        }
    }
    check_layer_types(reader, hparams);
}

static void read_experts(struct reader *reader, struct hparams *hparams)
{
    const struct family_experts *experts = hparams->family->experts;
    hparams->ffn = read_u32(reader, experts ? experts->ffn : "intermediate_size", 1, 1 << 20, 0);
    if (!experts) {
        return;
    }
    hparams->experts = read_u32(reader, experts->count, 1, LIMIT_EXPERTS_MAX, 0);
    hparams->experts_used = read_u32(reader, "num_experts_per_tok", 1, LIMIT_EXPERTS_USED_MAX, 0);
    hparams->experts_normed = experts->normed || read_bool(reader, "norm_topk_prob", false);
    if (read_u32(reader, "decoder_sparse_step", 0, UINT32_MAX, 1) != 1 ||
        json_count(json_get(reader->map, "mlp_only_layers")) > 0) {
        refuse(reader, -ENOTSUP, "decoder_sparse_step / mlp_only_layers",
               "with dense layers among the sparse ones is not supported");
    }
}

static void read_head_dim(struct reader *reader, struct hparams *hparams)
{
    const bool absent = json_kind(json_get(reader->map, "head_dim")) <= JSON_KIND_NULL;
    if (absent && hparams->hidden % hparams->heads) {
        char why[96];
        (void)snprintf(why, sizeof why,
                       "is missing, and hidden_size %u is no multiple of num_attention_heads %u",
                       hparams->hidden, hparams->heads);
        refuse(reader, -EINVAL, "head_dim", why);
        return;
    }
    hparams->head_dim = read_u32(reader, "head_dim", 1, (uint64_t)2 * ROPE_PAIRS_MAX,
                                 hparams->hidden / hparams->heads);
    hparams->rope_dim = hparams->head_dim;
}

/* The yarn paper's default is 0.1 ln(factor) + 1; the mscale pair gives a ratio of two such terms.
 */
static double yarn_attention_factor(struct reader *reader, const struct json *map, double factor)
{
    const double mscale = read_f64(reader, map, "mscale", 0, 1e6, 0);
    const double mscale_all = read_f64(reader, map, "mscale_all_dim", 0, 1e6, 0);
    const double term = factor > 1 ? 0.1 * log(factor) : 0;
    double fallback = term + 1;
    if (mscale > 0 && mscale_all > 0) {
        fallback = (mscale * term + 1) / (mscale_all * term + 1);
    }
    return read_f64(reader, map, "attention_factor", 1e-6, 1e6, fallback);
}

static void read_rope(struct reader *reader, struct hparams *hparams)
{
    struct rope_scaling *rope = &hparams->rope;
    const struct json *map = json_get(reader->map, "rope_scaling");
    if (json_kind(map) <= JSON_KIND_NULL) {
        map = json_get(reader->map, "rope_parameters"); /* The newer spelling. */
    }
    rope->attention_factor = 1;
    hparams->rope_theta = read_f64(reader, reader->map, "rope_theta", 1, 1e12, 10000);
    (void)read_f64(reader, reader->map, "partial_rotary_factor", 1, 1, 1); /* All or nothing. */
    if (json_kind(map) <= JSON_KIND_NULL) {
        return;
    }
    hparams->rope_theta = read_f64(reader, map, "rope_theta", 1, 1e12, hparams->rope_theta);
    (void)read_f64(reader, map, "partial_rotary_factor", 1, 1, 1);
    const struct json *type = json_get(map, "rope_type");
    type = type ? type : json_get(map, "type");
    if (text_is(type, "default")) {
        return;
    }
    rope->factor = read_f64(reader, map, "factor", 1, 1e6, 1);
    const double original = read_f64(reader, map, "original_max_position_embeddings", 1,
                                     LIMIT_CONTEXT_MAX, hparams->positions_max);
    rope->original_positions = (uint32_t)original;
    if (text_is(type, "linear")) {
        rope->kind = ROPE_LINEAR;
    } else if (text_is(type, "llama3")) {
        rope->kind = ROPE_LLAMA3;
        rope->low_freq_factor = read_f64(reader, map, "low_freq_factor", 1e-6, 1e6, 1);
        rope->high_freq_factor = read_f64(reader, map, "high_freq_factor", 1e-6, 1e6, 4);
        if (!(rope->high_freq_factor > rope->low_freq_factor)) {
            refuse(reader, -EINVAL, "rope_scaling", "high_freq_factor must exceed low_freq_factor");
        }
    } else if (text_is(type, "yarn")) {
        rope->kind = ROPE_YARN;
        rope->beta_fast = read_f64(reader, map, "beta_fast", 1e-6, 1e6, 32);
        rope->beta_slow = read_f64(reader, map, "beta_slow", 1e-6, 1e6, 1);
        rope->attention_factor = yarn_attention_factor(reader, map, rope->factor);
        bool truncate = true; /* The ramp's ends to whole dimensions, as the formulas here do. */
        if (json_bool(json_get(map, "truncate"), &truncate) && !truncate) {
            refuse(reader, -ENOTSUP, "rope_scaling", "with truncate false is not supported");
        }
    } else {
        refuse(reader, -ENOTSUP, "rope_scaling", "has a type other than linear, llama3, yarn");
    }
}

static void read_eos(struct reader *reader, struct hparams *hparams, const struct json *value)
{
    uint64_t id;
    if (json_kind(value) <= JSON_KIND_NULL) {
        return;
    }
    hparams->eos_count = 0;
    const bool list = json_kind(value) == JSON_KIND_ARRAY;
    const size_t count = list ? json_count(value) : 1;
    if (count > LIMIT_EOS_IDS_MAX) {
        refuse(reader, -EINVAL, "eos_token_id", "lists more ids than the limit of 8");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!json_u64(list ? json_at(value, i) : value, &id) || id >= hparams->vocab) {
            refuse(reader, -EINVAL, "eos_token_id", "is not an id of the vocabulary");
            return;
        }
        hparams->eos_ids[hparams->eos_count++] = (uint32_t)id;
    }
}

static void read_generation(struct reader *reader, struct hparams *hparams,
                            const struct json *generation)
{
    reader->file = "generation_config.json";
    hparams->temperature = read_f64(reader, generation, "temperature", 0, 100, (double)NAN);
    hparams->top_p = read_f64(reader, generation, "top_p", 0, 1, (double)NAN);
    hparams->min_p = read_f64(reader, generation, "min_p", 0, 1, (double)NAN);
    hparams->repetition_penalty =
        read_f64(reader, generation, "repetition_penalty", 0.01, 100, (double)NAN);
    hparams->top_k = UINT32_MAX;
    uint64_t top_k;
    if (json_u64(json_get(generation, "top_k"), &top_k) && top_k <= LIMIT_VOCAB_MAX) {
        hparams->top_k = (uint32_t)top_k;
    }
    bool sample;
    if (json_bool(json_get(generation, "do_sample"), &sample) && !sample) {
        hparams->temperature = 0; /* The model's authors decode it greedily. */
    }
    read_eos(reader, hparams, json_get(generation, "eos_token_id"));
}

/* Its formulas divide by log(theta), and ramp between the two rotation counts. */
static int check_yarn(const struct hparams *hparams, struct model_error *error)
{
    const struct rope_scaling *rope = &hparams->rope;
    if (!(hparams->rope_theta > 1)) {
        return model_error_set(error, -EINVAL, "rope base %g must be above 1 for yarn",
                               hparams->rope_theta);
    }
    if (!(rope->beta_fast > rope->beta_slow)) {
        return model_error_set(error, -EINVAL, "yarn's beta_fast %g must exceed its beta_slow %g",
                               rope->beta_fast, rope->beta_slow);
    }
    return 0;
}

int hparams_check(const struct hparams *hparams, struct model_error *error)
{
    if (hparams->rope.kind == ROPE_YARN && check_yarn(hparams, error)) {
        return -EINVAL;
    }
    if (hparams->heads % hparams->kv_heads) {
        return model_error_set(error, -EINVAL, "%u attention heads are no multiple of %u kv heads",
                               hparams->heads, hparams->kv_heads);
    }
    if (hparams->head_dim % 2 || hparams->rope_dim % 2 || hparams->rope_dim > hparams->head_dim) {
        return model_error_set(error, -ENOTSUP,
                               "head_dim %u with %u rotated dimensions is not supported",
                               hparams->head_dim, hparams->rope_dim);
    }
    if (hparams->experts_used > hparams->experts) {
        return model_error_set(error, -EINVAL, "a token uses %u of %u experts",
                               hparams->experts_used, hparams->experts);
    }
    if (hparams->bos_id != UINT32_MAX && hparams->bos_id >= hparams->vocab) {
        return model_error_set(error, -EINVAL, "bos id %u is outside the vocabulary of %u",
                               hparams->bos_id, hparams->vocab);
    }
    return 0;
}

int hparams_check_ranks(const struct hparams *hparams, uint32_t ranks, struct model_error *error)
{
    const uint32_t kv_heads = hparams->kv_heads;
    const uint32_t least = hparams->ffn < hparams->hidden ? hparams->ffn : hparams->hidden;
    if (kv_heads % ranks != 0 && (ranks % kv_heads != 0 || hparams->heads % ranks != 0)) {
        return model_error_set(
            error, -ENOTSUP,
            "workers.tp %u does not fit the model's %u KV heads and %u heads: it "
            "must divide the KV heads, or be a multiple of them that divides "
            "the heads",
            ranks, kv_heads, hparams->heads);
    }
    if (least < ranks || hparams->vocab < ranks) {
        return model_error_set(error, -ENOTSUP,
                               "workers.tp %u is more than the model's smallest dimension %u",
                               ranks, least < hparams->vocab ? least : hparams->vocab);
    }
    return 0;
}

int hparams_check_context(const struct hparams *hparams, uint32_t tokens, struct model_error *error)
{
    if (tokens > hparams->positions_max) {
        return model_error_set(error, -ENOTSUP,
                               "a context of %u tokens is more than the model's %u positions: "
                               "lower model.context_tokens_max",
                               tokens, hparams->positions_max);
    }
    return 0;
}

int hparams_from_config(struct hparams *hparams, const struct json *config,
                        const struct json *generation, struct model_error *error)
{
    struct reader reader = {.map = config, .error = error, .file = "config.json"};
    *hparams = (struct hparams){.bos_id = UINT32_MAX};
    if (json_kind(config) != JSON_KIND_OBJECT) {
        return model_error_set(error, -EINVAL, "config.json: not a map");
    }
    read_architecture(&reader, hparams);
    if (reader.code) {
        return reader.code;
    }
    read_unsupported(&reader, hparams->family);
    hparams->hidden = read_u32(&reader, "hidden_size", 1, 1 << 18, 0);
    hparams->layers = read_u32(&reader, "num_hidden_layers", 1, LIMIT_LAYERS_MAX, 0);
    hparams->heads = read_u32(&reader, "num_attention_heads", 1, 4096, 0);
    hparams->kv_heads = read_u32(&reader, "num_key_value_heads", 1, 4096, hparams->heads);
    read_experts(&reader, hparams);
    hparams->vocab = read_u32(&reader, "vocab_size", 1, LIMIT_VOCAB_MAX, 0);
    hparams->positions_max =
        read_u32(&reader, "max_position_embeddings", 1, LIMIT_CONTEXT_MAX, 2048);
    read_window(&reader, hparams);
    hparams->rms_eps = read_f64(&reader, config, "rms_norm_eps", 0, 1, 1e-6);
    hparams->tied_embeddings = read_bool(&reader, "tie_word_embeddings", false);
    if (!reader.code) {
        read_head_dim(&reader, hparams);
        const uint32_t bos = read_u32(&reader, "bos_token_id", 0, UINT32_MAX, UINT32_MAX);
        hparams->bos_id = bos;
        read_rope(&reader, hparams);
        read_eos(&reader, hparams, json_get(config, "eos_token_id"));
        read_generation(&reader, hparams, generation);
        const struct json *stored = json_get(config, "torch_dtype");
        copy_text(hparams->stored_dtype, sizeof hparams->stored_dtype,
                  stored ? stored : json_get(config, "dtype"));
    }
    return reader.code ? reader.code : hparams_check(hparams, error);
}

/* Llama 3.1: long wavelengths are divided by factor, short ones kept, between them interpolated. */
static double llama3_frequency(const struct rope_scaling *rope, double frequency)
{
    const double wavelength = 2 * M_PI / frequency;
    const double low = rope->original_positions / rope->low_freq_factor;
    const double high = rope->original_positions / rope->high_freq_factor;
    if (wavelength < high) {
        return frequency;
    }
    if (wavelength > low) {
        return frequency / rope->factor;
    }
    const double smooth = (rope->original_positions / wavelength - rope->low_freq_factor) /
                          (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * frequency / rope->factor + smooth * frequency;
}

/* YaRN (Peng et al. 2023, section 3.2): dimension at which a rotation count is reached. */
static double yarn_dimension(const struct hparams *hparams, double rotations)
{
    return hparams->rope_dim * log(hparams->rope.original_positions / (rotations * 2 * M_PI)) /
           (2 * log(hparams->rope_theta));
}

static double yarn_frequency(const struct hparams *hparams, uint32_t pair, double frequency)
{
    const double last = hparams->rope_dim - 1;
    const double low = fmax(floor(yarn_dimension(hparams, hparams->rope.beta_fast)), 0);
    const double high = fmin(ceil(yarn_dimension(hparams, hparams->rope.beta_slow)), last);
    const double width = high > low ? high - low : 0.001;
    const double ramp = fmin(fmax((pair - low) / width, 0), 1);
    return frequency / hparams->rope.factor * ramp + frequency * (1 - ramp);
}

/* Radians a position turns pair `pair`: theta^(-2 pair / rope_dim) (Su et al. 2021), then scaled.
 */
static double rope_frequency(const struct hparams *hparams, uint32_t pair)
{
    const double frequency = pow(hparams->rope_theta, -2.0 * pair / hparams->rope_dim);
    switch (hparams->rope.kind) {
    case ROPE_NONE:
        break;
    case ROPE_LINEAR:
        return frequency / hparams->rope.factor;
    case ROPE_LLAMA3:
        return llama3_frequency(&hparams->rope, frequency);
    case ROPE_YARN:
        return yarn_frequency(hparams, pair, frequency);
    case ROPE_FACTORS:
        return frequency / (double)hparams->rope.factors[pair];
    }
    return frequency;
}

void hparams_rope_table(const struct hparams *hparams, uint32_t first, uint32_t count,
                        float *cosine, float *sine)
{
    const uint32_t pairs = hparams->rope_dim / 2;
    for (uint32_t pair = 0; pair < pairs; pair++) {
        const double frequency = rope_frequency(hparams, pair);
        for (uint32_t i = 0; i < count; i++) {
            const double angle = (first + (double)i) * frequency;
            const size_t at = (size_t)i * pairs + pair;
            cosine[at] = (float)(cos(angle) * hparams->rope.attention_factor);
            sine[at] = (float)(sin(angle) * hparams->rope.attention_factor);
        }
    }
}

void hparams_text(const struct hparams *hparams, char out[HPARAMS_TEXT_BYTES_MAX])
{
    char experts[48] = "";
    if (hparams->experts > 0) {
        (void)snprintf(experts, sizeof experts, ", %u of %u experts", hparams->experts_used,
                       hparams->experts);
    }
    (void)snprintf(out, HPARAMS_TEXT_BYTES_MAX, "%s %ux%u, %u/%u heads of %u, ffn %u%s, vocab %u",
                   hparams->family->gguf, hparams->layers, hparams->hidden, hparams->heads,
                   hparams->kv_heads, hparams->head_dim, hparams->ffn, experts, hparams->vocab);
}

uint64_t hparams_parameters(const struct hparams *hparams)
{
    const uint64_t hidden = hparams->hidden;
    const uint64_t dim = hparams->head_dim;
    const uint64_t q = dim * hparams->heads;
    const uint64_t kv = dim * hparams->kv_heads;
    const uint64_t experts = hparams->experts;
    const uint64_t ffns = experts > 0 ? experts : 1;
    const uint64_t layer =
        2 * (q + kv) * hidden + ffns * 3 * hidden * hparams->ffn + experts * hidden + 2 * hidden +
        (hparams->family->qkv_bias ? q + 2 * kv : 0) + (hparams->family->qk_norm ? 2 * dim : 0);
    const uint64_t tables = hparams->tied_embeddings ? 1 : 2;
    return hparams->layers * layer + tables * hparams->vocab * hidden + hidden;
}
