/*
 * layer_cuda.c - the forward pass of the Llama family on an accelerator, one function an operation;
 * see model_cuda.h. Called by the engine on a worker's main thread; puts work on lanes and owns
 * nothing. Invariant: an operation writes the rows of its range alone, and its arguments follow
 * from plan, bucket and layer, so that what was captured once fits every batch of the bucket.
 *
 * O and down add into x: x is float, and a product with beta = 1 is the cheapest addition.
 * Sources: as in model_llama.c.
 */
#include "workers/share_cuda.h"

#include <errno.h>
#include <math.h>

#include "kernels/cuda/attend_cuda.h"
#include "kernels/cuda/embed_cuda.h"
#include "kernels/cuda/feed_cuda.h"
#include "kernels/cuda/norm_cuda.h"
#include "kernels/cuda/quantise_cuda.h"
#include "kernels/cuda/rope_cuda.h"
#include "kernels/cuda/silu_cuda.h"

enum { CTAS_PER_UNIT = 2 }; /* Of a lane that has a part of the device. */

uint32_t cuda_q_columns(const struct hparams *hparams)
{
    return hparams->heads * hparams->head_dim;
}

uint32_t cuda_own_q_columns(const struct cuda_model *model)
{
    return model->shard.heads.count * model->hparams.head_dim;
}

uint32_t cuda_own_qkv_columns(const struct cuda_model *model)
{
    return (model->shard.heads.count + 2 * model->shard.kv_heads.count) * model->hparams.head_dim;
}

uint32_t cuda_widest(const struct hparams *hparams)
{
    const uint32_t q = cuda_q_columns(hparams);
    const uint32_t in = hparams->hidden > q ? hparams->hidden : q;
    return in > hparams->ffn ? in : hparams->ffn;
}

uint32_t cuda_ctas(const struct cuda_model *model, uint32_t lane)
{
    const uint32_t units = accel_lane_units(model->accel, lane);
    return units < model->units ? units * CTAS_PER_UNIT : 0;
}

uint32_t cuda_slots(const struct cuda_model *model, const struct cuda_task *task, uint32_t *first)
{
    const struct cuda_batch *batch = task->batch;
    const uint64_t slots = model->slots;
    *first = (uint32_t)(slots * batch->first[task->nano] / batch->bucket);
    return (uint32_t)(slots * batch->end[task->nano] / batch->bucket) - *first;
}

struct attend_shape cuda_attend_shape(const struct cuda_model *model, uint32_t lane)
{
    return (struct attend_shape){
        .heads = model->shard.heads.count,
        .kv_heads = model->shard.kv_heads.count,
        .head_dim = model->hparams.head_dim,
        .window = model->hparams.sliding_window,
        .ctas = accel_lane_units(model->accel, lane) * CTAS_PER_UNIT,
        .dtype = model->dtype,
    };
}

uint32_t cuda_token_blocks(const struct cuda_model *model)
{
    const struct attend_shape shape = cuda_attend_shape(model, 0);
    const uint32_t group = shape.heads / shape.kv_heads;
    return (group - 1) / attend_block_rows(&shape) + 1;
}

/* Kernel entries as the accelerator calls them. */

static int launch_embed(const void *args, struct CUstream_st *stream)
{
    return cuda_embed(args, stream);
}

static int launch_feed(const void *args, struct CUstream_st *stream)
{
    return cuda_feed(args, stream);
}

static int launch_norm(const void *args, struct CUstream_st *stream)
{
    return cuda_norm(args, stream);
}

static int launch_rope(const void *args, struct CUstream_st *stream)
{
    return cuda_rope(args, stream);
}

static int launch_prefill(const void *args, struct CUstream_st *stream)
{
    return cuda_attend_prefill(args, stream);
}

static int launch_decode(const void *args, struct CUstream_st *stream)
{
    return cuda_attend_decode(args, stream);
}

static int launch_quantise(const void *args, struct CUstream_st *stream)
{
    return cuda_quantise(args, stream);
}

static int launch_silu(const void *args, struct CUstream_st *stream)
{
    return cuda_silu(args, stream);
}

/* normed = rmsnorm(x) * w */
static int norm(const struct cuda_model *model, const struct cuda_task *task, const float *w)
{
    const size_t hidden = model->hparams.hidden;
    const struct cuda_norm_args args = {
        .x = model->x + cuda_first(task) * hidden,
        .w = w,
        .y = cuda_act(model, model->normed, cuda_first(task), hidden),
        .rows = model->block.valid + task->nano,
        .rows_max = cuda_rows(task),
        .cols = model->hparams.hidden,
        .eps = (float)model->hparams.rms_eps,
        .ctas = cuda_ctas(model, cuda_lane(task)),
        .dtype = model->dtype,
    };
    return accel_launch(model->accel, cuda_lane(task), launch_norm, &args, sizeof args);
}

