/*
 * bpe.c - the merge loop. Called by tokenizer.c for each word, on the core's tokenizer threads; a
 * bpe is shared and read-only, a scratch belongs to one caller.
 *
 * A symbol lives at the offset of its first byte, so that neighbours are found without an index:
 *
 *     word      h  e  l  l  o          symbol 0: next 2, symbol 2: prev 0, next 5
 *     symbols   0     2                (others: next 0, dead)
 *
 * Candidates wait in a binary heap ordered by (rank, offset). They are never removed early: one is
 * stale exactly when the two symbols at its place no longer end where it says. Each merge takes one
 * candidate and adds at most two, so that 2n hold. Invariant: symbols only ever grow.
 */
#include "model/bpe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/utf8.h"

struct symbol {
    uint32_t id; /* VOCAB_NONE: no token has these bytes. */
    uint32_t prev;
    uint32_t next; /* Offset behind the symbol; 0: dead. */
};

struct candidate {
    uint64_t order; /* rank << 32 | offset of the left symbol. */
    uint32_t end;   /* Behind the right symbol. */
    uint32_t result;
};

struct bpe_scratch {
    struct symbol *symbols; /* [word_bytes_max] */
    struct candidate *heap; /* [2 * word_bytes_max] */
    size_t heap_count;
    size_t word_bytes_max;
};

/* One word on its way through the merge loop. */
struct walk {
    const struct bpe *bpe;
    struct bpe_scratch *scratch;
    const char *word;
    uint32_t bytes;
    uint32_t first; /* Offset of the first symbol. */
};

void bpe_open(struct bpe *bpe, const struct vocab *vocab, enum bpe_unit unit)
{
    *bpe = (struct bpe){.vocab = vocab, .unit = unit, .unknown = VOCAB_NONE};
    for (size_t byte = 0; byte < 256; byte++) {
        const char text = (char)byte;
        bpe->byte_ids[byte] = unit == BPE_BYTES ? vocab_find(vocab, &text, 1) : VOCAB_NONE;
    }
    for (uint32_t id = 0; id < vocab->count && unit == BPE_CHARS; id++) {
        const struct vocab_token *token = vocab_at(vocab, id);
        if (token && token->flags & VOCAB_BYTE) {
            bpe->byte_ids[(uint8_t)*vocab_bytes(vocab, token)] = id;
        }
    }
}

void bpe_close(struct bpe *bpe)
{
    free(bpe->merges);
    free(bpe->ranks);
    *bpe = (struct bpe){0};
}

int bpe_reserve_merges(struct bpe *bpe, size_t count)
{
    must(!bpe->merges);
    if (count > BPE_MERGES_MAX) {
        return -EINVAL;
    }
    uint32_t slots = 16;
    while (slots < 2 * count) {
        slots *= 2;
    }
    bpe->merges = malloc(slots * sizeof *bpe->merges);
    if (!bpe->merges) {
        return -ENOMEM;
    }
    for (uint32_t slot = 0; slot < slots; slot++) {
        bpe->merges[slot].left = VOCAB_NONE;
    }
    bpe->merge_mask = slots - 1;
    bpe->merge_room = (uint32_t)count;
    return 0;
}

/* The slot of a pair, or the free one where it belongs. */
static struct bpe_merge *merge_slot(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    const uint64_t hash = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u; /* 2^64 / phi. */
    uint32_t slot = (uint32_t)(hash >> 32) & bpe->merge_mask;
    for (;; slot = (slot + 1) & bpe->merge_mask) { /* Ends: at most half are taken. */
        struct bpe_merge *merge = &bpe->merges[slot];
        if (merge->left == VOCAB_NONE || (merge->left == left && merge->right == right)) {
            return merge;
        }
    }
}

int bpe_add_merge(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t rank)
{
    char joined[2 * VOCAB_TOKEN_BYTES_MAX];
    must(bpe->merge_room > 0);
    const struct vocab_token *head = vocab_at(bpe->vocab, left);
    const struct vocab_token *tail = vocab_at(bpe->vocab, right);
    must(head && tail);
    memcpy(joined, vocab_bytes(bpe->vocab, head), head->count);
    memcpy(joined + head->count, vocab_bytes(bpe->vocab, tail), tail->count);
    const uint32_t result = vocab_find(bpe->vocab, joined, (size_t)head->count + tail->count);
    if (result == VOCAB_NONE) {
        return -ENOENT;
    }
    *merge_slot(bpe, left, right) =
        (struct bpe_merge){.left = left, .right = right, .rank = rank, .result = result};
    bpe->merge_room--;
    return 0;
}

