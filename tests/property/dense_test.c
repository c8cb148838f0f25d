/*
 * dense_test.c - a step holds the dense batch exactly whenever enough work is waiting: over random
 * mixes of arrivals, lengths, holds, cancels, slots and pools the tokens of a step are
 *
 *     min(max(dense batch, answers that are due), what could run)
 *
 * What could run is worked out here from the state before the step and the rules alone: the
 * uncomputed tokens of the running requests that keep their pages, and of the queue's first ones
 * that find a slot and pages for their known tokens and one more. Where prompts are shared and a
 * request may have to wait for another's page, the same is said from behind: a step below the dense
 * batch has left nothing that it could have taken.
 *
 * SLUICE_CASES: how many steps with enough work, 10,000 unless told. SLUICE_SEED: the first seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/sched.h"
#include "base/prng.h"

enum {
    REQUESTS = 96,
    SLOTS = 32,
    TOKENS = 160,
    PAGES = 240,
    CONTEXT = 128,
    FAMILIES = 3,
    TURNS = 120,
};

struct client {
    bool live;
    bool held;
    uint32_t end;
    uint64_t arrival;
    uint32_t ids[CONTEXT];
};

struct world {
    uint64_t seed;
    uint64_t draws;
    bool shares;
    struct arena arena;
    struct sched sched;
    struct sched_step step;
    struct client client[REQUESTS];
    uint64_t arrivals;
};

struct tally {
    uint64_t full; /* Steps with enough work. */
    uint64_t short_of_work;
    uint64_t yields; /* Steps in which somebody gave its pages back. */
    uint64_t queued; /* Full steps that left requests waiting. */
};

static uint32_t draw(struct world *world, uint32_t bound)
{
    return (uint32_t)(prng_bits(world->seed, world->draws++, 0) % bound);
}

static void open_world(struct world *world, uint64_t seed, bool shares)
{
    memset(world, 0, sizeof *world);
    world->seed = seed;
    world->shares = shares;
    struct sched_options options = {
        .requests_max = REQUESTS,
        .slots_max = 1 + draw(world, SLOTS),
        .page_tokens = 1 + draw(world, 16),
        .page_count = 8 + draw(world, PAGES - 7),
        .context_max = 8 + draw(world, CONTEXT - 7),
    };
    options.tokens_max = options.slots_max + draw(world, TOKENS - options.slots_max);
    const size_t bytes = sched_bytes(&options) + sched_step_bytes(SLOTS);
    assert_int_equal(arena_open(&world->arena, bytes), 0);
    assert_int_equal(sched_open(&world->sched, &world->arena, &options), 0);
    assert_int_equal(sched_step_open(&world->step, &world->arena, SLOTS), 0);
}

static void arrive(struct world *world, uint32_t index)
{
    struct client *client = &world->client[index];
    const uint32_t context = world->sched.options.context_max;
    const uint32_t longest = draw(world, 3) == 0 ? context - 1 : 1 + context / 8;
    const uint32_t prompt = 1 + draw(world, longest);
    const uint32_t end = prompt + 1 + draw(world, context - prompt);
    if (client->live || !sched_fits(&world->sched, end)) {
        return;
    }
    const uint64_t family = draw(world, FAMILIES);
    const uint32_t alike = draw(world, CONTEXT);
    *client = (struct client){.live = true, .end = end, .arrival = world->arrivals++};
    for (uint32_t i = 0; i < CONTEXT; i++) {
        const uint64_t sequence = i < alike ? family : FAMILIES + world->arrivals;
        client->ids[i] = (uint32_t)prng_bits(sequence, i, 1);
    }
    sched_add(&world->sched, index, world->shares ? client->ids : NULL, prompt, NULL);
}

