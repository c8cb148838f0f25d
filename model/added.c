/*
 * added.c - the matcher of added tokens. Called by tokenizer.c on the core's tokenizer threads;
 * owns its copy of the texts. The sorted list serves as a trie: tokens that share the bytes read so
 * far are neighbours, and each further byte narrows the range by binary search. Invariant once
 * sealed: tokens ascend strictly, a prefix before what it is a prefix of.
 */
#include "model/added.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "model/utf8.h"
#include "model/vocab.h"

static const char *text_of(const struct added *added, const struct added_token *token)
{
    return added->pool + token->offset;
}

static int reserve(struct added *added, size_t bytes)
{
    if (added->count == added->room) {
        const uint32_t room = added->room > 0 ? 2 * added->room : 16;
        struct added_token *tokens = realloc(added->tokens, room * sizeof *tokens);
        if (!tokens) {
            return -ENOMEM;
        }
        added->tokens = tokens;
        added->room = room;
    }
    if (added->pool_room - added->pool_bytes < bytes) {
        const size_t room = 2 * added->pool_room + VOCAB_TOKEN_BYTES_MAX;
        char *pool = realloc(added->pool, room);
        if (!pool) {
            return -ENOMEM;
        }
        added->pool = pool;
        added->pool_room = room;
    }
    return 0;
}

int added_add(struct added *added, const char *text, size_t bytes, uint32_t id, unsigned flags)
{
    if (bytes == 0 || !utf8_valid(text, bytes)) {
        return 0;
    }
    if (bytes > VOCAB_TOKEN_BYTES_MAX || added->count == LIMIT_VOCAB_MAX) {
        return -E2BIG;
    }
    const int error = reserve(added, bytes);
    if (error) {
        return error;
    }
    memcpy(added->pool + added->pool_bytes, text, bytes);
    added->tokens[added->count++] = (struct added_token){
        .offset = (uint32_t)added->pool_bytes, .count = (uint32_t)bytes, .id = id, .flags = flags};
    added->pool_bytes += bytes;
    added->starts[(uint8_t)text[0]] = true;
    return 0;
}

static int compare_text(const struct added *added, const struct added_token *token,
                        const char *text, size_t bytes)
{
    const size_t both = token->count < bytes ? token->count : bytes;
    const int order = memcmp(text_of(added, token), text, both);
    return order != 0 ? order : (token->count > bytes) - (token->count < bytes);
}

/* By text, equal ones by their place in the pool, which is the order of adding. */
static int compare_tokens(const void *a, const void *b, void *context)
{
    const struct added *added = context;
    const struct added_token *right = b;
    const struct added_token *left = a;
    const int order = compare_text(added, left, text_of(added, right), right->count);
    return order != 0 ? order : (left->offset > right->offset) - (left->offset < right->offset);
}

void added_seal(struct added *added)
{
    if (added->count == 0) {
        return;
    }
    qsort_r(added->tokens, added->count, sizeof *added->tokens, compare_tokens, added);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < added->count; i++) {
        const struct added_token *last = &added->tokens[kept - 1];
        const struct added_token *token = &added->tokens[i];
        if (compare_text(added, last, text_of(added, token), token->count) != 0) {
            added->tokens[kept++] = *token;
        }
    }
    added->count = kept;
}

void added_close(struct added *added)
{
    free(added->tokens);
    free(added->pool);
    *added = (struct added){0};
}

uint32_t added_exact(const struct added *added, const char *text, size_t bytes)
{
    uint32_t low = 0;
    uint32_t high = added->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = compare_text(added, &added->tokens[middle], text, bytes);
        if (order == 0) {
            return added->tokens[middle].id;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return VOCAB_NONE;
}

/* First token in [low, high) whose byte at depth is at least byte; all are longer than depth. */
static uint32_t lower_bound(const struct added *added, uint32_t low, uint32_t high, size_t depth,
                            unsigned byte)
{
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const char *text = text_of(added, &added->tokens[middle]);
        if ((uint8_t)text[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool touches_word(const char *text, size_t bytes, size_t start, size_t end)
{
    uint32_t codepoint;
    if (start > 0) {
        const size_t before = utf8_back(text, start);
        if (utf8_next(text + before, start - before, &codepoint) > 0 && utf8_is_word(codepoint)) {
            return true;
        }
    }
    return end < bytes && utf8_next(text + end, bytes - end, &codepoint) > 0 &&
           utf8_is_word(codepoint);
}

/* The longest token that text[at..] starts with and that may stand there; NULL when none. */
static const struct added_token *longest_at(const struct added *added, const char *text,
                                            size_t bytes, size_t at, bool special)
{
    const struct added_token *best = NULL;
    uint32_t low = 0;
    uint32_t high = added->count;
    for (size_t depth = 0; low < high; depth++) {
        const struct added_token *token = &added->tokens[low];
        if (token->count == depth) { /* The range's prefix itself; it sorts first. */
            const bool wanted = special || !(token->flags & ADDED_SPECIAL);
            if (wanted && !((token->flags & ADDED_SINGLE_WORD) &&
                            touches_word(text, bytes, at, at + depth))) {
                best = token;
            }
            low++;
        }
        if (at + depth == bytes) {
            break;
        }
        const unsigned byte = (uint8_t)text[at + depth];
        low = lower_bound(added, low, high, depth, byte);
        high = lower_bound(added, low, high, depth, byte + 1);
    }
    return best;
}

bool added_find(const struct added *added, const char *text, size_t bytes, size_t from,
                bool special, struct added_match *match)
{
    if (added->count == 0) {
        return false;
    }
    const struct added_token *token = NULL;
    size_t at = from;
    for (; at < bytes; at++) {
        if (added->starts[(uint8_t)text[at]]) {
            token = longest_at(added, text, bytes, at, special);
            if (token) {
                break;
            }
        }
    }
    if (!token) {
        return false;
    }
    *match = (struct added_match){.start = at, .end = at + token->count, .id = token->id};
    uint32_t codepoint;
    while ((token->flags & ADDED_STRIP_LEFT) && match->start > from) {
        const size_t before = utf8_back(text, match->start);
        if (utf8_next(text + before, match->start - before, &codepoint) == 0 ||
            !utf8_is_space(codepoint)) {
            break;
        }
        match->start = before;
    }
    while ((token->flags & ADDED_STRIP_RIGHT) && match->end < bytes) {
        const size_t more = utf8_next(text + match->end, bytes - match->end, &codepoint);
        if (more == 0 || !utf8_is_space(codepoint)) {
            break;
        }
        match->end += more;
    }
    return true;
}
