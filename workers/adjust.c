/*
 * adjust.c - see adjust.h. Called by sample.c on any thread of the crew, with that thread's work
 * memory; owns nothing. The cost is two walks over the tokens that count and, with a list of
 * allowed ids, one over the vocabulary. Invariant: the result depends on the request and its tokens
 * alone, so that a replay adjusts alike.
 */
#include "workers/adjust.h"

#include <math.h>

/* Top bit of a count: the id is in the prompt. */
static const uint32_t in_prompt = 1u << 31;

static float bounded(float logit)
{
    return fminf(fmaxf(logit, -1e30f), 1e30f);
}

static float penalised(const struct adjust *adjust, float logit, uint32_t count)
{
    const uint32_t generated = count & ~in_prompt;
    float value = logit;
    if (adjust->repetition != 1.0f) {
        value = value > 0 ? value / adjust->repetition : value * adjust->repetition;
    }
    if (generated > 0) {
        value -= adjust->frequency * (float)generated;
        value -= adjust->presence;
    }
    return bounded(value);
}

/* Counts each id, then changes it where it comes first and clears its count. */
static void penalise(const struct adjust *adjust, const struct adjust_past *past, uint32_t *counts,
                     float *logits)
{
    const bool generated = adjust->presence != 0 || adjust->frequency != 0;
    if (adjust->repetition == 1.0f && !generated) {
        return;
    }
    const uint32_t first = adjust->repetition == 1.0f ? adjust->prompt_tokens : 0;
    for (uint32_t at = first; at < past->tokens; at++) {
        uint32_t *count = &counts[history_id(past->history, past->pages, at)];
        *count = at < adjust->prompt_tokens ? *count | in_prompt : *count + 1;
    }
    for (uint32_t at = first; at < past->tokens; at++) {
        const uint32_t id = history_id(past->history, past->pages, at);
        if (counts[id] > 0) {
            logits[id] = penalised(adjust, logits[id], counts[id]);
            counts[id] = 0;
        }
    }
}

/* Keeps the logits of the allowed ids. counts marks them meanwhile. */
static void restrict_to(const struct adjust *adjust, uint32_t *counts, float *logits,
                        uint32_t vocab)
{
    for (uint32_t i = 0; i < adjust->allowed_count; i++) {
        counts[adjust->allowed[i]] = 1;
    }
    for (uint32_t id = 0; id < vocab; id++) {
        logits[id] = counts[id] > 0 ? logits[id] : -INFINITY;
    }
    for (uint32_t i = 0; i < adjust->allowed_count; i++) {
        counts[adjust->allowed[i]] = 0;
    }
}

void adjust_apply(const struct adjust *adjust, const struct adjust_past *past, uint32_t *counts,
                  float *logits, uint32_t vocab)
{
    penalise(adjust, past, counts, logits);
    for (uint32_t i = 0; i < adjust->bias_count; i++) {
        logits[adjust->biases[i].id] += adjust->biases[i].bias;
    }
    if (adjust->allowed_count > 0) {
        restrict_to(adjust, counts, logits, vocab);
    }
}
