/*
 * bpe_test.c - the vocabulary and the merge loop: order of merges, ties, byte fallback, unknowns,
 * scores, bounds, and agreement with a plain quadratic merge loop on random words.
 */
#include "model/bpe.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

enum { WORD_BYTES_MAX = 1 << 12 };

static void open_vocab(struct vocab *vocab, const char *const *pieces, uint32_t count)
{
    assert_int_equal(vocab_open(vocab, count), 0);
    for (uint32_t id = 0; id < count; id++) {
        assert_int_equal(vocab_set(vocab, id, pieces[id], strlen(pieces[id]), VOCAB_PIECE), 0);
    }
    assert_int_equal(vocab_index(vocab), 0);
}

static void add_merge(struct bpe *bpe, const char *left, const char *right, uint32_t rank)
{
    assert_int_equal(bpe_add_merge(bpe, vocab_find(bpe->vocab, left, strlen(left)),
                                   vocab_find(bpe->vocab, right, strlen(right)), rank),
                     0);
}

static void expect(const struct bpe *bpe, const char *word, const uint32_t *ids, size_t count)
{
    uint32_t items[WORD_BYTES_MAX];
    struct ids got = {.items = items, .max = WORD_BYTES_MAX};
    struct bpe_scratch *scratch;
    assert_int_equal(bpe_scratch_open(&scratch, strlen(word)), 0);
    assert_int_equal(bpe_encode(bpe, scratch, word, strlen(word), &got), 0);
    assert_int_equal(got.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(items[i], ids[i]);
    }
    bpe_scratch_close(scratch);
}

