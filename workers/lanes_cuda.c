/*
 * lanes_cuda.c - see lanes_cuda.h. Called by the engine on a worker's main thread; owns nothing of
 * the device. Invariant: an event is recorded before anything waits for it, and each instance has
 * its own, so a lane never waits for more than its plan says.
 */
#include "workers/lanes_cuda.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    WHOLE_LANES = PLAN_LANE_MAX,
    PAIRS = (ACCEL_LANES_MAX - WHOLE_LANES) / 2,
    PARTS = 14,     /* The first of a pair has PART_FIRST / PARTS of the units, and then more, */
    PART_FIRST = 2, /* up to a half: of 132, cut by 8, that is 16, 24, 32, 40, 56 and 64. */
};

/* Events: the head's end, each lane's end, then an end and a start for each instance. */
enum { EVENT_HEAD, EVENT_LANES, EVENT_INSTANCES = EVENT_LANES + ACCEL_LANES_MAX };

uint32_t lanes_cuda_events(uint32_t layers)
{
    return EVENT_INSTANCES + 2 * layers * PLAN_NANO_MAX;
}

static uint32_t end_event(const struct lanes_cuda *lanes, uint32_t nano, uint32_t layer)
{
    return lanes->event_first + EVENT_INSTANCES + 2 * (layer * PLAN_NANO_MAX + nano);
}

static uint32_t start_event(const struct lanes_cuda *lanes, uint32_t nano, uint32_t layer)
{
    return end_event(lanes, nano, layer) + 1;
}

int lanes_cuda_open(struct lanes_cuda *lanes, struct accel *accel, uint32_t layers,
                    uint32_t event_first)
{
    struct accel_info info;
    accel_info(accel, &info);
    *lanes = (struct lanes_cuda){.accel = accel,
                                 .layers = layers,
                                 .units = info.units,
                                 .event_first = event_first,
                                 .share_count = WHOLE_LANES};
    for (uint32_t pair = 0; pair < PAIRS; pair++) {
        const uint32_t units =
            info.units * (PART_FIRST + pair) / PARTS / info.unit_step * info.unit_step;
        if (units == 0) {
            continue; /* A small device has fewer ways to be parted. */
        }
        lanes->shares[lanes->share_count++] = (struct accel_share){pair + 1, units};
        lanes->shares[lanes->share_count++] = (struct accel_share){pair + 1, info.units - units};
    }
    return accel_lanes(accel, lanes->shares, lanes->share_count);
}

/* The lane of a pair whose share is nearest; its partner is the other one. 0: there are none. */
static uint32_t nearest_part(const struct lanes_cuda *lanes, uint32_t units)
{
    uint32_t best = 0;
    for (uint32_t i = WHOLE_LANES; i < lanes->share_count; i++) {
        const uint32_t here = (uint32_t)abs((int)lanes->shares[i].units - (int)units);
        const uint32_t there = (uint32_t)abs((int)lanes->shares[best].units - (int)units);
        best = best == 0 || here < there ? i : best;
    }
    return best;
}

static uint32_t partner_of(uint32_t lane)
{
    static_assert(WHOLE_LANES % 2 == 0, "pairs begin at even lanes");
    return lane ^ 1;
}

void lanes_cuda_assign(const struct lanes_cuda *lanes, const struct plan *plan,
                       uint32_t lane[PLAN_NANO_MAX])
{
    uint32_t units[PLAN_LANE_MAX] = {0}; /* Of a plan's lane; 0: not used. */
    uint32_t used[PLAN_LANE_MAX];
    uint32_t count = 0;
    bool parted = true;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        const struct plan_nano *nano = &plan->nano[i];
        parted = parted && nano->units > 0 && nano->units < lanes->units;
        units[nano->lane] = nano->units > units[nano->lane] ? nano->units : units[nano->lane];
    }
    for (uint32_t i = 0; i < PLAN_LANE_MAX; i++) {
        if (units[i] > 0) {
            used[count++] = i;
        }
    }
    const uint32_t part = parted && count <= 2 ? nearest_part(lanes, units[used[0]]) : 0;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        const uint32_t at = plan->nano[i].lane;
        lane[i] = part == 0 ? at : at == used[0] ? part : partner_of(part);
    }
}

/* Groups the edges by the nano-operation that waits, and marks what other lanes wait for. */
static void take_plan(struct lanes_cuda *lanes, const struct cuda_batch *batch)
{
    const struct plan *plan = batch->plan;
    uint32_t count = 0;
    memset(lanes->end_awaited, 0, sizeof lanes->end_awaited);
    memset(lanes->start_awaited, 0, sizeof lanes->start_awaited);
    memset(lanes->put, 0, sizeof lanes->put);
    memset(lanes->begun, 0, sizeof lanes->begun);
    for (uint32_t nano = 0; nano < plan->nano_count; nano++) {
        lanes->edge_first[nano] = count;
        for (uint32_t i = 0; i < plan->edge_count; i++) {
            const struct plan_edge *edge = &plan->edge[i];
            if (edge->after != nano) {
                continue;
            }
            lanes->edges[count++] = *edge;
            if (batch->lane[edge->before] != batch->lane[nano]) {
                bool *awaited =
                    edge->kind == PLAN_AFTER_START ? lanes->start_awaited : lanes->end_awaited;
                awaited[edge->before] = true;
            }
        }
    }
    lanes->edge_first[plan->nano_count] = count;
}

