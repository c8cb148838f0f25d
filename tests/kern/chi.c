/*
 * chi.c - see chi.h. Runs in the processes of sample_chi_test.c and check_cuda.c; owns nothing.
 */
#include "tests/kern/chi.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

const float chi_logits[CHI_VOCAB] = {0.3f,  2.1f, -1.0f, 1.4f, 0.0f,  2.6f,
                                     -2.5f, 0.9f, 1.4f,  0.9f, -0.4f, 1.7f};

/* Rank of an id among all, larger logits and smaller ids first. */
static uint32_t rank_of(uint32_t id)
{
    uint32_t rank = 0;
    for (uint32_t i = 0; i < CHI_VOCAB; i++) {
        rank += chi_logits[i] > chi_logits[id] || (chi_logits[i] == chi_logits[id] && i < id);
    }
    return rank;
}

void chi_distribution(const struct sample_params *params, double *p)
{
    uint32_t by_rank[CHI_VOCAB];
    double kept = 0;
    double sum = 0;
    for (uint32_t id = 0; id < CHI_VOCAB; id++) {
        by_rank[rank_of(id)] = id;
    }
    for (uint32_t rank = 0; rank < CHI_VOCAB; rank++) {
        const uint32_t id = by_rank[rank];
        const double best = (double)chi_logits[by_rank[0]];
        p[id] = exp(((double)chi_logits[id] - best) / (double)params->temperature);
        if (p[id] < (double)params->min_p || (params->top_k > 0 && rank >= params->top_k)) {
            p[id] = 0;
        }
        sum += p[id];
    }
    for (uint32_t rank = 0; rank < CHI_VOCAB; rank++) {
        const double share = p[by_rank[rank]];
        p[by_rank[rank]] = kept >= (double)params->top_p * sum ? 0 : share;
        kept += share;
    }
    sum = 0;
    for (uint32_t id = 0; id < CHI_VOCAB; id++) {
        sum += p[id];
    }
    for (uint32_t id = 0; id < CHI_VOCAB; id++) {
        p[id] /= sum;
    }
}

double chi_surprise(const uint32_t *seen, const double *p, uint32_t draws)
{
    double statistic = 0;
    double freedom = -1;
    for (uint32_t id = 0; id < CHI_VOCAB; id++) {
        const double expected = p[id] * draws;
        if (p[id] == 0) {
            statistic += seen[id] > 0 ? (double)INFINITY : 0;
            continue;
        }
        assert_true(expected >= 5); /* The statistic needs it. */
        statistic += ((double)seen[id] - expected) * ((double)seen[id] - expected) / expected;
        freedom++;
    }
    const double spread = 2 / (9 * freedom);
    return statistic / (freedom * pow(1 - spread + 3.0902 * sqrt(spread), 3));
}
