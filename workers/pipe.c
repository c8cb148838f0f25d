/*
 * pipe.c - see pipe.h. A run is started on a worker's main thread; the crew's threads take its
 * lanes on, one thread at a time each. Owns nothing.
 *
 * What lanes know of each other is two counters for each nano-operation, the layers of it that have
 * started and that have ended. They only grow, and an instance of a layer never starts before the
 * same of the layer below, so "layer l has ended" is `ended > l`. That is the invariant.
 */
#include "workers/pipe.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/must.h"
#include "base/prng.h"

static_assert((int)PLAN_LANE_MAX <= (int)CREW_LANES_MAX, "the crew has the lanes");

static uint32_t lanes_of(const struct plan *plan)
{
    uint32_t lanes = 0;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        lanes = plan->nano[i].lane >= lanes ? plan->nano[i].lane + 1u : lanes;
    }
    return lanes;
}

static uint32_t lag_of(const struct plan *plan)
{
    uint32_t lag = 0;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        lag = plan->nano[i].lag > lag ? plan->nano[i].lag : lag;
    }
    return lag;
}

/* Edges by who waits. */
static void sort_edges(struct pipe *pipe, const struct plan *plan)
{
    uint32_t count = 0;
    memset(pipe->awaited, 0, sizeof pipe->awaited);
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        pipe->edge_first[i] = count;
        for (uint32_t e = 0; e < plan->edge_count; e++) {
            const struct plan_edge *edge = &plan->edge[e];
            if (edge->after == i) {
                pipe->edge[count++] = *edge;
                pipe->awaited[edge->before] |= plan->nano[i].lane != plan->nano[edge->before].lane;
            }
        }
    }
    pipe->edge_first[plan->nano_count] = count;
}

static void prepare(struct pipe *pipe, const struct plan *plan, const struct cuts *cuts)
{
    const uint64_t now_ns = clock_now_ns();
    pipe->plan = plan;
    pipe->lane_count = lanes_of(plan);
    pipe->rounds = pipe->layers + lag_of(plan);
    sort_edges(pipe, plan);
    for (uint32_t i = 0; i < pipe->lane_count; i++) {
        struct pipe_lane *lane = &pipe->lane[i];
        lane->nano_count = lane->at = lane->round = 0;
        lane->running = lane->waited = false;
        lane->start_ns = now_ns;
    }
    for (uint16_t i = 0; i < plan->nano_count; i++) {
        struct pipe_lane *lane = &pipe->lane[plan->nano[i].lane];
        lane->nano[lane->nano_count++] = i;
        pipe->row_first[i] = cuts->row[cuts_of(cuts, plan->nano[i].first)];
        pipe->row_end[i] = cuts->row[cuts_of(cuts, plan->nano[i].end)];
        /* Relaxed: the crew's start of the run publishes them. */
        atomic_store_explicit(&pipe->started[i], 0, memory_order_relaxed);
        atomic_store_explicit(&pipe->ended[i], 0, memory_order_relaxed);
    }
}

/* Whether an instance may start: its edges hold. */
static bool may_start(const struct pipe *pipe, uint32_t nano, uint32_t layer)
{
    for (uint32_t e = pipe->edge_first[nano]; e < pipe->edge_first[nano + 1]; e++) {
        const struct plan_edge *edge = &pipe->edge[e];
        const _Atomic uint32_t *layers =
            edge->kind == PLAN_AFTER_START ? pipe->started : pipe->ended;
        /* Acquire pairs with the release in count(): what the other lane wrote is there. */
        if (atomic_load_explicit(&layers[edge->before], memory_order_acquire) + edge->offset <
            layer + 1) {
            return false;
        }
    }
    return true;
}

/* One layer more. Only the holder of the nano-operation's lane writes its counters. */
static void count(struct pipe *pipe, uint32_t nano, _Atomic uint32_t *layers)
{
    const uint32_t before = atomic_load_explicit(layers, memory_order_relaxed);
    atomic_store_explicit(layers, before + 1, memory_order_release);
    if (pipe->awaited[nano]) {
        crew_notice(pipe->crew);
    }
}

static void show_life(struct pipe *pipe)
{
    if (pipe->progress) {
        (void)atomic_fetch_add_explicit(pipe->progress, 1, memory_order_relaxed);
    }
}

static void start(struct pipe *pipe, struct pipe_lane *lane, uint32_t nano, uint32_t layer)
{
    lane->task.model = pipe->model;
    lane->task.layer = layer;
    lane->task.first = pipe->row_first[nano];
    lane->task.end = pipe->row_end[nano];
    lane->stage = 0;
    lane->running = true;
    lane->start_ns = lane->waited ? clock_now_ns() : lane->start_ns;
    lane->waited = false;
    count(pipe, nano, &pipe->started[nano]);
}

