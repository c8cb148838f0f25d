/*
 * events.c - see events.h. Called by the loop on its thread; owns nothing. Invariant: a close is a
 * request's own preemption only while the request is ACTIVE and the slot's generation is the one it
 * was given: its place in the table may have another owner by then.
 */
#include "agent/events.h"

static void note_preemption(struct request *request, uint64_t now_us)
{
    struct wire_events *events = &request->events;
    if (events->preempted_count < LIMIT_PREEMPTIONS_TOLD_MAX) {
        events->preempted_us[events->preempted_count] = now_us;
    }
    events->preempted_count++;
}

void events_step(struct core *core, const struct group *group, const struct sched_step *step)
{
    for (uint32_t i = 0; i < step->close_count; i++) {
        struct request *request = &core->requests.request[step->closes[i].request];
        const bool here = core->placement.group[step->closes[i].request] == group->index;
        if (here && request->state == REQUEST_ACTIVE && request->slot == step->closes[i].slot &&
            request->slot_generation == step->closes[i].generation) {
            note_preemption(request, core->now_us);
        }
    }
    for (uint32_t i = 0; i < step->open_count; i++) {
        struct request *request = &core->requests.request[step->opens[i].request];
        request->slot = step->opens[i].slot;
        request->slot_generation = step->opens[i].generation;
        if (request->events.scheduled_us == 0) {
            request->events.scheduled_us = core->now_us;
        }
    }
}

void events_lost(struct core *core, const struct group *group)
{
    const struct sched *sched = &core->placement.sched[group->index];
    for (uint32_t i = 0; i < sched->running_count; i++) {
        note_preemption(&core->requests.request[sched->running[i]], core->now_us);
    }
}
