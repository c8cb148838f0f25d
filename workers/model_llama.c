/*
 * model_llama.c - the forward pass of the Llama family and its relatives, one function an
 * operation; model_moe.c has the feed-forward part of those with experts. Called by the pipe and
 * the engine on a worker's main thread; each operation is spread over the crew and has ended on
 * return. Owns nothing. Invariant: a token's numbers depend on its own sequence alone.
 *
 * Sources: Touvron et al., "LLaMA" (2023) and "Llama 2" (2023) for the layer; Zhang and Sennrich
 * (2019) for RMSNorm; Su et al. (2021) for rotary positions; Shazeer (2020) for SwiGLU.
 */
#include "workers/model_llama.h"

#include <math.h>

enum {
    ROW_NUMBERS_MIN = 8192, /* Numbers of a chunk of row-wise work: below it a claim costs more. */
    ITEM_CHUNKS = 16,       /* Chunks of attention a thread, so that the last ones are short. */
};

uint32_t llama_matrix_count(const struct hparams *hparams, enum llama_matrix matrix)
{
    switch (matrix) {
    case LLAMA_GATE_UP:
    case LLAMA_DOWN:
        return hparams->experts > 0 ? hparams->experts : 1;
    case LLAMA_ROUTER:
        return hparams->experts > 0;
    case LLAMA_QKV:
    case LLAMA_OUTPUT:
    case LLAMA_HEAD:
    default:
        return 1;
    }
}

uint32_t llama_matrix_rows(const struct llama *llama, enum llama_matrix matrix)
{
    const struct shard *shard = &llama->shard;
    switch (matrix) {
    case LLAMA_QKV:
        return (shard->heads.count + 2 * shard->kv_heads.count) * llama->hparams.head_dim;
    case LLAMA_GATE_UP:
        return 2 * shard->ffn.count;
    case LLAMA_ROUTER:
        return llama->hparams.experts;
    case LLAMA_HEAD:
        return shard->vocab.count;
    case LLAMA_OUTPUT:
    case LLAMA_DOWN:
    default:
        return shard->hidden.count;
    }
}

uint32_t llama_matrix_cols(const struct hparams *hparams, enum llama_matrix matrix)
{
    switch (matrix) {
    case LLAMA_OUTPUT:
        return hparams->heads * hparams->head_dim;
    case LLAMA_DOWN:
        return hparams->ffn;
    case LLAMA_QKV:
    case LLAMA_GATE_UP:
    case LLAMA_ROUTER:
    case LLAMA_HEAD:
    default:
        return hparams->hidden;
    }
}

size_t llama_vector_floats(const struct llama *llama)
{
    const struct hparams *hparams = &llama->hparams;
    const size_t bias = hparams->family->qkv_bias ? llama_matrix_rows(llama, LLAMA_QKV) : 0;
    const size_t norms = hparams->family->qk_norm ? 2 * (size_t)hparams->head_dim : 0;
    return hparams->layers * (2 * (size_t)hparams->hidden + bias + norms) + hparams->hidden;
}

void llama_spread(struct llama *llama, const void *args,
                  void (*run)(void *context, uint32_t first, uint32_t count, uint32_t thread),
                  uint32_t units, uint32_t grain)
{
    struct llama_call call = {.llama = llama, .args = args};
    if (llama->comm && comm_error(llama->comm)) {
        return; /* The step is lost: the sooner it is over, the sooner there is a new epoch. */
    }
    const struct crew_job job = {.run = run, .context = &call, .units = units, .grain = grain};
    crew_run(llama->crew, &job);
}

void llama_gather(struct llama *llama, const struct comm_gather_args *args)
{
    if (llama->shard.ranks > 1) {
        (void)comm_gather(llama->comm, args); /* A failure sticks; step.c looks at the end. */
    }
}

uint32_t llama_row_grain(uint32_t numbers)
{
    return numbers >= ROW_NUMBERS_MIN ? 1 : ROW_NUMBERS_MIN / numbers;
}

void *llama_thread_scratch(const struct llama *llama, uint32_t thread)
{
    return llama->scratch + thread * llama->scratch_bytes;
}

static void run_embed(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    call->llama->ops.embed(call->args, first, count);
}

static void run_rmsnorm(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    call->llama->ops.rmsnorm(call->args, first, count);
}

static void run_rope_append(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    call->llama->ops.rope_append(call->args, first, count);
}

static void run_silu_mul(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    call->llama->ops.silu_mul(call->args, first, count);
}

static void run_attend(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    const struct llama_call *call = context;
    struct kern_attend_args args = *(const struct kern_attend_args *)call->args;
    args.scratch = llama_thread_scratch(call->llama, thread);
    call->llama->ops.attend(&args, first, count);
}

static void run_matmul(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    const struct llama_call *call = context;
    struct matmul_args args = *(const struct matmul_args *)call->args;
    args.scratch = llama_thread_scratch(call->llama, thread);
    for (uint32_t slice = first; slice < first + count; slice++) {
        matmul_run(&args, slice);
    }
}