static void end(struct pipe *pipe, struct pipe_lane *lane, uint32_t nano)
{
    const uint64_t now_ns = clock_now_ns();
    lane->spent_ns[pipe->plan->nano[nano].operation] += now_ns - lane->start_ns;
    lane->start_ns = now_ns;
    lane->running = false;
    lane->at++;
    count(pipe, nano, &pipe->ended[nano]);
    show_life(pipe);
}

/* The next stage with work of the lane's running nano-operation, in its task. False: none. */
static bool next_stage(struct pipe *pipe, struct pipe_lane *lane, uint32_t nano)
{
    const struct pipe_operation *operation = pipe->operation[pipe->plan->nano[nano].operation];
    struct pipe_task *task = &lane->task;
    must(operation);
    while (task->first < task->end && lane->stage < PIPE_STAGES_MAX &&
           operation->stage[lane->stage]) {
        task->job = (struct crew_job){.context = task, .threads = pipe->plan->nano[nano].units};
        operation->stage[lane->stage++](task);
        if (task->job.units > 0) {
            return true;
        }
    }
    return false;
}

/* Moves an idle lane to its next instance, running or not. False: there is none. */
static bool find_next(const struct pipe *pipe, struct pipe_lane *lane, uint32_t *layer)
{
    for (; lane->round < pipe->rounds; lane->round++, lane->at = 0) {
        for (; lane->at < lane->nano_count; lane->at++) {
            *layer = lane->round - pipe->plan->nano[lane->nano[lane->at]].lag;
            if (*layer < pipe->layers) { /* Before its first layer it wraps. */
                return true;
            }
        }
    }
    return false;
}

static enum crew_next next(void *context, uint32_t index, struct crew_job *job)
{
    struct pipe *pipe = context;
    struct pipe_lane *lane = &pipe->lane[index];
    for (;;) {
        uint32_t layer;
        if (!lane->running && !find_next(pipe, lane, &layer)) {
            return CREW_END;
        }
        const uint32_t nano = lane->nano[lane->at];
        if (!lane->running) {
            if (!may_start(pipe, nano, layer)) {
                lane->waited = true;
                return CREW_WAIT;
            }
            start(pipe, lane, nano, layer);
        }
        if (next_stage(pipe, lane, nano)) {
            *job = lane->task.job;
            return CREW_JOB;
        }
        end(pipe, lane, nano);
    }
}

void pipe_run(struct pipe *pipe, const struct plan *plan, const struct cuts *cuts)
{
    prepare(pipe, plan, cuts);
    crew_run_lanes(pipe->crew, &(struct crew_lanes){next, pipe, pipe->lane_count});
}

/* The instances that may start, lanes or not; each nano-operation's layers stay in their order. */
static uint32_t list_ready(const struct pipe *pipe, uint16_t ready[PLAN_NANO_MAX])
{
    uint32_t count = 0;
    for (uint16_t i = 0; i < pipe->plan->nano_count; i++) {
        const uint32_t layer = atomic_load_explicit(&pipe->ended[i], memory_order_relaxed);
        if (layer < pipe->layers && may_start(pipe, i, layer)) {
            ready[count++] = i;
        }
    }
    return count;
}

void pipe_run_chaos(struct pipe *pipe, const struct plan *plan, const struct cuts *cuts,
                    uint64_t seed)
{
    uint64_t throws = 0;
    struct pipe_lane *lane = &pipe->lane[0];
    uint16_t ready[PLAN_NANO_MAX];
    prepare(pipe, plan, cuts);
    pipe->poison_all(pipe->model);
    for (;;) {
        const uint32_t count = list_ready(pipe, ready);
        if (count == 0) {
            return;
        }
        const uint32_t nano = ready[prng_bits(seed, throws++, 0) % count];
        start(pipe, lane, nano, atomic_load_explicit(&pipe->ended[nano], memory_order_relaxed));
        while (next_stage(pipe, lane, nano)) {
            crew_run(pipe->crew, &lane->task.job);
        }
        pipe->poison(&lane->task, plan->nano[nano].operation);
        end(pipe, lane, nano);
    }
}

void pipe_run_stage(struct pipe *pipe, void (*stage)(struct pipe_task *task), uint32_t first,
                    uint32_t end)
{
    struct pipe_task task = {.model = pipe->model, .first = first, .end = end};
    task.job.context = &task;
    stage(&task);
    if (task.job.units > 0) {
        crew_run(pipe->crew, &task.job);
    }
    show_life(pipe);
}

void pipe_take_spent(struct pipe *pipe, uint64_t spent_ns[PLAN_OPERATION_COUNT])
{
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        spent_ns[i] = 0;
        for (uint32_t j = 0; j < PLAN_LANE_MAX; j++) {
            spent_ns[i] += pipe->lane[j].spent_ns[i];
            pipe->lane[j].spent_ns[i] = 0;
        }
    }
}
