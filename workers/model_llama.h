/*
 * model_llama.h - the Llama family: its weights, its buffers and its forward pass. The engine owns
 * one and fills it at start (load_llama.c, engine.c); model_llama.c computes.
 *
 * Shapes use the model's numbers: D = head_dim, Q = heads * D, QKV = (heads + 2 * kv_heads) * D.
 * A name with "own" means the rank's part (shard.h), all of it when the rank is alone: own QKV is
 * (own heads + 2 * own kv_heads) * D. Each rank computes its own columns of a product; where the
 * next operation wants all of them, they are gathered.
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
#include "workers/comm.h"
#include "workers/crew.h"
#include "workers/cuts.h"
#include "workers/kvpool.h"
#include "workers/model_moe.h"
#include "workers/pipe.h"
#include "workers/shard.h"

/* The matrices of the model; all layers, and all experts, share a shape. */
enum llama_matrix {
    LLAMA_QKV,     /* [own QKV][hidden]: q rows, k rows, v rows */
    LLAMA_OUTPUT,  /* [own hidden][Q] */
    LLAMA_GATE_UP, /* [2 * own ffn][hidden]: gate rows, up rows; one for each expert */
    LLAMA_DOWN,    /* [own hidden][ffn]; one for each expert */
    LLAMA_ROUTER,  /* [experts][hidden], where there are any */
    LLAMA_LAYER_MATRICES,
    LLAMA_HEAD = LLAMA_LAYER_MATRICES, /* [own vocab][hidden] */
    LLAMA_MATRICES,
};

struct llama_layer {
    float *attention_norm; /* [hidden] */
    float *ffn_norm;       /* [hidden] */
    float *bias;           /* [own QKV], NULL where the family has none */
    float *q_norm;         /* [D], as k_norm: NULL where the family has none */
    float *k_norm;
    struct matmul_weight **matrix[LLAMA_LAYER_MATRICES]; /* [llama_matrix_count()] each */
};

/* What changes from step to step: filled by the engine, read by every operation. */
struct llama_batch {
    const uint32_t *ids;             /* [tokens] */
    uint32_t *page;                  /* [tokens] KV page that takes the token */
    uint32_t *position;              /* [tokens] */
    struct kern_sequence *sequence;  /* [rows] */
    struct kern_attend_item *item;   /* [items] those of prompts, then those of single tokens */
    struct cuts cuts;                /* Of the plan; no item lies on both sides of one. */
    uint32_t prefill_item[CUTS_MAX]; /* [cuts] first item of a prompt behind it, and */
    uint32_t decode_item[CUTS_MAX];  /* [cuts] of a single token */
    uint32_t *logit_token;           /* [logit_rows] index of the token whose logits are wanted */
    uint32_t tokens;
    uint32_t rows;
    uint32_t items;
    uint32_t logit_rows;
};

struct llama {
    struct hparams hparams;
    struct shard shard;
    struct comm *comm; /* NULL when alone; another one with each epoch. */
    enum kern_dtype dtype;
    enum matmul_weights packing; /* Of the layers' weights, the router's excepted. */
    uint32_t page_tokens;
    struct kern_ops ops;
    struct crew *crew;
    struct kvpool kv;

    struct matmul_shape *shape[LLAMA_MATRICES]; /* NULL where the count is 0 */
    struct matmul_weight *head;
    struct llama_layer *layers;     /* [layers] */
    struct matmul_weight **weights; /* What the layers' lists of matrices point into. */
    void *embed;                    /* act [vocab][hidden] */
    float *vectors;                 /* What the pointers to norms and biases point into. */
    float *final_norm;              /* [hidden] */
    float *cosine;                  /* [positions][rope_dim / 2] */
    float *sine;                    /* [positions][rope_dim / 2] */

    struct llama_batch batch;
    float *x;       /* [tokens][hidden] the residual stream */
    void *normed;   /* act [tokens][hidden] */
    float *qkv;     /* [tokens][own QKV] */
    void *q;        /* act [tokens][own Q] */
    void *attended; /* act [tokens][Q] */
    float *gate_up; /* [tokens][2 * own ffn]; [slots] of experts */
    void *gated;    /* act [tokens][ffn]; [slots] of experts */
    float *delta;   /* [tokens][hidden] what is added to x; not there when alone */
    struct moe moe; /* Empty without experts. */
    void *head_in;  /* act [rows][hidden] */
    float *logits;  /* [rows][vocab], on rank 0 */
    struct {        /* Before they are gathered; when alone, the ones above and NULL. */
        void *attended;
        void *gated;
        float *delta;
        float *logits;
    } own;
    uint8_t *scratch; /* [threads][scratch_bytes] */
    size_t scratch_bytes;
};

/* How many of a matrix a layer has: 0, 1, or one for each expert. */
uint32_t llama_matrix_count(const struct hparams *hparams, enum llama_matrix matrix);

/* The rank's rows of W of a matrix, and its columns. */
uint32_t llama_matrix_rows(const struct llama *llama, enum llama_matrix matrix);
uint32_t llama_matrix_cols(const struct hparams *hparams, enum llama_matrix matrix);

/* Floats of all norms and biases. */
size_t llama_vector_floats(const struct llama *llama);

/* The operations of one layer, in the plan's words; the task's model is the struct llama. */
extern const struct pipe_operation llama_operations[PLAN_OPERATION_COUNT];

/* Stages before and after the layers. Rows: the batch's tokens; those that want logits. */
void llama_embed(struct pipe_task *task);      /* x = embeddings of the tokens */
void llama_final_norm(struct pipe_task *task); /* head_in = norm of x */
void llama_head(struct pipe_task *task);       /* logits = head_in Whead^T, the rank's own */
void llama_gather_logits(struct pipe_task *task);

/* What stages are made of; model_moe.c has its own. */

/* Units: the task's rows. A chunk is worth its claim with rows of so many numbers. */
void llama_spread_rows(struct pipe_task *task,
                       void (*run)(void *context, uint32_t first, uint32_t count, uint32_t thread),
                       uint32_t numbers);

/* y (+)= x W^T of the task's rows; x and y are those of row 0. */
struct llama_product {
    enum llama_matrix matrix;
    const struct matmul_weight *weight;
    const void *x;
    float *y;
    bool accumulate;
};
void llama_multiply(struct pipe_task *task, const struct llama_product *product);

/* full [rows][columns] = the ranks' own columns side by side, of the task's rows times per_row.
 * Nothing to do when alone. args are of row 0; their count of rows is filled in. */
void llama_gather(struct pipe_task *task, const struct comm_gather_args *args, uint32_t per_row);

void *llama_thread_scratch(const struct llama *llama, uint32_t thread);

#endif /* WORKERS_MODEL_LLAMA_H */
