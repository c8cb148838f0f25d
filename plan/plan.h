/*
 * plan.h - how one step is run: nano-operations on lanes, the same for every layer. It is data: the
 * core chooses it, step records name it by id and hash, a worker's pipe runs it (workers/pipe.h).
 *
 * A nano-operation is one operation over one token range of the dense batch. A lane runs its
 * nano-operations in their order here, one at a time, in rounds: in round r the instance of layer
 * r - lag of each, where there is such a layer. So a lag lets the tail of a layer run beside the
 * head of the next. Edges say what else must wait for what; they name every dependency, also
 * those that a lane's order would keep by itself, so that any order that keeps them is legal.
 *
 * The ranges of each operation tile the batch. A token range in which an operation finds no work
 * (decode attention over rows of a prompt) is empty and costs nothing.
 */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

enum plan_operation {
    PLAN_ATTENTION_NORM,
    PLAN_KQV,
    PLAN_ROPE_APPEND,
    PLAN_PREFILL_ATTENTION, /* Of rows with several tokens. */
    PLAN_DECODE_ATTENTION,  /* Of rows with one. */
    PLAN_OUTPUT,
    PLAN_FFN_NORM,
    PLAN_UP_GATE,
    PLAN_SILU_MUL,
    PLAN_DOWN,
    /* A mixture of experts has these in place of the last three. */
    PLAN_ROUTE,
    PLAN_EXPERT_UP_GATE,
    PLAN_EXPERT_SILU_MUL,
    PLAN_EXPERT_DOWN,
    PLAN_COMBINE,
    /* Between ranks, where collectives are operations of their own (plan/graph.h). No worker runs
     * these yet: all gather inside the operations above, on one lane. */
    PLAN_ATTENDED_GATHER, /* All-gather of attention's output, before O split by columns. */
    PLAN_OUTPUT_GATHER,   /* All-gather of that O's output. */
    PLAN_OUTPUT_PART,     /* O split by rows: a sum over the rank's own heads. */
    PLAN_OUTPUT_REDUCE,   /* All-reduce of those sums. */
    PLAN_DOWN_REDUCE,     /* All-reduce of the ranks' parts of down or combine, ... */
    PLAN_DOWN_SCATTER,    /* ... or reduce-scatter over the rows and ... */
    PLAN_DOWN_GATHER,     /* ... all-gather of them. */
    PLAN_OPERATION_COUNT,
};

enum {
    PLAN_NANO_MAX = 64, /* Nano-operations of one layer. */
    PLAN_EDGE_MAX = 256,
    PLAN_LANE_MAX = 4,
    PLAN_LAG_MAX = 3,
    PLAN_WHOLE = 1 << 16, /* A range's end that is the batch's. */
};

struct plan_nano {
    uint16_t operation; /* enum plan_operation */
    uint16_t lane;
    uint16_t units; /* Threads, or other execution units, it may have at once; 0: all there are. */
    uint16_t lag;
    uint32_t first; /* Token range of the dense batch, in 1/65536 of it: [first, end). */
    uint32_t end;
};

enum plan_edge_kind { PLAN_AFTER_END, PLAN_AFTER_START };

struct plan_edge { /* `after` of layer l waits for `before` of layer l - offset, where there is one.
                    */
    uint16_t after; /* Index of nano. */
    uint16_t before;
    uint16_t offset;
    uint16_t kind; /* enum plan_edge_kind */
};

struct plan {
    uint32_t id;
    uint32_t nano_count;
    uint32_t edge_count;
    uint32_t reserved;
    uint64_t hash; /* plan_hash() of the rest. */
    struct plan_nano nano[PLAN_NANO_MAX];
    struct plan_edge edge[PLAN_EDGE_MAX];
};

/* The plan that is always there: id 0, every operation of the model, with experts or without, over
 * the whole batch on lane 0, each after the one before. */
void plan_sequential(struct plan *plan, bool experts);

/* "kqv", "decode-attention": as in plan files and messages; "unknown" beyond the last. */
const char *plan_operation_name(uint32_t operation);

/* The same nano-operations on lane 0 without lags, in an order that their edges allow; of several
 * the present one's. The hash follows. The plan passes plan/verify.h. */
void plan_flatten(struct plan *plan);

uint64_t plan_hash(const struct plan *plan);

#endif /* PLAN_PLAN_H */
