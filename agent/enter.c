/*
 * enter.c - see enter.h. Called by sched.c on the core's loop thread and by tests; all state is the
 * scheduler's. Invariant: who has entered has pages for all its known tokens, so that a prompt
 * never yields to itself, and nobody enters past the queue's first.
 */
#include "agent/enter.h"

#include "agent/match.h"

/* Pages for the known tokens and the one after them, as far as there can be any. */
static uint32_t wanted_pages(const struct sched *sched, const struct sched_entry *entry)
{
    const uint32_t most = sched_pages_for(sched, sched->options.context_max);
    uint32_t want = sched_pages_for(sched, (uint64_t)entry->tokens + 1);
    want = want < most ? want : most;
    return want < sched->options.page_count ? want : sched->options.page_count;
}

/* Onto the running list, by age. */
static void list(struct sched *sched, uint32_t request)
{
    const uint64_t order = sched->entry[request].order;
    uint32_t at = sched->running_count++;
    while (at > 0 && sched->entry[sched->running[at - 1]].order > order) {
        sched->running[at] = sched->running[at - 1];
        at--;
    }
    sched->running[at] = request;
}

static void take_slot(struct sched *sched, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    entry->slot = sched->free_slots[--sched->free_slot_count];
    sched->generation[entry->slot]++;
    sched->opens[sched->open_count++] =
        (struct sched_slot){request, entry->slot, sched->generation[entry->slot]};
    sched->open_cells += entry->open_cells;
}

uint32_t enter_head(struct sched *sched, bool borrowers)
{
    const uint32_t request = fair_first(&sched->fair);
    if (request == FAIR_NONE || sched->free_slot_count == 0) {
        return SCHED_NONE;
    }
    struct sched_entry *entry = &sched->entry[request];
    const uint32_t want = wanted_pages(sched, entry);
    const struct match match = match_find(sched, entry);
    const uint32_t tail = match.tail_page != PREFIX_NONE ? match.tail_tokens : 0;
    const uint32_t borrowed = match.pages * sched->options.page_tokens + tail;
    if ((borrowers && borrowed == 0) ||
        entry->open_cells > SCHED_OPEN_CELLS_MAX - sched->open_cells ||
        want - match.pages > sched->pages.free_count ||
        !outlook_admits(sched, request, entry->tokens - match.pages * sched->options.page_tokens)) {
        return SCHED_NONE;
    }
    must(pages_take(&sched->pages, want - match.pages, entry->pages + match.pages) == 0);
    match_take(sched, request, &match);
    if (!sched->fair.node[request].returned) { /* Who computes again has paid. */
        fair_charge(&sched->fair, request, entry->tokens - borrowed);
    }
    sched->waiting_tokens -= entry->tokens;
    fair_take(&sched->fair, request);
    entry->state = SCHED_RUNNING;
    entry->page_count = want;
    take_slot(sched, request);
    list(sched, request);
    return request;
}