/* Maps floats, highest first, to integers, lowest first. Both zeros are one. */
static uint32_t descending(float score)
{
    const float value = score + 0.0f;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return ~ascending;
}

int bpe_rank_by_score(struct bpe *bpe, const float *scores)
{
    must(!bpe->ranks && bpe->vocab->count > 0);
    for (uint32_t id = 0; id < bpe->vocab->count; id++) {
        if (scores[id] != scores[id]) {
            return -EINVAL;
        }
    }
    bpe->ranks = malloc(bpe->vocab->count * sizeof *bpe->ranks);
    if (!bpe->ranks) {
        return -ENOMEM;
    }
    for (uint32_t id = 0; id < bpe->vocab->count; id++) {
        bpe->ranks[id] = descending(scores[id]);
    }
    return 0;
}

int bpe_scratch_open(struct bpe_scratch **out, size_t word_bytes_max)
{
    struct bpe_scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch) {
        return -ENOMEM;
    }
    scratch->word_bytes_max = word_bytes_max;
    scratch->symbols = malloc((word_bytes_max + 1) * sizeof *scratch->symbols);
    scratch->heap = malloc((word_bytes_max + 1) * 2 * sizeof *scratch->heap);
    if (!scratch->symbols || !scratch->heap) {
        bpe_scratch_close(scratch);
        return -ENOMEM;
    }
    *out = scratch;
    return 0;
}

void bpe_scratch_close(struct bpe_scratch *scratch)
{
    if (scratch) {
        free(scratch->symbols);
        free(scratch->heap);
        free(scratch);
    }
}

static void heap_push(struct bpe_scratch *scratch, struct candidate candidate)
{
    struct candidate *heap = scratch->heap;
    size_t at = scratch->heap_count++;
    must(at < 2 * scratch->word_bytes_max);
    while (at > 0 && heap[(at - 1) / 2].order > candidate.order) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = candidate;
}

static struct candidate heap_pop(struct bpe_scratch *scratch)
{
    struct candidate *heap = scratch->heap;
    const struct candidate first = heap[0];
    const size_t count = --scratch->heap_count;
    const struct candidate moved = heap[count];
    size_t at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && heap[child + 1].order < heap[child].order) {
            child++;
        }
        if (heap[child].order >= moved.order) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
    return first;
}

/* Puts the pair that starts at left into the heap when it may merge. */
static void consider(const struct walk *walk, uint32_t left)
{
    const struct bpe *bpe = walk->bpe;
    const struct symbol *symbols = walk->scratch->symbols;
    const uint32_t right = symbols[left].next;
    if (right >= walk->bytes) {
        return;
    }
    const uint32_t end = symbols[right].next;
    uint32_t rank;
    uint32_t result;
    if (bpe->ranks) {
        result = vocab_find(bpe->vocab, walk->word + left, end - left);
        if (result == VOCAB_NONE) {
            return;
        }
        rank = bpe->ranks[result];
    } else {
        const struct bpe_merge *merge = merge_slot(bpe, symbols[left].id, symbols[right].id);
        if (symbols[left].id == VOCAB_NONE || merge->left == VOCAB_NONE) {
            return;
        }
        rank = merge->rank;
        result = merge->result;
    }
    heap_push(walk->scratch,
              (struct candidate){(uint64_t)rank << 32 | left, .end = end, .result = result});
}

/* Whether there is a byte token for each of these bytes. */
static bool has_byte_tokens(const struct bpe *bpe, const char *bytes, size_t count)
{
    bool all = bpe->unit == BPE_CHARS;
    for (size_t i = 0; i < count && all; i++) {
        all = bpe->byte_ids[(uint8_t)bytes[i]] != VOCAB_NONE;
    }
    return all;
}

/* Cuts the word into its first symbols. With merges, what no token can stand for is no symbol: its
 * neighbours touch, as in Hugging Face's BPE. */
