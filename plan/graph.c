/*
 * graph.c - the tables behind graph.h. Called by the core, sluice-tune and tests; pure, owns
 * nothing. Invariant: the accesses say what workers/model_llama.c and model_moe.c do with their
 * buffers, in the order in which one token passes them.
 *
 * Source of what tensor parallelism splits: Shoeybi et al., "Megatron-LM" (2019); of O's two forms:
 * Zhu et al., "NanoFlow" (2024).
 */
#include "plan/graph.h"

#include <math.h>
#include <stddef.h>

#include "base/must.h"

enum { /* When a row of the table counts. */
       ALONE = 1,
       INSIDE = 2,
       REDUCE = 4,
       SCATTER = 8,
       APART = REDUCE | SCATTER,
       EVER = ALONE | INSIDE | APART,
       DENSE = 16,
       EXPERTS = 32,
       ANY = DENSE | EXPERTS,
};

enum { PROMPT_ROWS = 64 }; /* That share one reading of their pages. */

struct row {
    uint8_t operation;
    uint8_t class;
    uint8_t when;
    uint8_t tokens;
    uint8_t access_count;
    struct graph_access access[GRAPH_ACCESSES_MAX];
};

#define READ(name)                                                                                 \
    {                                                                                              \
        GRAPH_##name, false, false                                                                 \
    }
#define READ_BEFORE(name)                                                                          \
    {                                                                                              \
        GRAPH_##name, false, true                                                                  \
    }
#define WRITE(name)                                                                                \
    {                                                                                              \
        GRAPH_##name, true, false                                                                  \
    }

