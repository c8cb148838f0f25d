/*
 * graph.h - the operations of one layer: what each reads and writes, and what it costs. Searches
 * (sluice-tune) split it and cost it, plan/split.h and plan/verify.h take dependencies from it; the
 * core builds one for its model at start. Pure and small: a value, about 1 KB.
 *
 * Row-local means: a nano-operation over the tokens [first, end) reads and writes those rows of a
 * buffer and no other, rows past the end included (a product that pads its rows pads a copy). All
 * operations are row-local but one: attention of prompts reads the pages of all tokens of the batch
 * before its range's end, since earlier tokens of its own prompt may lie there. Attention of single
 * tokens reads the rows of earlier steps and its own. Experts keep their slots a token range, so a
 * cut of PLAN_ROUTE is the cut of every operation on experts.
 *
 * Buffers serve all layers one after the other, but the pages: each layer has its own. Two
 * operations conflict where both touch a row of a buffer and one of them writes. The later one, in
 * the order of `operation` and of layers, must then wait for the earlier one. Every operation
 * writes a buffer that serves all layers, so it conflicts with itself a layer on; hence what is
 * ordered over one layer's distance is ordered over any.
 */
#ifndef PLAN_GRAPH_H
#define PLAN_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "plan/plan.h"

enum graph_class { GRAPH_COMPUTE, GRAPH_MEMORY, GRAPH_NETWORK, GRAPH_CLASSES };

enum graph_buffer {
    GRAPH_X, /* The residual stream. */
    GRAPH_NORMED,
    GRAPH_QKV,
    GRAPH_Q,
    GRAPH_PAGES,            /* Keys and values. */
    GRAPH_ATTENDED_PREFILL, /* A row is of a prompt or of a single token: each attention has */
    GRAPH_ATTENDED_DECODE,  /* its own rows, whatever range it is given. */
    GRAPH_ATTENDED_FULL,    /* Of all ranks. */
    GRAPH_DELTA,            /* What is to be added to x, or the rank's part of it. */
    GRAPH_GATE_UP,
    GRAPH_GATED,
    GRAPH_SLOTS, /* Experts, weights, slots and copied rows of a token range. */
    GRAPH_EXPERT_DOWN,
    GRAPH_BUFFERS,
};

enum graph_collectives { /* How ranks meet. One rank: GRAPH_INSIDE, and nothing is gathered. */
                         GRAPH_INSIDE,  /* Operations gather what the next wants, as workers do. */
                         GRAPH_REDUCE,  /* Operations of their own: all-gather or all-reduce around
                                           O, then all-reduce. */
                         GRAPH_SCATTER, /* The same with reduce-scatter and all-gather at the
                                           layer's end. */
};

/* Which tokens an operation takes. O has two forms, and a token takes one of them. */
enum graph_tokens { GRAPH_ALL, GRAPH_O_GATHERED, GRAPH_O_REDUCED };

enum {
    GRAPH_OPERATIONS_MAX = 20,
    GRAPH_ACCESSES_MAX = 5,
};

struct graph_access {
    uint8_t buffer; /* enum graph_buffer */
    bool writes;    /* Reads otherwise; adding to a row is a write. */
    bool before;    /* Its range and all tokens before it. */
};

struct graph_operation {
    uint8_t operation; /* enum plan_operation */
    uint8_t class;     /* enum graph_class */
    uint8_t tokens;    /* enum graph_tokens */
    bool meets_ranks;  /* All ranks must run these in one order: on one lane. */
    bool alike;        /* Cut as PLAN_ROUTE is. */
    uint8_t access_count;
    struct graph_access access[GRAPH_ACCESSES_MAX];
};

struct graph {
    bool experts;
    uint32_t ranks;
    uint32_t count;
    struct graph_operation operation[GRAPH_OPERATIONS_MAX]; /* In the model's order. */
};

/* One rank: collectives is not looked at. */
void graph_build(struct graph *graph, bool experts, uint32_t ranks,
                 enum graph_collectives collectives);

/* NULL: the layer has no such operation. */
const struct graph_operation *graph_find(const struct graph *graph, uint32_t operation);

/* The buffer for which `after`, `offset` layers after `before` (0 or 1), must wait for it on some
 * rows; GRAPH_BUFFERS: it need not. Both of the graph; with offset 0 after comes later in it. */
enum graph_buffer graph_conflict(const struct graph_operation *after,
                                 const struct graph_operation *before, uint32_t offset,
                                 const struct plan_nano *after_rows,
                                 const struct plan_nano *before_rows);

const char *graph_buffer_name(enum graph_buffer buffer);

struct graph_shape { /* The numbers that costs need. */
    uint32_t hidden;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t ffn;
    uint32_t experts; /* 0: dense */
    uint32_t experts_used;
    uint32_t layers;
    uint32_t vocab;
    uint32_t ranks;
    double weight_bytes; /* Of one number of a matrix, scales included. */
    double act_bytes;
    double kv_bytes;
};

struct graph_tokens_of { /* What a nano-operation works on. */
    double tokens;
    double decode;  /* Of these, how many are the only one of their sequence; the rest: prompts. */
    double context; /* Mean count of tokens that a token attends to, itself included. */
};

struct graph_work { /* Of one layer, on one rank. */
    double flops;
    double bytes;     /* Of weights and pages, which no cache holds: each reading once. */
    double row_bytes; /* Of activations, read and written: a cache may have them. */
    double net_bytes; /* Received: (ranks - 1) / ranks of the rows, an all-reduce twice that. */
};

/* Attention reads the pages of a decode token for that token alone, and those of a prompt once for
 * each 64 of its rows. Products read all their weights, those of experts that some token chose. */
struct graph_work graph_work(const struct graph_operation *operation,
                             const struct graph_shape *shape, const struct graph_tokens_of *tokens);

#endif /* PLAN_GRAPH_H */
