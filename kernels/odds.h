/* odds.h - the odds of a row's candidates, as integers (choice.h). Part of the table in kern.h. */
#ifndef KERNELS_ODDS_H
#define KERNELS_ODDS_H

#include <stdint.h>

/* odds[i] = choice_odds((values[i] - max) * coldness). Every spelling gives the same bits. */
struct kern_odds_args {
    const float *values; /* [count], at most max each */
    uint64_t *odds;      /* [count] */
    float max;
    float coldness; /* choice_coldness(): 1 / temperature. */
    uint32_t count;
};

#endif /* KERNELS_ODDS_H */
