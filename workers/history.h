/*
 * history.h - which token stands at each position, kept beside the KV of the same page. Who borrows
 * a page, or gets a copy of one, so has its tokens too; penalties count over them. It costs 4 bytes
 * a token of the pool, whatever the vocabulary is, and a replay writes it anew.
 */
#ifndef WORKERS_HISTORY_H
#define WORKERS_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/must.h"

struct history {
    uint32_t *ids; /* [pages][page_tokens] */
    uint32_t page_tokens;
};

size_t history_bytes(uint32_t pages, uint32_t page_tokens);

/* 0 or -ENOMEM. */
int history_open(struct history *history, struct arena *arena, uint32_t pages,
                 uint32_t page_tokens) MUST_CHECK;

/* Token ids of consecutive positions of a sequence. pages: its block table from position 0. */
void history_write(const struct history *history, const uint32_t *pages, uint32_t position,
                   const uint32_t *ids, uint32_t count);

void history_copy(const struct history *history, const uint32_t *sources, const uint32_t *targets,
                  uint32_t count);

static inline uint32_t history_id(const struct history *history, const uint32_t *pages,
                                  uint32_t position)
{
    return history->ids[(size_t)pages[position / history->page_tokens] * history->page_tokens +
                        position % history->page_tokens];
}

#endif /* WORKERS_HISTORY_H */
