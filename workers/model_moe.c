/*
 * model_moe.c - the feed-forward part of a mixture of experts, one function an operation. Called by
 * the pipe on a worker's main thread; each operation is spread over the crew and has ended on
 * return. Owns nothing. Invariant: which tokens share an expert changes no token's numbers, and a
 * token adds its experts in its own order.
 *
 * Sources: Shazeer et al. (2017) for sparse mixtures; Jiang et al., "Mixtral of Experts" (2024) for
 * the softmax over the chosen; Gale et al., "MegaBlocks" (2022) for products grouped by expert.
 */
#include "workers/model_moe.h"

#include <string.h>

#include "workers/model_llama.h"

static uint32_t rows_padded(const struct llama *llama, uint32_t rows)
{
    const uint32_t up = matmul_rows_padded(llama->shape[LLAMA_GATE_UP], rows);
    const uint32_t down = matmul_rows_padded(llama->shape[LLAMA_DOWN], rows);
    return up > down ? up : down;
}

uint32_t moe_slots_max(const struct llama *llama, uint32_t tokens)
{
    const uint32_t choices = tokens * llama->hparams.experts_used;
    const uint32_t experts = llama->hparams.experts;
    uint32_t padding = 0;
    for (uint32_t rows = 1; rows <= tokens; rows++) {
        const uint32_t here = rows_padded(llama, rows) - rows;
        padding = here > padding ? here : padding;
    }
    return choices + padding * (choices < experts ? choices : experts);
}

/* Deals the slots out: each expert's first one, then one to each choice, token after token. */
static void group(struct llama *llama)
{
    struct moe *moe = &llama->moe;
    const uint32_t experts = llama->hparams.experts;
    const uint32_t choices = llama->batch.tokens * llama->hparams.experts_used;
    uint32_t next = 0;
    memset(moe->rows, 0, experts * sizeof *moe->rows);
    for (uint32_t i = 0; i < choices; i++) {
        moe->rows[moe->expert[i]]++;
    }
    moe->shares = 0;
    for (uint32_t e = 0; e < experts; e++) {
        const uint32_t rows = moe->rows[e];
        moe->rows[e] = next; /* From here on: the expert's next free slot. */
        if (rows > 0) {
            moe->share[moe->shares++] = (struct moe_share){e, next, rows};
            next += rows_padded(llama, rows);
        }
    }
    moe->slots = next;
    for (uint32_t i = 0; i < choices; i++) {
        moe->slot[i] = moe->rows[moe->expert[i]]++;
    }
}

static void run_route(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    call->llama->ops.route(call->args, first, count);
}

/* Units: tokens. */
static void run_gather(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    const struct llama *llama = call->llama;
    const uint32_t used = llama->hparams.experts_used;
    const size_t row_bytes = llama->hparams.hidden * kern_dtype_bytes(llama->dtype);
    for (size_t token = first; token < (size_t)first + count; token++) {
        for (uint32_t i = 0; i < used; i++) {
            const size_t slot = llama->moe.slot[token * used + i];
            memcpy((uint8_t *)llama->moe.gathered + slot * row_bytes,
                   (const uint8_t *)llama->normed + token * row_bytes, row_bytes);
        }
    }
}

/* Each token's experts, their weights, and a copy of its row for each. */
static void route(void *model, uint32_t layer)
{
    struct llama *llama = model;
    struct moe *moe = &llama->moe;
    const struct hparams *hparams = &llama->hparams;
    const struct matmul_args product = {.weight = *llama->layers[layer].matrix[LLAMA_ROUTER],
                                        .x = llama->normed,
                                        .y = moe->logits,
                                        .m = llama->batch.tokens};
    const struct kern_route_args args = {.logits = moe->logits,
                                         .expert = moe->expert,
                                         .weight = moe->weight,
                                         .experts = hparams->experts,
                                         .used = hparams->experts_used,
                                         .normed = hparams->experts_normed};
    llama_multiply(llama, LLAMA_ROUTER, &product);
    llama_spread(llama, &args, run_route, llama->batch.tokens, llama_row_grain(hparams->experts));
    group(llama);
    llama_spread(llama, NULL, run_gather, llama->batch.tokens,
                 llama_row_grain(hparams->experts_used * hparams->hidden));
}

/* A product of every share: y[slots] = x[slots] W of the slot's expert. */
struct grouped {
    enum llama_matrix matrix;
    uint32_t layer;
    const void *x;
    float *y;
};