static void disturb(struct world *world, bool busy)
{
    const uint32_t arrivals = busy ? draw(world, 12) : draw(world, 3);
    for (uint32_t i = 0; i < arrivals; i++) {
        arrive(world, draw(world, REQUESTS));
    }
    const uint32_t index = draw(world, REQUESTS);
    struct client *client = &world->client[index];
    const uint32_t what = draw(world, 24);
    if (client->live && what == 0) {
        sched_remove(&world->sched, index);
        client->live = false;
    } else if (client->live && what < 6) {
        client->held = what < 3;
        sched_hold(&world->sched, index, client->held);
    }
}

static uint64_t pages_for(const struct world *world, uint64_t tokens)
{
    const uint64_t page = world->sched.options.page_tokens;
    return (tokens + page - 1) / page;
}

static bool idles(const struct sched_entry *entry)
{
    return entry->held && entry->last_on_worker;
}

/* Pages that the entry's next token asks for beyond what it has. */
static uint64_t growth(const struct world *world, const struct sched_entry *entry)
{
    const uint64_t want = pages_for(world, entry->tokens);
    const bool decodes = !idles(entry) && entry->tokens - entry->computed == 1;
    return decodes && want > entry->page_count ? want - entry->page_count : 0;
}

/* How many of the running requests, oldest first, go on when the youngest yield to them. */
static uint32_t keepers(const struct world *world)
{
    const struct sched *sched = &world->sched;
    for (uint32_t kept = sched->running_count; kept > 0; kept--) {
        uint64_t wanted = 0;
        uint64_t pages = sched->pages.free_count;
        for (uint32_t i = 0; i < sched->running_count; i++) {
            const struct sched_entry *entry = &sched->entry[sched->running[i]];
            wanted += i < kept ? growth(world, entry) : 0;
            pages += i < kept ? 0 : entry->page_count;
        }
        if (wanted <= pages) {
            return kept;
        }
    }
    return 0;
}

/* The oldest live request that is neither among the kept nor older than `after`. */
static uint32_t next_in_queue(const struct world *world, uint32_t kept, uint64_t after)
{
    uint32_t best = SCHED_NONE;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        bool runs = false;
        for (uint32_t k = 0; k < kept; k++) {
            runs = runs || world->sched.running[k] == i;
        }
        const struct client *client = &world->client[i];
        if (client->live && !runs && client->arrival >= after &&
            (best == SCHED_NONE || client->arrival < world->client[best].arrival)) {
            best = i;
        }
    }
    return best;
}

/* Tokens of the kept that are due whatever the dense batch is. */
static uint64_t due(const struct world *world)
{
    const uint32_t kept = keepers(world);
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < kept; i++) {
        const struct sched_entry *entry = &world->sched.entry[world->sched.running[i]];
        tokens += !idles(entry) && entry->tokens - entry->computed == 1;
    }
    return tokens;
}

/* Tokens that could run in the next step, by the rules. */
static uint64_t supply(const struct world *world)
{
    const struct sched *sched = &world->sched;
    const uint32_t kept = keepers(world);
    uint64_t tokens = 0;
    uint64_t pages = sched->pages.free_count;
    uint32_t slots = sched->options.slots_max - kept;
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const struct sched_entry *entry = &sched->entry[sched->running[i]];
        tokens += i < kept && !idles(entry) ? entry->tokens - entry->computed : 0;
        pages += i < kept ? 0 : entry->page_count;
        pages -= i < kept ? growth(world, entry) : 0;
    }
    uint64_t after = 0;
    for (; slots > 0; slots--) {
        const uint32_t head = next_in_queue(world, kept, after);
        if (head == SCHED_NONE) {
            break;
        }
        const uint64_t known = sched->entry[head].tokens;
        const uint64_t most = pages_for(world, sched->options.context_max);
        uint64_t want = pages_for(world, known + 1);
        want = want < most ? want : most;
        want = want < sched->options.page_count ? want : sched->options.page_count;
        if (want > pages) {
            break;
        }
        pages -= want;
        tokens += known;
        after = world->client[head].arrival + 1;
    }
    return tokens;
}

