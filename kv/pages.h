/*
 * pages.h - who owns which page of the device's KV pool. Pure: no clock, no I/O.
 *
 * A page has two lifetimes: its owner, and every reader or writer in flight (a step that runs). It
 * returns to the free list when both have ended, with a new generation.
 */
#ifndef KV_PAGES_H
#define KV_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/must.h"

struct page {
    uint32_t generation; /* Bumped when the page returns to the free list. */
    uint16_t owners;
    uint16_t in_flight; /* Steps that read or write it now. */
    uint32_t next_free;
};

struct pages {
    struct page *page; /* [count] */
    uint32_t count;
    uint32_t free_count;
    uint32_t free_first; /* PAGES_NONE: the list is empty. */
};

#define PAGES_NONE UINT32_MAX

/* 0 or -ENOMEM. */
int pages_open(struct pages *pages, struct arena *arena, uint32_t count) MUST_CHECK;

/* Takes want pages into out, each with one owner. -EAGAIN and nothing taken when there are fewer.
 */
int pages_take(struct pages *pages, uint32_t want, uint32_t *out) MUST_CHECK;

void pages_share(struct pages *pages, uint32_t page); /* One more owner. */
void pages_drop(struct pages *pages, uint32_t page);  /* One owner less. */
void pages_pin(struct pages *pages, uint32_t page);   /* A step begins to use it. */
void pages_unpin(struct pages *pages, uint32_t page); /* That step has ended. */

/* Walks everything and must()s the invariants: counts add up, the free list has no page with a
 * lifetime. For tests and the simulator. */
void pages_verify(const struct pages *pages);

#endif /* KV_PAGES_H */