/* Units: slices of the first share, of the second, ... */
static void run_grouped(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    const struct llama_call *call = context;
    const struct llama *llama = call->llama;
    const struct grouped *grouped = call->args;
    const uint32_t slices = matmul_shape_slices(llama->shape[grouped->matrix]);
    const size_t n = llama_matrix_rows(llama, grouped->matrix);
    const size_t k = llama_matrix_cols(&llama->hparams, grouped->matrix);
    for (uint32_t unit = first; unit < first + count; unit++) {
        const struct moe_share *share = &llama->moe.share[unit / slices];
        const size_t x_bytes = share->first * k * kern_dtype_bytes(llama->dtype);
        const struct matmul_args args = {
            .weight = llama->layers[grouped->layer].matrix[grouped->matrix][share->expert],
            .x = (const uint8_t *)grouped->x + x_bytes,
            .y = grouped->y + share->first * n,
            .m = share->rows,
            .scratch = llama_thread_scratch(llama, thread)};
        matmul_run(&args, unit % slices);
    }
}

static void multiply_grouped(struct llama *llama, const struct grouped *grouped)
{
    const uint32_t slices = matmul_shape_slices(llama->shape[grouped->matrix]);
    llama_spread(llama, grouped, run_grouped, llama->moe.shares * slices, 1);
}

/* gate_up = gathered [Wgate; Wup]^T of each expert */
static void expert_up_gate(void *model, uint32_t layer)
{
    struct llama *llama = model;
    const struct grouped grouped = {LLAMA_GATE_UP, layer, llama->moe.gathered, llama->gate_up};
    multiply_grouped(llama, &grouped);
}

/* Units: choices. The padding between experts is left alone. */
static void run_silu_mul(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    for (uint32_t choice = first; choice < first + count; choice++) {
        call->llama->ops.silu_mul(call->args, call->llama->moe.slot[choice], 1);
    }
}

/* gated = silu(gate) * up */
static void expert_silu_mul(void *model, uint32_t layer)
{
    (void)layer;
    struct llama *llama = model;
    const uint32_t ffn = llama->shard.ffn.count;
    const struct kern_silu_mul_args args = {
        .gate_up = llama->gate_up, .y = llama->own.gated, .cols = ffn, .dtype = llama->dtype};
    const struct comm_gather_args gather = {.own = llama->own.gated,
                                            .full = llama->gated,
                                            .rows = llama->moe.slots,
                                            .columns = llama->hparams.ffn,
                                            .item_bytes = (uint32_t)kern_dtype_bytes(llama->dtype)};
    llama_spread(llama, &args, run_silu_mul, llama->batch.tokens * llama->hparams.experts_used,
                 llama_row_grain(ffn));
    llama_gather(llama, &gather);
}

/* down = gated Wdown^T of each expert */
static void expert_down(void *model, uint32_t layer)
{
    struct llama *llama = model;
    const struct grouped grouped = {LLAMA_DOWN, layer, llama->gated, llama->moe.own_down};
    const struct comm_gather_args gather = {.own = llama->moe.own_down,
                                            .full = llama->moe.down,
                                            .rows = llama->moe.slots,
                                            .columns = llama->hparams.hidden,
                                            .item_bytes = sizeof *llama->moe.down};
    multiply_grouped(llama, &grouped);
    llama_gather(llama, &gather);
}

static void run_combine(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    (void)thread;
    const struct llama_call *call = context;
    call->llama->ops.combine(call->args, first, count);
}

/* x += the token's experts, weighted */
static void combine(void *model, uint32_t layer)
{
    (void)layer;
    struct llama *llama = model;
    const uint32_t used = llama->hparams.experts_used;
    const struct kern_combine_args args = {.y = llama->moe.down,
                                           .slot = llama->moe.slot,
                                           .weight = llama->moe.weight,
                                           .x = llama->x,
                                           .cols = llama->hparams.hidden,
                                           .used = used};
    llama_spread(llama, &args, run_combine, llama->batch.tokens,
                 llama_row_grain(used * llama->hparams.hidden));
}

void (*const moe_operations[PLAN_OPERATION_COUNT])(void *model, uint32_t layer) = {
    [PLAN_ROUTE] = route,
    [PLAN_EXPERT_UP_GATE] = expert_up_gate,
    [PLAN_EXPERT_SILU_MUL] = expert_silu_mul,
    [PLAN_EXPERT_DOWN] = expert_down,
    [PLAN_COMBINE] = combine,
};