/* The product with a matrix of the layer. One of bytes wants x in bytes, too. A row's products come
 * one after the other, whatever the plan: so each has the row's one place for them. */
static int multiply_by(const struct cuda_model *model, const struct cuda_task *task,
                       const struct cuda_matrix *matrix, struct accel_product product)
{
    const uint32_t lane = cuda_lane(task);
    const size_t first = cuda_first(task);
    int error = 0;
    product.w = matrix->w;
    product.rows = cuda_rows(task);
    product.dtype = model->dtype;
    if (matrix->scale) {
        const struct cuda_quantise_args args = {
            .x = product.x,
            .q = model->cells + first * cuda_widest(&model->hparams),
            .scale = model->cell_scale + first,
            .rows = model->block.valid + task->nano,
            .rows_max = product.rows,
            .cols = product.k,
            .ctas = cuda_ctas(model, lane),
            .dtype = model->dtype,
        };
        product.x = args.q;
        product.x_scale = args.scale;
        product.w_scale = matrix->scale;
        error = accel_launch(model->accel, lane, launch_quantise, &args, sizeof args);
    }
    return error ? error : accel_multiply(model->accel, lane, &product);
}

/* y = x W^T in acts, of buffers whose beginnings are given. */
static int multiply(const struct cuda_model *model, const struct cuda_task *task,
                    const struct cuda_matrix *matrix, const struct accel_product *of)
{
    struct accel_product product = *of;
    product.x = cuda_act(model, (void *)of->x, cuda_first(task), of->k);
    product.y = cuda_act(model, of->y, cuda_first(task), of->n);
    return multiply_by(model, task, matrix, product);
}

/* x += in W^T. With siblings the product is shared first, so that the sum is a number of x and one
 * of the product, whoever computed that. */
static int add_product(const struct cuda_model *model, const struct cuda_task *task, void *in,
                       uint32_t k, const struct cuda_matrix *matrix)
{
    const struct cuda_share share = {
        .full = model->x + (size_t)cuda_first(task) * model->hparams.hidden,
        .valid = model->block.valid + task->nano,
        .rows = cuda_rows(task),
        .columns = model->hparams.hidden,
        .dtype = KERN_F32,
        .adds = true,
    };
    const struct accel_product product = {
        .x = cuda_act(model, in, cuda_first(task), k),
        .y = cuda_own(model, &share),
        .n = model->shard.hidden.count,
        .k = k,
        .float_y = true,
        .accumulate = model->shard.ranks == 1,
    };
    const int error = multiply_by(model, task, matrix, product);
    return error ? error : cuda_share(model, task->batch, cuda_lane(task), &share);
}

static int attention_norm(const struct cuda_model *model, const struct cuda_task *task)
{
    return norm(model, task, model->layers[task->layer].attention_norm);
}

/* qkv = normed Wqkv^T */
static int kqv(const struct cuda_model *model, const struct cuda_task *task)
{
    return multiply(model, task, &model->layers[task->layer].qkv,
                    &(struct accel_product){.x = model->normed,
                                            .y = model->qkv,
                                            .n = cuda_own_qkv_columns(model),
                                            .k = model->hparams.hidden});
}

static void *layer_pool(const struct cuda_model *model, uint32_t layer)
{
    return model->pool + (size_t)layer * model->device_pages * model->page_bytes;
}

/* q = rope(norm(q + bias)); the pages take rope(norm(k + bias)) and v + bias. */
static int rope_append(const struct cuda_model *model, const struct cuda_task *task)
{
    const struct hparams *hparams = &model->hparams;
    const struct cuda_layer *layer = &model->layers[task->layer];
    const uint32_t first = cuda_first(task);
    const struct cuda_rope_args args = {
        .qkv = cuda_act(model, model->qkv, first, cuda_own_qkv_columns(model)),
        .bias = layer->bias,
        .q_norm = layer->q_norm,
        .k_norm = layer->k_norm,
        .q = cuda_act(model, model->q, first, cuda_own_q_columns(model)),
        .pool = layer_pool(model, task->layer),
        .kv_scale = model->kv_scale,
        .page = model->block.page + first,
        .position = model->block.position + first,
        .cosine = model->cosine,
        .sine = model->sine,
        .rows = model->block.valid + task->nano,
        .rows_max = cuda_rows(task),
        .heads = model->shard.heads.count,
        .kv_heads = model->shard.kv_heads.count,
        .head_dim = hparams->head_dim,
        .rope_dim = hparams->rope_dim,
        .page_tokens = model->page_tokens,
        .norm_eps = (float)hparams->rms_eps,
        .ctas = cuda_ctas(model, cuda_lane(task)),
        .dtype = model->dtype,
    };
    return accel_launch(model->accel, cuda_lane(task), launch_rope, &args, sizeof args);
}

