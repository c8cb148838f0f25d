/*
 * moe_cuda.c - the feed-forward part of a mixture of experts on an accelerator, one function an
 * operation. Called by layer_cuda.c on a worker's main thread; puts work on lanes and owns nothing.
 * Invariant: the choices of rows that are routed together have the slots from first * used on, and
 * only operations over just these rows touch them (workers/trial.h).
 *
 * Sources: as in model_moe.c.
 */
#include "kernels/cuda/experts_cuda.h"
#include "kernels/cuda/route_cuda.h"
#include "kernels/cuda/silu_cuda.h"
#include "workers/share_cuda.h"

static int launch_route(const void *args, struct CUstream_st *stream)
{
    return cuda_route(args, stream);
}

static int launch_group(const void *args, struct CUstream_st *stream)
{
    return cuda_group(args, stream);
}

static int launch_experts(const void *args, struct CUstream_st *stream)
{
    return cuda_experts(args, stream);
}

static int launch_silu(const void *args, struct CUstream_st *stream)
{
    return cuda_silu(args, stream);
}

static int launch_combine(const void *args, struct CUstream_st *stream)
{
    return cuda_combine(args, stream);
}

/* The first slot of the task's rows. */
static size_t slot_of(const struct cuda_model *model, const struct cuda_task *task)
{
    return (size_t)cuda_first(task) * model->hparams.experts_used;
}

static uint32_t slots_max(const struct cuda_model *model, const struct cuda_task *task)
{
    return cuda_rows(task) * model->hparams.experts_used;
}

/* Of the rows routed together, wherever the operation stands in the plan: the nth of such ranges
 * has the nth place. */
static struct cuda_experts_shares shares_of(const struct cuda_model *model,
                                            const struct cuda_task *task)
{
    const struct plan *plan = task->batch->plan;
    uint32_t nth = 0;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        nth += plan->nano[i].operation == PLAN_ROUTE &&
               plan->nano[i].first < plan->nano[task->nano].first;
    }
    const size_t at = (size_t)nth * (model->hparams.experts + 1);
    return (struct cuda_experts_shares){model->moe.first + at, model->moe.tile + at};
}

/* logits = normed Wrouter^T */
static int multiply_router(const struct cuda_model *model, const struct cuda_task *task)
{
    const struct hparams *hparams = &model->hparams;
    const struct accel_product product = {
        .x = cuda_act(model, model->normed, cuda_first(task), hparams->hidden),
        .w = model->layers[task->layer].router,
        .y = model->moe.logits + (size_t)cuda_first(task) * hparams->experts,
        .rows = cuda_rows(task),
        .n = hparams->experts,
        .k = hparams->hidden,
        .dtype = model->dtype,
        .float_y = true,
    };
    return accel_multiply(model->accel, cuda_lane(task), &product);
}

/* Each token's experts and their weights, ... */
static int choose(const struct cuda_model *model, const struct cuda_task *task)
{
    const struct hparams *hparams = &model->hparams;
    const size_t slot = slot_of(model, task);
    const struct cuda_route_args args = {
        .logits = model->moe.logits + (size_t)cuda_first(task) * hparams->experts,
        .expert = model->moe.expert + slot,
        .weight = model->moe.weight + slot,
        .rows = model->block.valid + task->nano,
        .rows_max = cuda_rows(task),
        .experts = hparams->experts,
        .used = hparams->experts_used,
        .normed = hparams->experts_normed,
        .ctas = cuda_ctas(model, cuda_lane(task)),
    };
    return accel_launch(model->accel, cuda_lane(task), launch_route, &args, sizeof args);
}

/* ... then a slot for each choice. */
static int group(const struct cuda_model *model, const struct cuda_task *task)
{
    const size_t slot = slot_of(model, task);
    const struct cuda_group_args args = {
        .expert = model->moe.expert + slot,
        .slot = model->moe.slot + slot,
        .row = model->moe.row + slot,
        .shares = shares_of(model, task),
        .rows = model->block.valid + task->nano,
        .rows_max = cuda_rows(task),
        .experts = model->hparams.experts,
        .used = model->hparams.experts_used,
    };
    return accel_launch(model->accel, cuda_lane(task), launch_group, &args, sizeof args);
}

static int route(const struct cuda_model *model, const struct cuda_task *task)
{
    int error = multiply_router(model, task);
    error = error ? error : choose(model, task);
    return error ? error : group(model, task);
}

