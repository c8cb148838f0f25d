/*
 * pace.h - how long a step takes, learnt from those that ended, and the dense batch that keeps to
 * what was promised for it. Pure.
 *
 *   step_us = fixed + token x tokens + context x context
 *
 * where context counts, over the tokens of the step, the tokens that each looks back at. The three
 * are fitted by least squares of the relative error, so that small steps count as much as large
 * ones and a step that was disturbed cannot pull far. What is known of steps of a size fades as
 * steps of that size come, and only then: a minute of nothing but answers does not make it forget
 * what a prompt costs.
 */
#ifndef AGENT_PACE_H
#define AGENT_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PACE_SIZES = 17,          /* Doublings of tokens, up to LIMIT_STEP_TOKENS_MAX. */
    PACE_MEMORY = 64,         /* Steps of a size. */
    PACE_ENOUGH = 8,          /* Steps from which on a fit says something. */
    PACE_CHUNK_MIN = 16,      /* Tokens of prompts that a step takes, whatever was promised. */
    PACE_MARGIN_PERCENT = 90, /* Of a target, for what the fit does not tell. */
};

struct pace_sums { /* Of one size: weighted products of fixed, tokens, context and 1, over step_us.
                    */
    double product[3][3];
    double target[3];
};

struct pace {
    struct pace_sums size[PACE_SIZES];
    double term[3]; /* The fit: fixed, token, context, in microseconds. */
    uint64_t steps;
};

/* A step of so many tokens and so much context took so long. */
void pace_learn(struct pace *pace, uint64_t tokens, uint64_t context, uint64_t step_us);

/* 0 while too little is known. */
double pace_step_us(const struct pace *pace, uint64_t tokens, uint64_t context);

struct pace_target { /* 0: not promised. */
    uint64_t ttft_us;
    uint64_t tpot_us;
    uint32_t steps_in_flight; /* Who comes now waits for so many, and is computed in the next. */
};

struct pace_load {
    uint32_t tokens_max;
    uint32_t answer_rows;   /* Requests whose next token the step computes in any case, */
    uint64_t context;       /* and what those look back at. */
    uint64_t prompt_tokens; /* To be computed, of those that run or wait. */
    uint64_t waited_us;     /* Of the one that waits longest for its first token. */
};

/*
 * Tokens of the next step. The largest batch whose steps keep to tpot_us, and all in flight with
 * the next to ttft_us. When prompts wait that this batch does not get done in time for ttft_us, it
 * grows as far as needed: the queue is not short. tokens_max with nothing promised or too little
 * known.
 */
uint32_t pace_dense(const struct pace *pace, const struct pace_target *target,
                    const struct pace_load *load);

#endif /* AGENT_PACE_H */
