/*
 * fair.h - who waits, and who is next. Pure, part of the scheduler and called by it alone.
 *
 * Tenants share the device by virtual token counters (VTC: Sheng et al., "Fairness in Serving Large
 * Language Models", OSDI 2024): each is charged a unit for a token of a prompt, when the request
 * enters, and FAIR_ANSWER_COST for one of an answer, when it is there. Next is the first request of
 * the waiting tenant that was charged least. A tenant that comes to wait is lifted to the least of
 * those that wait: idling saves nothing up. Of two tenants that both always have something waiting
 * one gets ahead of the other by at most its longest prompt and FAIR_ANSWER_COST times the answers
 * of all slots: what those cost that entered while it was the least charged.
 *
 * Within a tenant the lower priority goes first, and age makes up for it: a level counts as much as
 * FAIR_LEVEL_ARRIVALS later arrivals. So a request is overtaken by at most that many later ones of
 * its tenant for each level between them: that is the bound on starvation, with the one above.
 *
 * Who has run already and lost its pages goes before all others, oldest first: it was charged, and
 * somebody reads its answer.
 */
#ifndef AGENT_FAIR_H
#define AGENT_FAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/must.h"

enum {
    FAIR_ANSWER_COST = 2,     /* As in the paper: what a token of an answer costs to the device. */
    FAIR_LEVEL_ARRIVALS = 64, /* About a second's worth on a busy node. */
};

#define FAIR_NONE UINT32_MAX

struct fair_node { /* A live request. */
    uint64_t order;
    uint32_t tenant; /* Its place in the table. */
    uint32_t before; /* Neighbours in its list, while it waits. */
    uint32_t after;
    bool returned; /* It has run. */
};

struct fair_list { /* By order. */
    uint32_t first;
    uint32_t last;
};

struct fair_tenant {
    uint64_t key;     /* Of the tenant that had the place last. */
    uint64_t charged; /* Virtual tokens. */
    uint32_t live;    /* Requests, waiting or not. */
    struct fair_list waiting;
};

struct fair {
    struct fair_node *node; /* [requests_max] */
    struct fair_list returned;
    struct fair_tenant *tenant; /* [LIMIT_TENANTS_MAX] */
    uint32_t served;            /* The tenant whose request left the queue last. */
    uint32_t waiting_count;
};

int fair_open(struct fair *fair, struct arena *arena, uint32_t requests_max) MUST_CHECK;
size_t fair_bytes(uint32_t requests_max);

/* Age and priority in one number, unique for each arrival: smaller goes first. */
uint64_t fair_order(uint64_t arrival, int32_t priority);
uint64_t fair_arrival(uint64_t order);

/* A new request begins to wait. tenant: any number that is the same for all of a tenant's. More
 * than LIMIT_TENANTS_MAX tenants with live requests share places. */
void fair_join(struct fair *fair, uint32_t request, uint64_t tenant, uint64_t order);

/* One that has run waits again. */
void fair_return(struct fair *fair, uint32_t request);

/* The next request, which goes on waiting, or FAIR_NONE. */
uint32_t fair_first(const struct fair *fair);

/* The request waits no longer. */
void fair_take(struct fair *fair, uint32_t request);

/* The request is no more; it does not wait. */
void fair_leave(struct fair *fair, uint32_t request);

/* Its tenant has had so many virtual tokens. */
void fair_charge(struct fair *fair, uint32_t request, uint64_t tokens);

/* must()s the invariants, for tests. */
void fair_verify(const struct fair *fair);

#endif /* AGENT_FAIR_H */
