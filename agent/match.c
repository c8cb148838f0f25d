/*
 * match.c - see match.h. Called by sched.c on the core's loop thread and by tests; all state is the
 * scheduler's. Invariant: a listed page has an owner, and its writer is a running request that owns
 * it. Waits form no circle: a request waits for its first page that is not written, whose writer
 * has all pages before it.
 */
#include "agent/match.h"

#include <string.h>

enum { TAIL_SHARE = 2 }; /* A tail below 1/2 of a page costs less to compute than to wait for. */

struct match match_find(const struct sched *sched, struct sched_entry *entry)
{
    const uint32_t page_tokens = sched->options.page_tokens;
    struct match match = {.parent = sched->prefix.salt, .tail_page = PREFIX_NONE};
    uint32_t at = 0;
    match.parent.word[0] ^= entry->tenant; /* A tenant's pages are its own. */
    while (entry->ids && at + 1 < entry->tokens) {
        const uint32_t left = entry->tokens - at;
        const uint32_t known = left < page_tokens ? left : page_tokens;
        uint32_t common;
        const uint32_t page =
            prefix_find(&sched->prefix, &match.parent, entry->ids + at, known, &common);
        if (common < page_tokens || left == page_tokens) {
            const uint32_t usable = common < left ? common : left - 1;
            const bool rest = usable == left - 1; /* One token is left to compute. */
            if (usable > 0 && (rest || usable * TAIL_SHARE >= page_tokens)) {
                match.tail_page = page;
                match.tail_tokens = usable;
            }
            match.tail_listed = common == known;
            break;
        }
        match.parent = prefix_key(&sched->prefix, &match.parent, entry->ids + at);
        entry->pages[match.pages++] = page;
        at += page_tokens;
    }
    return match;
}

void match_take(struct sched *sched, uint32_t request, const struct match *match)
{
    struct sched_entry *entry = &sched->entry[request];
    const uint32_t page_tokens = sched->options.page_tokens;
    struct hash_key parent = match->parent;
    for (uint32_t i = 0; i < match->pages; i++) {
        pages_share(&sched->pages, entry->pages[i]);
    }
    entry->shared_pages = match->pages;
    entry->tail_page = match->tail_page;
    entry->tail_tokens = match->tail_tokens;
    entry->shared_tokens = 0;
    if (match->tail_page != PREFIX_NONE) {
        pages_share(&sched->pages, match->tail_page);
    }
    if (!entry->ids || match->tail_listed) {
        return;
    }
    for (uint32_t i = match->pages; i * page_tokens < entry->tokens; i++) {
        const uint32_t left = entry->tokens - i * page_tokens;
        const uint32_t *ids = entry->ids + (size_t)i * page_tokens;
        const uint32_t known = left < page_tokens ? left : page_tokens;
        prefix_add(&sched->prefix, &parent, entry->pages[i], ids, known, request);
        if (known == page_tokens) {
            parent = prefix_key(&sched->prefix, &parent, ids);
        }
    }
}

void match_drop_page(struct sched *sched, uint32_t page)
{
    if (sched->pages.page[page].owners == 1) {
        prefix_remove(&sched->prefix, page);
        flight_retire(&sched->flight, &sched->pages, page);
    }
    pages_drop(&sched->pages, page);
}

/* Nobody else is about to write this page. */
static bool claimable(const struct prefix_node *node, uint32_t request)
{
    return node->writer == PREFIX_NONE || node->writer == request;
}

static void drop_tail(struct sched *sched, struct sched_entry *entry)
{
    if (entry->tail_page != PREFIX_NONE) {
        match_drop_page(sched, entry->tail_page);
        entry->tail_page = PREFIX_NONE;
    }
}

static bool settle_tail(struct sched *sched, struct sched_step *step, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    const struct prefix_node *node = &sched->prefix.node[entry->tail_page];
    if (node->written < entry->tail_tokens) {
        if (!claimable(node, request)) {
            return false;
        }
        drop_tail(sched, entry); /* Nobody will write it: all of the page is computed here. */
        return true;
    }
    step->copies[step->copy_count++] = (struct sched_copy){
        .source = entry->tail_page, .target = entry->pages[entry->shared_pages]};
    entry->tail_page = PREFIX_NONE; /* Its owner is now the step. */
    entry->computed += entry->tail_tokens;
    entry->shared_tokens += entry->tail_tokens;
    sched->shared_tokens += entry->tail_tokens;
    return true;
}

bool match_settle(struct sched *sched, struct sched_step *step, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    const uint32_t page_tokens = sched->options.page_tokens;
    while (entry->computed < entry->shared_pages * page_tokens) {
        const struct prefix_node *node =
            &sched->prefix.node[entry->pages[entry->computed / page_tokens]];
        if (entry->computed % page_tokens != 0 || node->written < page_tokens) {
            return claimable(node, request);
        }
        if (node->writer != request) {
            entry->shared_tokens += page_tokens;
            sched->shared_tokens += page_tokens;
        }
        entry->computed += page_tokens;
    }
    return entry->tail_page == PREFIX_NONE || settle_tail(sched, step, request);
}

uint32_t match_claim(struct sched *sched, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    const uint32_t page_tokens = sched->options.page_tokens;
    uint32_t page = entry->computed / page_tokens;
    if (page >= entry->shared_pages) {
        return entry->tokens;
    }
    while (page < entry->shared_pages) {
        struct prefix_node *node = &sched->prefix.node[entry->pages[page]];
        if (node->written == page_tokens || !claimable(node, request)) {
            break;
        }
        if (node->writer == PREFIX_NONE) { /* Who left it unfinished: it is written anew. */
            node->writer = request;
            node->written = 0;
        }
        page++;
    }
    const bool whole = page == entry->shared_pages && entry->tail_page == PREFIX_NONE;
    return whole ? entry->tokens : page * page_tokens;
}

void match_written(struct sched *sched, uint32_t request, uint32_t first, uint32_t count)
{
    const struct sched_entry *entry = &sched->entry[request];
    const uint32_t page_tokens = sched->options.page_tokens;
    const uint32_t end = first + count;
    for (uint32_t i = first / page_tokens; i * page_tokens < end; i++) {
        const uint32_t page = entry->pages[i];
        const uint32_t there = end - i * page_tokens;
        if (sched->prefix.node[page].writer == request) {
            prefix_written(&sched->prefix, page, there < page_tokens ? there : page_tokens);
        }
    }
}

void match_leave(struct sched *sched, uint32_t request)
{
    struct sched_entry *entry = &sched->entry[request];
    for (uint32_t i = 0; i < entry->page_count; i++) {
        struct prefix_node *node = &sched->prefix.node[entry->pages[i]];
        if (node->tokens > 0 && node->writer == request) {
            node->writer = PREFIX_NONE;
        }
    }
    drop_tail(sched, entry);
}