/* attended = softmax(q K^T / sqrt(D)) V over each token's own past, or the window's part of it. */
static int attend(const struct cuda_model *model, const struct cuda_task *task, bool several)
{
    const struct hparams *hparams = &model->hparams;
    const struct cuda_block *block = &model->block;
    const struct attend_shape shape = cuda_attend_shape(model, cuda_lane(task));
    const uint32_t first = cuda_first(task);
    uint32_t slot;
    (void)cuda_slots(model, task, &slot);
    const struct cuda_attend_args args = {
        .q = cuda_act(model, model->q, first, cuda_own_q_columns(model)),
        .pool = layer_pool(model, task->layer),
        .out = cuda_act(model, model->own_attended, first, cuda_own_q_columns(model)),
        .sequences = (several ? block->prefill : block->decode) + first,
        .tables = block->tables,
        .counts = block->counts + task->nano,
        .items = block->items + first + slot,
        .merges = block->merges + slot,
        .blocks = block->blocks + (size_t)first * cuda_token_blocks(model),
        .slots = model->sums + attend_slot_floats(&shape, slot),
        .heads = model->shard.heads.count,
        .kv_heads = model->shard.kv_heads.count,
        .head_dim = hparams->head_dim,
        .page_tokens = model->page_tokens,
        .window = hparams->sliding_window,
        .scale = 1.0f / sqrtf((float)hparams->head_dim),
        .kv_scale = model->kv_scale,
        .dtype = model->dtype,
        .ctas = cuda_ctas(model, cuda_lane(task)),
    };
    return accel_launch(model->accel, cuda_lane(task), several ? launch_prefill : launch_decode,
                        &args, sizeof args);
}

static int prefill_attention(const struct cuda_model *model, const struct cuda_task *task)
{
    return attend(model, task, true);
}

/* The last attention of a layer: it shares what both have written. */
static int decode_attention(const struct cuda_model *model, const struct cuda_task *task)
{
    const uint32_t columns = cuda_q_columns(&model->hparams);
    const uint32_t first = cuda_first(task);
    const struct cuda_share share = {
        .own = cuda_act(model, model->own_attended, first, cuda_own_q_columns(model)),
        .full = cuda_act(model, model->attended, first, columns),
        .valid = model->block.valid + task->nano,
        .rows = cuda_rows(task),
        .columns = columns,
        .dtype = model->dtype,
    };
    const int error = attend(model, task, false);
    return error ? error : cuda_share(model, task->batch, cuda_lane(task), &share);
}

/* x += attended Wo^T */
static int output(const struct cuda_model *model, const struct cuda_task *task)
{
    return add_product(model, task, model->attended, cuda_q_columns(&model->hparams),
                       &model->layers[task->layer].output);
}

static int ffn_norm(const struct cuda_model *model, const struct cuda_task *task)
{
    return norm(model, task, model->layers[task->layer].ffn_norm);
}

/* gate_up = normed [Wgate; Wup]^T */
static int up_gate(const struct cuda_model *model, const struct cuda_task *task)
{
    return multiply(model, task, &model->layers[task->layer].gate_up,
                    &(struct accel_product){.x = model->normed,
                                            .y = model->gate_up,
                                            .n = 2 * model->shard.ffn.count,
                                            .k = model->hparams.hidden});
}

/* gated = silu(gate) * up */
static int silu_mul(const struct cuda_model *model, const struct cuda_task *task)
{
    const uint32_t ffn = model->shard.ffn.count;
    const struct cuda_share share = {
        .full = cuda_act(model, model->gated, cuda_first(task), model->hparams.ffn),
        .valid = model->block.valid + task->nano,
        .rows = cuda_rows(task),
        .columns = model->hparams.ffn,
        .dtype = model->dtype,
    };
    const struct cuda_silu_args args = {
        .gate_up = cuda_act(model, model->gate_up, cuda_first(task), 2 * (size_t)ffn),
        .y = cuda_own(model, &share),
        .rows = model->block.valid + task->nano,
        .rows_max = cuda_rows(task),
        .cols = ffn,
        .ctas = cuda_ctas(model, cuda_lane(task)),
        .dtype = model->dtype,
    };
    const int error = accel_launch(model->accel, cuda_lane(task), launch_silu, &args, sizeof args);
    return error ? error : cuda_share(model, task->batch, cuda_lane(task), &share);
}

