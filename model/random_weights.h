/*
 * random_weights.h - a model's numbers out of a seed: of no use to anyone who reads the answers,
 * and of the right size to anyone who measures the machine.
 */
#ifndef MODEL_RANDOM_WEIGHTS_H
#define MODEL_RANDOM_WEIGHTS_H

#include <stdint.h>

/* A row of a matrix, [cols]: uniform with a variance of 1 / cols, so that products keep the size of
 * their input. A pure function of all arguments but out. */
void random_weights_row(uint64_t seed, uint32_t tensor, uint32_t row, uint32_t cols, float *out);

#endif /* MODEL_RANDOM_WEIGHTS_H */
