/*
 * model_llama.h - the Llama family: its weights, its buffers and its forward pass. The engine owns
 * one and fills it at start (load_llama.c, engine.c); model_llama.c computes.
 *
 * Shapes use the model's numbers: D = head_dim, Q = heads * D, QKV = (heads + 2 * kv_heads) * D.
 * "act" is float or bf16 by dtype, as in kernels/kern.h. Buffers have room for the padding that
 * matrix products want; what lies past a batch's rows is garbage.
 */
#ifndef WORKERS_MODEL_LLAMA_H
#define WORKERS_MODEL_LLAMA_H

#include <stdint.h>

#include "kernels/kern.h"
#include "kernels/matmul.h"
#include "model/hparams.h"
#include "plan/plan.h"
#include "workers/crew.h"
#include "workers/kvpool.h"

/* The matrices of the model; all layers share a shape. */
enum llama_matrix {
    LLAMA_QKV,     /* [QKV][hidden]: q rows, k rows, v rows */
    LLAMA_OUTPUT,  /* [hidden][Q] */
    LLAMA_GATE_UP, /* [2 * ffn][hidden]: gate rows, up rows */
    LLAMA_DOWN,    /* [hidden][ffn] */
    LLAMA_LAYER_MATRICES,
    LLAMA_HEAD = LLAMA_LAYER_MATRICES, /* [vocab][hidden] */
    LLAMA_MATRICES,
};

struct llama_layer {
    float *attention_norm; /* [hidden] */
    float *ffn_norm;       /* [hidden] */
    float *bias;           /* [QKV], NULL where the family has none */
    float *q_norm;         /* [D], as k_norm: NULL where the family has none */
    float *k_norm;
    struct matmul_weight *matrix[LLAMA_LAYER_MATRICES];
};

/* What changes from step to step: filled by the engine, read by every operation. */
struct llama_batch {
    const uint32_t *ids;            /* [tokens] */
    uint32_t *page;                 /* [tokens] KV page that takes the token */
    uint32_t *position;             /* [tokens] */
    struct kern_sequence *sequence; /* [rows] */
    struct kern_attend_item *item;  /* [items] long ones first */
    uint32_t *logit_token;          /* [logit_rows] index of the token whose logits are wanted */
    uint32_t tokens;
    uint32_t rows;
    uint32_t items;
    uint32_t logit_rows;
};

struct llama {
    struct hparams hparams;
    enum kern_dtype dtype;
    uint32_t page_tokens;
    struct kern_ops ops;
    struct crew *crew;
    struct kvpool kv;

    struct matmul_shape *shape[LLAMA_MATRICES];
    struct matmul_weight *head;
    struct llama_layer *layers; /* [layers] */
    void *embed;                /* act [vocab][hidden] */
    float *vectors;             /* What the pointers to norms and biases point into. */
    float *final_norm;          /* [hidden] */
    float *cosine;              /* [positions][rope_dim / 2] */
    float *sine;                /* [positions][rope_dim / 2] */

    struct llama_batch batch;
    float *x;         /* [tokens][hidden] the residual stream */
    void *normed;     /* act [tokens][hidden] */
    float *qkv;       /* [tokens][QKV] */
    void *q;          /* act [tokens][Q] */
    void *attended;   /* act [tokens][Q] */
    float *gate_up;   /* [tokens][2 * ffn] */
    void *gated;      /* act [tokens][ffn] */
    void *head_in;    /* act [rows][hidden] */
    float *logits;    /* [rows][vocab] */
    uint8_t *scratch; /* [threads][scratch_bytes] */
    size_t scratch_bytes;
};

/* Rows of W of a matrix, and its columns. */
uint32_t llama_matrix_rows(const struct hparams *hparams, enum llama_matrix matrix);
uint32_t llama_matrix_cols(const struct hparams *hparams, enum llama_matrix matrix);

/* Floats of all norms and biases. */
size_t llama_vector_floats(const struct hparams *hparams);

/* x = embeddings of the batch's tokens. */
void llama_embed(struct llama *llama);

/* The operations of one layer, in the plan's words; model is the struct llama. */
extern void (*const llama_operations[PLAN_OPERATION_COUNT])(void *model, uint32_t layer);

/* logits = final norm and head of the tokens that want them. */
void llama_head(struct llama *llama);

#endif /* WORKERS_MODEL_LLAMA_H */