/* x += gated Wdown^T */
static int down(const struct cuda_model *model, const struct cuda_task *task)
{
    return add_product(model, task, model->gated, model->hparams.ffn,
                       &model->layers[task->layer].down);
}

static int (*const operations[PLAN_OPERATION_COUNT])(const struct cuda_model *model,
                                                     const struct cuda_task *task) = {
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
    [PLAN_ROUTE] = cuda_put_moe,
    [PLAN_EXPERT_UP_GATE] = cuda_put_moe,
    [PLAN_EXPERT_SILU_MUL] = cuda_put_moe,
    [PLAN_EXPERT_DOWN] = cuda_put_moe,
    [PLAN_COMBINE] = cuda_put_moe,
};

int cuda_put(const struct cuda_model *model, const struct cuda_task *task)
{
    const uint32_t operation = task->batch->plan->nano[task->nano].operation;
    must(operations[operation]);
    return cuda_rows(task) > 0 ? operations[operation](model, task) : 0;
}

/* The tokens' ids are complete, and noted beside their pages. */
static int feed(const struct cuda_model *model, const struct cuda_batch *batch, uint32_t lane)
{
    const struct cuda_feed_args args = {
        .ids = model->block.ids,
        .source = model->block.source,
        .last_ids = model->last_ids,
        .page = model->block.page,
        .position = model->block.position,
        .history = model->history,
        .rows = model->block.tokens,
        .rows_max = batch->bucket,
        .page_tokens = model->page_tokens,
        .ctas = cuda_ctas(model, lane),
    };
    return accel_launch(model->accel, lane, launch_feed, &args, sizeof args);
}

int cuda_put_embed(const struct cuda_model *model, const struct cuda_batch *batch, uint32_t lane)
{
    const struct cuda_embed_args args = {
        .table = model->embed,
        .ids = model->block.ids,
        .x = model->x,
        .rows = model->block.tokens,
        .rows_max = batch->bucket,
        .cols = model->hparams.hidden,
        .vocab = model->hparams.vocab,
        .ctas = cuda_ctas(model, lane),
        .dtype = model->dtype,
    };
    const int error = feed(model, batch, lane);
    return error ? error : accel_launch(model->accel, lane, launch_embed, &args, sizeof args);
}

/* The rows that want logits lie apart in x, a table of batch->bucket rows, and side by side in
 * head_x. */
static int gather_rows(const struct cuda_model *model, const struct cuda_batch *batch,
                       uint32_t lane)
{
    const struct cuda_embed_args args = {
        .table = model->x,
        .ids = model->block.logit_token,
        .x = model->head_x,
        .rows = model->block.logit_rows,
        .rows_max = batch->logit_bucket,
        .cols = model->hparams.hidden,
        .vocab = batch->bucket,
        .ctas = cuda_ctas(model, lane),
        .dtype = KERN_F32,
    };
    return accel_launch(model->accel, lane, launch_embed, &args, sizeof args);
}

static int final_norm(const struct cuda_model *model, const struct cuda_batch *batch, uint32_t lane)
{
    const struct cuda_norm_args args = {
        .x = model->head_x,
        .w = model->final_norm,
        .y = model->head_in,
        .rows = model->block.logit_rows,
        .rows_max = batch->logit_bucket,
        .cols = model->hparams.hidden,
        .eps = (float)model->hparams.rms_eps,
        .ctas = cuda_ctas(model, lane),
        .dtype = model->dtype,
    };
    return accel_launch(model->accel, lane, launch_norm, &args, sizeof args);
}

int cuda_put_head(const struct cuda_model *model, const struct cuda_batch *batch, uint32_t lane)
{
    const struct cuda_share share = {
        .full = model->logits,
        .valid = model->block.logit_rows,
        .rows = batch->logit_bucket,
        .columns = model->hparams.vocab,
        .dtype = KERN_F32,
    };
    const struct accel_product product = {
        .x = model->head_in,
        .w = model->head,
        .y = cuda_own(model, &share),
        .rows = batch->logit_bucket,
        .n = model->shard.vocab.count,
        .k = model->hparams.hidden,
        .dtype = model->dtype,
        .float_y = true,
    };
    int error = gather_rows(model, batch, lane);
    error = error ? error : final_norm(model, batch, lane);
    error = error ? error : accel_multiply(model->accel, lane, &product);
    return error ? error : cuda_share(model, batch, lane, &share);
}
