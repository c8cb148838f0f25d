/*
 * placement.c - see placement.h. Called by the core's loop and by tests, on one thread; owns the
 * groups' schedulers, whose memory is the caller's arena. Invariant: a request is known to one
 * scheduler at most, the one that group[] names, and its age is the same wherever it is.
 */
#include "agent/placement.h"

#include <assert.h>
#include <errno.h>

#include "base/limits.h"

enum {
    PLACEMENT_GAP = 2, /* Live requests more: moving one then makes the two groups more equal. */
};

static_assert(LIMIT_WORKERS_MAX <= UINT8_MAX, "a group fits its byte");

size_t placement_bytes(const struct sched_options *options, uint32_t count)
{
    return count * (sched_bytes(options) + sizeof(struct sched) + sizeof(bool)) +
           options->requests_max + 3 * (size_t)64;
}

int placement_open(struct placement *placement, struct arena *arena,
                   const struct sched_options *options, uint32_t count)
{
    must(count >= 1 && count <= LIMIT_WORKERS_MAX);
    *placement = (struct placement){
        .sched = arena_alloc(arena, count, sizeof(struct sched)),
        .ready = arena_alloc(arena, count, sizeof(bool)),
        .group = arena_alloc(arena, options->requests_max, sizeof(uint8_t)),
        .count = count,
    };
    if (!placement->sched || !placement->ready || !placement->group) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        const int error = sched_open(&placement->sched[i], arena, options);
        if (error) {
            return error;
        }
    }
    return 0;
}

bool placement_fits(const struct placement *placement, uint64_t tokens)
{
    return sched_fits(&placement->sched[0], tokens); /* All have the same options. */
}

static uint32_t live(const struct placement *placement, uint32_t group)
{
    const struct sched *sched = &placement->sched[group];
    return sched->running_count + sched->fair.waiting_count;
}

static bool less_loaded(const struct placement *placement, uint32_t group, uint32_t than)
{
    const uint32_t own = live(placement, group);
    const uint32_t other = live(placement, than);
    return own < other || (own == other && placement->sched[group].pages.free_count >
                                               placement->sched[than].pages.free_count);
}

/* Of the ready groups, or of all when none is: the requests wait there for the first that is. */
static uint32_t least_loaded(const struct placement *placement)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < placement->count; i++) {
        const bool better = placement->ready[i] == placement->ready[best]
                                ? less_loaded(placement, i, best)
                                : placement->ready[i];
        best = better ? i : best;
    }
    return best;
}

void placement_add(struct placement *placement, uint32_t request, uint32_t near,
                   const uint32_t *ids, uint32_t tokens, const struct sched_terms *terms)
{
    const uint32_t group = near == SCHED_NONE ? least_loaded(placement) : placement->group[near];
    struct sched *sched = &placement->sched[group];
    placement->group[request] = (uint8_t)group;
    sched->next_order = placement->next_order++;
    sched_add(sched, request, ids, tokens, terms);
}

struct sched *placement_sched(const struct placement *placement, uint32_t request)
{
    return &placement->sched[placement->group[request]];
}

void placement_remove(struct placement *placement, uint32_t request)
{
    sched_remove(placement_sched(placement, request), request);
}

void placement_end(struct placement *placement, uint32_t request)
{
    sched_end(placement_sched(placement, request), request);
}

void placement_set_ready(struct placement *placement, uint32_t group)
{
    placement->ready[group] = true;
}

void placement_lose(struct placement *placement, uint32_t group)
{
    placement->ready[group] = false;
    sched_reset(&placement->sched[group]);
}

/* Whether a group that forms a step takes over the first that waits in another one. */
static bool takes_over(const struct placement *placement, uint32_t group, uint32_t from)
{
    const struct sched *own = &placement->sched[group];
    if (from == group || placement->sched[from].fair.waiting_count == 0) {
        return false;
    }
    if (!placement->ready[from]) {
        return least_loaded(placement) == group;
    }
    return own->fair.waiting_count < own->free_slot_count &&
           live(placement, from) >= live(placement, group) + PLACEMENT_GAP;
}

bool placement_form(struct placement *placement, uint32_t group, struct sched_step *step)
{
    for (uint32_t from = 0; from < placement->count; from++) {
        while (takes_over(placement, group, from)) {
            const uint32_t request = fair_first(&placement->sched[from].fair);
            sched_move(&placement->sched[from], &placement->sched[group], request);
            placement->group[request] = (uint8_t)group;
            placement->moves++;
        }
    }
    return sched_form(&placement->sched[group], step);
}

struct placement_total placement_total(const struct placement *placement)
{
    struct placement_total total = {0};
    for (uint32_t i = 0; i < placement->count; i++) {
        const struct sched *sched = &placement->sched[i];
        total.running += sched->running_count;
        total.waiting += sched->fair.waiting_count;
        total.waiting_tokens += sched->waiting_tokens;
        total.preemptions += sched->preemptions;
        total.recomputed_tokens += sched->recomputed_tokens;
        total.shared_tokens += sched->shared_tokens;
        total.predictions += sched->outlook.predictions;
        total.predictions_short += sched->outlook.predictions_short;
        total.pages += sched->pages.count;
        total.pages_free += sched->pages.free_count;
    }
    return total;
}
