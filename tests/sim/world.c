/*
 * world.c - see world.h. Called by sluice_sim.c for a seed and by the seams while it runs, on the
 * one thread; owns everything of that seed. Invariant: every choice is drawn from the seed in the
 * order of the run, so that a seed is one run.
 */
#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "tests/sim/audit.h"
#include "tests/sim/crowd.h"
#include "tests/sim/fleet.h"

enum {
    WORLD_BEGIN_US = 1000000, /* 0 means "never" to the core. */
    WORLD_TURN_US_MAX = 30,   /* A turn of the loop takes some time too. */
    WORLD_TURNS_MAX = 400000,
    WORLD_STEPS_SPARE = 64, /* Formed before the calm, or by requests that are cancelled. */
};

static struct world **current(void)
{
    static struct world *world;
    return &world;
}

struct world *world_current(void)
{
    return *current();
}

uint64_t world_bits(struct world *world)
{
    return prng_bits(world->seed, world->draws++, 0);
}

uint32_t world_draw(struct world *world, uint32_t bound)
{
    return (uint32_t)(world_bits(world) % bound);
}

bool world_chance(struct world *world, uint32_t percent)
{
    return world_draw(world, 100) < percent;
}

void world_note(const struct world *world, const char *format, ...)
{
    va_list args;
    if (!world->trace) {
        return;
    }
    (void)printf("%8llu ", (unsigned long long)(world->now_us - WORLD_BEGIN_US));
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)putchar('\n');
    (void)fflush(stdout);
}

static uint32_t between(struct world *world, uint32_t least, uint32_t most)
{
    return least + world_draw(world, most - least + 1);
}

/* Small numbers: every bound is met. */
static void draw_config(struct world *world)
{
    const char *const overrides[] = {"model.path=" SIM_TOKENIZER};
    char error[CONFIG_ERROR_BYTES_MAX];
    struct config *config = &world->config;
    must(config_load(config, NULL, overrides, 1, error) == 0);
    const uint32_t groups = world_chance(world, 60) ? 1 : between(world, 2, 3);
    config->workers.tp = world_chance(world, 80) ? 1 : 2;
    config->workers.count = groups * config->workers.tp;
    config->workers.start_timeout_ms = 500;
    config->workers.step_timeout_ms = between(world, 30, 200);
    config->batch.slots_max = between(world, 1, WORLD_SLOTS_MAX);
    config->batch.tokens_max = config->batch.slots_max + world_draw(world, 40);
    config->batch.forecast_percent = world_chance(world, 80) ? world_draw(world, 100) : 0;
    config->slo.ttft_ms = world_chance(world, 70) ? 0 : between(world, 1, 100);
    config->slo.tpot_ms = world_chance(world, 70) ? 0 : between(world, 1, 6);
    config->batch.steps_in_flight = between(world, 1, LIMIT_STEPS_IN_FLIGHT_MAX);
    config->kv.page_tokens = 1u << between(world, 1, 4);
    config->model.context_tokens_max = between(world, 24, WORLD_CONTEXT_MAX);
    const uint32_t least = config->model.context_tokens_max / config->kv.page_tokens + 1;
    const uint32_t most = least * config->batch.slots_max;
    config->kv.device_pages =
        between(world, least / 2 + 1, most < WORLD_PAGES_MAX ? most : WORLD_PAGES_MAX);
    config->queue.requests_max = between(world, 4, 24);
    config->queue.tokens_max = between(world, 50, 2000);
    config->queue.timeout_ms = 20000;
    config->stream.credit_tokens = between(world, 2, 24);
    const uint32_t stall_ms = world_chance(world, 30) ? 60 : 3000;
    config->stream.stall_timeout_ms = between(world, 20, stall_ms);
    config->zmq.message_bytes_max = 4096;
}

