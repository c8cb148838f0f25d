/*
 * arrivals.h - when the requests of a benchmark without a trace arrive: the gaps between them are
 * independent draws of a gamma distribution, as `vllm bench serve` has it.
 */
#ifndef TOOLS_ARRIVALS_H
#define TOOLS_ARRIVALS_H

#include <stdint.h>

struct arrivals {
    double rate;       /* Requests a second; infinite: all at once. */
    double burstiness; /* Shape of the gaps. 1: Poisson; below: in bursts; above: more even. */
    uint64_t seed;
};

/* Seconds between the arrivals of requests index and index + 1. Mean 1 / rate, coefficient of
 * variation 1 / sqrt(burstiness). A function of its arguments alone. */
double arrivals_gap_s(const struct arrivals *arrivals, uint32_t index);

#endif /* TOOLS_ARRIVALS_H */
