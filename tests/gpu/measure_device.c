/*
 * measure_device.c - the device itself: what it says of itself, copies, whether lanes keep to their
 * SMs, and what a graph costs. Called by gauge.c on its one thread; owns nothing.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "tests/gpu/gauge.h"
#include "tests/gpu/occupy_cuda.h"

enum {
    GRAPH_LANES = 3,
    GRAPH_NODES = 300, /* Of each lane: a step of 32 layers in three lanes has about as many. */
    GRAPH_ROUNDS = 20,
};

/* Of lanes_mb each lane has 32 for its products; the rest are contexts. */
void measure_device(struct gauge *gauge)
{
    static const char *const sharing[] = {"cut", "hints", "one"};
    (void)printf("{\"row\": \"device\", \"name\": \"%s\", \"units\": %u, \"unit_step\": %u, "
                 "\"sharing\": \"%s\", \"libraries\": \"%s\", \"memory_mb\": %llu, "
                 "\"copy_gb_per_s\": %.1f, \"lanes\": %d, \"lanes_mb\": %llu}\n",
                 gauge->info.name, gauge->info.units, gauge->info.unit_step,
                 sharing[gauge->info.sharing], gauge->info.libraries,
                 (unsigned long long)(gauge->info.memory_bytes >> 20),
                 gauge_copy_bytes_per_us(gauge) / 1e3, (int)GAUGE_LANES,
                 (unsigned long long)(gauge->lanes_bytes >> 20));
}

static int put_occupy(struct gauge *gauge, uint32_t lane, const void *what)
{
    return accel_launch(gauge->accel, lane, cuda_occupy, what, sizeof(struct cuda_occupy_args));
}

void measure_lanes(struct gauge *gauge)
{
    uint32_t *seen = gauge_memory(gauge, ACCEL_HOST, OCCUPY_UNITS_MAX * sizeof *seen);
    void *on_device = gauge_memory(gauge, ACCEL_DEVICE, OCCUPY_UNITS_MAX * sizeof *seen);
    for (uint32_t lane = 0; lane < GAUGE_LANES; lane++) {
        const struct cuda_occupy_args args = {
            .seen = on_device, .ns = 50000, .ctas = 4 * gauge->info.units};
        uint32_t used = 0;
        memset(seen, 0, OCCUPY_UNITS_MAX * sizeof *seen);
        gauge_send(gauge, on_device, seen, OCCUPY_UNITS_MAX * sizeof *seen);
        const double us = gauge_time_us(gauge, lane, put_occupy, &args);
        gauge_send(gauge, seen, on_device, OCCUPY_UNITS_MAX * sizeof *seen);
        for (uint32_t i = 0; i < OCCUPY_UNITS_MAX; i++) {
            used += seen[i] > 0;
        }
        (void)printf("{\"row\": \"lane\", \"lane\": %u, \"units\": %u, \"units_used\": %u, "
                     "\"us\": %.1f}\n",
                     lane, accel_lane_units(gauge->accel, lane), used, us);
    }
}

/* A step's shape without its work: three lanes, each a chain of empty kernels, that meet at the
 * end. */
static int put_chains(struct gauge *gauge, uint32_t lane, const void *what)
{
    static const struct cuda_occupy_args empty = {.ctas = 1};
    const uint32_t lanes[GRAPH_LANES] = {lane, gauge_small(2), gauge_large(2)};
    (void)what;
    int error = accel_record(gauge->accel, 0, lane);
    for (uint32_t i = 1; i < GRAPH_LANES && !error; i++) {
        error = accel_wait(gauge->accel, 0, lanes[i]);
    }
    for (uint32_t node = 0; node < GRAPH_NODES * GRAPH_LANES && !error; node++) {
        error = put_occupy(gauge, lanes[node % GRAPH_LANES], &empty);
    }
    for (uint32_t i = 1; i < GRAPH_LANES && !error; i++) {
        error = accel_record(gauge->accel, i, lanes[i]);
        error = error ? error : accel_wait(gauge->accel, i, lane);
    }
    return error;
}

/* Of one step: the host's time to put it, and all of it. */
struct step_time {
    double put_us;
    double us;
};

/* A graph, or the calls it was made of; each waited for, or all put at once. */
static struct step_time time_steps(struct gauge *gauge, struct accel_graph *graph, bool queued)
{
    uint64_t put_us = 0;
    uint64_t start_us = 0;
    for (int i = 0; i <= GRAPH_ROUNDS; i++) { /* The first one warms up. */
        const uint64_t before_us = clock_now_us();
        gauge_check(graph ? accel_replay(gauge->accel, graph, 0) : put_chains(gauge, 0, NULL),
                    "a step");
        put_us += i > 0 ? clock_now_us() - before_us : 0;
        if (!queued || i == 0 || i == GRAPH_ROUNDS) {
            gauge_finish(gauge, 0);
        }
        start_us = i == 0 ? clock_now_us() : start_us;
    }
    return (struct step_time){(double)put_us / GRAPH_ROUNDS,
                              (double)(clock_now_us() - start_us) / GRAPH_ROUNDS};
}

/* replay_us less queued_us is what the device waits between steps when the host answers one before
 * it puts the next. */
void measure_graphs(struct gauge *gauge)
{
    struct accel_graph *graph = NULL;
    const struct step_time eager = time_steps(gauge, NULL, false);
    gauge_check(accel_capture(gauge->accel, 0), "a graph");
    gauge_check(put_chains(gauge, 0, NULL), "a graph");
    gauge_check(accel_captured(gauge->accel, 0, &graph), "a graph");
    const struct step_time replay = time_steps(gauge, graph, false);
    const struct step_time queued = time_steps(gauge, graph, true);
    (void)printf("{\"row\": \"graph\", \"nodes\": %d, \"lanes\": %d, \"eager_put_us\": %.1f, "
                 "\"eager_us\": %.1f, \"replay_put_us\": %.1f, \"replay_us\": %.1f, "
                 "\"queued_us\": %.1f}\n",
                 GRAPH_NODES * GRAPH_LANES, GRAPH_LANES, eager.put_us, eager.us, replay.put_us,
                 replay.us, queued.us);
}