#define EXPECT(bpe, word, ...)                                                                     \
    expect(bpe, word, (const uint32_t[]){__VA_ARGS__},                                             \
           sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void vocabulary_refuses(void **state)
{
    (void)state;
    static char large[VOCAB_TOKEN_BYTES_MAX + 1];
    struct vocab vocab;
    assert_int_equal(vocab_open(&vocab, 0), -EINVAL);
    assert_int_equal(vocab_open(&vocab, LIMIT_VOCAB_MAX + 1), -EINVAL);
    assert_int_equal(vocab_open(&vocab, 3), 0);
    assert_int_equal(vocab_set(&vocab, 3, "a", 1, VOCAB_PIECE), -EINVAL);
    assert_int_equal(vocab_set(&vocab, 0, large, sizeof large, VOCAB_PIECE), -E2BIG);
    assert_int_equal(vocab_set(&vocab, 0, "a", 1, VOCAB_PIECE), 0);
    assert_int_equal(vocab_set(&vocab, 0, "b", 1, VOCAB_PIECE), -EEXIST);
    assert_int_equal(vocab_set(&vocab, 2, "a", 1, VOCAB_PIECE), 0);
    assert_int_equal(vocab_index(&vocab), 0);
    assert_int_equal(vocab_find(&vocab, "a", 1), 0); /* Of equal ones the lowest. */
    assert_int_equal(vocab_find(&vocab, "b", 1), VOCAB_NONE);
    assert_int_equal(vocab_find(&vocab, "", 0), VOCAB_NONE);
    assert_null(vocab_at(&vocab, 1));
    assert_null(vocab_at(&vocab, 3));
    vocab_mark_special(&vocab, 0);
    assert_int_equal(vocab_index(&vocab), 0);
    assert_int_equal(vocab_find(&vocab, "a", 1), 2); /* A special token is no piece. */
    vocab_close(&vocab);
}

static void merges_by_rank_then_from_the_left(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b", "c", "ab", "bc", "abc", "aa", "aaaa"};
    struct vocab vocab;
    struct bpe bpe;
    open_vocab(&vocab, pieces, 8);
    bpe_open(&bpe, &vocab, BPE_BYTES);
    assert_int_equal(bpe_reserve_merges(&bpe, 5), 0);
    add_merge(&bpe, "b", "c", 0);
    add_merge(&bpe, "a", "b", 1);
    add_merge(&bpe, "a", "a", 2);
    add_merge(&bpe, "aa", "aa", 3);
    assert_int_equal(bpe_add_merge(&bpe, 2, 2, 4), -ENOENT); /* "cc" is no piece. */
    EXPECT(&bpe, "a", 0);
    EXPECT(&bpe, "abc", 0, 4); /* bc before ab; "a" + "bc" may not merge. */
    EXPECT(&bpe, "abab", 3, 3);
    EXPECT(&bpe, "aaa", 6, 0); /* The left pair first. */
    EXPECT(&bpe, "aaaaaaa", 7, 6, 0);
    EXPECT(&bpe, "xaxxbx", 3); /* No token for x and no unknown: its neighbours touch. */
    expect(&bpe, "xxx", NULL, 0);
    bpe.unknown = 2;
    EXPECT(&bpe, "axb", 0, 2, 1);
    bpe.unknown = VOCAB_NONE;
    expect(&bpe, "", NULL, 0);
    bpe.whole_words = true;
    EXPECT(&bpe, "abc", 5);
    bpe_close(&bpe);
    vocab_close(&vocab);
}

static void the_last_of_equal_merges_counts(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b", "c", "ab", "bc"};
    struct vocab vocab;
    struct bpe bpe;
    open_vocab(&vocab, pieces, 5);
    bpe_open(&bpe, &vocab, BPE_BYTES);
    assert_int_equal(bpe_reserve_merges(&bpe, 3), 0);
    add_merge(&bpe, "a", "b", 0);
    add_merge(&bpe, "b", "c", 1);
    EXPECT(&bpe, "abc", 3, 2);
    add_merge(&bpe, "a", "b", 2);
    EXPECT(&bpe, "abc", 0, 4);
    bpe_close(&bpe);
    vocab_close(&vocab);
}

static void falls_back_to_bytes_then_to_unknown(void **state)
{
    (void)state;
    struct vocab vocab;
    struct bpe bpe;
    assert_int_equal(vocab_open(&vocab, 5), 0);
    assert_int_equal(vocab_set(&vocab, 0, "<unk>", 5, VOCAB_SPECIAL), 0);
    assert_int_equal(vocab_set(&vocab, 1, "a", 1, VOCAB_PIECE), 0);
    assert_int_equal(vocab_set(&vocab, 2, "\xc3", 1, VOCAB_BYTE), 0);
    assert_int_equal(vocab_set(&vocab, 3, "\xa9", 1, VOCAB_BYTE), 0);
    assert_int_equal(vocab_set(&vocab, 4, "\xe4\xb8\xad", 3, VOCAB_PIECE), 0);
    assert_int_equal(vocab_index(&vocab), 0);
    bpe_open(&bpe, &vocab, BPE_CHARS);
    assert_int_equal(bpe_reserve_merges(&bpe, 0), 0);
    EXPECT(&bpe, "a\xc3\xa9\xe4\xb8\xad", 1, 2, 3, 4);
    EXPECT(&bpe, "a\xc3\xb1\x61", 1, 1); /* One byte of it has no token. */
    EXPECT(&bpe, "\xc3\xa9\xc3\xb1\x61", 2, 3, 1);
    bpe.unknown = 0;
    EXPECT(&bpe,
           "xy"
           "a\xc3\xb1z\xc3\xa9x",
           0, 0, 1, 0, 0, 2, 3, 0);
    bpe.fuse_unknown = true;
    EXPECT(&bpe,
           "xy"
           "a\xc3\xb1z\xc3\xa9x",
           0, 1, 0, 2, 3, 0);
    bpe_close(&bpe);
    vocab_close(&vocab);
}

static void scores_decide_in_their_order(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b", "c", "ab", "bc", "abc"};
    float scores[] = {-9.0f, -9.0f, -9.0f, -2.0f, -1.0f, -3.0f};
    struct vocab vocab;
    struct bpe bpe;
    open_vocab(&vocab, pieces, 6);
    bpe_open(&bpe, &vocab, BPE_CHARS);
    scores[1] = NAN;
    assert_int_equal(bpe_rank_by_score(&bpe, scores), -EINVAL);
    scores[1] = 0.5f;
    assert_int_equal(bpe_rank_by_score(&bpe, scores), 0);
    EXPECT(&bpe, "abc", 5); /* bc, then a + bc: the joined bytes are a piece. */
    EXPECT(&bpe, "abbc", 3, 4);
    assert_true(bpe.ranks[1] < bpe.ranks[4] && bpe.ranks[4] < bpe.ranks[3]);
    bpe_close(&bpe);
    scores[3] = -0.0f;
    scores[4] = 0.0f;
    bpe_open(&bpe, &vocab, BPE_CHARS);
    assert_int_equal(bpe_rank_by_score(&bpe, scores), 0);
    assert_int_equal(bpe.ranks[3], bpe.ranks[4]); /* Equal scores rank equal. */
    bpe_close(&bpe);
    vocab_close(&vocab);
}

static void refuses_a_full_list(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b"};
    uint32_t items[2];
    struct ids ids = {.items = items, .max = 2};
    struct bpe_scratch *scratch;
    struct vocab vocab;
    struct bpe bpe;
    open_vocab(&vocab, pieces, 2);
    bpe_open(&bpe, &vocab, BPE_BYTES);
    assert_int_equal(bpe_reserve_merges(&bpe, (size_t)BPE_MERGES_MAX + 1), -EINVAL);
    assert_int_equal(bpe_reserve_merges(&bpe, 0), 0);
    assert_int_equal(bpe_scratch_open(&scratch, 3), 0);
    assert_int_equal(bpe_encode(&bpe, scratch, "ab", 2, &ids), 0);
    assert_int_equal(bpe_encode(&bpe, scratch, "a", 1, &ids), -E2BIG);
    bpe_scratch_close(scratch);
    bpe_close(&bpe);
    vocab_close(&vocab);
}

/* The definition: look for the best pair, merge it, start again. */
static size_t merge_plainly(const struct bpe *bpe, uint32_t ranks[8][8], uint32_t *ids,
                            size_t count)
{
    for (;;) {
        size_t best = count;
        uint32_t rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < count; i++) {
            if (ids[i] < 8 && ids[i + 1] < 8 && ranks[ids[i]][ids[i + 1]] < rank) {
                rank = ranks[ids[i]][ids[i + 1]];
                best = i;
            }
        }
        if (best == count) {
            return count;
        }
        char joined[64];
        const struct vocab_token *left = vocab_at(bpe->vocab, ids[best]);
        const struct vocab_token *right = vocab_at(bpe->vocab, ids[best + 1]);
        memcpy(joined, vocab_bytes(bpe->vocab, left), left->count);
        memcpy(joined + left->count, vocab_bytes(bpe->vocab, right), right->count);
        ids[best] = vocab_find(bpe->vocab, joined, (size_t)left->count + right->count);
        memmove(&ids[best + 1], &ids[best + 2], (count - best - 2) * sizeof *ids);
        count--;
    }
}

