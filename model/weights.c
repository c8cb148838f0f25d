/*
 * weights.c - opens a model from disk and gives its tensors by role. Called by a worker while it
 * loads (any of its threads reads), by the core for the numbers alone, and by tools. Owns the
 * mappings. Invariant: after weights_open() every role has a tensor of a readable type whose shape
 * is the one the model's numbers ask for.
 */
#include "model/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/gguf.h"
#include "model/gguf_hparams.h"
#include "model/random_weights.h"
#include "model/safetensors.h"

enum { WEIGHTS_PATH_BYTES_MAX = 2 * LIMIT_PATH_BYTES_MAX, WEIGHTS_NAME_BYTES_MAX = 128 };

struct weights {
    struct hparams hparams;
    uint64_t random_seed;                         /* Not 0: there are no tensors. */
    struct gguf *gguf;                            /* Either this, ... */
    struct safetensors *shards[LIMIT_SHARDS_MAX]; /* ... or these. */
    const char *shard_name[LIMIT_SHARDS_MAX];     /* Of the index, while it is read. */
    uint32_t shard_count;
    struct tensor_table table; /* Of all shards; borrowed from gguf otherwise. */
    const struct tensor *role[LIMIT_LAYERS_MAX][WEIGHT_ROLE_COUNT]; /* Layer 0 holds the rest. */
    const struct tensor **expert; /* [layers][gate, up, down][experts] where each has a tensor. */
};

struct role_name {
    const char *hugging_face; /* %u: the layer. */
    const char *gguf;
    const char *gguf_experts; /* Of all experts of a layer. */
};

static const struct role_name role_names[WEIGHT_ROLE_COUNT] = {
    [WEIGHT_EMBED] = {"model.embed_tokens.weight", "token_embd.weight", NULL},
    [WEIGHT_OUTPUT_NORM] = {"model.norm.weight", "output_norm.weight", NULL},
    [WEIGHT_HEAD] = {"lm_head.weight", "output.weight", NULL},
    [WEIGHT_ATTN_NORM] = {"model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight",
                          NULL},
    [WEIGHT_Q] = {"model.layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight", NULL},
    [WEIGHT_K] = {"model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight", NULL},
    [WEIGHT_V] = {"model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight", NULL},
    [WEIGHT_O] = {"model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight", NULL},
    [WEIGHT_FFN_NORM] = {"model.layers.%u.post_attention_layernorm.weight",
                         "blk.%u.ffn_norm.weight", NULL},
    [WEIGHT_GATE] = {"model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight",
                     "blk.%u.ffn_gate_exps.weight"},
    [WEIGHT_UP] = {"model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight",
                   "blk.%u.ffn_up_exps.weight"},
    [WEIGHT_DOWN] = {"model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight",
                     "blk.%u.ffn_down_exps.weight"},
    [WEIGHT_Q_BIAS] = {"model.layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias", NULL},
    [WEIGHT_K_BIAS] = {"model.layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias", NULL},
    [WEIGHT_V_BIAS] = {"model.layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias", NULL},
    [WEIGHT_Q_NORM] = {"model.layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight",
                       NULL},
    [WEIGHT_K_NORM] = {"model.layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight",
                       NULL},
    [WEIGHT_ROUTER] = {NULL, "blk.%u.ffn_gate_inp.weight", NULL}, /* The family knows the other. */
};

enum { EXPERT_ROLES = WEIGHT_DOWN - WEIGHT_GATE + 1 };

static bool is_vector(enum weight_role role)
{
    return role == WEIGHT_OUTPUT_NORM || role == WEIGHT_ATTN_NORM || role == WEIGHT_FFN_NORM ||
           (role >= WEIGHT_Q_BIAS && role <= WEIGHT_K_NORM);
}

static bool is_expert(const struct weights *weights, enum weight_role role)
{
    return weights->hparams.experts > 0 && role >= WEIGHT_GATE && role <= WEIGHT_DOWN;
}

static const struct tensor **expert_tensor(const struct weights *weights, enum weight_role role,
                                           uint32_t layer, uint32_t expert)
{
    const size_t at = (size_t)layer * EXPERT_ROLES + (role - WEIGHT_GATE);
    return &weights->expert[at * weights->hparams.experts + expert];
}