static const struct row rows[] = {
    {PLAN_ATTENTION_NORM, GRAPH_MEMORY, EVER | ANY, GRAPH_ALL, 2, {READ(X), WRITE(NORMED)}},
    {PLAN_KQV, GRAPH_COMPUTE, EVER | ANY, GRAPH_ALL, 2, {READ(NORMED), WRITE(QKV)}},
    {PLAN_ROPE_APPEND, GRAPH_MEMORY, EVER | ANY, GRAPH_ALL, 3, {READ(QKV), WRITE(Q), WRITE(PAGES)}},
    {PLAN_PREFILL_ATTENTION,
     GRAPH_COMPUTE,
     EVER | ANY,
     GRAPH_ALL,
     3,
     {READ(Q), READ_BEFORE(PAGES), WRITE(ATTENDED_PREFILL)}},
    {PLAN_DECODE_ATTENTION,
     GRAPH_MEMORY,
     ALONE | APART | ANY,
     GRAPH_ALL,
     3,
     {READ(Q), READ(PAGES), WRITE(ATTENDED_DECODE)}},
    {PLAN_DECODE_ATTENTION, /* Gathers what both attentions wrote. */
     GRAPH_MEMORY,
     INSIDE | ANY,
     GRAPH_ALL,
     5,
     {READ(Q), READ(PAGES), READ(ATTENDED_PREFILL), WRITE(ATTENDED_DECODE), WRITE(ATTENDED_FULL)}},
    {PLAN_ATTENDED_GATHER,
     GRAPH_NETWORK,
     APART | ANY,
     GRAPH_O_GATHERED,
     3,
     {READ(ATTENDED_PREFILL), READ(ATTENDED_DECODE), WRITE(ATTENDED_FULL)}},
    {PLAN_OUTPUT,
     GRAPH_COMPUTE,
     ALONE | ANY,
     GRAPH_ALL,
     3,
     {READ(ATTENDED_PREFILL), READ(ATTENDED_DECODE), WRITE(X)}},
    {PLAN_OUTPUT,
     GRAPH_COMPUTE,
     INSIDE | ANY,
     GRAPH_ALL,
     3,
     {READ(ATTENDED_FULL), WRITE(DELTA), WRITE(X)}},
    {PLAN_OUTPUT,
     GRAPH_COMPUTE,
     APART | ANY,
     GRAPH_O_GATHERED,
     2,
     {READ(ATTENDED_FULL), WRITE(DELTA)}},
    {PLAN_OUTPUT_GATHER, GRAPH_NETWORK, APART | ANY, GRAPH_O_GATHERED, 2, {READ(DELTA), WRITE(X)}},
    {PLAN_OUTPUT_PART,
     GRAPH_COMPUTE,
     APART | ANY,
     GRAPH_O_REDUCED,
     3,
     {READ(ATTENDED_PREFILL), READ(ATTENDED_DECODE), WRITE(DELTA)}},
    {PLAN_OUTPUT_REDUCE, GRAPH_NETWORK, APART | ANY, GRAPH_O_REDUCED, 2, {READ(DELTA), WRITE(X)}},
    {PLAN_FFN_NORM, GRAPH_MEMORY, EVER | ANY, GRAPH_ALL, 2, {READ(X), WRITE(NORMED)}},
    {PLAN_UP_GATE, GRAPH_COMPUTE, EVER | DENSE, GRAPH_ALL, 2, {READ(NORMED), WRITE(GATE_UP)}},
    {PLAN_SILU_MUL, GRAPH_MEMORY, EVER | DENSE, GRAPH_ALL, 2, {READ(GATE_UP), WRITE(GATED)}},
    {PLAN_DOWN, GRAPH_COMPUTE, ALONE | DENSE, GRAPH_ALL, 2, {READ(GATED), WRITE(X)}},
    {PLAN_DOWN, GRAPH_COMPUTE, INSIDE | DENSE, GRAPH_ALL, 3, {READ(GATED), WRITE(DELTA), WRITE(X)}},
    {PLAN_DOWN, GRAPH_COMPUTE, APART | DENSE, GRAPH_ALL, 2, {READ(GATED), WRITE(DELTA)}},
    {PLAN_ROUTE, GRAPH_COMPUTE, EVER | EXPERTS, GRAPH_ALL, 2, {READ(NORMED), WRITE(SLOTS)}},
    {PLAN_EXPERT_UP_GATE,
     GRAPH_COMPUTE,
     EVER | EXPERTS,
     GRAPH_ALL,
     2,
     {READ(SLOTS), WRITE(GATE_UP)}},
    {PLAN_EXPERT_SILU_MUL,
     GRAPH_MEMORY,
     EVER | EXPERTS,
     GRAPH_ALL,
     3,
     {READ(GATE_UP), READ(SLOTS), WRITE(GATED)}},
    {PLAN_EXPERT_DOWN,
     GRAPH_COMPUTE,
     EVER | EXPERTS,
     GRAPH_ALL,
     3,
     {READ(GATED), READ(SLOTS), WRITE(EXPERT_DOWN)}},
    {PLAN_COMBINE,
     GRAPH_MEMORY,
     ALONE | INSIDE | EXPERTS,
     GRAPH_ALL,
     3,
     {READ(EXPERT_DOWN), READ(SLOTS), WRITE(X)}},
    {PLAN_COMBINE,
     GRAPH_MEMORY,
     APART | EXPERTS,
     GRAPH_ALL,
     3,
     {READ(EXPERT_DOWN), READ(SLOTS), WRITE(DELTA)}},
    {PLAN_DOWN_REDUCE, GRAPH_NETWORK, REDUCE | ANY, GRAPH_ALL, 2, {READ(DELTA), WRITE(X)}},
    {PLAN_DOWN_SCATTER, GRAPH_NETWORK, SCATTER | ANY, GRAPH_ALL, 1, {WRITE(DELTA)}},
    {PLAN_DOWN_GATHER, GRAPH_NETWORK, SCATTER | ANY, GRAPH_ALL, 2, {READ(DELTA), WRITE(X)}},
};

#undef READ
#undef READ_BEFORE
#undef WRITE

/* Those that gather inside, where there are ranks to gather from. */
static bool gathers_inside(uint32_t operation)
{
    switch (operation) {
    case PLAN_DECODE_ATTENTION:
    case PLAN_OUTPUT:
    case PLAN_SILU_MUL:
    case PLAN_DOWN:
    case PLAN_EXPERT_SILU_MUL:
    case PLAN_EXPERT_DOWN:
        return true;
    default:
        return false;
    }
}

void graph_build(struct graph *graph, bool experts, uint32_t ranks,
                 enum graph_collectives collectives)
{
    static const uint8_t modes[] = {
        [GRAPH_INSIDE] = INSIDE, [GRAPH_REDUCE] = REDUCE, [GRAPH_SCATTER] = SCATTER};
    must(ranks > 0 && collectives <= GRAPH_SCATTER);
    const uint8_t mode = ranks == 1 ? ALONE : modes[collectives];
    const uint8_t kind = experts ? EXPERTS : DENSE;
    *graph = (struct graph){.experts = experts, .ranks = ranks};
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        if (!(row->when & mode) || !(row->when & kind)) {
            continue;
        }
        struct graph_operation *operation = &graph->operation[graph->count++];
        *operation = (struct graph_operation){
            .operation = row->operation,
            .class = row->class,
            .tokens = row->tokens,
            .meets_ranks =
                row->class == GRAPH_NETWORK || (mode == INSIDE && gathers_inside(row->operation)),
            .alike = row->operation >= PLAN_ROUTE && row->operation <= PLAN_COMBINE,
            .access_count = row->access_count,
        };
        for (uint32_t a = 0; a < row->access_count; a++) {
            operation->access[a] = row->access[a];
        }
    }
    must(graph->count <= GRAPH_OPERATIONS_MAX);
}

