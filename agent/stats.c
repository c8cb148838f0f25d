/*
 * stats.c - see stats.h. Called by the intake on the core's loop thread; the numbers stand in
 * struct core. Invariant: they are read in one turn, so they belong together.
 */
#include "agent/stats.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "agent/core.h"

static_assert((int)STATS_MAX <= (int)LIMIT_MSGPACK_KEYS_MAX, "a client can read them all");

/* "worker_3_ready" */
static void add_of(struct stats *stats, const char *what, uint32_t index, const char *name,
                   uint64_t value)
{
    must(stats->count < STATS_MAX);
    char *text = stats->name[stats->count];
    (void)snprintf(text, STATS_NAME_BYTES_MAX, "%s_%u_%s", what, index, name);
    stats->stat[stats->count++] = (struct wire_stat){text, value};
}

static void add_workers(struct stats *stats, const struct core *core)
{
    for (uint32_t i = 0; i < core->device_count; i++) {
        add_of(stats, "worker", i, "ready", core->devices[i].state == DEVICE_READY);
    }
    for (uint32_t i = 0; i < core->placement.count; i++) {
        const struct sched *sched = &core->placement.sched[i];
        add_of(stats, "group", i, "requests_running", sched->running_count);
        add_of(stats, "group", i, "requests_waiting", sched->fair.waiting_count);
        add_of(stats, "group", i, "pages_free", sched->pages.free_count);
        add_of(stats, "group", i, "dense_tokens", sched->dense);
        add_of(stats, "group", i, "steps_total", core->groups[i].answered);
    }
}

static uint32_t workers_ready(const struct core *core)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->device_count; i++) {
        count += core->devices[i].state == DEVICE_READY;
    }
    return count;
}

/* Of the worker that has the worst. */
static uint32_t lane_sharing(const struct core *core)
{
    uint32_t worst = 0;
    for (uint32_t i = 0; i < core->device_count; i++) {
        const struct device *device = &core->devices[i];
        worst = device->state == DEVICE_READY && device->sharing > worst ? device->sharing : worst;
    }
    return worst;
}

void stats_fill(struct core *core)
{
    const struct core_counters *count = &core->counters;
    const struct placement_total total = placement_total(&core->placement);
    struct stats *stats = &core->stats;
    const struct wire_stat rows[] = {
        {"requests_running", total.running},
        {"requests_waiting", total.waiting},
        {"requests_total", count->requests},
        {"finished_total", count->finished},
        {"cancelled_total", count->cancelled},
        {"failed_total", count->failed},
        {"refused_total", count->refused},
        {"prompt_tokens_total", count->prompt_tokens},
        {"tokens_generated_total", count->generated_tokens},
        {"steps_total", count->steps},
        {"step_us_last", count->last_step_us},
        {"compute_us_total", count->compute_us},
        {"wait_us_total", count->wait_us},
        {"preemptions_total", total.preemptions},
        {"recomputed_tokens_total", total.recomputed_tokens},
        {"shared_tokens_total", total.shared_tokens},
        {"predictions_total", total.predictions},
        {"predictions_short_total", total.predictions_short},
        {"moves_total", core->placement.moves},
        {"worker_losses_total", count->worker_losses},
        {"workers_ready", workers_ready(core)},
        {"lane_sharing", lane_sharing(core)},
        {"plans", core->plans.row_count - 1},
        {"plans_refused", core->plans.refused_count},
        {"pages_free", total.pages_free},
        {"pages_total", total.pages},
        {"malformed_frames_total", count->malformed_frames},
        {"replies_dropped_total", count->replies_dropped},
    };
    static_assert(sizeof rows / sizeof rows[0] <= STATS_OF_AGENT, "room for the others");
    memcpy(stats->stat, rows, sizeof rows);
    stats->count = sizeof rows / sizeof rows[0];
    add_workers(stats, core);
}
