/*
 * adjust.h - what a request changes in the logits before it samples, in this order:
 *
 *   repetition   l > 0 ? l / r : l * r    ids of the prompt and of what was generated (CTRL, Keskar
 *                                         et al., 2019, with the division that HF and vLLM make)
 *   frequency    l - f * count            ids generated so far, and how often (OpenAI's API)
 *   presence     l - p                    ids generated so far
 *   biases       l + b                    ids listed; -INFINITY takes an id out
 *   allowed      -INFINITY                ids not listed, where any are
 */
#ifndef WORKERS_ADJUST_H
#define WORKERS_ADJUST_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/record.h"
#include "workers/history.h"

struct adjust {
    bool active;            /* The rest means something. */
    uint32_t prompt_tokens; /* Positions below are the prompt's. */
    float repetition;
    float presence;
    float frequency;
    uint32_t bias_count;
    uint32_t allowed_count;
    struct record_bias *biases; /* [RECORD_BIASES_MAX] ids checked against the vocabulary */
    uint32_t *allowed;          /* [LIMIT_ALLOWED_IDS_MAX] likewise; none: all are. */
};

struct adjust_past { /* Positions [0, tokens) of a sequence. */
    const struct history *history;
    const uint32_t *pages;
    uint32_t tokens;
};

/* counts: [vocab], all zero before and after. A logit that leaves +-1e30 is set there, so that no
 * infinity comes up but for ids that are out. */
void adjust_apply(const struct adjust *adjust, const struct adjust_past *past, uint32_t *counts,
                  float *logits, uint32_t vocab);

#endif /* WORKERS_ADJUST_H */
