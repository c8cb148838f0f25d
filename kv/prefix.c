/*
 * prefix.c - see prefix.h. Called by the scheduler in the core's loop thread and by tests; the
 * arrays come from the caller's arena. Invariant: a node is in exactly one bucket's chain when its
 * tokens are not 0, and in none otherwise.
 */
#include "kv/prefix.h"

#include <errno.h>
#include <string.h>

size_t prefix_bytes(uint32_t page_count, uint32_t page_tokens)
{
    return page_count *
               (sizeof(struct prefix_node) + sizeof(uint32_t) * (1 + (size_t)page_tokens)) +
           3 * (size_t)64;
}

int prefix_open(struct prefix *prefix, struct arena *arena, uint32_t page_count,
                uint32_t page_tokens, const struct hash_key *salt)
{
    *prefix = (struct prefix){
        .node = arena_alloc(arena, page_count, sizeof(struct prefix_node)),
        .ids = arena_alloc(arena, page_count, page_tokens * sizeof(uint32_t)),
        .bucket = arena_alloc(arena, page_count, sizeof(uint32_t)),
        .page_count = page_count,
        .page_tokens = page_tokens,
        .salt = *salt,
    };
    if (!prefix->node || !prefix->ids || !prefix->bucket) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < page_count; i++) {
        prefix->bucket[i] = PREFIX_NONE;
    }
    return 0;
}

struct hash_key prefix_key(const struct prefix *prefix, const struct hash_key *parent,
                           const uint32_t *ids)
{
    return hash_keyed(parent, ids, prefix->page_tokens * sizeof *ids);
}

static uint32_t *bucket_of(const struct prefix *prefix, const struct hash_key *parent)
{
    return &prefix->bucket[parent->word[0] % prefix->page_count];
}

static uint32_t *ids_of(const struct prefix *prefix, uint32_t page)
{
    return prefix->ids + (size_t)page * prefix->page_tokens;
}

static uint32_t common_ids(const uint32_t *left, const uint32_t *right, uint32_t count)
{
    uint32_t common = 0;
    while (common < count && left[common] == right[common]) {
        common++;
    }
    return common;
}

uint32_t prefix_find(const struct prefix *prefix, const struct hash_key *parent,
                     const uint32_t *ids, uint32_t count, uint32_t *common)
{
    uint32_t found = PREFIX_NONE;
    uint32_t seen = 0;
    *common = 0;
    for (uint32_t page = *bucket_of(prefix, parent);
         page != PREFIX_NONE && seen < PREFIX_SIBLINGS_MAX; page = prefix->node[page].next) {
        const struct prefix_node *node = &prefix->node[page];
        if (memcmp(&node->parent, parent, sizeof *parent) != 0) {
            continue;
        }
        seen++;
        const uint32_t most = node->tokens < count ? node->tokens : count;
        const uint32_t shared = common_ids(ids_of(prefix, page), ids, most);
        if (shared > 0 && shared >= *common) { /* Chains run from the newest to the oldest. */
            found = page;
            *common = shared;
        }
    }
    return found;
}

void prefix_add(struct prefix *prefix, const struct hash_key *parent, uint32_t page,
                const uint32_t *ids, uint32_t count, uint32_t writer)
{
    struct prefix_node *node = &prefix->node[page];
    uint32_t *bucket = bucket_of(prefix, parent);
    must(node->tokens == 0 && count > 0 && count <= prefix->page_tokens);
    memcpy(ids_of(prefix, page), ids, count * sizeof *ids);
    *node = (struct prefix_node){
        .parent = *parent, .next = *bucket, .writer = writer, .tokens = (uint8_t)count};
    *bucket = page;
}

void prefix_remove(struct prefix *prefix, uint32_t page)
{
    struct prefix_node *node = &prefix->node[page];
    if (node->tokens == 0) {
        return;
    }
    uint32_t *link = bucket_of(prefix, &node->parent);
    while (*link != page) {
        must(*link != PREFIX_NONE);
        link = &prefix->node[*link].next;
    }
    *link = node->next;
    *node = (struct prefix_node){0};
}

void prefix_written(struct prefix *prefix, uint32_t page, uint32_t tokens)
{
    struct prefix_node *node = &prefix->node[page];
    const uint32_t known = tokens < node->tokens ? tokens : node->tokens;
    if (known > node->written) {
        node->written = (uint8_t)known;
    }
}
