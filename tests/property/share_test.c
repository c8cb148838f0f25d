/*
 * share_test.c - the real scheduler between tenants that ask for different things, at random: what
 * two tenants that both wait all the time are charged differs by no more than the bound of fair.h,
 * whatever else comes and goes, yields and is computed again; and everybody gets in and ends.
 *
 * SLUICE_SEEDS: how many worlds, 200 unless told. SLUICE_SEED: the first.
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
    TENANTS = 4,
    SLOTS = 16,
    QUEUE = SLOTS + 1, /* Requests that a tenant keeps waiting: more than enter in a step. */
    REQUESTS = TENANTS * QUEUE + 2 * SLOTS,
    CONTEXT = 96,
    TURNS = 1500,
    LEVELS = 2, /* Priorities are from -LEVELS to LEVELS. */
};

struct client {
    bool live;
    bool counted; /* Its prompt. */
    uint32_t tenant;
    uint32_t prompt;
    uint32_t end;
    uint64_t since; /* Turn of its arrival. */
};

struct tenant {
    bool greedy; /* Always has something waiting. */
    uint32_t prompt_max;
    uint32_t answer_max;
    uint32_t waiting;
    int64_t charged; /* Counted here, from the steps. */
};

struct world {
    uint64_t seed;
    uint64_t draws;
    uint64_t turn;
    struct arena arena;
    struct sched sched;
    struct sched_step step;
    struct client client[REQUESTS];
    struct tenant tenant[TENANTS];
    uint64_t longest_wait; /* In turns, of any that got in. */
};

static uint32_t draw(struct world *world, uint32_t bound)
{
    return (uint32_t)(prng_bits(world->seed, world->draws++, 0) % bound);
}

static void open_world(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    world->seed = seed;
    struct sched_options options = {
        .requests_max = REQUESTS,
        .slots_max = 1 + draw(world, SLOTS),
        .page_tokens = 1 + draw(world, 8),
        .context_max = CONTEXT,
        .forecast_percent = draw(world, 2) * 80,
    };
    options.page_count = CONTEXT / options.page_tokens + 2 + draw(world, 100);
    options.tokens_max = options.slots_max + draw(world, 64);
    const size_t bytes = sched_bytes(&options) + sched_step_bytes(SLOTS);
    assert_int_equal(arena_open(&world->arena, bytes), 0);
    assert_int_equal(sched_open(&world->sched, &world->arena, &options), 0);
    assert_int_equal(sched_step_open(&world->step, &world->arena, SLOTS), 0);
    for (uint32_t i = 0; i < TENANTS; i++) {
        world->tenant[i].greedy = i < 2 || draw(world, 2) == 0;
        world->tenant[i].prompt_max = 1 + draw(world, CONTEXT / 2);
        world->tenant[i].answer_max = 1 + draw(world, CONTEXT / 2 - 1);
    }
}

static void arrive(struct world *world, uint32_t tenant)
{
    uint32_t request = 0;
    while (world->client[request].live) {
        request++;
        assert_true(request < REQUESTS);
    }
    struct tenant *own = &world->tenant[tenant];
    const uint32_t prompt = 1 + draw(world, own->prompt_max);
    const struct sched_terms terms = {
        .tenant = 1000 + tenant,
        .priority = (int32_t)draw(world, 2 * LEVELS + 1) - LEVELS,
        .answer_tokens_max = own->answer_max,
    };
    world->client[request] = (struct client){.live = true,
                                             .tenant = tenant,
                                             .prompt = prompt,
                                             .end = prompt + 1 + draw(world, own->answer_max),
                                             .since = world->turn};
    sched_add(&world->sched, request, NULL, prompt, &terms);
    own->waiting++;
}

