/*
 * arrivals.c - gamma draws from the counter-based generator. Called by sluice-bench before a run;
 * no state. The method is Marsaglia and Tsang's, "A simple method for generating gamma variables"
 * (ACM TOMS 26, 2000): a cubed normal is accepted in more than 95 % of tries.
 */
#include "tools/arrivals.h"

#include <math.h>
#include <stdbool.h>

#include "base/must.h"
#include "base/prng.h"

enum { STREAM = 2, TRIES_MAX = 1000 }; /* 1,000 refusals in a row: below 1e-1300. */

/* The draws of one gap. */
struct source {
    uint64_t seed;
    uint64_t position;
    uint32_t draw;
};

/* In (0, 1), 53 bits: a logarithm of it is finite. */
static double draw_uniform(struct source *source)
{
    const uint64_t bits = prng_bits(source->seed, source->position, source->draw++) >> 11;

    return ((double)bits + 0.5) * 0x1p-53;
}

/* Box and Muller's; the second normal of the pair is not worth keeping. */
static double draw_normal(struct source *source)
{
    static const double turn = 6.283185307179586;
    const double radius = sqrt(-2 * log(draw_uniform(source)));

    return radius * cos(turn * draw_uniform(source));
}

/* Shape of at least 1, scale 1. */
static double draw_gamma(struct source *source, double shape)
{
    const double d = shape - 1.0 / 3;
    const double c = 1 / sqrt(9 * d);

    for (int i = 0; i < TRIES_MAX; i++) {
        const double normal = draw_normal(source);
        const double root = 1 + c * normal;
        const double cube = root * root * root;
        if (root > 0 &&
            log(draw_uniform(source)) < normal * normal / 2 + d - d * cube + d * log(cube)) {
            return d * cube;
        }
    }
    must(false);
    return 0;
}

double arrivals_gap_s(const struct arrivals *arrivals, uint32_t index)
{
    struct source source = {prng_bits(arrivals->seed, 0, STREAM), index, 0};
    const double shape = arrivals->burstiness;
    double gap;

    if (isinf(arrivals->rate)) {
        return 0;
    }
    if (shape == 1) {
        gap = -log(draw_uniform(&source));
    } else if (shape > 1) {
        gap = draw_gamma(&source, shape);
    } else { /* A draw of shape + 1, shrunk: section 6 of the paper. */
        gap = draw_gamma(&source, shape + 1) * pow(draw_uniform(&source), 1 / shape);
    }
    return gap / (arrivals->rate * shape);
}