/* Each seed has some kinds of trouble and not others: together they hide each other. */
static void draw_faults(struct world *world)
{
    world->faults = (struct world_faults){
        .deaths = world_chance(world, 50),
        .slow_steps = world_chance(world, 30),
        .wrong_records = world_chance(world, 15),
        .blocked_peers = world_chance(world, 30),
        .gone_peers = world_chance(world, 15),
        .cancels = world_chance(world, 50),
        .deadlines = world_chance(world, 25),
        .slow_credit = world_chance(world, 35),
    };
    world->tenants = world_chance(world, 60) ? 1 : between(world, 2, 4);
    world->drains_early = world_chance(world, 10);
    world->calm_us = WORLD_BEGIN_US + between(world, 50000, 600000);
    world->calm_us += world_chance(world, 10) ? 2000000 : 0;
}

/* Of the next event, of the core's timeout, the earlier. */
static void pass_time(struct world *world, bool want_clients, uint32_t timeout_ms)
{
    uint64_t next_us = world->now_us + (uint64_t)timeout_ms * 1000;
    const uint64_t crowd_us = want_clients ? crowd_next_us(world->crowd) : UINT64_MAX;
    const uint64_t fleet_us = fleet_next_us(world->fleet);
    next_us = crowd_us < next_us ? crowd_us : next_us;
    next_us = fleet_us < next_us ? fleet_us : next_us;
    next_us = world->text_us < next_us ? world->text_us : next_us;
    world->now_us = next_us > world->now_us ? next_us : world->now_us;
    world->now_us += world_draw(world, WORLD_TURN_US_MAX);
}

static void end_life(struct world *world)
{
    world->phase = WORLD_ENDING;
    world->totals->drains += world->drains_early;
    world_note(world, "the core is told to stop");
    fleet_stop(world->fleet, world->now_us);
}

/* Steps that the requests of now can take if each has one token in each: the bound of the calm. */
static uint64_t work_left(const struct world *world)
{
    const struct requests *requests = &world->core->requests;
    uint64_t left = WORLD_STEPS_SPARE;
    for (uint32_t i = 0; i < requests->count; i++) {
        const struct request *request = &requests->request[i];
        left += request->state == REQUEST_FREE ? 0 : world->core->context_max;
    }
    return left;
}

static void change_phase(struct world *world)
{
    if (world->phase == WORLD_WILD && world->now_us >= world->calm_us) {
        if (world->drains_early) {
            end_life(world);
            return;
        }
        world->phase = WORLD_CALM;
        world_note(world, "calm");
        crowd_calm(world);
        fleet_calm(world);
        world->steps_max = world->totals->steps + work_left(world);
    } else if (world->phase == WORLD_CALM && crowd_over(world->crowd) &&
               world->core->requests.live == 0 && fleet_idle(world->fleet)) {
        audit_end(world);
        end_life(world);
    }
}

void world_turn(struct world *world, bool want_clients, uint32_t timeout_ms)
{
    must(++world->turns < WORLD_TURNS_MAX);
    audit_turn(world, timeout_ms > 0);
    pass_time(world, want_clients, timeout_ms);
    change_phase(world);
    crowd_turn(world);
    fleet_turn(world);
    must(world->phase != WORLD_CALM || world->totals->steps <= world->steps_max);
}

uint64_t world_run(uint64_t seed, bool trace, struct world_totals *totals)
{
    struct world *world = calloc(1, sizeof *world); /* Too large for a stack. */
    must(world);
    *current() = world;
    world->seed = seed;
    world->trace = trace;
    world->totals = totals;
    world->now_us = WORLD_BEGIN_US;
    world->text_us = UINT64_MAX;
    draw_config(world);
    draw_faults(world);
    world->audit = audit_open();
    world->fleet = fleet_open(world);
    world->crowd = crowd_open(world);
    must(core_main(&world->config, -1) == 0);
    must(world->phase == WORLD_ENDING);
    totals->seeds++;
    totals->turns += world->turns;
    const uint64_t path = prng_bits(world->draws, world->now_us, (uint32_t)world->turns);
    crowd_close(world->crowd);
    fleet_close(world->fleet);
    audit_close(world->audit);
    *current() = NULL;
    free(world);
    return path;
}