bool weights_has(const struct weights *weights, enum weight_role role)
{
    switch (role) {
    case WEIGHT_Q_BIAS:
    case WEIGHT_K_BIAS:
    case WEIGHT_V_BIAS:
        return weights->hparams.family->qkv_bias;
    case WEIGHT_Q_NORM:
    case WEIGHT_K_NORM:
        return weights->hparams.family->qk_norm;
    case WEIGHT_ROUTER:
        return weights->hparams.experts > 0;
    default:
        return true;
    }
}

uint32_t weights_rows(const struct weights *weights, enum weight_role role)
{
    const struct hparams *h = &weights->hparams;
    const uint32_t ffns = h->experts > 0 ? h->experts : 1;
    switch (role) {
    case WEIGHT_EMBED:
    case WEIGHT_HEAD:
        return h->vocab;
    case WEIGHT_Q:
        return h->heads * h->head_dim;
    case WEIGHT_K:
    case WEIGHT_V:
        return h->kv_heads * h->head_dim;
    case WEIGHT_O:
        return h->hidden;
    case WEIGHT_GATE:
    case WEIGHT_UP:
        return ffns * h->ffn;
    case WEIGHT_DOWN:
        return ffns * h->hidden;
    case WEIGHT_ROUTER:
        return h->experts;
    default:
        return 1;
    }
}

uint32_t weights_cols(const struct weights *weights, enum weight_role role)
{
    const struct hparams *h = &weights->hparams;
    switch (role) {
    case WEIGHT_O:
    case WEIGHT_Q_BIAS:
        return h->heads * h->head_dim;
    case WEIGHT_K_BIAS:
    case WEIGHT_V_BIAS:
        return h->kv_heads * h->head_dim;
    case WEIGHT_Q_NORM:
    case WEIGHT_K_NORM:
        return h->head_dim;
    case WEIGHT_DOWN:
        return h->ffn;
    default:
        return h->hidden;
    }
}

/* GGUF holds all experts of a layer in one tensor, [experts][rows][cols]. */
static int check_tensor(const struct weights *weights, enum weight_role role,
                        const struct tensor *tensor, struct model_error *error)
{
    const bool expert = is_expert(weights, role);
    const uint32_t rows = weights_rows(weights, role) / (expert ? weights->hparams.experts : 1);
    const uint32_t cols = weights_cols(weights, role);
    const bool stacked = expert && weights->gguf;
    const uint32_t dims = is_vector(role) ? 1 : stacked ? 3 : 2;
    if (tensor->dims != dims || tensor->shape[dims - 1] != cols ||
        (dims >= 2 && tensor->shape[dims - 2] != rows) ||
        (stacked && tensor->shape[0] != weights->hparams.experts)) {
        const uint32_t last = tensor->dims;
        return model_error_set(error, -EINVAL,
                               "tensor %.64s is %llu x %llu (%u dimensions), the config wants "
                               "%u x %u%s",
                               tensor->name,
                               (unsigned long long)(last > 1 ? tensor->shape[last - 2] : 1),
                               (unsigned long long)(last ? tensor->shape[last - 1] : 0), last, rows,
                               cols, stacked ? " for each expert" : "");
    }
    if (!tensor_readable(tensor->dtype)) {
        return model_error_set(error, -ENOTSUP, "tensor %.64s: type %s is not supported",
                               tensor->name, tensor_dtype_name(tensor->dtype));
    }
    return 0;
}

/* What the file calls a tensor; %u stands for the layer, a second one for the expert. */
static const char *name_format(const struct weights *weights, enum weight_role role)
{
    const struct family_experts *experts = weights->hparams.family->experts;
    if (weights->gguf) {
        return is_expert(weights, role) ? role_names[role].gguf_experts : role_names[role].gguf;
    }
    if (!experts) {
        return role_names[role].hugging_face;
    }
    switch (role) {
    case WEIGHT_GATE:
        return experts->gate;
    case WEIGHT_UP:
        return experts->up;
    case WEIGHT_DOWN:
        return experts->down;
    case WEIGHT_ROUTER:
        return experts->router;
    default:
        return role_names[role].hugging_face;
    }
}