static void arrivals(struct world *world)
{
    for (uint32_t i = 0; i < TENANTS; i++) {
        const struct tenant *tenant = &world->tenant[i];
        while (tenant->greedy && tenant->waiting < QUEUE) {
            arrive(world, i);
        }
        if (!tenant->greedy && tenant->waiting < QUEUE && draw(world, 8) == 0) {
            arrive(world, i);
        }
    }
}

/* What a tenant had, by the rules of fair.h: prompts when they enter, answers as they come. */
static void count_step(struct world *world)
{
    struct sched *sched = &world->sched;
    for (uint32_t i = 0; i < world->step.open_count; i++) {
        struct client *client = &world->client[world->step.opens[i].request];
        const uint64_t waited = world->turn - client->since;
        if (!client->counted) {
            client->counted = true;
            world->tenant[client->tenant].charged += client->prompt;
            world->tenant[client->tenant].waiting--;
            world->longest_wait = waited > world->longest_wait ? waited : world->longest_wait;
        }
    }
    sched_commit(sched, &world->step);
    sched_verify(sched);
    for (uint32_t i = 0; i < world->step.row_count; i++) {
        const struct sched_row *row = &world->step.rows[i];
        struct client *client = &world->client[row->request];
        world->tenant[client->tenant].charged += row->sample ? FAIR_ANSWER_COST : 0;
        if (row->sample && sched->entry[row->request].tokens == client->end) {
            sched_end(sched, row->request);
            client->live = false;
        }
    }
}

static int64_t most_of(const struct world *world, uint32_t tenant)
{
    const struct tenant *own = &world->tenant[tenant];
    return own->prompt_max +
           (int64_t)world->sched.options.slots_max * own->answer_max * FAIR_ANSWER_COST;
}

/* One is ahead of the other by no more than its last prompt and the answers of all slots. */
static int64_t bound(const struct world *world)
{
    return most_of(world, 0) + most_of(world, 1);
}

/* Largest difference that has built up between two greedy tenants since any earlier turn. */
static void run_world(struct world *world, int64_t *widest_percent)
{
    int64_t least = 0;
    int64_t most = 0;
    for (; world->turn < TURNS; world->turn++) {
        arrivals(world);
        assert_true(sched_form(&world->sched, &world->step));
        count_step(world);
        const int64_t ahead = world->tenant[0].charged - world->tenant[1].charged;
        least = ahead < least ? ahead : least;
        most = ahead > most ? ahead : most;
        assert_true(most - least <= bound(world));
    }
    const int64_t percent = (most - least) * 100 / bound(world);
    *widest_percent = percent > *widest_percent ? percent : *widest_percent;
}

/* Nobody comes any more: all end, so nobody was forgotten. */
static void settle(struct world *world)
{
    while (sched_form(&world->sched, &world->step)) {
        count_step(world);
        assert_true(world->turn++ < TURNS + (uint64_t)REQUESTS * CONTEXT);
    }
    for (uint32_t i = 0; i < REQUESTS; i++) {
        assert_false(world->client[i].live);
    }
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void tenants_share_evenly(void **state)
{
    (void)state;
    const uint64_t first = number("SLUICE_SEED", 1);
    const uint64_t count = number("SLUICE_SEEDS", 200);
    struct world *world = malloc(sizeof *world);
    int64_t widest = 0;
    uint64_t yields = 0;
    uint64_t longest = 0;
    assert_non_null(world);
    for (uint64_t seed = first; seed < first + count; seed++) {
        open_world(world, seed);
        run_world(world, &widest);
        settle(world);
        yields += world->sched.preemptions;
        longest = world->longest_wait > longest ? world->longest_wait : longest;
        arena_close(&world->arena);
    }
    print_message("seeds %llu to %llu: widest difference %lld %% of the bound, %llu yielded, "
                  "longest wait %llu steps\n",
                  (unsigned long long)first, (unsigned long long)(first + count - 1),
                  (long long)widest, (unsigned long long)yields, (unsigned long long)longest);
    assert_true(yields > count);
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tenants_share_evenly),
    };
    return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
