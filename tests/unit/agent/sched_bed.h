/*
 * sched_bed.h - a scheduler of eight requests and pages of 4 tokens, for tests of its rules one at
 * a time: opened, stepped with sched_verify() around each step, its rows looked at.
 */
#ifndef TESTS_UNIT_AGENT_SCHED_BED_H
#define TESTS_UNIT_AGENT_SCHED_BED_H

#include <stdint.h>

#include "agent/sched.h"

enum { REQUESTS = 8 };

struct bench {
    struct arena arena;
    struct sched sched;
    struct sched_step step;
};

/* Its requests and page_tokens are the bed's. arena_close() ends it. */
struct sched *bench_open(struct bench *bench, const struct sched_options *options);

void step(struct bench *bench);
void assert_row(const struct bench *bench, uint32_t index, uint32_t request, uint32_t position,
                uint32_t tokens);

#endif /* TESTS_UNIT_AGENT_SCHED_BED_H */