static int bind_role(struct weights *weights, enum weight_role role, uint32_t layer,
                     uint32_t expert, struct model_error *error)
{
    char name[WEIGHTS_NAME_BYTES_MAX];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* All come from constant tables. */
    (void)snprintf(name, sizeof name, name_format(weights, role), layer, expert);
#pragma GCC diagnostic pop
    const struct tensor *tensor = tensor_find(&weights->table, name);
    if (!tensor && role == WEIGHT_HEAD && weights->hparams.tied_embeddings) {
        tensor = weights->role[0][WEIGHT_EMBED];
    }
    if (!tensor) {
        return model_error_set(error, -EINVAL, "tensor %s is missing", name);
    }
    if (weights->expert && is_expert(weights, role)) {
        *expert_tensor(weights, role, layer, expert) = tensor;
    } else {
        weights->role[layer][role] = tensor;
    }
    return check_tensor(weights, role, tensor, error);
}

static int bind_layer(struct weights *weights, uint32_t layer, struct model_error *error)
{
    int code = 0;
    for (uint32_t role = WEIGHT_ATTN_NORM; role < WEIGHT_ROLE_COUNT && !code; role++) {
        const bool each = weights->expert && is_expert(weights, role);
        const uint32_t count = !weights_has(weights, role) ? 0
                               : each                      ? weights->hparams.experts
                                                           : 1;
        for (uint32_t expert = 0; expert < count && !code; expert++) {
            code = bind_role(weights, role, layer, expert, error);
        }
    }
    return code;
}

/* A bias that no role took would be left out of the sums in silence. */
static int check_biases(const struct weights *weights, struct model_error *error)
{
    for (uint32_t i = 0; i < weights->table.count; i++) {
        const struct tensor *tensor = &weights->table.tensor[i];
        const size_t count = strlen(tensor->name);
        bool taken = count < 5 || strcmp(tensor->name + count - 5, ".bias") != 0;
        for (uint32_t layer = 0; layer < weights->hparams.layers && !taken; layer++) {
            const struct tensor *const *role = weights->role[layer];
            taken = role[WEIGHT_Q_BIAS] == tensor || role[WEIGHT_K_BIAS] == tensor ||
                    role[WEIGHT_V_BIAS] == tensor;
        }
        if (!taken) {
            return model_error_set(error, -ENOTSUP,
                                   "tensor %.64s: this bias is not supported in %s", tensor->name,
                                   weights->hparams.architecture);
        }
    }
    return 0;
}

static int bind_roles(struct weights *weights, struct model_error *error)
{
    const struct hparams *hparams = &weights->hparams;
    int code = 0;
    if (hparams->experts > 0 && !weights->gguf) {
        const size_t count = (size_t)hparams->layers * EXPERT_ROLES * hparams->experts;
        weights->expert = calloc(count, sizeof(void *)); /* Pointers. */
        code = weights->expert ? 0 : model_error_set(error, -ENOMEM, "out of memory");
    }
    for (uint32_t role = 0; role < WEIGHT_ATTN_NORM && !code; role++) {
        code = bind_role(weights, role, 0, 0, error);
    }
    for (uint32_t layer = 0; layer < hparams->layers && !code; layer++) {
        code = bind_layer(weights, layer, error);
    }
    return code ? code : check_biases(weights, error);
}

static int join(char out[WEIGHTS_PATH_BYTES_MAX], const char *folder, const char *name,
                struct model_error *error)
{
    const int count = snprintf(out, WEIGHTS_PATH_BYTES_MAX, "%s/%s", folder, name);
    return count < 0 || count >= WEIGHTS_PATH_BYTES_MAX
               ? model_error_set(error, -ENAMETOOLONG, "%.200s: path is too long", folder)
               : 0;
}

/* A JSON file of the directory. *out stays NULL where it is absent and optional. */
static int load_json(struct json **out, const char *folder, const char *name, bool optional,
                     struct model_error *error)
{
    char path[WEIGHTS_PATH_BYTES_MAX];
    struct json_error json_error = {{0}};
    int code = join(path, folder, name, error);
    if (code) {
        return code;
    }
    code = json_parse_file(path, out, &json_error);
    if (code == -ENOENT && optional) {
        return 0;
    }
    return code ? model_error_set(error, code, "%.300s: %.180s", path, json_error.text) : 0;
}

