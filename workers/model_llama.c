/*
 * model_llama.c - the forward pass of the Llama family and its relatives, one function a stage;
 * model_moe.c has the feed-forward part of those with experts. Called by the pipe on any of the
 * crew's threads; stages only say what is to be done, the crew does it. Owns nothing. Invariants: a
 * token's numbers depend on its own sequence alone; a task writes the rows of its range alone.
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

/* False once a collective has failed: the step is lost, and the sooner it is over, the sooner there
 * is a new epoch. */
static bool goes_on(const struct llama *llama)
{
    return !llama->comm || !comm_error(llama->comm);
}

void llama_spread_rows(struct pipe_task *task,
                       void (*run)(void *context, uint32_t first, uint32_t count, uint32_t thread),
                       uint32_t numbers)
{
    task->job.run = run;
    task->job.units = goes_on(task->model) ? task->end - task->first : 0;
    task->job.grain = numbers >= ROW_NUMBERS_MIN ? 1 : ROW_NUMBERS_MIN / numbers;
}

static void run_gather(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)first;
    (void)count;
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    (void)comm_gather(llama->comm, &task->args.gather); /* A failure sticks; step.c looks. */
}

void llama_gather(struct pipe_task *task, const struct comm_gather_args *args, uint32_t per_row)
{
    const struct llama *llama = task->model;
    const struct span own = span_part(args->columns, llama->shard.rank, llama->shard.ranks);
    const size_t first = (size_t)task->first * per_row;
    const size_t own_bytes = (size_t)own.count * args->item_bytes;
    const size_t full_bytes = (size_t)args->columns * args->item_bytes;
    if (llama->shard.ranks == 1) {
        return;
    }
    struct comm_gather_args *gather = &task->args.gather;
    *gather = *args;
    gather->own = (const uint8_t *)args->own + first * own_bytes;
    gather->full = args->full ? (uint8_t *)args->full + first * full_bytes : NULL;
    gather->rows = (task->end - task->first) * per_row;
    task->job.run = run_gather;
    task->job.units = 1;
    task->job.grain = 1;
}

void *llama_thread_scratch(const struct llama *llama, uint32_t thread)
{
    return llama->scratch + thread * llama->scratch_bytes;
}

/* Jobs over rows count from the task's first. */

static void run_embed(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    llama->ops.embed(&task->args.embed, task->first + first, count);
}

static void run_rmsnorm(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    llama->ops.rmsnorm(&task->args.rmsnorm, task->first + first, count);
}

static void run_rope_append(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    llama->ops.rope_append(&task->args.rope_append, task->first + first, count);
}

static void run_silu_mul(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    llama->ops.silu_mul(&task->args.silu_mul, task->first + first, count);
}

/* Units: items. */
static void run_attend(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    struct kern_attend_args args = task->args.attend;
    args.scratch = llama_thread_scratch(llama, thread);
    llama->ops.attend(&args, first, count);
}

/* Units: slices. */
static void run_matmul(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    const struct pipe_task *task = context;
    struct matmul_args args = task->args.matmul;
    args.scratch = llama_thread_scratch(task->model, thread);
    for (uint32_t slice = first; slice < first + count; slice++) {
        matmul_run(&args, slice);
    }
}

void llama_multiply(struct pipe_task *task, const struct llama_product *product)
{
    const struct llama *llama = task->model;
    const size_t columns = llama_matrix_cols(&llama->hparams, product->matrix);
    const size_t x_bytes = task->first * columns * kern_dtype_bytes(llama->dtype);
    const size_t y_floats = task->first * (size_t)llama_matrix_rows(llama, product->matrix);
    task->args.matmul = (struct matmul_args){.weight = product->weight,
                                             .x = (const uint8_t *)product->x + x_bytes,
                                             .y = product->y + y_floats,
                                             .m = task->end - task->first,
                                             .accumulate = product->accumulate};
    task->job.run = run_matmul;
    task->job.units = goes_on(llama) ? matmul_shape_slices(llama->shape[product->matrix]) : 0;
    task->job.grain = 1;
}