void llama_multiply(struct llama *llama, enum llama_matrix matrix, const struct matmul_args *args)
{
    llama_spread(llama, args, run_matmul, matmul_shape_slices(llama->shape[matrix]), 1);
}

/* normed = rmsnorm(x) * w */
static void norm(struct llama *llama, const float *w)
{
    const uint32_t hidden = llama->hparams.hidden;
    const struct kern_rmsnorm_args args = {.x = llama->x,
                                           .w = w,
                                           .y = llama->normed,
                                           .cols = hidden,
                                           .eps = (float)llama->hparams.rms_eps,
                                           .dtype = llama->dtype};
    llama_spread(llama, &args, run_rmsnorm, llama->batch.tokens, llama_row_grain(hidden));
}

void llama_embed(struct llama *llama)
{
    const uint32_t hidden = llama->hparams.hidden;
    const struct kern_embed_args args = {.table = llama->embed,
                                         .ids = llama->batch.ids,
                                         .x = llama->x,
                                         .cols = hidden,
                                         .dtype = llama->dtype};
    llama_spread(llama, &args, run_embed, llama->batch.tokens, llama_row_grain(hidden));
}

static void attention_norm(void *model, uint32_t layer)
{
    struct llama *llama = model;
    norm(llama, llama->layers[layer].attention_norm);
}

/* qkv = normed Wqkv^T */
static void kqv(void *model, uint32_t layer)
{
    struct llama *llama = model;
    const struct matmul_args args = {.weight = *llama->layers[layer].matrix[LLAMA_QKV],
                                     .x = llama->normed,
                                     .y = llama->qkv,
                                     .m = llama->batch.tokens};
    llama_multiply(llama, LLAMA_QKV, &args);
}

/* q = rope(norm(q + bias)); the pages take rope(norm(k + bias)) and v + bias. */
static void rope_append(void *model, uint32_t layer)
{
    struct llama *llama = model;
    const struct hparams *hparams = &llama->hparams;
    const struct llama_layer *at = &llama->layers[layer];
    const struct kern_rope_append_args args = {.qkv = llama->qkv,
                                               .bias = at->bias,
                                               .q_norm = at->q_norm,
                                               .k_norm = at->k_norm,
                                               .norm_eps = (float)hparams->rms_eps,
                                               .q = llama->q,
                                               .pool = kvpool_layer(&llama->kv, layer),
                                               .page = llama->batch.page,
                                               .position = llama->batch.position,
                                               .rows = llama->batch.tokens,
                                               .cosine = llama->cosine,
                                               .sine = llama->sine,
                                               .heads = llama->shard.heads.count,
                                               .kv_heads = llama->shard.kv_heads.count,
                                               .head_dim = hparams->head_dim,
                                               .rope_dim = hparams->rope_dim,
                                               .page_tokens = llama->page_tokens,
                                               .dtype = llama->dtype};
    llama_spread(llama, &args, run_rope_append, llama->batch.tokens,
                 llama_row_grain(llama_matrix_rows(llama, LLAMA_QKV)));
}

/* attended = softmax(q K^T / sqrt(D)) V over each token's own past, or the window's part of it, of
 * the items [first, end). */
static void attend(struct llama *llama, uint32_t layer, uint32_t first, uint32_t end)
{
    const struct hparams *hparams = &llama->hparams;
    const struct kern_attend_args args = {.q = llama->q,
                                          .pool = kvpool_layer(&llama->kv, layer),
                                          .out = llama->own.attended,
                                          .sequences = llama->batch.sequence,
                                          .items = llama->batch.item + first,
                                          .heads = llama->shard.heads.count,
                                          .kv_heads = llama->shard.kv_heads.count,
                                          .head_dim = hparams->head_dim,
                                          .page_tokens = llama->page_tokens,
                                          .window = hparams->sliding_window,
                                          .scale = 1.0f / sqrtf((float)hparams->head_dim),
                                          .dtype = llama->dtype};
    const uint32_t chunks = crew_threads(llama->crew) * ITEM_CHUNKS;
    llama_spread(llama, &args, run_attend, end - first, 1 + (end - first) / chunks);
}

static void prefill_attention(void *model, uint32_t layer)
{
    struct llama *llama = model;
    attend(llama, layer, 0, llama->batch.prefill_items);
}

/* The last attention of a layer: then all of it is gathered. */
static void decode_attention(void *model, uint32_t layer)
{
    struct llama *llama = model;
    attend(llama, layer, llama->batch.prefill_items, llama->batch.items);
    const struct comm_gather_args gather = {.own = llama->own.attended,
                                            .full = llama->attended,
                                            .rows = llama->batch.tokens,
                                            .columns =
                                                llama->hparams.heads * llama->hparams.head_dim,
                                            .item_bytes = (uint32_t)kern_dtype_bytes(llama->dtype)};
    llama_gather(llama, &gather);
}

/* Units: rows. */
static void run_add(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    const size_t hidden = call->llama->hparams.hidden;
    float *x = call->llama->x + first * hidden;
    const float *delta = call->llama->delta + first * hidden;
    for (size_t i = 0; i < count * hidden; i++) {
        x[i] += delta[i];
    }
}