static int peek_folder(struct hparams *hparams, const char *folder, struct model_error *error)
{
    struct json *config = NULL;
    struct json *generation = NULL;
    int code = load_json(&config, folder, "config.json", false, error);
    code = code ? code : load_json(&generation, folder, "generation_config.json", true, error);
    if (!code) {
        code = hparams_from_config(hparams, config, generation, error);
        code = code ? model_error_prefix(error, code, folder) : 0;
    }
    json_free(config);
    json_free(generation);
    return code;
}

static int open_shard(struct weights *weights, const char *folder, const char *name,
                      struct model_error *error)
{
    char path[WEIGHTS_PATH_BYTES_MAX];
    if (weights->shard_count == LIMIT_SHARDS_MAX) {
        return model_error_set(error, -EINVAL, "more than %d shards", (int)LIMIT_SHARDS_MAX);
    }
    const int code = join(path, folder, name, error);
    return code ? code : safetensors_open(&weights->shards[weights->shard_count++], path, error);
}

/* Opens each file that the index names, once. A name is a plain file name: nothing leads outside.
 */
static int open_index(struct weights *weights, const char *folder, const struct json *index,
                      struct model_error *error)
{
    const struct json *map = json_get(index, "weight_map");
    if (json_kind(map) != JSON_KIND_OBJECT) {
        return model_error_set(error, -EINVAL, "model.safetensors.index.json: no weight_map");
    }
    for (struct json_member *at = json_first(map); at; at = json_next(map, at)) {
        const char *name;
        size_t count;
        uint32_t i = 0;
        if (!json_text(json_member_value(at), &name, &count) || strlen(name) != count ||
            strchr(name, '/') || name[0] == '.') {
            return model_error_set(error, -EINVAL,
                                   "model.safetensors.index.json: %.64s is in no plain file",
                                   json_member_key(at));
        }
        while (i < weights->shard_count && strcmp(weights->shard_name[i], name) != 0) {
            i++;
        }
        if (i == weights->shard_count) {
            const int code = open_shard(weights, folder, name, error);
            if (code) {
                return code;
            }
            weights->shard_name[i] = name;
        }
    }
    return 0;
}

/* One table over all shards. */
static int join_tables(struct weights *weights, struct model_error *error)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < weights->shard_count; i++) {
        count += safetensors_tensors(weights->shards[i])->count;
    }
    weights->table.tensor = calloc(count + 1u, sizeof weights->table.tensor[0]);
    if (!weights->table.tensor) {
        return model_error_set(error, -ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < weights->shard_count; i++) {
        const struct tensor_table *shard = safetensors_tensors(weights->shards[i]);
        memcpy(weights->table.tensor + weights->table.count, shard->tensor,
               shard->count * sizeof shard->tensor[0]);
        weights->table.count += shard->count;
    }
    return tensor_table_sort(&weights->table, error);
}

static int open_folder(struct weights *weights, const char *folder, struct model_error *error)
{
    struct json *index = NULL;
    int code = peek_folder(&weights->hparams, folder, error);
    code = code ? code : load_json(&index, folder, "model.safetensors.index.json", true, error);
    if (!code) {
        code = index ? open_index(weights, folder, index, error)
                     : open_shard(weights, folder, "model.safetensors", error);
    }
    json_free(index);
    return code ? code : join_tables(weights, error);
}

static int open_gguf(struct weights *weights, const char *path, struct model_error *error)
{
    int code = gguf_open(&weights->gguf, path, error);
    if (code) {
        return code;
    }
    weights->table = *gguf_tensors(weights->gguf);
    code = hparams_from_gguf(&weights->hparams, weights->gguf, error);
    return code ? model_error_prefix(error, code, path) : 0;
}

static int path_is_folder(const char *path, bool *folder, struct model_error *error)
{
    struct stat info;
    if (stat(path, &info)) {
        const int code = -errno;
        return model_error_set(error, code, "%.300s: %s", path, strerror(-code));
    }
    *folder = S_ISDIR(info.st_mode);
    return 0;
}

int weights_open(struct weights **out, const char *path, struct model_error *error)
{
    bool folder = false;
    int code = path_is_folder(path, &folder, error);
    if (code) {
        return code;
    }
    struct weights *weights = calloc(1, sizeof *weights);
    if (!weights) {
        return model_error_set(error, -ENOMEM, "out of memory");
    }
    code = folder ? open_folder(weights, path, error) : open_gguf(weights, path, error);
    if (!code) {
        code = bind_roles(weights, error);
        code = code ? model_error_prefix(error, code, path) : 0;
    }
    if (code) {
        weights_close(weights);
        return code;
    }
    *out = weights;
    return 0;
}