/* normed = rmsnorm(x) * w */
static void norm(struct pipe_task *task, const float *w)
{
    const struct llama *llama = task->model;
    const uint32_t hidden = llama->hparams.hidden;
    task->args.rmsnorm = (struct kern_rmsnorm_args){.x = llama->x,
                                                    .w = w,
                                                    .y = llama->normed,
                                                    .cols = hidden,
                                                    .eps = (float)llama->hparams.rms_eps,
                                                    .dtype = llama->dtype};
    llama_spread_rows(task, run_rmsnorm, hidden);
}

void llama_embed(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const uint32_t hidden = llama->hparams.hidden;
    task->args.embed = (struct kern_embed_args){.table = llama->embed,
                                                .ids = llama->batch.ids,
                                                .x = llama->x,
                                                .cols = hidden,
                                                .dtype = llama->dtype};
    llama_spread_rows(task, run_embed, hidden);
}

static void attention_norm(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    norm(task, llama->layers[task->layer].attention_norm);
}

/* qkv = normed Wqkv^T */
static void kqv(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    llama_multiply(task,
                   &(struct llama_product){LLAMA_QKV, *llama->layers[task->layer].matrix[LLAMA_QKV],
                                           llama->normed, llama->qkv, false});
}

/* q = rope(norm(q + bias)); the pages take rope(norm(k + bias)) and v + bias. */
static void rope_append(struct pipe_task *task)
{
    struct llama *llama = task->model;
    const struct hparams *hparams = &llama->hparams;
    const struct llama_layer *at = &llama->layers[task->layer];
    task->args.rope_append =
        (struct kern_rope_append_args){.qkv = llama->qkv,
                                       .bias = at->bias,
                                       .q_norm = at->q_norm,
                                       .k_norm = at->k_norm,
                                       .norm_eps = (float)hparams->rms_eps,
                                       .q = llama->q,
                                       .pool = kvpool_layer(&llama->kv, task->layer),
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
    llama_spread_rows(task, run_rope_append, llama_matrix_rows(llama, LLAMA_QKV));
}

/* attended = softmax(q K^T / sqrt(D)) V over each token's own past, or the window's part of it, of
 * the items of the task's rows; item: of which kind, by cut. */
static void attend(struct pipe_task *task, const uint32_t *item)
{
    struct llama *llama = task->model;
    const struct hparams *hparams = &llama->hparams;
    const uint32_t first = item[cuts_at(&llama->batch.cuts, task->first)];
    const uint32_t items = item[cuts_at(&llama->batch.cuts, task->end)] - first;
    const uint32_t chunks = crew_threads(llama->crew) * ITEM_CHUNKS;
    task->args.attend = (struct kern_attend_args){.q = llama->q,
                                                  .pool = kvpool_layer(&llama->kv, task->layer),
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
    task->job.run = run_attend;
    task->job.units = goes_on(llama) ? items : 0;
    task->job.grain = 1 + items / chunks;
}

static void prefill_attention(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    attend(task, llama->batch.prefill_item);
}

static void decode_attention(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    attend(task, llama->batch.decode_item);
}

/* After the last attention of a layer. */
static void gather_attended(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const struct comm_gather_args gather = {.own = llama->own.attended,
                                            .full = llama->attended,
                                            .columns =
                                                llama->hparams.heads * llama->hparams.head_dim,
                                            .item_bytes = (uint32_t)kern_dtype_bytes(llama->dtype)};
    llama_gather(task, &gather, 1);
}

/* x += in W^T when alone. Otherwise in three stages, so that the sum is a number of x and one of
 * the product, whoever computed that. */
static void add_product(struct pipe_task *task, enum llama_matrix matrix, const void *in)
{
    const struct llama *llama = task->model;
    const bool alone = llama->shard.ranks == 1;
    llama_multiply(task, &(struct llama_product){matrix, *llama->layers[task->layer].matrix[matrix],
                                                 in, alone ? llama->x : llama->own.delta, alone});
}

static void gather_delta(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const struct comm_gather_args gather = {.own = llama->own.delta,
                                            .full = llama->delta,
                                            .columns = llama->hparams.hidden,
                                            .item_bytes = sizeof *llama->delta};
    llama_gather(task, &gather, 1);
}

/* Units: rows. */
static void run_add(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    const size_t hidden = llama->hparams.hidden;
    float *x = llama->x + (task->first + first) * hidden;
    const float *delta = llama->delta + (task->first + first) * hidden;
    for (size_t i = 0; i < count * hidden; i++) {
        x[i] += delta[i];
    }
}

static void add_delta(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    if (llama->shard.ranks > 1) {
        llama_spread_rows(task, run_add, llama->hparams.hidden);
    }
}

/* x += attended Wo^T */
static void output(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    add_product(task, LLAMA_OUTPUT, llama->attended);
}

static void ffn_norm(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    norm(task, llama->layers[task->layer].ffn_norm);
}

/* gate_up = normed [Wgate; Wup]^T */
static void up_gate(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    llama_multiply(task, &(struct llama_product){LLAMA_GATE_UP,
                                                 *llama->layers[task->layer].matrix[LLAMA_GATE_UP],
                                                 llama->normed, llama->gate_up, false});
}

/* gated = silu(gate) * up */
static void silu_mul(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    task->args.silu_mul = (struct kern_silu_mul_args){.gate_up = llama->gate_up,
                                                      .y = llama->own.gated,
                                                      .cols = llama->shard.ffn.count,
                                                      .dtype = llama->dtype};
    llama_spread_rows(task, run_silu_mul, llama->shard.ffn.count);
}

static void gather_gated(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const struct comm_gather_args gather = {.own = llama->own.gated,
                                            .full = llama->gated,
                                            .columns = llama->hparams.ffn,
                                            .item_bytes = (uint32_t)kern_dtype_bytes(llama->dtype)};
    llama_gather(task, &gather, 1);
}

/* x += gated Wdown^T */
static void down(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    add_product(task, LLAMA_DOWN, llama->gated);
}

/* The rows that want logits lie apart in x and side by side in head_in. */
static void run_final_norm(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    const size_t hidden = llama->hparams.hidden;
    const size_t row_bytes = hidden * kern_dtype_bytes(llama->dtype);
    struct kern_rmsnorm_args args = task->args.rmsnorm;
    for (uint32_t row = task->first + first; row < task->first + first + count; row++) {
        args.x = llama->x + llama->batch.logit_token[row] * hidden;
        args.y = (uint8_t *)llama->head_in + row * row_bytes;
        llama->ops.rmsnorm(&args, 0, 1);
    }
}

void llama_final_norm(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    task->args.rmsnorm = (struct kern_rmsnorm_args){.w = llama->final_norm,
                                                    .cols = llama->hparams.hidden,
                                                    .eps = (float)llama->hparams.rms_eps,
                                                    .dtype = llama->dtype};
    llama_spread_rows(task, run_final_norm, llama->hparams.hidden);
}

void llama_head(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    llama_multiply(task, &(struct llama_product){LLAMA_HEAD, llama->head, llama->head_in,
                                                 llama->own.logits, false});
}

void llama_gather_logits(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const struct comm_gather_args gather = {.own = llama->own.logits,
                                            .full = llama->shard.rank == 0 ? llama->logits : NULL,
                                            .columns = llama->hparams.vocab,
                                            .item_bytes = sizeof *llama->logits};
    llama_gather(task, &gather, 1);
}

const struct pipe_operation llama_operations[PLAN_OPERATION_COUNT] = {
    [PLAN_ATTENTION_NORM] = {{attention_norm}},
    [PLAN_KQV] = {{kqv}},
    [PLAN_ROPE_APPEND] = {{rope_append}},
    [PLAN_PREFILL_ATTENTION] = {{prefill_attention}},
    [PLAN_DECODE_ATTENTION] = {{decode_attention, gather_attended}},
    [PLAN_OUTPUT] = {{output, gather_delta, add_delta}},
    [PLAN_FFN_NORM] = {{ffn_norm}},
    [PLAN_UP_GATE] = {{up_gate}},
    [PLAN_SILU_MUL] = {{silu_mul, gather_gated}},
    [PLAN_DOWN] = {{down, gather_delta, add_delta}},
};
