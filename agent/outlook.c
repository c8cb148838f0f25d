/*
 * outlook.c - see outlook.h. Called by the scheduler on the core's loop thread and by tests; what
 * was learnt lies in the caller's arena. Invariant: a request's predicted end is behind its known
 * tokens and not behind its max_tokens.
 */
#include "agent/outlook.h"

#include <errno.h>

#include "agent/sched.h"

size_t outlook_bytes(void)
{
    return sizeof(struct forecast) + sizeof(struct lengths) +
           LIMIT_TENANTS_MAX * (sizeof(struct lengths) + sizeof(uint64_t)) + 4 * (size_t)64;
}

int outlook_open(struct outlook *outlook, struct arena *arena)
{
    *outlook = (struct outlook){
        .forecast = arena_alloc(arena, 1, sizeof(struct forecast)),
        .all = arena_alloc(arena, 1, sizeof(struct lengths)),
        .tenant = arena_alloc(arena, LIMIT_TENANTS_MAX, sizeof(struct lengths)),
        .key = arena_alloc(arena, LIMIT_TENANTS_MAX, sizeof(uint64_t)),
    };
    return outlook->forecast && outlook->all && outlook->tenant && outlook->key ? 0 : -ENOMEM;
}

/* What the request's tenant is known by: its place may have been another's. */
static struct lengths *lengths_of(struct sched *sched, uint32_t request)
{
    struct outlook *outlook = &sched->outlook;
    const uint32_t place = sched->fair.node[request].tenant;
    const uint64_t key = sched->fair.tenant[place].key;
    if (outlook->key[place] != key) {
        outlook->key[place] = key;
        outlook->tenant[place] = (struct lengths){0};
    }
    return &outlook->tenant[place];
}

/* Steps that a request is going to take, at least the one that is being formed. */
static uint32_t steps_left(struct sched *sched, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    if (entry->predicted_end > entry->tokens) {
        return entry->predicted_end - entry->tokens;
    }
    const struct lengths *own = lengths_of(sched, request);
    const struct lengths *lengths = lengths_enough(own) ? own : sched->outlook.all;
    if (!lengths_enough(lengths)) {
        return 1;
    }
    const uint32_t most = entry->tokens_max - entry->prompt_tokens;
    const uint32_t answer = lengths_predict(lengths, entry->tokens - entry->prompt_tokens,
                                            sched->options.forecast_percent);
    entry->predicted_end = entry->prompt_tokens + (answer < most ? answer : most);
    entry->first_predicted_end =
        entry->first_predicted_end ? entry->first_predicted_end : entry->predicted_end;
    return entry->predicted_end > entry->tokens ? entry->predicted_end - entry->tokens : 1;
}

static uint32_t own_tokens(const struct sched *sched, const struct sched_entry *entry)
{
    return entry->tokens - entry->shared_pages * sched->options.page_tokens;
}

void outlook_begin(struct sched *sched)
{
    uint64_t held = sched->pages.count - sched->pages.free_count;
    if (sched->options.forecast_percent == 0) {
        return;
    }
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const struct sched_entry *entry = &sched->entry[sched->running[i]];
        const uint32_t own = entry->page_count - entry->shared_pages;
        held -= held < own ? held : own;
    }
    forecast_begin(sched->outlook.forecast, sched->options.page_tokens, held);
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const uint32_t request = sched->running[i];
        forecast_add(sched->outlook.forecast, own_tokens(sched, &sched->entry[request]),
                     steps_left(sched, request));
    }
}

bool outlook_admits(struct sched *sched, uint32_t request, uint32_t own_tokens)
{
    struct forecast *forecast = sched->outlook.forecast;
    if (sched->options.forecast_percent == 0) {
        return true;
    }
    const uint32_t steps = steps_left(sched, request);
    forecast_add(forecast, own_tokens, steps);
    if (sched->running_count == 0 || forecast_peak(forecast) <= sched->pages.count) {
        return true;
    }
    forecast_drop(forecast, own_tokens, steps);
    return false;
}

void outlook_learn(struct sched *sched, uint32_t request, bool cut)
{
    const struct sched_entry *entry = &sched->entry[request];
    const uint32_t answer = entry->tokens - entry->prompt_tokens;
    if (answer == 0 || sched->options.forecast_percent == 0) {
        return;
    }
    lengths_learn(sched->outlook.all, answer, cut);
    lengths_learn(lengths_of(sched, request), answer, cut);
    if (!cut && entry->first_predicted_end > 0) {
        sched->outlook.predictions++;
        sched->outlook.predictions_short += entry->tokens > entry->first_predicted_end;
    }
}
