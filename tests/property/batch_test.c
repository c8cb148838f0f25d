/*
 * batch_test.c - in f32, with eight-bit weights or without, a request's logits are the same bits
 * alone and in any company: random batches, random chunks of prompts, random pages, random
 * preemption with recompute, any number of threads. Prints its seed; SLUICE_SEED sets it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/prng.h"
#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/tiny_model.h"

enum {
    SEQUENCES = 9,
    CONTEXT = 160,
    PAGE_TOKENS = 16,
    PAGES = CONTEXT / PAGE_TOKENS,
    DEVICE_PAGES = SEQUENCES * PAGES + 7,
    TOKENS_MAX = 75,
    VOCAB = 131,
    GENERATED = 24,
    ROUNDS = 4,
};

/* Odd sizes everywhere: nothing is a multiple of a vector. */
static const struct tiny_model model = {.hidden = 72,
                                        .layers = 3,
                                        .heads = 6,
                                        .kv_heads = 3,
                                        .head_dim = 20,
                                        .ffn = 107,
                                        .vocab = VOCAB,
                                        .positions = CONTEXT,
                                        .seed = 99};

struct dice {
    uint64_t seed;
    uint64_t throws;
};

static uint32_t below(struct dice *dice, uint32_t bound)
{
    return (uint32_t)(prng_bits(dice->seed, dice->throws++, 0) % bound);
}

struct sequence {
    uint32_t ids[CONTEXT]; /* Prompt, then what was generated. */
    uint32_t prompt;
    uint32_t count;    /* Tokens known. */
    uint32_t computed; /* Tokens whose KV is there. */
    uint32_t pages[PAGES];
    uint64_t hash[GENERATED]; /* Of the logits that gave each generated token, alone. */
    uint32_t expected[GENERATED];
};

static void make_prompt(struct sequence *sequence, struct dice *dice)
{
    sequence->prompt = 1 + below(dice, CONTEXT - GENERATED - 1);
    for (uint32_t i = 0; i < sequence->prompt; i++) {
        sequence->ids[i] = below(dice, VOCAB);
    }
}

static void run_alone(struct probe *probe, struct sequence *sequence)
{
    probe_restart(probe);
    const float *logits = probe_feed(probe, sequence->ids, sequence->prompt);
    for (uint32_t i = 0; i < GENERATED; i++) {
        sequence->hash[i] = hash_u64(logits, VOCAB * sizeof *logits);
        sequence->expected[i] = probe_best(logits, VOCAB, NULL);
        logits = probe_feed(probe, &sequence->expected[i], 1);
    }
}

/* Gives each sequence other pages than before, in no order. */
static void deal_pages(struct sequence *sequences, struct dice *dice)
{
    uint32_t deck[DEVICE_PAGES];
    for (uint32_t i = 0; i < DEVICE_PAGES; i++) {
        const uint32_t at = below(dice, i + 1);
        deck[i] = deck[at];
        deck[at] = i;
    }
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        memcpy(sequences[i].pages, deck + (size_t)i * PAGES, sizeof sequences[i].pages);
    }
}

static bool finished(const struct sequence *sequence)
{
    return sequence->count == sequence->prompt + GENERATED;
}

/* Some of the unfinished sequences, each with one to all of its tokens that are due. */
static uint32_t form_batch(struct sequence *sequences, struct dice *dice, uint32_t *ids,
                           struct engine_row *rows, struct sequence **owners)
{
    uint32_t tokens = 0;
    uint32_t count = 0;
    const uint32_t start = below(dice, SEQUENCES);
    for (uint32_t i = 0; i < SEQUENCES && tokens < TOKENS_MAX; i++) {
        struct sequence *sequence = &sequences[(start + i) % SEQUENCES];
        if (finished(sequence) || below(dice, 4) == 0) {
            continue;
        }
        if (below(dice, 40) == 0) {
            sequence->computed = 0; /* Preempted: everything is computed again. */
        }
        const uint32_t due = sequence->count - sequence->computed;
        const uint32_t room = TOKENS_MAX - tokens;
        uint32_t here = below(dice, 2) ? due : 1 + below(dice, due);
        here = here < room ? here : room;
        memcpy(ids + tokens, sequence->ids + sequence->computed, here * sizeof *ids);
        rows[count] = (struct engine_row){.pages = sequence->pages,
                                          .first = tokens,
                                          .tokens = here,
                                          .position = sequence->computed,
                                          .wants_logits = here == due};
        owners[count++] = sequence;
        tokens += here;
    }
    return count;
}

