/*
 * model_moe.c - the feed-forward part of a mixture of experts, one function a stage. Called
 * by the pipe on any of the crew's threads. Owns nothing. Invariant: which tokens share an expert
 * changes no token's numbers, and a token adds its experts in its own order.
 *
 * Sources: Shazeer et al. (2017) for sparse mixtures; Jiang et al., "Mixtral of Experts" (2024) for
 * the softmax over the chosen; Gale et al., "MegaBlocks" (2022) for products grouped by expert.
 */
#include "workers/model_moe.h"

#include <string.h>

#include "workers/model_llama.h"

size_t moe_scratch_bytes(const struct llama *llama)
{
    return llama->hparams.experts * sizeof(uint32_t);
}

/* Each token's experts and their weights, ... */
static void route_product(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    llama_multiply(task, &(struct llama_product){LLAMA_ROUTER,
                                                 *llama->layers[task->layer].matrix[LLAMA_ROUTER],
                                                 llama->normed, llama->moe.logits, false});
}

static void run_route(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    llama->ops.route(&task->args.route, task->first + first, count);
}

static void route(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const struct hparams *hparams = &llama->hparams;
    task->args.route = (struct kern_route_args){.logits = llama->moe.logits,
                                                .expert = llama->moe.expert,
                                                .weight = llama->moe.weight,
                                                .experts = hparams->experts,
                                                .used = hparams->experts_used,
                                                .normed = hparams->experts_normed};
    llama_spread_rows(task, run_route, hparams->experts);
}

/* ... then slots: each expert's first one, then one to each choice, token after token ... */
static void run_group(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)first;
    (void)count;
    const struct pipe_task *task = context;
    struct llama *llama = task->model;
    struct moe *moe = &llama->moe;
    const uint32_t experts = llama->hparams.experts;
    const uint32_t begin = task->first * llama->hparams.experts_used;
    const uint32_t end = task->end * llama->hparams.experts_used;
    uint32_t *rows = llama_thread_scratch(llama, thread); /* [experts] */
    uint32_t next = begin;
    uint32_t shares = 0;
    memset(rows, 0, experts * sizeof *rows);
    for (uint32_t i = begin; i < end; i++) {
        rows[moe->expert[i]]++;
    }
    for (uint32_t e = 0; e < experts; e++) {
        const uint32_t own = rows[e];
        rows[e] = next; /* From here on: the expert's next free slot. */
        if (own > 0) {
            moe->share[begin + shares++] = (struct moe_share){e, next, own};
            next += own;
        }
    }
    moe->shares[task->first] = shares;
    for (uint32_t i = begin; i < end; i++) {
        moe->slot[i] = rows[moe->expert[i]]++;
    }
}

static void group(struct pipe_task *task)
{
    task->job.run = run_group;
    task->job.units = 1;
    task->job.grain = 1;
}

/* ... and a copy of a token's row for each. Units: tokens. */
static void run_gather(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    const uint32_t used = llama->hparams.experts_used;
    const size_t row_bytes = llama->hparams.hidden * kern_dtype_bytes(llama->dtype);
    const size_t begin = (size_t)task->first + first;
    for (size_t token = begin; token < begin + count; token++) {
        for (uint32_t i = 0; i < used; i++) {
            const size_t slot = llama->moe.slot[token * used + i];
            memcpy((uint8_t *)llama->moe.gathered + slot * row_bytes,
                   (const uint8_t *)llama->normed + token * row_bytes, row_bytes);
        }
    }
}

static void gather(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    llama_spread_rows(task, run_gather, llama->hparams.experts_used * llama->hparams.hidden);
}

/* A product of every share: y[slots] = x[slots] W of the slot's expert. Units: slices of the first
 * share, of the second, ... */
