/*
 * sample.h - one row of logits to one token id, with logprobs. Pure: the random number is a
 * function of (seed, position), so a replay or another batch draws the same token.
 *
 * Order: penalties, biases, allowed ids (adjust.h), min_tokens mask, temperature, min_p, top_k,
 * top_p. Logprobs are of the raw logits. Among equal logits the smallest id comes first,
 * everywhere.
 */
#ifndef WORKERS_SAMPLE_H
#define WORKERS_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "ipc/record.h"
#include "kernels/kern.h"
#include "workers/adjust.h"

enum {
    SAMPLE_STOP_IDS_MAX = LIMIT_STOP_IDS_MAX + LIMIT_EOS_IDS_MAX,
    SAMPLE_LOGPROBS_MAX = 1 + LIMIT_TOP_LOGPROBS_MAX,
};

struct sample_params {
    uint64_t seed;
    float temperature; /* 0: greedy. */
    float top_p;       /* 1: off. */
    float min_p;       /* 0: off. */
    uint32_t top_k;    /* 0: off. */
    uint32_t top_logprobs;
    bool logprobs;
    uint32_t min_position; /* Of the sampled token: below it the stop ids are masked. */
    uint32_t stop_id_count;
    uint32_t stop_ids[SAMPLE_STOP_IDS_MAX]; /* Checked against the vocabulary. */
    uint32_t score_top;                     /* Top logprobs of sample_score(). */
    struct adjust adjust;
};

struct sample_row {
    const float *logits; /* [vocab] */
    uint32_t vocab;
    uint32_t position; /* Of the token to be sampled. */
    const struct sample_params *params;
    struct adjust_past past; /* Its tokens so far; read when the adjust is active. */
    const struct kern_ops *ops;
    void *work; /* sample_work_bytes(vocab) of the calling thread, zero before its first row. */
};

struct sample_result {
    uint32_t id;
    bool invalid;           /* The row has a NaN or an infinity; nothing else is set. */
    uint32_t logprob_count; /* 0, or the chosen one first and then the top ones. */
    struct record_logprob logprobs[SAMPLE_LOGPROBS_MAX];
};

size_t sample_work_bytes(uint32_t vocab);

/* How far below the best a logit may lie to be a candidate: min_p says it, since p >= min_p *
 * p(max) is a bound on the logit. */
float sample_reach(const struct sample_params *params);

void sample_run(const struct sample_row *row, struct sample_result *result);

/* How likely the row makes this id, and its top ones: result->id is id, its logprobs are listed. */
void sample_score(const struct sample_row *row, uint32_t id, struct sample_result *result);

#endif /* WORKERS_SAMPLE_H */
