/*
 * pace.h - how long a step takes, learnt from those that ended, and the dense batch that keeps to
 * what was promised for it. Pure.
 *
 *   step_us = fixed + token x tokens + read x answers_context + look x prompts_context
 *
 * where answers_context counts, over the step's rows of one token, the tokens that each looks back
 * at: memory is read for each of them alone. prompts_context counts the same over the tokens of
 * prompts, which share what is read and pay for the products instead. The four
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

enum { PACE_TERMS = 4 };

struct pace_sums { /* Of one size: weighted products of what the terms multiply, over step_us. */
    double product[PACE_TERMS][PACE_TERMS];
    double target[PACE_TERMS];
};

struct pace {
    struct pace_sums size[PACE_SIZES];
    double term[PACE_TERMS]; /* The fit: fixed, token, read, look, in microseconds. */
    uint64_t steps;
};

struct pace_step { /* What a step computes. */
    uint64_t tokens;
    uint64_t answers_context; /* Over rows of one token, */
    uint64_t prompts_context; /* over tokens of longer ones: what they look back at. */
};

void pace_learn(struct pace *pace, const struct pace_step *step, uint64_t step_us);

/* 0 while too little is known. */
double pace_step_us(const struct pace *pace, const struct pace_step *step);

/* What so many tokens of a sequence look back at, in sum, when they begin at this position. */
uint64_t pace_context(uint64_t position, uint64_t tokens);

struct pace_target { /* 0: not promised. */
    uint64_t ttft_us;
    uint64_t tpot_us;
    uint32_t steps_in_flight; /* Who comes now waits for so many, and is computed in the next. */
};

struct pace_prompt { /* Tokens to be computed, and what they look back at. */
    uint64_t tokens;
    uint64_t context;
};

struct pace_load {
    uint32_t tokens_max;
    uint32_t answer_rows;     /* Requests whose next token the step computes in any case, */
    uint64_t answers_context; /* and what those look back at. */
    uint64_t next_position;   /* Of the prompt that goes on first: where, */
    uint64_t next_tokens;     /* and how many of it are left. */
    struct pace_prompt rest;  /* Of the others that run or wait. */
    uint64_t waited_us;       /* Of the one that waits longest for its first token. */
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
