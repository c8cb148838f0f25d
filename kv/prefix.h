/*
 * prefix.h - which page holds the KV of which tokens: an index of pages by what stands before them
 * and what is in them, so that requests with a common prefix compute it once. Pure.
 *
 * A page is listed under the key of its parent: the chained keyed hash of all pages before it. A
 * hit compares the token ids of the page itself; the pages before it are vouched for by 128 bits.
 * A page may be listed before its KV exists: `writer` is the request that computes it, `written`
 * how many of its tokens are there.
 *
 *   parent key -> [page: ids, written, writer] -> [page ...]      key(page) = H(parent key, ids)
 */
#ifndef KV_PREFIX_H
#define KV_PREFIX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/must.h"

#define PREFIX_NONE UINT32_MAX

enum { PREFIX_SIBLINGS_MAX = 256 }; /* Looked at under one parent: a few microseconds. */

struct prefix_node { /* One page of the pool. */
    struct hash_key parent;
    uint32_t next;   /* In its bucket. */
    uint32_t writer; /* PREFIX_NONE: nobody. */
    uint8_t tokens;  /* Known ids. 0: not listed. */
    uint8_t written; /* Of them, with their KV in the page. */
};

struct prefix {
    struct prefix_node *node; /* [page_count] */
    uint32_t *ids;            /* [page_count][page_tokens] */
    uint32_t *bucket;         /* [page_count] first page, by parent key */
    uint32_t page_count;
    uint32_t page_tokens;
    struct hash_key salt; /* Key of the empty prefix: what must never be mixed has another. */
};

int prefix_open(struct prefix *prefix, struct arena *arena, uint32_t page_count,
                uint32_t page_tokens, const struct hash_key *salt) MUST_CHECK;
size_t prefix_bytes(uint32_t page_count, uint32_t page_tokens);

/* Key of a full page of ids behind parent. */
struct hash_key prefix_key(const struct prefix *prefix, const struct hash_key *parent,
                           const uint32_t *ids);

/* The page behind parent that shares the most leading ids with ids[0 .. count), and how many; the
 * one listed first among equals. PREFIX_NONE and 0 when no id is shared. */
uint32_t prefix_find(const struct prefix *prefix, const struct hash_key *parent,
                     const uint32_t *ids, uint32_t count, uint32_t *common);

/* Lists a page that `writer` will compute. It must not be listed. */
void prefix_add(struct prefix *prefix, const struct hash_key *parent, uint32_t page,
                const uint32_t *ids, uint32_t count, uint32_t writer);

/* The page is about to lose its last owner. Unlisted pages are allowed. */
void prefix_remove(struct prefix *prefix, uint32_t page);

/* The page's first `tokens` places hold their KV now. More than are listed is allowed. */
void prefix_written(struct prefix *prefix, uint32_t page, uint32_t tokens);

#endif /* KV_PREFIX_H */
