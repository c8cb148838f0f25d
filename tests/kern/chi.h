/*
 * chi.h - how surprising the drawn ids of a sampler are, by Pearson's chi-square on a fixed vector
 * of logits, for the tests of the CPU's sampler and of the device's.
 */
#ifndef TESTS_KERN_CHI_H
#define TESTS_KERN_CHI_H

#include <stdint.h>

#include "workers/sample.h"

enum { CHI_VOCAB = 12 };

/* Two of them are equal, at the border of top_k = 5. */
extern const float chi_logits[CHI_VOCAB];

/* p by definition: softmax(l / T), min_p, top_k, top_p, each over what the one before left. */
void chi_distribution(const struct sample_params *params, double *p);

/* Pearson's statistic over its 99.9 % point (Wilson and Hilferty, 1931): above 1 the draws are not
 * of this distribution. An id of probability 0 that was drawn makes it infinite. */
double chi_surprise(const uint32_t *seen, const double *p, uint32_t draws);

#endif /* TESTS_KERN_CHI_H */
