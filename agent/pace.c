/*
 * pace.c - see pace.h. Called by slo.c on the core's loop thread and by tests; owns nothing.
 * Invariant: no term is negative, so that a larger step is never predicted to be shorter.
 */
#include "agent/pace.h"

#include <math.h>

#include "base/limits.h"
#include "base/must.h"

enum { TERMS = PACE_TERMS };

static const double ridge = 1e-9; /* Of the largest product: decides where steps tell nothing. */

static uint32_t size_of(uint64_t tokens)
{
    must(tokens > 0 && tokens <= LIMIT_STEP_TOKENS_MAX);
    return 31 - (uint32_t)__builtin_clz((uint32_t)tokens);
}

/* Fits the terms that are not left out to the sums. False where the steps do not tell them apart.
 */
static bool solve(const struct pace_sums *sums, const bool *out, double *term)
{
    double row[TERMS][TERMS + 1];
    for (uint32_t i = 0; i < TERMS; i++) {
        for (uint32_t j = 0; j < TERMS; j++) {
            row[i][j] = out[i] || out[j] ? (double)(i == j) : sums->product[i][j];
        }
        row[i][i] *= 1 + ridge;
        row[i][TERMS] = out[i] ? 0 : sums->target[i];
    }
    for (uint32_t i = 0; i < TERMS; i++) { /* Positive definite: no pivoting. */
        if (row[i][i] <= 0) {
            return false;
        }
        for (uint32_t k = 0; k < TERMS; k++) {
            const double factor = k == i ? 0 : row[k][i] / row[i][i];
            for (uint32_t j = i; j <= TERMS; j++) {
                row[k][j] -= factor * row[i][j];
            }
        }
    }
    for (uint32_t i = 0; i < TERMS; i++) {
        term[i] = row[i][TERMS] / row[i][i];
    }
    return true;
}

/* A term that comes out negative costs nothing, and the others are fitted without it. */
static void fit(struct pace *pace)
{
    struct pace_sums sums = {{{0}}, {0}};
    bool out[TERMS] = {false};
    for (uint32_t s = 0; s < PACE_SIZES; s++) {
        for (uint32_t i = 0; i < TERMS; i++) {
            sums.target[i] += pace->size[s].target[i];
            for (uint32_t j = 0; j < TERMS; j++) {
                sums.product[i][j] += pace->size[s].product[i][j];
            }
        }
    }
    for (uint32_t i = 0; i < TERMS; i++) {
        out[i] = sums.product[i][i] <= 0;
    }
    for (uint32_t round = 0; round < TERMS; round++) {
        double term[TERMS];
        uint32_t least = 0;
        if (!solve(&sums, out, term)) {
            return;
        }
        for (uint32_t i = 1; i < TERMS; i++) {
            least = term[i] < term[least] ? i : least;
        }
        if (term[least] >= 0) {
            for (uint32_t i = 0; i < TERMS; i++) {
                pace->term[i] = term[i];
            }
            return;
        }
        out[least] = true;
    }
}

static void list_terms(const struct pace_step *step, double value[TERMS])
{
    value[0] = 1;
    value[1] = (double)step->tokens;
    value[2] = (double)step->answers_context;
    value[3] = (double)step->prompts_context;
}

void pace_learn(struct pace *pace, const struct pace_step *step, uint64_t step_us)
{
    struct pace_sums *sums = &pace->size[size_of(step->tokens)];
    const double fade = 1 - 1.0 / PACE_MEMORY;
    const double us = step_us > 0 ? (double)step_us : 1;
    double share[TERMS];
    list_terms(step, share);
    for (uint32_t i = 0; i < TERMS; i++) {
        share[i] /= us;
    }
    for (uint32_t i = 0; i < TERMS; i++) {
        for (uint32_t j = 0; j < TERMS; j++) {
            sums->product[i][j] = sums->product[i][j] * fade + share[i] * share[j];
        }
        sums->target[i] = sums->target[i] * fade + share[i];
    }
    pace->steps++;
    fit(pace);
}

