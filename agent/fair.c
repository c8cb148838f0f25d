/*
 * fair.c - see fair.h. Called by the scheduler on the core's loop thread and by tests; its memory
 * comes from the caller's arena. Invariant: a waiting request is in exactly one list, its tenant's
 * or that of the returned, and each list is in order.
 */
#include "agent/fair.h"

#include <assert.h>
#include <errno.h>

enum { FAIR_LEVELS = 256 }; /* Priorities, shifted: they take the low byte of an order. */

static_assert(LIMIT_PRIORITY_MAX < FAIR_LEVELS / 2, "a level fits its byte");

size_t fair_bytes(uint32_t requests_max)
{
    return requests_max * sizeof(struct fair_node) +
           LIMIT_TENANTS_MAX * sizeof(struct fair_tenant) + 2 * (size_t)64;
}

int fair_open(struct fair *fair, struct arena *arena, uint32_t requests_max)
{
    *fair = (struct fair){.returned = {FAIR_NONE, FAIR_NONE}};
    fair->node = arena_alloc(arena, requests_max, sizeof fair->node[0]);
    fair->tenant = arena_alloc(arena, LIMIT_TENANTS_MAX, sizeof fair->tenant[0]);
    if (!fair->node || !fair->tenant) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < LIMIT_TENANTS_MAX; i++) {
        fair->tenant[i].waiting = (struct fair_list){FAIR_NONE, FAIR_NONE};
    }
    return 0;
}

uint64_t fair_order(uint64_t arrival, int32_t priority)
{
    must(priority >= -LIMIT_PRIORITY_MAX && priority <= LIMIT_PRIORITY_MAX);
    const uint64_t level = (uint64_t)((int64_t)priority + FAIR_LEVELS / 2);
    return (arrival + level * FAIR_LEVEL_ARRIVALS) * FAIR_LEVELS + level;
}

uint64_t fair_arrival(uint64_t order)
{
    return order / FAIR_LEVELS - order % FAIR_LEVELS * FAIR_LEVEL_ARRIVALS;
}

/* Returns are older than most and are looked for from the front, newcomers are younger. */
static void insert(struct fair *fair, struct fair_list *list, uint32_t request, bool from_front)
{
    struct fair_node *node = &fair->node[request];
    uint32_t before = list->last;
    uint32_t after = FAIR_NONE;
    if (from_front) {
        after = list->first;
        while (after != FAIR_NONE && fair->node[after].order < node->order) {
            after = fair->node[after].after;
        }
        before = after == FAIR_NONE ? list->last : fair->node[after].before;
    }
    while (before != FAIR_NONE && fair->node[before].order > node->order) {
        after = before;
        before = fair->node[before].before;
    }
    node->before = before;
    node->after = after;
    *(before == FAIR_NONE ? &list->first : &fair->node[before].after) = request;
    *(after == FAIR_NONE ? &list->last : &fair->node[after].before) = request;
    fair->waiting_count++;
}

/* The waiting tenant that was charged least; of equals, the one whose first is the older. */
static uint32_t least_charged(const struct fair *fair)
{
    uint32_t best = FAIR_NONE;
    for (uint32_t i = 0; i < LIMIT_TENANTS_MAX; i++) {
        const struct fair_tenant *tenant = &fair->tenant[i];
        const struct fair_tenant *least = &fair->tenant[best == FAIR_NONE ? i : best];
        if (tenant->waiting.first == FAIR_NONE) {
            continue;
        }
        const bool older =
            fair->node[tenant->waiting.first].order < fair->node[least->waiting.first].order;
        if (best == FAIR_NONE || tenant->charged < least->charged ||
            (tenant->charged == least->charged && older)) {
            best = i;
        }
    }
    return best;
}

/* The place of a tenant: its own, or that of the idle one that was charged least, or, when all have
 * live requests, one that it shares. */
static uint32_t place_of(struct fair *fair, uint64_t key)
{
    uint32_t idle = FAIR_NONE;
    for (uint32_t i = 0; i < LIMIT_TENANTS_MAX; i++) {
        const struct fair_tenant *tenant = &fair->tenant[i];
        const bool used = tenant->live > 0 || tenant->charged > 0;
        if (used && tenant->key == key) {
            return i;
        }
        if (tenant->live == 0 &&
            (idle == FAIR_NONE || tenant->charged < fair->tenant[idle].charged)) {
            idle = i;
        }
    }
    if (idle == FAIR_NONE) {
        return (uint32_t)(key % LIMIT_TENANTS_MAX);
    }
    fair->tenant[idle].key = key;
    fair->tenant[idle].charged = 0;
    return idle;
}

void fair_join(struct fair *fair, uint32_t request, uint64_t tenant, uint64_t order)
{
    const uint32_t least = least_charged(fair);
    /* Read before a place is given away: it may be the one that was served last. */
    const uint64_t floor = fair->tenant[least == FAIR_NONE ? fair->served : least].charged;
    const uint32_t place = place_of(fair, tenant);
    struct fair_tenant *own = &fair->tenant[place];
    if (own->waiting.first == FAIR_NONE) {
        own->charged = own->charged > floor ? own->charged : floor;
    }
    own->live++;
    fair->node[request] = (struct fair_node){.order = order, .tenant = place};
    insert(fair, &own->waiting, request, false);
}

void fair_return(struct fair *fair, uint32_t request)
{
    fair->node[request].returned = true;
    insert(fair, &fair->returned, request, true);
}

uint32_t fair_first(const struct fair *fair)
{
    if (fair->returned.first != FAIR_NONE) {
        return fair->returned.first;
    }
    const uint32_t tenant = least_charged(fair);
    return tenant == FAIR_NONE ? FAIR_NONE : fair->tenant[tenant].waiting.first;
}

void fair_take(struct fair *fair, uint32_t request)
{
    const struct fair_node *node = &fair->node[request];
    struct fair_list *list = node->returned ? &fair->returned : &fair->tenant[node->tenant].waiting;
    *(node->before == FAIR_NONE ? &list->first : &fair->node[node->before].after) = node->after;
    *(node->after == FAIR_NONE ? &list->last : &fair->node[node->after].before) = node->before;
    fair->waiting_count--;
    fair->served = node->tenant;
}

void fair_leave(struct fair *fair, uint32_t request)
{
    struct fair_tenant *tenant = &fair->tenant[fair->node[request].tenant];
    must(tenant->live > 0);
    tenant->live--;
}

void fair_charge(struct fair *fair, uint32_t request, uint64_t tokens)
{
    fair->tenant[fair->node[request].tenant].charged += tokens;
}

static uint32_t verify_list(const struct fair *fair, const struct fair_list *list)
{
    uint32_t count = 0;
    uint32_t before = FAIR_NONE;
    for (uint32_t i = list->first; i != FAIR_NONE; i = fair->node[i].after) {
        must(fair->node[i].before == before);
        must(before == FAIR_NONE || fair->node[before].order < fair->node[i].order);
        must(fair->node[i].returned == (list == &fair->returned));
        before = i;
        count++;
    }
    must(list->last == before);
    return count;
}

void fair_verify(const struct fair *fair)
{
    uint32_t waiting = verify_list(fair, &fair->returned);
    for (uint32_t i = 0; i < LIMIT_TENANTS_MAX; i++) {
        const uint32_t own = verify_list(fair, &fair->tenant[i].waiting);
        must(fair->tenant[i].live >= own);
        waiting += own;
    }
    must(waiting == fair->waiting_count);
}
