/*
 * model_cuda.h - the Llama family on an accelerator: its weights, its buffers and the operations of
 * a layer. The engine owns one (engine_cuda.c), load_cuda.c fills the weights, batch_cuda.c the
 * iteration block, layer_cuda.c puts operations on lanes.
 *
 * Shapes use the model's numbers as model_llama.h does, "own" included: the rank's part. "act" is
 * float or bf16 by dtype. All pointers but the ones named host lead to device memory. Buffers have
 * rows for the largest bucket; rows past a batch's own are garbage.
 */
#ifndef WORKERS_MODEL_CUDA_H
#define WORKERS_MODEL_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/attend_work.h"
#include "kernels/kern.h"
#include "model/hparams.h"
#include "plan/plan.h"
#include "workers/accel.h"
#include "workers/cuts.h"
#include "workers/engine.h"
#include "workers/shard.h"

struct cuda_matrix {
    void *w;      /* act [rows][columns]; e4m3 with */
    float *scale; /* [rows], or NULL */
};

struct cuda_layer {
    float *attention_norm; /* [hidden] */
    float *ffn_norm;       /* [hidden] */
    float *bias;           /* [own QKV], NULL where the family has none */
    float *q_norm;         /* [D], as k_norm: NULL where the family has none */
    float *k_norm;
    struct cuda_matrix qkv;     /* [own QKV][hidden]: q rows, k rows, v rows */
    struct cuda_matrix output;  /* [own hidden][Q] */
    struct cuda_matrix gate_up; /* [experts][2 * own ffn][hidden]: gate rows, up rows; dense: one */
    struct cuda_matrix down;    /* [experts][own hidden][ffn] */
    void *router;               /* act [experts][hidden], NULL when dense */
};

/*
 * The iteration block: all that changes from step to step, at the same offsets in the device's
 * memory and in the host's. The host writes one of two while the device reads a copy of the other.
 * What belongs to an operation's range of rows lies where the range begins, so that its address
 * follows from the plan and the bucket, and a captured graph fits any batch.
 */
struct cuda_block {
    uint32_t *valid;  /* [PLAN_NANO_MAX] of each nano-operation's range, the rows of the batch */
    uint32_t *tokens; /* [1] rows of the batch */
    uint32_t *logit_rows;            /* [1] */
    uint32_t *ids;                   /* [tokens]; those from slots are filled in on the device */
    uint32_t *source;                /* [tokens] 1 + the slot that was given the token last, or 0 */
    uint32_t *position;              /* [tokens] */
    uint32_t *page;                  /* [tokens] KV page that takes the token */
    uint32_t *logit_token;           /* [rows] index of the token whose logits are wanted */
    struct attend_counts *counts;    /* [PLAN_NANO_MAX] of the attention over a range, and there: */
    struct attend_sequence *prefill; /* [tokens] */
    struct attend_sequence *decode;  /* [tokens] */
    struct attend_block *blocks;     /* [tokens * blocks of a token] */
    struct attend_item *items;       /* [tokens + slots] */
    struct attend_merge *merges;     /* [slots] */
    uint32_t *tables; /* [rows * pages of a sequence] block tables, one behind the other */
};

/* A mixture of experts: what its rows are is told in model_moe.h. */
struct cuda_moe {
    float *logits;    /* [tokens][experts] of the router */
    uint32_t *expert; /* [tokens][used] best first */
    float *weight;    /* [tokens][used] */
    uint32_t *slot;   /* [tokens][used] from the first of those routed together */
    uint32_t *row;    /* [tokens * used] the row that a slot belongs to, likewise */
    uint32_t *first;  /* [PLAN_NANO_MAX][experts + 1] of those routed together, see */
    uint32_t *tile;   /* likewise; struct cuda_experts_shares */
    void *down;       /* act [tokens * used][hidden] */
};

struct cuda_model {
    struct hparams hparams;
    struct shard shard;
    enum kern_dtype dtype;
    enum engine_kv kv;
    enum matmul_weights weights; /* Of the layers. */
    uint32_t page_tokens;
    uint32_t device_pages;
    uint32_t slots;     /* Of attention's sums. */
    uint32_t rows_step; /* Where the device likes a batch to be cut. */
    uint32_t units;     /* Of the device. */
    struct accel *accel;

    struct cuda_layer *layers; /* host [layers] */
    void *embed;               /* act [vocab][hidden] */
    void *head;                /* act [own vocab][hidden]; in the embedding when tied */
    float *final_norm;         /* [hidden] */
    float *cosine;             /* [positions][rope_dim / 2] */
    float *sine;