static void seed(struct walk *walk)
{
    const struct bpe *bpe = walk->bpe;
    struct symbol *symbols = walk->scratch->symbols;
    const bool drops = !bpe->ranks && bpe->unknown == VOCAB_NONE;
    uint32_t prev = walk->bytes;
    walk->first = walk->bytes;
    for (uint32_t at = 0; at < walk->bytes;) {
        uint32_t bytes = 1;
        uint32_t id = bpe->byte_ids[(uint8_t)walk->word[at]];
        if (bpe->unit == BPE_CHARS) {
            bytes = utf8_lead((uint8_t)walk->word[at]);
            must(bytes > 0 && bytes <= walk->bytes - at);
            id = vocab_find(bpe->vocab, walk->word + at, bytes);
        }
        if (!drops || id != VOCAB_NONE || has_byte_tokens(bpe, walk->word + at, bytes)) {
            symbols[at] = (struct symbol){.id = id, .prev = prev};
            walk->first = prev == walk->bytes ? at : walk->first;
            prev = at;
        }
        at += bytes;
        if (prev < walk->bytes) {
            symbols[prev].next = at; /* Over what was left out, too. */
        }
    }
}

static void merge_all(const struct walk *walk)
{
    struct bpe_scratch *scratch = walk->scratch;
    struct symbol *symbols = scratch->symbols;
    scratch->heap_count = 0;
    for (uint32_t at = walk->first; at < walk->bytes; at = symbols[at].next) {
        consider(walk, at);
    }
    while (scratch->heap_count > 0) {
        const struct candidate best = heap_pop(scratch);
        const uint32_t left = (uint32_t)best.order;
        const uint32_t right = symbols[left].next;
        if (right == 0 || right >= walk->bytes || symbols[right].next != best.end) {
            continue; /* Stale. */
        }
        symbols[left].id = best.result;
        symbols[left].next = best.end;
        symbols[right].next = 0;
        if (best.end < walk->bytes) {
            symbols[best.end].prev = left;
        }
        if (left > walk->first) {
            consider(walk, symbols[left].prev);
        }
        consider(walk, left);
    }
}

/* Ids for a first symbol that is no piece: byte tokens if there are all of them, else the unknown
 * one. *unknown_before: the id before it was already an unknown, which may swallow this one. */
static int fall_back(const struct bpe *bpe, const char *bytes, bool *unknown_before,
                     struct ids *ids)
{
    const size_t count = bpe->unit == BPE_CHARS ? utf8_lead((uint8_t)*bytes) : 1;
    if (has_byte_tokens(bpe, bytes, count)) {
        *unknown_before = false;
        int error = 0;
        for (size_t i = 0; i < count && !error; i++) {
            error = ids_push(ids, bpe->byte_ids[(uint8_t)bytes[i]]);
        }
        return error;
    }
    if (bpe->unknown == VOCAB_NONE || (*unknown_before && bpe->fuse_unknown)) {
        return 0;
    }
    *unknown_before = true;
    return ids_push(ids, bpe->unknown);
}

static int emit(const struct walk *walk, struct ids *ids)
{
    const struct symbol *symbols = walk->scratch->symbols;
    bool unknown_before = false;
    int error = 0;
    for (uint32_t at = walk->first; at < walk->bytes && !error; at = symbols[at].next) {
        const struct symbol *symbol = &symbols[at];
        if (symbol->id == VOCAB_NONE) {
            error = fall_back(walk->bpe, walk->word + at, &unknown_before, ids);
        } else {
            unknown_before = false;
            error = ids_push(ids, symbol->id);
        }
    }
    return error;
}

int bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *word, size_t bytes,
               struct ids *ids)
{
    must(bytes <= scratch->word_bytes_max);
    if (bpe->whole_words) {
        const uint32_t id = vocab_find(bpe->vocab, word, bytes);
        if (id != VOCAB_NONE) {
            return ids_push(ids, id);
        }
    }
    struct walk walk = {.bpe = bpe, .scratch = scratch, .word = word, .bytes = (uint32_t)bytes};
    seed(&walk);
    merge_all(&walk);
    return emit(&walk, ids);
}