/* x += in W^T. The sum is a number of x and one of the product, whoever computed that. */
static void add_product(struct llama *llama, uint32_t layer, enum llama_matrix matrix,
                        const void *in)
{
    const bool alone = llama->shard.ranks == 1;
    const uint32_t hidden = llama->hparams.hidden;
    const struct matmul_args args = {.weight = *llama->layers[layer].matrix[matrix],
                                     .x = in,
                                     .y = alone ? llama->x : llama->own.delta,
                                     .m = llama->batch.tokens,
                                     .accumulate = alone};
    llama_multiply(llama, matrix, &args);
    if (!alone) {
        const struct comm_gather_args gather = {.own = llama->own.delta,
                                                .full = llama->delta,
                                                .rows = llama->batch.tokens,
                                                .columns = hidden,
                                                .item_bytes = sizeof *llama->delta};
        llama_gather(llama, &gather);
        llama_spread(llama, NULL, run_add, llama->batch.tokens, llama_row_grain(hidden));
    }
}

/* x += attended Wo^T */
static void output(void *model, uint32_t layer)
{
    struct llama *llama = model;
    add_product(llama, layer, LLAMA_OUTPUT, llama->attended);
}

static void ffn_norm(void *model, uint32_t layer)
{
    struct llama *llama = model;
    norm(llama, llama->layers[layer].ffn_norm);
}

/* gate_up = normed [Wgate; Wup]^T */
static void up_gate(void *model, uint32_t layer)
{
    struct llama *llama = model;
    const struct matmul_args args = {.weight = *llama->layers[layer].matrix[LLAMA_GATE_UP],
                                     .x = llama->normed,
                                     .y = llama->gate_up,
                                     .m = llama->batch.tokens};
    llama_multiply(llama, LLAMA_GATE_UP, &args);
}

/* gated = silu(gate) * up */
static void silu_mul(void *model, uint32_t layer)
{
    (void)layer;
    struct llama *llama = model;
    const struct kern_silu_mul_args args = {.gate_up = llama->gate_up,
                                            .y = llama->own.gated,
                                            .cols = llama->shard.ffn.count,
                                            .dtype = llama->dtype};
    const struct comm_gather_args gather = {.own = llama->own.gated,
                                            .full = llama->gated,
                                            .rows = llama->batch.tokens,
                                            .columns = llama->hparams.ffn,
                                            .item_bytes = (uint32_t)kern_dtype_bytes(llama->dtype)};
    llama_spread(llama, &args, run_silu_mul, llama->batch.tokens, llama_row_grain(args.cols));
    llama_gather(llama, &gather);
}

/* x += gated Wdown^T */
static void down(void *model, uint32_t layer)
{
    struct llama *llama = model;
    add_product(llama, layer, LLAMA_DOWN, llama->gated);
}

/* The rows that want logits lie apart in x and side by side in head_in. */
static void run_final_norm(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    const struct llama *llama = call->llama;
    const size_t hidden = llama->hparams.hidden;
    const size_t row_bytes = hidden * kern_dtype_bytes(llama->dtype);
    struct kern_rmsnorm_args args = *(const struct kern_rmsnorm_args *)call->args;
    for (uint32_t row = first; row < first + count; row++) {
        args.x = llama->x + llama->batch.logit_token[row] * hidden;
        args.y = (uint8_t *)llama->head_in + row * row_bytes;
        llama->ops.rmsnorm(&args, 0, 1);
    }
}

void llama_head(struct llama *llama)
{
    if (llama->batch.logit_rows == 0) {
        return;
    }
    const struct kern_rmsnorm_args norm_args = {.w = llama->final_norm,
                                                .cols = llama->hparams.hidden,
                                                .eps = (float)llama->hparams.rms_eps,
                                                .dtype = llama->dtype};
    llama_spread(llama, &norm_args, run_final_norm, llama->batch.logit_rows,
                 llama_row_grain(llama->hparams.hidden));
    const struct matmul_args args = {.weight = llama->head,
                                     .x = llama->head_in,
                                     .y = llama->own.logits,
                                     .m = llama->batch.logit_rows};
    const struct comm_gather_args gather = {.own = llama->own.logits,
                                            .full = llama->shard.rank == 0 ? llama->logits : NULL,
                                            .rows = llama->batch.logit_rows,
                                            .columns = llama->hparams.vocab,
                                            .item_bytes = sizeof *llama->logits};
    llama_multiply(llama, LLAMA_HEAD, &args);
    llama_gather(llama, &gather);
}

void (*const llama_operations[PLAN_OPERATION_COUNT])(void *model, uint32_t layer) = {
    [PLAN_ATTENTION_NORM] = attention_norm,
    [PLAN_KQV] = kqv,
    [PLAN_ROPE_APPEND] = rope_append,
    [PLAN_PREFILL_ATTENTION] = prefill_attention,
    [PLAN_DECODE_ATTENTION] = decode_attention,
    [PLAN_OUTPUT] = output,
    [PLAN_FFN_NORM] = ffn_norm,
    [PLAN_UP_GATE] = up_gate,
    [PLAN_SILU_MUL] = silu_mul,
    [PLAN_DOWN] = down,
};