static void run_grouped(const struct pipe_task *task, enum llama_matrix matrix, uint32_t unit,
                        uint32_t thread)
{
    const struct llama *llama = task->model;
    const uint32_t slices = matmul_shape_slices(llama->shape[matrix]);
    const size_t n = llama_matrix_rows(llama, matrix);
    const size_t k = llama_matrix_cols(&llama->hparams, matrix);
    const size_t begin = (size_t)task->first * llama->hparams.experts_used;
    const struct moe_share *share = &llama->moe.share[begin + unit / slices];
    struct matmul_args args = task->args.matmul;
    args.weight = llama->layers[task->layer].matrix[matrix][share->expert];
    args.x = (const uint8_t *)args.x + share->first * k * kern_dtype_bytes(llama->dtype);
    args.y += share->first * n;
    args.m = share->rows;
    args.scratch = llama_thread_scratch(llama, thread);
    matmul_run(&args, unit % slices);
}

static void multiply_grouped(struct pipe_task *task, enum llama_matrix matrix, const void *x,
                             float *y)
{
    const struct llama *llama = task->model;
    task->args.matmul = (struct matmul_args){.x = x, .y = y};
    task->job.units = llama->moe.shares[task->first] * matmul_shape_slices(llama->shape[matrix]);
    task->job.grain = 1;
}

static void run_up_gate(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    for (uint32_t unit = first; unit < first + count; unit++) {
        run_grouped(context, LLAMA_GATE_UP, unit, thread);
    }
}

/* gate_up = gathered [Wgate; Wup]^T of each expert */
static void expert_up_gate(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    multiply_grouped(task, LLAMA_GATE_UP, llama->moe.gathered, llama->gate_up);
    task->job.run = run_up_gate;
}

/* Units: slots. */
static void run_silu_mul(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    llama->ops.silu_mul(&task->args.silu_mul, task->first * llama->hparams.experts_used + first,
                        count);
}

/* gated = silu(gate) * up */
static void expert_silu_mul(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const uint32_t ffn = llama->shard.ffn.count;
    task->args.silu_mul = (struct kern_silu_mul_args){
        .gate_up = llama->gate_up, .y = llama->own.gated, .cols = ffn, .dtype = llama->dtype};
    llama_spread_rows(task, run_silu_mul, ffn);
    task->job.units *= llama->hparams.experts_used;
}

static void gather_gated(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const struct comm_gather_args args = {.own = llama->own.gated,
                                          .full = llama->gated,
                                          .columns = llama->hparams.ffn,
                                          .item_bytes = (uint32_t)kern_dtype_bytes(llama->dtype)};
    llama_gather(task, &args, llama->hparams.experts_used);
}

static void run_down(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    for (uint32_t unit = first; unit < first + count; unit++) {
        run_grouped(context, LLAMA_DOWN, unit, thread);
    }
}

/* down = gated Wdown^T of each expert */
static void expert_down(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    multiply_grouped(task, LLAMA_DOWN, llama->gated, llama->moe.own_down);
    task->job.run = run_down;
}

static void gather_down(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const struct comm_gather_args args = {.own = llama->moe.own_down,
                                          .full = llama->moe.down,
                                          .columns = llama->hparams.hidden,
                                          .item_bytes = sizeof *llama->moe.down};
    llama_gather(task, &args, llama->hparams.experts_used);
}

static void run_combine(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct pipe_task *task = context;
    const struct llama *llama = task->model;
    llama->ops.combine(&task->args.combine, task->first + first, count);
}

/* x += the token's experts, weighted */
static void combine(struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const uint32_t used = llama->hparams.experts_used;
    task->args.combine = (struct kern_combine_args){.y = llama->moe.down,
                                                    .slot = llama->moe.slot,
                                                    .weight = llama->moe.weight,
                                                    .x = llama->x,
                                                    .cols = llama->hparams.hidden,
                                                    .used = used};
    llama_spread_rows(task, run_combine, used * llama->hparams.hidden);
}

const struct pipe_operation moe_operations[PLAN_OPERATION_COUNT] = {
    [PLAN_ROUTE] = {{route_product, route, group, gather}},
    [PLAN_EXPERT_UP_GATE] = {{expert_up_gate}},
    [PLAN_EXPERT_SILU_MUL] = {{expert_silu_mul, gather_gated}},
    [PLAN_EXPERT_DOWN] = {{expert_down, gather_down}},
    [PLAN_COMBINE] = {{combine}},
};
