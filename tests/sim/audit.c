/*
 * audit.c - see audit.h. Called by world.c once a turn; owns what it remembers from one turn to the
 * next. Invariant: it changes nothing of the core.
 */
#include "tests/sim/audit.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/crowd.h"
#include "tests/sim/fleet.h"

enum {
    REQUESTS_MAX = 64,
    /* Tokens of one request that come in one turn, and that are formed before its reader is seen.
     */
    UNDER_WAY_MAX = 2 * FLIGHT_STEPS_MAX,
};

struct audit_request { /* A place of the core's table. */
    uint32_t generation;
    uint32_t answer_tokens; /* Seen so far, and right. */
    uint64_t since_steps;   /* Steps of all groups when it became ACTIVE, */
    uint64_t since_turn;    /* and the turn. */
    bool active;
    bool entered; /* It has run. */
};

struct audit_group { /* The oldest that runs. */
    uint64_t order;
    uint32_t computed;
    uint64_t since_steps; /* Of the group, when it last went on or was held. */
};

struct audit {
    struct audit_request request[REQUESTS_MAX];
    struct audit_group group[LIMIT_WORKERS_MAX];
};

struct audit *audit_open(void)
{
    struct audit *audit = calloc(1, sizeof *audit);
    must(audit);
    return audit;
}

void audit_close(struct audit *audit)
{
    free(audit);
}

/* Owners counted anew from the block tables; they are of one tenant, and what workers use at this
 * moment is not free. */
static void audit_pages(const struct world *world, uint32_t group)
{
    const struct sched *sched = &world->core->placement.sched[group];
    uint32_t owners[WORLD_PAGES_MAX] = {0};
    uint64_t tenants[WORLD_PAGES_MAX];
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const struct sched_entry *entry = &sched->entry[sched->running[i]];
        const uint64_t tenant = world->core->requests.request[sched->running[i]].params.tenant;
        const bool tail = entry->tail_page != PREFIX_NONE;
        for (uint32_t p = 0; p < entry->page_count + tail; p++) {
            const uint32_t page = p < entry->page_count ? entry->pages[p] : entry->tail_page;
            must(page < sched->pages.count);
            must(owners[page] == 0 || tenants[page] == tenant);
            tenants[page] = tenant;
            owners[page]++;
        }
    }
    for (uint32_t i = 0; i < sched->pages.count; i++) {
        must(sched->pages.page[i].owners == owners[i]);
    }
    fleet_verify_pages(world->fleet, group, &sched->pages);
}

static void audit_slots(const struct sched *sched)
{
    bool taken[WORLD_SLOTS_MAX] = {false};
    for (uint32_t i = 0; i < sched->running_count + sched->free_slot_count; i++) {
        const uint32_t slot = i < sched->running_count
                                  ? sched->entry[sched->running[i]].slot
                                  : sched->free_slots[i - sched->running_count];
        must(slot < sched->options.slots_max && !taken[slot]);
        taken[slot] = true;
    }
}

/* Known to one scheduler when ACTIVE, to none otherwise. */
static void audit_place(const struct core *core, const struct request *request)
{
    const uint32_t index = request_index(&core->requests, request);
    uint32_t known = 0;
    for (uint32_t i = 0; i < core->placement.count; i++) {
        const struct sched_entry *entry = &core->placement.sched[i].entry[index];
        if (entry->state == SCHED_ABSENT) {
            continue;
        }
        must(core->placement.group[index] == i);
        must(entry->tokens - entry->to_come == request->prompt_tokens + request->answer_tokens);
        known++;
    }
    must(known == (request->state == REQUEST_ACTIVE));
}

/* A reader that is a window behind is waited for: what it makes more is what was under way, and a
 * token each time that its pages are computed anew. */
static void audit_backlog(const struct core *core, const struct request *request)
{
    const uint32_t behind = request->answer_tokens - request->sent_tokens;
    must(!request->params.stream || behind <= core->config->stream.credit_tokens + UNDER_WAY_MAX +
                                                  request->events.preempted_count);
}

/* What was logged stays, and is what the model says. */
static void audit_log(const struct world *world, const struct request *request,
                      struct audit_request *seen)
{
    const bool cut = request->state == REQUEST_ENDING; /* A cancel drops what has not left. */
    if (seen->generation != request->generation) {
        *seen = (struct audit_request){.generation = request->generation};
    }
    must(request->answer_tokens >= seen->answer_tokens || cut);
    for (uint32_t i = seen->answer_tokens; i < request->answer_tokens; i++) {
        const uint32_t at = request->prompt_tokens + i;
        must(request->ids[at] == crowd_truth(world->crowd, request, at));
    }
    must(request->sent_tokens <= request->answer_tokens);
    seen->answer_tokens = request->answer_tokens;
}

/* Nobody waits while another one of its tenant and group enters that came later and has no more
 * priority. */
