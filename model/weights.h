/*
 * weights.h - a model on disk: its numbers, and its tensors by role. One face for Hugging Face
 * directories and GGUF files. Everything is checked before it is mapped or allocated.
 *
 * Rows come out as float in the engine's own order: where GGUF holds rotated q and k rows as rope
 * pairs they are put back into half-split order here. The experts of a layer are one matrix, one
 * above the other, whether the file holds one tensor or one for each.
 */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "model/hparams.h"
#include "model/tensor.h"

enum weight_role {
    WEIGHT_EMBED,       /* [vocab][hidden] */
    WEIGHT_OUTPUT_NORM, /* [hidden] */
    WEIGHT_HEAD,        /* [vocab][hidden]; the embedding's tensor when tied */
    WEIGHT_ATTN_NORM,   /* per layer from here on: [hidden] */
    WEIGHT_Q,           /* [heads * head_dim][hidden] */
    WEIGHT_K,           /* [kv_heads * head_dim][hidden] */
    WEIGHT_V,           /* [kv_heads * head_dim][hidden] */
    WEIGHT_O,           /* [hidden][heads * head_dim] */
    WEIGHT_FFN_NORM,    /* [hidden] */
    WEIGHT_GATE,        /* [E * ffn][hidden], E = experts, 1 when dense */
    WEIGHT_UP,          /* [E * ffn][hidden] */
    WEIGHT_DOWN,        /* [E * hidden][ffn] */
    WEIGHT_Q_BIAS,      /* [heads * head_dim]; biases, norms and router where the family has them */
    WEIGHT_K_BIAS,      /* [kv_heads * head_dim] */
    WEIGHT_V_BIAS,      /* [kv_heads * head_dim] */
    WEIGHT_Q_NORM,      /* [head_dim] */
    WEIGHT_K_NORM,      /* [head_dim] */
    WEIGHT_ROUTER,      /* [experts][hidden] */
    WEIGHT_ROLE_COUNT,
};

struct weights; /* Mappings, tensor table, role table. Read-only after open: any thread may read. */

/* path: a directory (config.json + safetensors, single or by index) or a .gguf file. On failure
 * *error says what to do in one line; -ENOENT, -EACCES, -EINVAL, -ENOTSUP, -ENOMEM. */
int weights_open(struct weights **out, const char *path, struct model_error *error) MUST_CHECK;

/* The shapes of a directory's config.json with numbers of a seed, not 0, in place of tensors, which
 * need not be there: for measurements. The same seed gives the same numbers. */
int weights_open_random(struct weights **out, const char *path, uint64_t seed,
                        struct model_error *error) MUST_CHECK;
void weights_close(struct weights *weights);

const struct hparams *weights_hparams(const struct weights *weights);
const struct tensor_table *weights_table(const struct weights *weights);

/* Whether the model's layers have this role at all. */
bool weights_has(const struct weights *weights, enum weight_role role);

/* Shape of a role by the model's numbers. */
uint32_t weights_rows(const struct weights *weights, enum weight_role role);
uint32_t weights_cols(const struct weights *weights, enum weight_role role);

/* Rows [first, first + count) of a role (layer is ignored below WEIGHT_ATTN_NORM) as float
 * [count][cols]. A vector is one row. */
void weights_read(const struct weights *weights, enum weight_role role, uint32_t layer,
                  uint32_t first, uint32_t count, float *out);

/* Only the numbers: what the core needs. No tensor data is mapped; GGUF's header is read. */
int weights_peek(struct hparams *hparams, const char *path, struct model_error *error) MUST_CHECK;

#endif /* MODEL_WEIGHTS_H */