/* What the two products of experts have in common. */
static int multiply_experts(const struct cuda_model *model, const struct cuda_task *task,
                            struct cuda_experts_args *args)
{
    args->shares = shares_of(model, task);
    args->slots_max = slots_max(model, task);
    args->experts = model->hparams.experts;
    args->ctas = cuda_ctas(model, cuda_lane(task));
    args->dtype = model->dtype;
    return accel_launch(model->accel, cuda_lane(task), launch_experts, args, sizeof *args);
}

/* gate_up = normed [Wgate; Wup]^T of each expert */
static int expert_up_gate(const struct cuda_model *model, const struct cuda_task *task)
{
    const struct hparams *hparams = &model->hparams;
    const size_t slot = slot_of(model, task);
    struct cuda_experts_args args = {
        .x = cuda_act(model, model->normed, cuda_first(task), hparams->hidden),
        .row = model->moe.row + slot,
        .w = model->layers[task->layer].gate_up.w,
        .y = cuda_act(model, model->gate_up, slot, 2 * (size_t)model->shard.ffn.count),
        .n = 2 * model->shard.ffn.count,
        .k = hparams->hidden,
    };
    return multiply_experts(model, task, &args);
}

/* All slots of the task's rows. */
static struct cuda_share share_slots(const struct cuda_model *model, const struct cuda_task *task,
                                     void *buffer, uint32_t columns)
{
    return (struct cuda_share){
        .full = cuda_act(model, buffer, slot_of(model, task), columns),
        .valid = shares_of(model, task).first + model->hparams.experts,
        .rows = slots_max(model, task),
        .columns = columns,
        .dtype = model->dtype,
    };
}

/* gated = silu(gate) * up */
static int expert_silu_mul(const struct cuda_model *model, const struct cuda_task *task)
{
    const uint32_t ffn = model->shard.ffn.count;
    const size_t slot = slot_of(model, task);
    const struct cuda_share share = share_slots(model, task, model->gated, model->hparams.ffn);
    const struct cuda_silu_args args = {
        .gate_up = cuda_act(model, model->gate_up, slot, 2 * (size_t)ffn),
        .y = cuda_own(model, &share),
        .rows = share.valid,
        .rows_max = share.rows,
        .cols = ffn,
        .ctas = cuda_ctas(model, cuda_lane(task)),
        .dtype = model->dtype,
    };
    const int error = accel_launch(model->accel, cuda_lane(task), launch_silu, &args, sizeof args);
    return error ? error : cuda_share(model, task->batch, cuda_lane(task), &share);
}

/* down = gated Wdown^T of each expert */
static int expert_down(const struct cuda_model *model, const struct cuda_task *task)
{
    const struct hparams *hparams = &model->hparams;
    const size_t slot = slot_of(model, task);
    const struct cuda_share share = share_slots(model, task, model->moe.down, hparams->hidden);
    struct cuda_experts_args args = {
        .x = cuda_act(model, model->gated, slot, hparams->ffn),
        .w = model->layers[task->layer].down.w,
        .y = cuda_own(model, &share),
        .n = model->shard.hidden.count,
        .k = hparams->ffn,
    };
    const int error = multiply_experts(model, task, &args);
    return error ? error : cuda_share(model, task->batch, cuda_lane(task), &share);
}

/* x += the token's experts, weighted */
static int combine(const struct cuda_model *model, const struct cuda_task *task)
{
    const struct hparams *hparams = &model->hparams;
    const size_t slot = slot_of(model, task);
    const struct cuda_combine_args args = {
        .y = cuda_act(model, model->moe.down, slot, hparams->hidden),
        .slot = model->moe.slot + slot,
        .weight = model->moe.weight + slot,
        .x = model->x + (size_t)cuda_first(task) * hparams->hidden,
        .rows = model->block.valid + task->nano,
        .rows_max = cuda_rows(task),
        .cols = hparams->hidden,
        .used = hparams->experts_used,
        .ctas = cuda_ctas(model, cuda_lane(task)),
        .dtype = model->dtype,
    };
    return accel_launch(model->accel, cuda_lane(task), launch_combine, &args, sizeof args);
}

int cuda_put_moe(const struct cuda_model *model, const struct cuda_task *task)
{
    switch (task->batch->plan->nano[task->nano].operation) {
    case PLAN_ROUTE:
        return route(model, task);
    case PLAN_EXPERT_UP_GATE:
        return expert_up_gate(model, task);
    case PLAN_EXPERT_SILU_MUL:
        return expert_silu_mul(model, task);
    case PLAN_EXPERT_DOWN:
        return expert_down(model, task);
    default:
        must(task->batch->plan->nano[task->nano].operation == PLAN_COMBINE);
        return combine(model, task);
    }
}