int weights_open_random(struct weights **out, const char *path, uint64_t seed,
                        struct model_error *error)
{
    must(seed > 0);
    struct weights *weights = calloc(1, sizeof *weights);
    if (!weights) {
        return model_error_set(error, -ENOMEM, "out of memory");
    }
    weights->random_seed = seed;
    const int code = peek_folder(&weights->hparams, path, error);
    if (code) {
        weights_close(weights);
        return code;
    }
    *out = weights;
    return 0;
}

void weights_close(struct weights *weights)
{
    if (!weights) {
        return;
    }
    if (!weights->gguf) {
        free(weights->table.tensor);
    }
    free(weights->expert);
    gguf_close(weights->gguf);
    for (uint32_t i = 0; i < weights->shard_count; i++) {
        safetensors_close(weights->shards[i]);
    }
    free(weights);
}

const struct hparams *weights_hparams(const struct weights *weights)
{
    return &weights->hparams;
}

const struct tensor_table *weights_table(const struct weights *weights)
{
    return &weights->table;
}

/*
 * Row of the file that holds row `row` of q or k in half-split order. GGUF's converter stores each
 * head's rotated rows interleaved: file row 2 i + s is our row s * (dim / 2) + i.
 */
static uint32_t interleaved_row(const struct hparams *hparams, uint32_t row)
{
    const uint32_t dim = hparams->head_dim;
    const uint32_t half = hparams->rope_dim / 2;
    const uint32_t head = row / dim;
    const uint32_t in_head = row % dim;
    if (in_head >= hparams->rope_dim) {
        return row;
    }
    return head * dim + in_head % half * 2 + in_head / half;
}

/* Norms leave their input as it is, biases add nothing. */
static void read_random(const struct weights *weights, enum weight_role role, uint32_t layer,
                        uint32_t first, uint32_t count, float *out)
{
    const size_t cols = weights_cols(weights, role);
    const bool tied = role == WEIGHT_HEAD && weights->hparams.tied_embeddings;
    const uint32_t tensor = (tied ? WEIGHT_EMBED : role) + layer * WEIGHT_ROLE_COUNT;
    const bool bias = role >= WEIGHT_Q_BIAS && role <= WEIGHT_V_BIAS;
    for (size_t i = 0; i < count; i++) {
        if (!is_vector(role)) {
            random_weights_row(weights->random_seed, tensor, first + (uint32_t)i, (uint32_t)cols,
                               out + i * cols);
            continue;
        }
        for (size_t column = 0; column < cols; column++) {
            out[i * cols + column] = bias ? 0 : 1;
        }
    }
}

void weights_read(const struct weights *weights, enum weight_role role, uint32_t layer,
                  uint32_t first, uint32_t count, float *out)
{
    if (weights->random_seed > 0) {
        read_random(weights, role, role < WEIGHT_ATTN_NORM ? 0 : layer, first, count, out);
        return;
    }
    const struct tensor *tensor = weights->role[role < WEIGHT_ATTN_NORM ? 0 : layer][role];
    const uint32_t rows = weights_rows(weights, role);
    const uint32_t cols = weights_cols(weights, role);
    const bool interleaved = weights->gguf && weights->hparams.family->interleaved &&
                             (role == WEIGHT_Q || role == WEIGHT_K);
    must(first <= rows && count <= rows - first);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = interleaved ? interleaved_row(&weights->hparams, first + i) : first + i;
        if (weights->expert && is_expert(weights, role)) {
            const uint32_t each = rows / weights->hparams.experts;
            tensor = *expert_tensor(weights, role, layer, row / each);
            row %= each;
        }
        tensor_read_row(tensor, row, 0, cols, out + (size_t)i * cols);
    }
}

int weights_peek(struct hparams *hparams, const char *path, struct model_error *error)
{
    bool folder = false;
    int code = path_is_folder(path, &folder, error);
    if (code || folder) {
        return code ? code : peek_folder(hparams, path, error);
    }
    struct gguf *gguf = NULL;
    code = gguf_open(&gguf, path, error);
    if (code) {
        return code;
    }
    code = hparams_from_gguf(hparams, gguf, error);
    gguf_close(gguf);
    return code ? model_error_prefix(error, code, path) : 0;
}
