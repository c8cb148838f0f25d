/*
 * pages.c - see pages.h. Called by the scheduler in the core's loop thread and by tests; the array
 * comes from the caller's arena. Invariant: a page is on the free list exactly when it has neither
 * an owner nor a step in flight, and the list's length is free_count.
 */
#include "kv/pages.h"

#include <errno.h>

int pages_open(struct pages *pages, struct arena *arena, uint32_t count)
{
    *pages = (struct pages){.count = count, .free_count = count};
    pages->page = arena_alloc(arena, count, sizeof pages->page[0]);
    if (!pages->page) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        pages->page[i].next_free = i + 1 < count ? i + 1 : PAGES_NONE;
    }
    pages->free_first = count ? 0 : PAGES_NONE;
    return 0;
}

int pages_take(struct pages *pages, uint32_t want, uint32_t *out)
{
    if (want > pages->free_count) {
        return -EAGAIN;
    }
    for (uint32_t i = 0; i < want; i++) {
        struct page *page = &pages->page[pages->free_first];
        must(page->owners == 0 && page->in_flight == 0);
        out[i] = pages->free_first;
        pages->free_first = page->next_free;
        page->owners = 1;
    }
    pages->free_count -= want;
    return 0;
}

/* Back to the free list once both lifetimes have ended. */
static void settle(struct pages *pages, uint32_t index)
{
    struct page *page = &pages->page[index];
    if (page->owners == 0 && page->in_flight == 0) {
        page->generation++;
        page->next_free = pages->free_first;
        pages->free_first = index;
        pages->free_count++;
    }
}

void pages_share(struct pages *pages, uint32_t page)
{
    must(page < pages->count && pages->page[page].owners > 0);
    must(pages->page[page].owners < UINT16_MAX);
    pages->page[page].owners++;
}

void pages_drop(struct pages *pages, uint32_t page)
{
    must(page < pages->count && pages->page[page].owners > 0);
    pages->page[page].owners--;
    settle(pages, page);
}

void pages_pin(struct pages *pages, uint32_t page)
{
    must(page < pages->count && pages->page[page].owners > 0);
    must(pages->page[page].in_flight < UINT16_MAX);
    pages->page[page].in_flight++;
}

void pages_unpin(struct pages *pages, uint32_t page)
{
    must(page < pages->count && pages->page[page].in_flight > 0);
    pages->page[page].in_flight--;
    settle(pages, page);
}

void pages_verify(const struct pages *pages)
{
    uint32_t listed = 0;
    uint32_t idle = 0;
    for (uint32_t i = pages->free_first; i != PAGES_NONE; i = pages->page[i].next_free) {
        must(i < pages->count && listed < pages->count);
        must(pages->page[i].owners == 0 && pages->page[i].in_flight == 0);
        listed++;
    }
    for (uint32_t i = 0; i < pages->count; i++) {
        idle += pages->page[i].owners == 0 && pages->page[i].in_flight == 0;
    }
    must(listed == pages->free_count && idle == pages->free_count);
}