static void audit_entry(const struct world *world, uint32_t newcomer)
{
    const struct core *core = world->core;
    const struct request *request = &core->requests.request[newcomer];
    const uint32_t group = core->placement.group[newcomer];
    const uint64_t turn = world->audit->request[newcomer].since_turn;
    for (uint32_t i = 0; i < core->requests.count; i++) {
        const struct request *other = &core->requests.request[i];
        const bool waits = other->state == REQUEST_ACTIVE && core->placement.group[i] == group &&
                           core->placement.sched[group].entry[i].state == SCHED_WAITING;
        must(!waits || other->params.tenant != request->params.tenant ||
             world->audit->request[i].since_turn >= turn ||
             other->params.priority > request->params.priority);
    }
}

/* However unlucky, the work of all guests, done anew for each worker that was lost, ends. */
static void audit_wait(const struct world *world, uint32_t index, struct audit_request *seen)
{
    const struct core *core = world->core;
    const uint64_t all = (uint64_t)CROWD_GUESTS_MAX * CROWD_CHOICES_MAX * core->context_max;
    const bool active = core->requests.request[index].state == REQUEST_ACTIVE;
    if (active && !seen->active) {
        seen->since_steps = core->counters.steps;
        seen->since_turn = world->turns;
    }
    seen->active = active;
    must(!active ||
         core->counters.steps - seen->since_steps <= all * (1 + core->counters.worker_losses));
}

static void audit_requests(struct world *world)
{
    const struct core *core = world->core;
    uint32_t live = 0;
    uint32_t active = 0;
    must(core->requests.count <= REQUESTS_MAX);
    for (uint32_t i = 0; i < core->requests.count; i++) {
        const struct request *request = &core->requests.request[i];
        struct audit_request *seen = &world->audit->request[i];
        audit_place(core, request);
        live += request->state != REQUEST_FREE;
        active += request->state == REQUEST_ACTIVE;
        if (request->state == REQUEST_ACTIVE || request->state == REQUEST_ENDING) {
            audit_log(world, request, seen);
        }
        audit_wait(world, i, seen);
        if (request->state == REQUEST_ACTIVE) {
            must(core->now_us < request->deadline_us);
            audit_backlog(core, request);
        }
    }
    for (uint32_t i = 0; i < core->requests.count; i++) {
        struct audit_request *seen = &world->audit->request[i];
        const bool runs =
            seen->active && placement_sched(&core->placement, i)->entry[i].state == SCHED_RUNNING;
        if (runs && !seen->entered) {
            audit_entry(world, i);
            seen->entered = true;
        }
    }
    const struct placement_total total = placement_total(&core->placement);
    must(live == core->requests.live && active == total.running + total.waiting);
}

/* A group that is ready and has no step has nothing that it could do: the loop is about to sleep.
 */
static void audit_idle(const struct core *core, uint32_t group)
{
    const struct sched *sched = &core->placement.sched[group];
    if (!core->placement.ready[group] || flight_steps(&sched->flight) > 0) {
        return;
    }
    must(sched->running_count > 0 || sched->fair.waiting_count == 0);
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const struct sched_entry *entry = &sched->entry[sched->running[i]];
        must(entry->held && entry->last_on_worker);
    }
}

/* The oldest that runs goes on: at the latest when the one that writes what it borrows has come to
 * its end, a token a step. */
static void audit_oldest(struct audit *audit, const struct core *core, uint32_t group)
{
    const struct sched *sched = &core->placement.sched[group];
    struct audit_group *seen = &audit->group[group];
    const uint64_t steps = core->groups[group].answered;
    if (sched->running_count == 0) {
        seen->order = UINT64_MAX;
        return;
    }
    const struct sched_entry *oldest = &sched->entry[sched->running[0]];
    if (seen->order != oldest->order || seen->computed != oldest->computed || oldest->held) {
        *seen = (struct audit_group){oldest->order, oldest->computed, steps};
    }
    must(steps - seen->since_steps <= core->context_max + UNDER_WAY_MAX);
}

/* A worker that neither answers nor gets on is given up. */
static void audit_deadline(const struct world *world, uint32_t group)
{
    const struct core *core = world->core;
    const uint64_t timeout_us = (uint64_t)core->config->workers.step_timeout_ms * 1000;
    must(flight_steps(&core->placement.sched[group].flight) == 0 ||
         fleet_gets_on(world->fleet, group) ||
         core->now_us - core->groups[group].since_us <= timeout_us);
}

void audit_turn(struct world *world, bool sleeps)
{
    const struct core *core = world->core;
    for (uint32_t i = 0; i < core->placement.count; i++) {
        sched_verify(&core->placement.sched[i]);
        audit_pages(world, i);
        audit_slots(&core->placement.sched[i]);
        audit_deadline(world, i);
        audit_oldest(world->audit, core, i);
        if (sleeps) {
            audit_idle(core, i);
        }
        world->totals->overlaps += flight_steps(&core->placement.sched[i].flight) > 1;
    }
    audit_requests(world);
}

void audit_end(struct world *world)
{
    const struct core *core = world->core;
    const struct placement_total total = placement_total(&core->placement);
    must(core->requests.live == 0 && core->refusal_count == 0);
    must(total.running == 0 && total.waiting == 0 && total.waiting_tokens == 0);
    must(total.pages_free == total.pages);
    world->totals->preemptions += total.preemptions;
    world->totals->shared_tokens += total.shared_tokens;
    world->totals->moves += core->placement.moves;
}
