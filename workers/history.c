/*
 * history.c - see history.h. Written by the step on the worker's main thread before a batch runs,
 * read by sampling on all of them after it; the ids live in the step's arena. Invariant: a position
 * whose KV is in a page has its token here.
 */
#include "workers/history.h"

#include <errno.h>
#include <string.h>

size_t history_bytes(uint32_t pages, uint32_t page_tokens)
{
    const size_t slack = 64; /* Alignment. */
    return (size_t)pages * page_tokens * sizeof(uint32_t) + slack;
}

int history_open(struct history *history, struct arena *arena, uint32_t pages, uint32_t page_tokens)
{
    *history = (struct history){
        .ids = arena_alloc(arena, (size_t)pages * page_tokens, sizeof *history->ids),
        .page_tokens = page_tokens,
    };
    return history->ids ? 0 : -ENOMEM;
}

static uint32_t *page_of(const struct history *history, uint32_t page)
{
    return history->ids + (size_t)page * history->page_tokens;
}

void history_write(const struct history *history, const uint32_t *pages, uint32_t position,
                   const uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = position + i;
        page_of(history, pages[at / history->page_tokens])[at % history->page_tokens] = ids[i];
    }
}

void history_copy(const struct history *history, const uint32_t *sources, const uint32_t *targets,
                  uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        memmove(page_of(history, targets[i]), page_of(history, sources[i]),
                history->page_tokens * sizeof *history->ids);
    }
}