static void agrees_with_the_definition(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a",    "b",    "aa",   "ab",   "ba",
                                         "aab",  "abab", "bb",   "bab",  "aaaa",
                                         "bbab", "abba", "aaab", "baba", "bba"};
    enum { PIECES = sizeof pieces / sizeof *pieces };
    struct vocab vocab;
    struct bpe_scratch *scratch;
    open_vocab(&vocab, pieces, PIECES);
    assert_int_equal(bpe_scratch_open(&scratch, 64), 0);
    for (uint64_t round = 0; round < 400; round++) {
        uint32_t ranks[8][8];
        struct bpe bpe;
        bpe_open(&bpe, &vocab, BPE_BYTES);
        assert_int_equal(bpe_reserve_merges(&bpe, 64), 0);
        for (uint32_t pair = 0; pair < 64; pair++) { /* Ranks in a random order, each once. */
            const uint32_t rank =
                (uint32_t)((pair * 37 + prng_bits(7, round, 0)) % 64); /* 37 is odd. */
            const uint32_t left = pair / 8;
            const uint32_t right = pair % 8;
            ranks[left][right] = bpe_add_merge(&bpe, left, right, rank) == 0 ? rank : UINT32_MAX;
        }
        char word[64];
        uint32_t plain[64];
        uint32_t items[64];
        const size_t bytes = 1 + prng_bits(7, round, 1) % 63;
        for (size_t i = 0; i < bytes; i++) {
            word[i] = prng_bits(7, round, 2 + (uint32_t)i) & 1 ? 'a' : 'b';
            plain[i] = word[i] == 'a' ? 0 : 1;
        }
        struct ids ids = {.items = items, .max = 64};
        assert_int_equal(bpe_encode(&bpe, scratch, word, bytes, &ids), 0);
        assert_int_equal(merge_plainly(&bpe, ranks, plain, bytes), ids.count);
        assert_memory_equal(items, plain, ids.count * sizeof *items);
        bpe_close(&bpe);
    }
    bpe_scratch_close(scratch);
    vocab_close(&vocab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocabulary_refuses),
        cmocka_unit_test(merges_by_rank_then_from_the_left),
        cmocka_unit_test(the_last_of_equal_merges_counts),
        cmocka_unit_test(falls_back_to_bytes_then_to_unknown),
        cmocka_unit_test(scores_decide_in_their_order),
        cmocka_unit_test(refuses_a_full_list),
        cmocka_unit_test(agrees_with_the_definition),
    };
    return cmocka_run_group_tests_name("bpe", tests, NULL, NULL);
}
