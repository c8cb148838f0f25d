/*
 * placement.h - which group serves which request. Pure, like the schedulers it stands over: one a
 * group, each with its own pages and its own step in flight.
 *
 * A request goes to the group with the fewest live requests, among equals to the one with the most
 * free pages; the answers to one prompt go to one group, whose pages they share. Only requests that
 * wait may change their group: a group that is about to form a step and has slots to spare takes
 * over from one that has two live requests more, and the least loaded ready group takes over from
 * one that is not ready. So what a dead worker leaves goes on elsewhere, in its old order.
 */
#ifndef AGENT_PLACEMENT_H
#define AGENT_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/sched.h"
#include "base/arena.h"
#include "base/must.h"

struct placement {
    struct sched *sched; /* [count] one a group */
    bool *ready;         /* [count] */
    uint8_t *group;      /* [requests_max] of a request that has one */
    uint32_t count;
    uint64_t next_order; /* Age over all groups. */
    uint64_t moves;
};

struct placement_total { /* Sums over the groups. */
    uint32_t running;
    uint32_t waiting;
    uint64_t waiting_tokens;
    uint64_t preemptions;
    uint64_t recomputed_tokens;
    uint64_t shared_tokens;
    uint64_t predictions;
    uint64_t predictions_short;
    uint64_t pages;
    uint64_t pages_free;
};

/* options are those of every group. */
int placement_open(struct placement *placement, struct arena *arena,
                   const struct sched_options *options, uint32_t count) MUST_CHECK;
size_t placement_bytes(const struct sched_options *options, uint32_t count);

/* True when a request of so many tokens in all could ever run. */
bool placement_fits(const struct placement *placement, uint64_t tokens);

/* As sched_add(), in the group that `near` is in, or with SCHED_NONE in the least loaded one. */
void placement_add(struct placement *placement, uint32_t request, uint32_t near,
                   const uint32_t *ids, uint32_t tokens, const struct sched_terms *terms);

/* The scheduler that has the request. */
struct sched *placement_sched(const struct placement *placement, uint32_t request);

void placement_remove(struct placement *placement, uint32_t request);
void placement_end(struct placement *placement, uint32_t request); /* As sched_end(). */

void placement_set_ready(struct placement *placement, uint32_t group);

/* The group's worker is gone: as sched_reset(), and its requests may go on elsewhere. */
void placement_lose(struct placement *placement, uint32_t group);

/* As sched_form(), after the group has taken over what it should. */
bool placement_form(struct placement *placement, uint32_t group, struct sched_step *step);

struct placement_total placement_total(const struct placement *placement);

#endif /* AGENT_PLACEMENT_H */