const struct graph_operation *graph_find(const struct graph *graph, uint32_t operation)
{
    for (uint32_t i = 0; i < graph->count; i++) {
        if (graph->operation[i].operation == operation) {
            return &graph->operation[i];
        }
    }
    return NULL;
}

static bool touch(const struct graph_access *a, const struct plan_nano *a_rows,
                  const struct graph_access *b, const struct plan_nano *b_rows)
{
    const uint32_t a_first = a->before ? 0 : a_rows->first;
    const uint32_t b_first = b->before ? 0 : b_rows->first;
    return a->buffer == b->buffer && (a->writes || b->writes) && a_first < b_rows->end &&
           b_first < a_rows->end;
}

enum graph_buffer graph_conflict(const struct graph_operation *after,
                                 const struct graph_operation *before, uint32_t offset,
                                 const struct plan_nano *after_rows,
                                 const struct plan_nano *before_rows)
{
    for (uint32_t a = 0; a < after->access_count; a++) {
        const struct graph_access *at = &after->access[a];
        if (offset > 0 && at->buffer == GRAPH_PAGES) {
            continue;
        }
        for (uint32_t b = 0; b < before->access_count; b++) {
            if (touch(at, after_rows, &before->access[b], before_rows)) {
                return at->buffer;
            }
        }
    }
    return GRAPH_BUFFERS;
}

const char *graph_buffer_name(enum graph_buffer buffer)
{
    static const char *const names[GRAPH_BUFFERS] = {
        [GRAPH_X] = "the residual stream",
        [GRAPH_NORMED] = "the normed rows",
        [GRAPH_QKV] = "the product of q, k and v",
        [GRAPH_Q] = "the queries",
        [GRAPH_PAGES] = "the pages of keys and values",
        [GRAPH_ATTENDED_PREFILL] = "the attended rows of prompts",
        [GRAPH_ATTENDED_DECODE] = "the attended rows of single tokens",
        [GRAPH_ATTENDED_FULL] = "the gathered attended rows",
        [GRAPH_DELTA] = "the rows to add",
        [GRAPH_GATE_UP] = "the product of gate and up",
        [GRAPH_GATED] = "the gated rows",
        [GRAPH_SLOTS] = "the experts' slots",
        [GRAPH_EXPERT_DOWN] = "the experts' results",
    };
    return buffer < GRAPH_BUFFERS ? names[buffer] : "nothing";
}

/* y [m][n] = x [m][k] W^T with y in float, copies of W of which are read. */
static struct graph_work product(const struct graph_shape *shape, double m, double n, double k,
                                 double copies)
{
    return (struct graph_work){
        .flops = 2 * m * n * k,
        .bytes = copies * n * k * shape->weight_bytes,
        .row_bytes = m * (k * shape->act_bytes + 4 * n),
    };
}

/* Experts that so many tokens choose, each independently. */
static double experts_met(const struct graph_shape *shape, double tokens)
{
    const double missed = 1 - (double)shape->experts_used / shape->experts;
    return shape->experts * (1 - pow(missed, tokens));
}

static struct graph_work attention(const struct graph_shape *shape, double tokens, double readings,
                                   double context)
{
    const double q = (double)shape->heads * shape->head_dim / shape->ranks;
    const double kv = 2.0 * shape->kv_heads * shape->head_dim / shape->ranks;
    return (struct graph_work){
        .flops = 4 * q * context * tokens,
        .bytes = readings * context * kv * shape->kv_bytes,
        .row_bytes = 2 * tokens * q * shape->act_bytes,
    };
}

static struct graph_work moved(double flops, double row_bytes)
{
    return (struct graph_work){.flops = flops, .row_bytes = row_bytes};
}

/* Rows of so many bytes over the links; the same is read and written in memory. */
static struct graph_work carried(const struct graph_shape *shape, double bytes, double times)
{
    const double received = times * bytes * (shape->ranks - 1) / shape->ranks;
    return (struct graph_work){.row_bytes = 2 * received, .net_bytes = received};
}