/* After a step that is not full: nobody who runs has tokens left but those who idle or wait for
 * another's page, and the queue's head finds no slot or no pages. */
static void check_nothing_left(const struct world *world)
{
    const struct sched *sched = &world->sched;
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const struct sched_entry *entry = &sched->entry[sched->running[i]];
        const bool borrowed = entry->computed < entry->shared_pages * sched->options.page_tokens ||
                              entry->tail_page != PREFIX_NONE;
        assert_true(idles(entry) || borrowed || entry->computed == entry->tokens - entry->to_come);
    }
    const uint32_t head = next_in_queue(world, sched->running_count, 0);
    if (head != SCHED_NONE && sched->free_slot_count > 0) {
        assert_true(pages_for(world, (uint64_t)sched->entry[head].tokens + 1) >
                    sched->pages.free_count);
    }
}

static void finish_step(struct world *world)
{
    struct sched *sched = &world->sched;
    sched_commit(sched, &world->step);
    sched_verify(sched);
    for (uint32_t i = 0; i < world->step.row_count; i++) {
        const struct sched_row *row = &world->step.rows[i];
        struct client *client = &world->client[row->request];
        if (sched_row_current(sched, row) && sched->entry[row->request].tokens == client->end) {
            sched_remove(sched, row->request);
            client->live = false;
        }
    }
}

static void turn(struct world *world, struct tally *tally)
{
    struct sched *sched = &world->sched;
    if (draw(world, 4) == 0) {
        sched_set_dense(sched, 1 + draw(world, sched->options.tokens_max));
    }
    const uint64_t could_run = world->shares ? 0 : supply(world);
    const uint64_t answers = world->shares ? 0 : due(world);
    const uint64_t dense = answers > sched->dense ? answers : sched->dense;
    const uint64_t preemptions = sched->preemptions;
    const bool formed = sched_form(sched, &world->step);
    const uint32_t tokens = formed ? world->step.token_count : 0;
    assert_true(tokens <= sched->options.tokens_max);
    if (!world->shares) {
        assert_int_equal(tokens, could_run < dense ? could_run : dense);
    }
    if (tokens < dense) {
        check_nothing_left(world);
    }
    tally->full += tokens >= dense;
    tally->short_of_work += tokens < dense;
    tally->yields += sched->preemptions > preemptions;
    tally->queued += tokens >= dense && sched->fair.waiting_count > 0;
    if (formed) {
        finish_step(world);
    }
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void check_worlds(bool shares)
{
    const uint64_t cases = number("SLUICE_CASES", 10000);
    const uint64_t first = number("SLUICE_SEED", 1);
    struct world *world = malloc(sizeof *world);
    struct tally tally = {0};
    assert_non_null(world);
    uint64_t seed = first;
    for (; tally.full < cases; seed++) {
        open_world(world, seed, shares);
        for (uint32_t i = 0; i < TURNS; i++) {
            disturb(world, i % 40 < 30);
            turn(world, &tally);
        }
        arena_close(&world->arena);
    }
    print_message("seeds %llu to %llu: %llu steps full, %llu of them with a queue, %llu short of "
                  "work, %llu in which a request yielded\n",
                  (unsigned long long)first, (unsigned long long)(seed - 1),
                  (unsigned long long)tally.full, (unsigned long long)tally.queued,
                  (unsigned long long)tally.short_of_work, (unsigned long long)tally.yields);
    assert_true(tally.short_of_work > cases / 100 && tally.yields > cases / 100);
    free(world);
}

static void fills_the_dense_batch_exactly(void **state)
{
    (void)state;
    check_worlds(false);
}

static void leaves_no_work_where_prompts_are_shared(void **state)
{
    (void)state;
    check_worlds(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_the_dense_batch_exactly),
        cmocka_unit_test(leaves_no_work_where_prompts_are_shared),
    };
    return cmocka_run_group_tests_name("dense", tests, NULL, NULL);
}
