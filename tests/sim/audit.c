/*
 * audit.c - see audit.h. Called by world.c once a turn; owns what it remembers from one turn to the
 * next. Invariant: it changes nothing of the core.
 */
#include "tests/sim/audit.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/crowd.h"
#include "tests/sim/fleet.h"

enum { REQUESTS_MAX = 64 };

struct audit_request { /* A place of the core's table. */
    uint32_t generation;
    uint32_t answer_tokens; /* Seen so far, and right. */
    uint64_t since_steps;   /* Steps of all groups when it became ACTIVE. */
    bool active;
};

struct audit {
    struct audit_request request[REQUESTS_MAX];
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

/* Owners counted anew from the block tables, and what workers use at this moment is not free. */
static void audit_pages(const struct world *world, uint32_t group)
{
    const struct sched *sched = &world->core->placement.sched[group];
    uint32_t owners[WORLD_PAGES_MAX] = {0};
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const struct sched_entry *entry = &sched->entry[sched->running[i]];
        for (uint32_t p = 0; p < entry->page_count; p++) {
            must(entry->pages[p] < sched->pages.count);
            owners[entry->pages[p]]++;
        }
        if (entry->tail_page != PREFIX_NONE) {
            owners[entry->tail_page]++;
        }
    }
    for (uint32_t i = 0; i < sched->pages.count; i++) {
        const struct page *page = &sched->pages.page[i];
        must(page->owners == owners[i]);
        must(page->owners > 0 || page->in_flight > 0 || !fleet_uses_page(world->fleet, group, i));
    }
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

/* However unlucky, the work of all guests, done anew for each worker that was lost, ends. */
static void audit_wait(const struct world *world, const struct request *request,
                       struct audit_request *seen)
{
    const uint64_t all = (uint64_t)CROWD_GUESTS_MAX * CROWD_CHOICES_MAX * world->core->context_max;
    if (!seen->active && request->state == REQUEST_ACTIVE) {
        seen->since_steps = world->core->counters.steps;
    }
    seen->active = request->state == REQUEST_ACTIVE;
    must(!seen->active || world->core->counters.steps - seen->since_steps <=
                              all * (1 + world->core->counters.worker_losses));
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
        audit_wait(world, request, seen);
        must(request->state != REQUEST_ACTIVE || core->now_us < request->deadline_us);
    }
    const struct placement_total total = placement_total(&core->placement);
    must(live == core->requests.live && active == total.running + total.waiting);
}

void audit_turn(struct world *world)
{
    const struct core *core = world->core;
    for (uint32_t i = 0; i < core->placement.count; i++) {
        sched_verify(&core->placement.sched[i]);
        audit_pages(world, i);
        audit_slots(&core->placement.sched[i]);
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
