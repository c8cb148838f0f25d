/*
 * outlook.h - whether the queue's first may enter, by what the running requests are going to need.
 * Part of the scheduler and as pure: called by sched.c and enter.c alone.
 *
 * A request is predicted to end where `forecast_percent` of the answers that got as far as its own
 * have ended (lengths.h): of its tenant's when there are enough, else of all; never later than its
 * max_tokens. One that goes on beyond that is predicted anew. Nobody enters whose pages would let
 * the predicted peak (forecast.h) exceed the pool. Until enough answers are known, and with a
 * percentage of 0, the pages of the known tokens decide alone. A prediction that falls short costs
 * time, never an answer: the youngest yields.
 */
#ifndef AGENT_OUTLOOK_H
#define AGENT_OUTLOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/forecast.h"
#include "agent/lengths.h"
#include "base/arena.h"
#include "base/must.h"

struct sched;

struct outlook {
    struct forecast *forecast; /* Of the running requests, in the step being formed. */
    struct lengths *all;
    struct lengths *tenant;     /* [LIMIT_TENANTS_MAX] by the places of fair.h */
    uint64_t *key;              /* [LIMIT_TENANTS_MAX] whose the lengths are */
    uint64_t predictions;       /* Answers that ended by themselves and had been predicted. */
    uint64_t predictions_short; /* Of them, longer than predicted at first. */
};

int outlook_open(struct outlook *outlook, struct arena *arena) MUST_CHECK;
size_t outlook_bytes(void);

/* Before requests enter in a step: looks at those that run. */
void outlook_begin(struct sched *sched);

/* Whether a request may enter that will own so many of its known tokens; counts it as running. */
bool outlook_admits(struct sched *sched, uint32_t request, uint32_t own_tokens);

/* An answer is over: by itself, or cut by max_tokens or its client. */
void outlook_learn(struct sched *sched, uint32_t request, bool cut);

#endif /* AGENT_OUTLOOK_H */