static void take_results(const struct probe *probe, const struct engine_row *rows,
                         struct sequence **owners, uint32_t count)
{
    uint32_t sampled = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct sequence *sequence = owners[i];
        sequence->computed += rows[i].tokens;
        if (rows[i].wants_logits) {
            const float *logits = engine_logits(probe->engine, sampled++);
            const uint32_t nth = sequence->count - sequence->prompt;
            const uint32_t id = probe_best(logits, VOCAB, NULL);
            assert_int_equal(id, sequence->expected[nth]);
            assert_int_equal(hash_u64(logits, VOCAB * sizeof *logits), sequence->hash[nth]);
            sequence->ids[sequence->count++] = id;
        }
    }
}

static void run_together(struct probe *probe, struct sequence *sequences, struct dice *dice)
{
    deal_pages(sequences, dice);
    uint32_t unfinished = SEQUENCES;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        sequences[i].count = sequences[i].prompt;
        sequences[i].computed = 0;
    }
    while (unfinished > 0) {
        uint32_t ids[TOKENS_MAX];
        struct engine_row rows[SEQUENCES];
        struct sequence *owners[SEQUENCES];
        const uint32_t count = form_batch(sequences, dice, ids, rows, owners);
        if (count > 0) {
            const struct engine_batch batch = {
                .ids = ids, .rows = rows, .row_count = count, .plan = &probe->plan};
            engine_run(probe->engine, &batch);
            take_results(probe, rows, owners, count);
        }
        unfinished = 0;
        for (uint32_t i = 0; i < SEQUENCES; i++) {
            unfinished += !finished(&sequences[i]);
        }
    }
}

static struct probe open_with_threads(const char *path, enum matmul_weights weights,
                                      uint32_t threads)
{
    return probe_open(path, (struct engine_options){.dtype = KERN_F32,
                                                    .weights = weights,
                                                    .isa = kern_isa_detect(),
                                                    .threads = threads,
                                                    .tokens_max = TOKENS_MAX,
                                                    .rows_max = SEQUENCES,
                                                    .page_tokens = PAGE_TOKENS,
                                                    .device_pages = DEVICE_PAGES});
}

static void check_company(const struct tiny_model *written, enum matmul_weights weights)
{
    const char *given = getenv("SLUICE_SEED");
    struct dice dice = {.seed = given ? strtoull(given, NULL, 10) : 1};
    print_message("seed %llu\n", (unsigned long long)dice.seed);
    char path[TINY_MODEL_PATH_BYTES];
    tiny_model_write(written, path);
    static struct sequence sequences[SEQUENCES];
    struct probe alone = open_with_threads(path, weights, 1);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        make_prompt(&sequences[i], &dice);
        run_alone(&alone, &sequences[i]);
    }
    probe_close(&alone);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        struct probe probe = open_with_threads(path, weights, threads);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            run_together(&probe, sequences, &dice);
        }
        probe_close(&probe);
    }
    tiny_model_remove(path);
}

static void company_changes_no_bit(void **state)
{
    (void)state;
    check_company(&model, MATMUL_WEIGHTS_DTYPE);
}

static void company_changes_no_bit_of_a_window(void **state)
{
    (void)state;
    struct tiny_model windowed = model;
    windowed.sliding_window = 37;
    check_company(&windowed, MATMUL_WEIGHTS_DTYPE);
}

static void company_changes_no_bit_of_experts(void **state)
{
    (void)state;
    struct tiny_model mixture = model;
    mixture.experts = 7;
    mixture.experts_used = 3;
    mixture.ffn = 53;
    check_company(&mixture, MATMUL_WEIGHTS_DTYPE);
}

static void company_changes_no_bit_of_int8(void **state)
{
    (void)state;
    if (!(kern_isa_detect() & KERN_ISA_AVX512_VNNI)) {
        print_message("skipped: this CPU has no AVX512_VNNI\n");
        skip();
    }
    check_company(&model, MATMUL_WEIGHTS_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(company_changes_no_bit_of_a_window),
        cmocka_unit_test(company_changes_no_bit_of_experts),
        cmocka_unit_test(company_changes_no_bit_of_int8),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