/* Whether all that an instance waits for is on its lane already. */
static bool may_put(const struct lanes_cuda *lanes, uint32_t nano, uint32_t layer)
{
    for (uint32_t i = lanes->edge_first[nano]; i < lanes->edge_first[nano + 1]; i++) {
        const struct plan_edge *edge = &lanes->edges[i];
        if (lanes->put[edge->before] + edge->offset < layer + 1) {
            return false;
        }
    }
    return true;
}

static int put_waits(const struct lanes_cuda *lanes, const struct cuda_task *task)
{
    const uint32_t *lane = task->batch->lane;
    int error = 0;
    for (uint32_t i = lanes->edge_first[task->nano]; i < lanes->edge_first[task->nano + 1]; i++) {
        const struct plan_edge *edge = &lanes->edges[i];
        if (error || edge->offset > task->layer || lane[edge->before] == lane[task->nano]) {
            continue;
        }
        const uint32_t layer = task->layer - edge->offset;
        error = accel_wait(lanes->accel,
                           edge->kind == PLAN_AFTER_START ? start_event(lanes, edge->before, layer)
                                                          : end_event(lanes, edge->before, layer),
                           lane[task->nano]);
    }
    return error;
}

static int put_instance(struct lanes_cuda *lanes, const struct cuda_model *model,
                        const struct cuda_task *task)
{
    const uint32_t lane = task->batch->lane[task->nano];
    int error = 0;
    if (!lanes->begun[lane] && lane != LANES_CUDA_HEAD) {
        error = accel_wait(lanes->accel, lanes->event_first + EVENT_HEAD, lane);
    }
    lanes->begun[lane] = true;
    error = error ? error : put_waits(lanes, task);
    if (lanes->start_awaited[task->nano] || lanes->timed) {
        error = error
                    ? error
                    : accel_record(lanes->accel, start_event(lanes, task->nano, task->layer), lane);
    }
    error = error ? error : cuda_put(model, task);
    if (lanes->end_awaited[task->nano] || lanes->timed) {
        error = error ? error
                      : accel_record(lanes->accel, end_event(lanes, task->nano, task->layer), lane);
    }
    lanes->put[task->nano]++;
    return error;
}

struct walk { /* Of one of the plan's lanes. */
    uint32_t round;
    uint32_t nano; /* Next in the plan's list, of this lane or not. */
};

/* As far as the lane comes now. */
static int walk_lane(struct lanes_cuda *lanes, const struct cuda_model *model,
                     const struct cuda_batch *batch, uint32_t lane, struct walk *walk)
{
    const struct plan *plan = batch->plan;
    const uint32_t rounds = lanes->layers + PLAN_LAG_MAX;
    for (; walk->round < rounds; walk->round++, walk->nano = 0) {
        for (; walk->nano < plan->nano_count; walk->nano++) {
            const struct cuda_task task = {.batch = batch,
                                           .nano = walk->nano,
                                           .layer = walk->round - plan->nano[walk->nano].lag};
            if (plan->nano[walk->nano].lane != lane || task.layer >= lanes->layers) {
                continue; /* Also before the first layer: below 0 is large. */
            }
            if (!may_put(lanes, walk->nano, task.layer)) {
                return 0;
            }
            const int error = put_instance(lanes, model, &task);
            if (error) {
                return error;
            }
        }
    }
    return 0;
}

/* The head's lane waits for all others. */
static int join(const struct lanes_cuda *lanes)
{
    int error = 0;
    for (uint32_t lane = 0; lane < lanes->share_count && !error; lane++) {
        if (lane != LANES_CUDA_HEAD && lanes->begun[lane]) {
            const uint32_t event = lanes->event_first + EVENT_LANES + lane;
            error = accel_record(lanes->accel, event, lane);
            error = error ? error : accel_wait(lanes->accel, event, LANES_CUDA_HEAD);
        }
    }
    return error;
}

static bool all_put(const struct lanes_cuda *lanes, const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        if (lanes->put[i] < lanes->layers) {
            return false;
        }
    }
    return true;
}

int lanes_cuda_put(struct lanes_cuda *lanes, const struct cuda_model *model,
                   const struct cuda_batch *batch)
{
    struct walk walks[PLAN_LANE_MAX] = {0};
    take_plan(lanes, batch);
    int error = accel_record(lanes->accel, lanes->event_first + EVENT_HEAD, LANES_CUDA_HEAD);
    /* The plan comes to an end (workers/trial.h), so some lane moves in each turn. */
    for (uint32_t turn = 0; !error && !all_put(lanes, batch->plan); turn++) {
        must(turn <= lanes->layers * PLAN_NANO_MAX);
        for (uint32_t lane = 0; lane < PLAN_LANE_MAX && !error; lane++) {
            error = walk_lane(lanes, model, batch, lane, &walks[lane]);
        }
    }
    return error ? error : join(lanes);
}

int lanes_cuda_spent(const struct lanes_cuda *lanes, const struct plan *plan,
                     uint64_t spent_ns[PLAN_OPERATION_COUNT])
{
    int error = 0;
    must(lanes->timed);
    for (uint32_t i = 0; i < plan->nano_count * lanes->layers && !error; i++) {
        const uint32_t nano = i / lanes->layers;
        const uint32_t layer = i % lanes->layers;
        float us = 0;
        error = accel_elapsed_us(lanes->accel, start_event(lanes, nano, layer),
                                 end_event(lanes, nano, layer), &us);
        spent_ns[plan->nano[nano].operation] += (uint64_t)(us * 1e3f);
    }
    return error;
}