double pace_step_us(const struct pace *pace, const struct pace_step *step)
{
    double value[TERMS];
    double us = 0;
    list_terms(step, value);
    for (uint32_t i = 0; i < TERMS && pace->steps >= PACE_ENOUGH; i++) {
        us += pace->term[i] * value[i];
    }
    return us;
}

uint64_t pace_context(uint64_t position, uint64_t tokens)
{
    return tokens * position + tokens * (tokens + 1) / 2;
}

/* What so many tokens of prompts look back at. The first one's are known; of the others a token
 * stands for the mean. */
static uint64_t prompts_context(const struct pace_load *load, uint64_t tokens)
{
    const uint64_t next = tokens < load->next_tokens ? tokens : load->next_tokens;
    const uint64_t others = tokens - next;
    const double mean =
        load->rest.tokens > 0 ? (double)load->rest.context / (double)load->rest.tokens : 0;
    return pace_context(load->next_position, next) + (uint64_t)((double)others * mean);
}

static struct pace_step step_of(const struct pace_load *load, uint32_t tokens)
{
    const uint64_t prompts = tokens > load->answer_rows ? tokens - load->answer_rows : 0;
    return (struct pace_step){.tokens = tokens,
                              .answers_context = load->answers_context,
                              .prompts_context = prompts_context(load, prompts)};
}

/* Whether batches of this size get all waiting prompts done in what is left of ttft_us. */
static bool in_time(const struct pace *pace, const struct pace_target *target,
                    const struct pace_load *load, uint32_t tokens)
{
    const uint64_t left_us =
        target->ttft_us > load->waited_us ? target->ttft_us - load->waited_us : 0;
    const uint64_t prompts = load->next_tokens + load->rest.tokens;
    const uint64_t a_step = tokens - load->answer_rows;
    const uint64_t steps = (prompts + a_step - 1) / a_step;
    const struct pace_step all = {
        .tokens = steps * load->answer_rows + prompts,
        .answers_context = steps * load->answers_context,
        .prompts_context = prompts_context(load, prompts),
    };
    const double fixed_us = pace->term[0] * ((double)steps - 1);
    return pace_step_us(pace, &all) + fixed_us <= (double)left_us;
}

/* The largest batch whose step is predicted to take no longer. */
static uint32_t largest(const struct pace *pace, const struct pace_load *load, double limit_us)
{
    uint32_t low = 0, high = load->tokens_max; /* low is short enough, or 0. */
    while (low < high) {
        const uint32_t tokens = high - (high - low) / 2;
        const struct pace_step step = step_of(load, tokens);
        if (pace_step_us(pace, &step) <= limit_us) {
            low = tokens;
        } else {
            high = tokens - 1;
        }
    }
    return low;
}

uint32_t pace_dense(const struct pace *pace, const struct pace_target *target,
                    const struct pace_load *load)
{
    const uint32_t least = load->answer_rows + PACE_CHUNK_MIN;
    double limit_us = INFINITY;
    if (target->tpot_us > 0) {
        limit_us = (double)target->tpot_us;
    }
    if (target->ttft_us > 0) {
        limit_us = fmin(limit_us, (double)target->ttft_us / (1 + target->steps_in_flight));
    }
    if (isinf(limit_us) || pace->steps < PACE_ENOUGH || least >= load->tokens_max) {
        return load->tokens_max;
    }
    uint32_t tokens = largest(pace, load, limit_us * PACE_MARGIN_PERCENT / 100);
    tokens = tokens > least ? tokens : least;
    while (target->ttft_us > 0 && tokens < load->tokens_max &&
           !in_time(pace, target, load, tokens)) {
        const uint32_t more = tokens + tokens / 4;
        tokens = more < load->tokens_max ? more : load->tokens_max;
    }
    return tokens;
}