static struct graph_work work_attention(uint32_t operation, const struct graph_shape *shape,
                                        const struct graph_tokens_of *of)
{
    const double t = of->tokens;
    const double prompt = t - of->decode;
    const double q = (double)shape->heads * shape->head_dim;
    const double kv = 2.0 * shape->kv_heads * shape->head_dim;
    switch (operation) {
    case PLAN_KQV:
        return product(shape, t, (q + kv) / shape->ranks, shape->hidden, 1);
    case PLAN_ROPE_APPEND:
        return moved(3 * t * (q + kv) / shape->ranks,
                     t * (4 * (q + kv) + q * shape->act_bytes + kv * shape->kv_bytes) /
                         shape->ranks);
    case PLAN_PREFILL_ATTENTION:
        return attention(shape, prompt, prompt / PROMPT_ROWS, of->context);
    case PLAN_DECODE_ATTENTION:
        return attention(shape, of->decode, of->decode, of->context);
    case PLAN_OUTPUT:
    case PLAN_OUTPUT_PART:
        return product(shape, t, shape->hidden, q / shape->ranks, 1);
    case PLAN_ATTENTION_NORM:
    case PLAN_FFN_NORM:
    default:
        return moved(4 * t * shape->hidden, t * shape->hidden * (4 + shape->act_bytes));
    }
}

static struct graph_work work_ffn(uint32_t operation, const struct graph_shape *shape,
                                  const struct graph_tokens_of *of)
{
    const double t = of->tokens;
    const double ffn = (double)shape->ffn / shape->ranks;
    const double choices = t * (shape->experts > 0 ? shape->experts_used : 1);
    const double copies = shape->experts > 0 ? experts_met(shape, t) : 1;
    const double row_bytes = shape->hidden * shape->act_bytes;
    struct graph_work work;
    switch (operation) {
    case PLAN_ROUTE:
        work = product(shape, t, shape->experts, shape->hidden, 1);
        work.row_bytes += 2 * choices * row_bytes;
        return work;
    case PLAN_UP_GATE:
    case PLAN_EXPERT_UP_GATE:
        return product(shape, choices, 2 * ffn, shape->hidden, copies);
    case PLAN_SILU_MUL:
    case PLAN_EXPERT_SILU_MUL:
        return moved(5 * choices * ffn, choices * ffn * (8 + shape->act_bytes));
    case PLAN_COMBINE:
        return moved(2 * choices * shape->hidden, 4 * (choices + 2 * t) * shape->hidden);
    case PLAN_DOWN:
    case PLAN_EXPERT_DOWN:
    default:
        return product(shape, choices, shape->hidden, ffn, copies);
    }
}

/* Of a collective, or inside an operation of GRAPH_INSIDE: there, sums travel as float. */
static struct graph_work work_network(uint32_t operation, const struct graph_shape *shape,
                                      const struct graph_tokens_of *of)
{
    const double choices = of->tokens * (shape->experts > 0 ? shape->experts_used : 1);
    const double q_bytes = of->tokens * shape->heads * shape->head_dim * shape->act_bytes;
    const double row_bytes = of->tokens * shape->hidden * shape->act_bytes;
    switch (operation) {
    case PLAN_ATTENDED_GATHER:
    case PLAN_DECODE_ATTENTION:
        return carried(shape, q_bytes, 1);
    case PLAN_SILU_MUL:
    case PLAN_EXPERT_SILU_MUL:
        return carried(shape, choices * shape->ffn * shape->act_bytes, 1);
    case PLAN_OUTPUT:
        return carried(shape, 4.0 * of->tokens * shape->hidden, 1);
    case PLAN_DOWN:
    case PLAN_EXPERT_DOWN:
        return carried(shape, 4.0 * choices * shape->hidden, 1);
    case PLAN_OUTPUT_REDUCE:
    case PLAN_DOWN_REDUCE:
        return carried(shape, row_bytes, 2);
    case PLAN_OUTPUT_GATHER:
    case PLAN_DOWN_SCATTER:
    case PLAN_DOWN_GATHER:
    default:
        return carried(shape, row_bytes, 1);
    }
}

struct graph_work graph_work(const struct graph_operation *operation,
                             const struct graph_shape *shape, const struct graph_tokens_of *tokens)
{
    const uint32_t name = operation->operation;
    struct graph_work work = {0};
    if (operation->class != GRAPH_NETWORK) {
        const bool ffn = name >= PLAN_UP_GATE && name <= PLAN_COMBINE;
        work = ffn ? work_ffn(name, shape, tokens) : work_attention(name, shape, tokens);
    }
    if (operation->meets_ranks) {
        const struct graph_work carried_too = work_network(name, shape, tokens);
        work.row_bytes += carried_too.row_bytes;
        work.net_bytes = carried_too.net_bytes;
    }
    return work;
}