    uint8_t *pool; /* KV: [layers][pages][page_bytes] */
    size_t page_bytes;
    float *kv_scale; /* [k, v][own kv_heads] all 1, or NULL: pages hold acts, not e4m3 */

    uint32_t *history;  /* [pages][page_tokens] token ids */
    uint32_t *last_ids; /* [slots] */

    struct cuda_block block; /* The device's. */
    float *x;                /* [tokens][hidden] the residual stream */
    void *normed;            /* act [tokens][hidden] */
    void *qkv;               /* act [tokens][own QKV] */
    void *q;                 /* act [tokens][own Q] */
    void *own_attended;      /* act [tokens][own Q] */
    void *attended;          /* act [tokens][Q]; the own when alone */
    void *gate_up;           /* act [tokens][2 * own ffn]; slots of experts */
    void *gated;             /* act [tokens][ffn]; slots of experts */
    struct cuda_moe moe;     /* Empty without experts. */
    uint8_t *cells;          /* e4m3 [tokens][cuda_widest()] a product's x, with fp8 weights; */
    float *cell_scale;       /* [tokens] both NULL without them */
    float *sums;             /* attend_slot_floats() */
    float *head_x;           /* [rows][hidden] */
    void *head_in;           /* act [rows][hidden] */
    float *logits;           /* [rows][vocab] */
    uint8_t *parts;          /* Of all ranks (share_cuda.h); NULL when alone. */
};

/* A step's shape: what a graph of it is captured for, and what is valid in it. */
struct cuda_batch {
    const struct plan *plan;
    uint32_t bucket; /* Rows of the dense batch that the device computes, */
    uint32_t tokens; /* and those of them that anybody wants. */
    uint32_t logit_bucket;
    uint32_t logit_rows;
    uint32_t first[PLAN_NANO_MAX]; /* Rows of each nano-operation: [first, end) of the bucket, */
    uint32_t end[PLAN_NANO_MAX];
    uint32_t lane[PLAN_NANO_MAX]; /* and its lane of the device. */
    bool apart; /* Put for times alone: ranks do not meet, and what is computed is garbage. */
    size_t block_bytes; /* Of the block, from its beginning, that are in use. */
};

/* An instance of a nano-operation. */
struct cuda_task {
    const struct cuda_batch *batch;
    uint32_t nano; /* Index in the plan. */
    uint32_t layer;
};

static inline uint32_t cuda_first(const struct cuda_task *task)
{
    return task->batch->first[task->nano];
}

static inline uint32_t cuda_rows(const struct cuda_task *task)
{
    return task->batch->end[task->nano] - cuda_first(task);
}

static inline uint32_t cuda_lane(const struct cuda_task *task)
{
    return task->batch->lane[task->nano];
}

/* Where a row of an act buffer begins. */
static inline void *cuda_act(const struct cuda_model *model, void *buffer, size_t row,
                             size_t columns)
{
    return (uint8_t *)buffer + row * columns * kern_dtype_bytes(model->dtype);
}

/* Columns of q, and the rank's own of it and of q, k and v together. */
uint32_t cuda_q_columns(const struct hparams *hparams);
uint32_t cuda_own_q_columns(const struct cuda_model *model);
uint32_t cuda_own_qkv_columns(const struct cuda_model *model);

/* Columns of the widest x of a layer's products. */
uint32_t cuda_widest(const struct hparams *hparams);

/* CTAs that a launch on a lane may have at once; 0: no limit, the lane has all of the device. */
uint32_t cuda_ctas(const struct cuda_model *model, uint32_t lane);

/* Slots of attention's sums that a nano-operation has: *first and the count. */
uint32_t cuda_slots(const struct cuda_model *model, const struct cuda_task *task, uint32_t *first);

/* Blocks of one token, at most: the index of a range's first in the block's list is its first row
 * times this. */
uint32_t cuda_token_blocks(const struct cuda_model *model);

/* What attention's work lists on a lane are built for. */
struct attend_shape cuda_attend_shape(const struct cuda_model *model, uint32_t lane);

/* Puts a nano-operation on its lane; moe_cuda.c does it for those of experts. 0 or -errno. */
int cuda_put(const struct cuda_model *model, const struct cuda_task *task) MUST_CHECK;
int cuda_put_moe(const struct cuda_model *model, const struct cuda_task *task) MUST_CHECK;

/* Before and after the layers. The logits are those of the block's logit tokens. */
int cuda_put_embed(const struct cuda_model *model, const struct cuda_batch *batch,
                   uint32_t lane) MUST_CHECK;
int cuda_put_head(const struct cuda_model *model, const struct cuda_batch *batch,
                  uint32_t lane) MUST_CHECK;

#endif /* WORKERS_MODEL_CUDA_H */
