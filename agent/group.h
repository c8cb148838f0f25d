/*
 * group.h - the workers that run one scheduler's steps together: the ranks of a tensor-parallel
 * group, or a single worker. Each gets the same records; a step has happened when all ranks have
 * answered it, and what a rank's death costs is the group's epoch.
 */
#ifndef AGENT_GROUP_H
#define AGENT_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/device.h"
#include "agent/pace.h"
#include "agent/sched.h"
#include "base/arena.h"
#include "base/must.h"

struct group {
    uint32_t index;
    struct device *ranks; /* [rank_count], borrowed */
    uint32_t rank_count;
    uint32_t epoch;                            /* Of its links. */
    struct sched_step steps[FLIGHT_STEPS_MAX]; /* By number: its scheduler knows which. */
    uint32_t plan_row[FLIGHT_STEPS_MAX];       /* Likewise: what they run by (plans.h), */
    struct pace_step work[FLIGHT_STEPS_MAX];   /* and what they compute. */
    uint64_t linked_us;
    uint64_t since_us; /* The oldest step in flight could run from then on. */
    uint64_t moved_us; /* When the ranks were last found to have got on, */
    uint32_t progress; /* and how far that was, in sum. */
    uint64_t answered; /* Steps. */
    struct pace pace;  /* What those took. */
};

int group_open(struct group *group, struct arena *arena, uint32_t slots_max) MUST_CHECK;
size_t group_bytes(uint32_t slots_max);

/* Where its scheduler forms the next step. */
struct sched_step *group_next(struct group *group, const struct sched *sched);

/* The oldest step in flight, or NULL. */
const struct sched_step *group_oldest(const struct group *group, const struct sched *sched);

bool group_ready(const struct group *group);

/* Once every rank has made its offer, hands each on to the others. 0, or -errno: fence the group.
 */
int group_pair(struct group *group) MUST_CHECK;

/* Sends the step that was formed last to every rank. 0, or -errno: fence the group. */
int group_send(struct group *group, const struct sched *sched, const struct sched_step *step,
               const struct requests *requests) MUST_CHECK;

/* What the step was told to run by: a row of the plans. */
uint32_t group_plan_row(const struct group *group, const struct sched_step *step);

/* True when every rank has answered the step. */
bool group_answered(const struct group *group, const struct sched_step *step);

/* Notes what the step computes, for the two below: it has thousands of rows and they are asked
 * often. Part of group_send(). */
void group_count(struct group *group, const struct sched_step *step);

/* The step was answered, after so long. */
void group_learn(struct group *group, const struct sched_step *step, uint64_t compute_us);

/* When a step in flight ends, as far as earlier ones tell; 0 while they tell too little. */
uint64_t group_end_us(const struct group *group, const struct sched_step *step);

/* Whether the oldest step in flight has got no further for so long. To be asked every turn. */
bool group_hangs(struct group *group, uint64_t now_us, uint64_t timeout_us);

/* True for a rank that keeps its group from being ready: none is further behind. */
bool group_waits_for(const struct group *group, uint32_t rank);

/* Ends the links of all ranks. The workers themselves are the supervisor's. */
void group_fence(struct group *group);

#endif /* AGENT_GROUP_H */
