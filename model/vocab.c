/*
 * vocab.c - token storage and the index of pieces. Filled by the tokenizer's loaders at start, read
 * by encode and decode on any thread; owns the pool and the tables. Invariant: after vocab_index()
 * nothing changes. The hash is a plain one: the set of keys is the model's, so that a client's text
 * cannot lengthen a probe.
 */
#include "model/vocab.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_BYTES_FIRST = 64 << 10 };

int vocab_open(struct vocab *vocab, uint32_t count)
{
    *vocab = (struct vocab){0};
    if (count == 0 || count > LIMIT_VOCAB_MAX) {
        return -EINVAL;
    }
    struct vocab_token *tokens = calloc(count, sizeof *tokens);
    if (!tokens) {
        return -ENOMEM;
    }
    for (uint32_t id = 0; id < count; id++) {
        tokens[id].flags = VOCAB_HOLE;
    }
    vocab->tokens = tokens;
    vocab->count = count;
    return 0;
}

void vocab_close(struct vocab *vocab)
{
    free(vocab->tokens);
    free(vocab->pool);
    free(vocab->slots);
    *vocab = (struct vocab){0};
}

static int reserve_pool(struct vocab *vocab, size_t more)
{
    if (vocab->pool_room - vocab->pool_bytes >= more) {
        return 0;
    }
    const size_t room = vocab->pool_room > 0 ? 2 * vocab->pool_room : (size_t)POOL_BYTES_FIRST;
    char *grown = realloc(vocab->pool, room);
    if (!grown) {
        return -ENOMEM;
    }
    vocab->pool = grown;
    vocab->pool_room = room;
    return 0;
}

int vocab_set(struct vocab *vocab, uint32_t id, const char *bytes, size_t count, unsigned flags)
{
    /* Ids times bytes stay far below 4 GiB, and one token below the pool's first size. */
    static_assert((uint64_t)LIMIT_VOCAB_MAX * VOCAB_TOKEN_BYTES_MAX < UINT32_MAX, "offset fits");
    static_assert((int)VOCAB_TOKEN_BYTES_MAX < (int)POOL_BYTES_FIRST, "one doubling is enough");
    if (id >= vocab->count) {
        return -EINVAL;
    }
    if (!(vocab->tokens[id].flags & VOCAB_HOLE)) {
        return -EEXIST;
    }
    if (count > VOCAB_TOKEN_BYTES_MAX) {
        return -E2BIG;
    }
    const int error = reserve_pool(vocab, count);
    if (error) {
        return error;
    }
    if (count > 0) {
        memcpy(vocab->pool + vocab->pool_bytes, bytes, count);
    }
    vocab->tokens[id] = (struct vocab_token){
        .offset = (uint32_t)vocab->pool_bytes, .count = (uint16_t)count, .flags = (uint8_t)flags};
    vocab->pool_bytes += count;
    return 0;
}

void vocab_mark_special(struct vocab *vocab, uint32_t id)
{
    must(id < vocab->count && !(vocab->tokens[id].flags & VOCAB_HOLE));
    struct vocab_token *token = &vocab->tokens[id];
    token->flags = (uint8_t)((token->flags & ~(unsigned)VOCAB_PIECE) | VOCAB_SPECIAL);
}

static uint64_t hash_bytes(const char *bytes, size_t count)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, 64 bits. */
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001b3u;
    }
    return hash ^ (hash >> 32);
}

/* The slot that holds these bytes, or the free one where they belong. */
static uint32_t probe(const struct vocab *vocab, const char *bytes, size_t count)
{
    uint32_t slot = (uint32_t)hash_bytes(bytes, count) & vocab->slot_mask;
    for (;; slot = (slot + 1) & vocab->slot_mask) { /* Ends: at most half of the slots are taken. */
        if (vocab->slots[slot] == VOCAB_NONE) {
            return slot;
        }
        const struct vocab_token *token = &vocab->tokens[vocab->slots[slot]];
        if (token->count == count && memcmp(vocab_bytes(vocab, token), bytes, count) == 0) {
            return slot;
        }
    }
}

int vocab_index(struct vocab *vocab)
{
    uint32_t slots = 16;
    while (slots < 2 * vocab->count) {
        slots *= 2;
    }
    free(vocab->slots);
    vocab->bytes_longest = 0;
    vocab->slots = malloc(slots * sizeof *vocab->slots);
    if (!vocab->slots) {
        return -ENOMEM;
    }
    for (uint32_t slot = 0; slot < slots; slot++) {
        vocab->slots[slot] = VOCAB_NONE;
    }
    vocab->slot_mask = slots - 1;
    for (uint32_t id = 0; id < vocab->count; id++) {
        const struct vocab_token *token = &vocab->tokens[id];
        if (!(token->flags & VOCAB_PIECE) || token->count == 0) {
            continue;
        }
        const uint32_t slot = probe(vocab, vocab_bytes(vocab, token), token->count);
        if (vocab->slots[slot] == VOCAB_NONE) {
            vocab->slots[slot] = id;
        }
        if (token->count > vocab->bytes_longest) {
            vocab->bytes_longest = token->count;
        }
    }
    return 0;
}

uint32_t vocab_find(const struct vocab *vocab, const char *bytes, size_t count)
{
    if (count == 0 || count > vocab->bytes_longest) {
        return VOCAB_NONE;
    }
    return vocab->slots[probe(vocab, bytes, count)];
}

const struct vocab_token *vocab_at(const struct vocab *vocab, uint32_t id)
{
    if (id >= vocab->count || (vocab->tokens[id].flags & VOCAB_HOLE)) {
        return NULL;
    }
    return &vocab->tokens[id];
}

const char *vocab_bytes(const struct vocab *vocab, const struct vocab_token *token)
{
    return vocab->pool + token->offset;
}
