/*
 * world.h - one simulated life of the core: the real core_main() with everything around it made up.
 *
 * The core is linked with other ends (seam_*.c) in place of ZeroMQ, the links to workers, the
 * supervisor, the tokenizer's thread and the clock. It calls front_wait() when it has nothing to
 * do; there the world goes on: the clock jumps to the next thing that happens, workers answer or
 * die, clients ask, and everything is audited. One thread, no wait, no time of the machine: a seed
 * is a whole run, and gives the same run again.
 *
 *   clients (crowd)  <-> seam_front <->  core  <-> seam_ipc <->  workers, supervisor (fleet)
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core.h"
#include "base/config.h"

enum { WORLD_CONTEXT_MAX = 128, WORLD_PAGES_MAX = 512, WORLD_SLOTS_MAX = 8 };

enum world_phase {
    WORLD_WILD,   /* Faults and arrivals. */
    WORLD_CALM,   /* Neither: all that lives must finish. */
    WORLD_ENDING, /* The core was told to stop. */
};

struct world_totals { /* Over the seeds of a run: what happened at all. */
    uint64_t seeds;
    uint64_t turns;
    uint64_t steps;
    uint64_t answers;
    uint64_t cancelled;
    uint64_t refused;
    uint64_t late;
    uint64_t deaths;
    uint64_t deaths_in_step;
    uint64_t slow_steps;
    uint64_t long_steps; /* Of them, with signs of life. */
    uint64_t wrong_records;
    uint64_t stalls;
    uint64_t overlaps; /* Turns with a second step in flight. */
    uint64_t preemptions;
    uint64_t shared_tokens;
    uint64_t copies;
    uint64_t moves;
    uint64_t drains;
    uint64_t paced; /* Steps that could have been smaller, with a target, */
    uint64_t over_target;
};

struct world_faults { /* Which of them this seed knows. */
    bool deaths;
    bool slow_steps;
    bool wrong_records;
    bool blocked_peers;
    bool gone_peers;
    bool cancels;
    bool deadlines;
    bool slow_credit;
};

struct world {
    uint64_t seed;
    uint64_t draws;
    uint64_t now_us;
    uint64_t turns;
    uint64_t calm_us;   /* When the faults end. */
    uint64_t steps_max; /* Of totals->steps, while CALM. */
    uint64_t text_us;   /* When the tokenizer's next job is done. */
    bool trace;
    uint32_t tenants;  /* Those that name none are one. */
    bool drains_early; /* Stops in the middle of everything. */
    enum world_phase phase;
    struct world_faults faults;
    struct config config;
    struct core *core; /* From its front_open() to its front_close(). */
    struct crowd *crowd;
    struct fleet *fleet;
    struct audit *audit;
    struct world_totals *totals;
};

/* The world that runs: the seams are called without it. */
struct world *world_current(void);

uint64_t world_bits(struct world *world);
uint32_t world_draw(struct world *world, uint32_t bound); /* Below bound. */
bool world_chance(struct world *world, uint32_t percent);

/* One line of --trace. */
void world_note(const struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The core waits, at most timeout_ms: what happens next. */
void world_turn(struct world *world, bool want_clients, uint32_t timeout_ms);

/* A whole life. Ends the process by must() when something is wrong. A number that stands for all
 * that was drawn and when: the same seed gives the same. */
uint64_t world_run(uint64_t seed, bool trace, struct world_totals *totals);

#endif /* TESTS_SIM_WORLD_H */
