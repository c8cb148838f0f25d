/*
 * stats.h - the numbers that STATS tells: of the agent as a whole, then of each worker and group.
 */
#ifndef AGENT_STATS_H
#define AGENT_STATS_H

#include <stdint.h>

#include "base/limits.h"
#include "wire/message.h"

struct core;

enum {
    STATS_OF_AGENT = 32,
    STATS_OF_WORKER = 1,
    STATS_OF_GROUP = 5,
    STATS_MAX = STATS_OF_AGENT + LIMIT_WORKERS_MAX * (STATS_OF_WORKER + STATS_OF_GROUP),
    STATS_NAME_BYTES_MAX = 48,
};

struct stats {
    struct wire_stat stat[STATS_MAX];
    char name[STATS_MAX][STATS_NAME_BYTES_MAX]; /* Of those with a number in it. */
    uint32_t count;
};

/* Fills core->stats. */
void stats_fill(struct core *core);

#endif /* AGENT_STATS_H */
