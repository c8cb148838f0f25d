/*
 * tune_picture.c - see tune_picture.h. Called by sluice-tune plan; owns its work space while it
 * draws.
 */
#include "tools/tune_picture.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan/simulate.h"
#include "tools/lanes.h"

enum { BOXES_MAX = (SIMULATE_LAYERS_MAX + 1) * PLAN_NANO_MAX };

struct work {
    struct simulate_run run;
    struct simulate_run sequential_run;
    struct plan sequential;
    struct lanes_box box[BOXES_MAX];
    uint32_t count;
};

static uint32_t scale(uint32_t part, uint32_t tokens)
{
    return (uint32_t)(((uint64_t)part * tokens + PLAN_WHOLE / 2) / PLAN_WHOLE);
}

/* One layer of a plan that was simulated; what found no work is left out. */
static void add_layer(struct work *work, const struct tune_picture *picture,
                      const struct plan *plan, const struct simulate_run *run, uint32_t layer,
                      uint32_t followed)
{
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        const struct plan_nano *nano = &plan->nano[i];
        if (run->end_us[layer][i] > run->start_us[layer][i]) {
            work->box[work->count++] = (struct lanes_box){
                .name = plan_operation_name(nano->operation),
                .lane = nano->lane,
                .series = profile_class(nano->operation),
                .layer = (int32_t)layer - (int32_t)followed,
                .first = scale(nano->first, picture->regime->tokens),
                .end = scale(nano->end, picture->regime->tokens),
                .start_us = run->start_us[layer][i],
                .end_us = run->end_us[layer][i],
            };
        }
    }
}

static uint32_t lanes_of(const struct plan *plan)
{
    uint32_t lanes = 1;
    for (uint32_t i = 0; i < plan->nano_count; i++) {
        lanes = plan->nano[i].lane >= lanes ? plan->nano[i].lane + 1u : lanes;
    }
    return lanes;
}

/* The sequential plan's layer, as a row below, from the same start. */
static void add_sequential(struct work *work, const struct tune_picture *picture, double from_us,
                           uint32_t lane)
{
    const uint32_t first = work->count;
    add_layer(work, picture, &work->sequential, &work->sequential_run, 0, 0);
    for (uint32_t i = first; i < work->count; i++) {
        work->box[i].lane = lane;
        work->box[i].start_us += from_us;
        work->box[i].end_us += from_us;
    }
}

static int draw(struct work *work, const struct tune_picture *picture)
{
    const struct profile *profile = picture->profile;
    const uint32_t layers =
        profile->layers < SIMULATE_LAYERS_MAX ? profile->layers : SIMULATE_LAYERS_MAX;
    const uint32_t followed = layers / 3;
    const uint32_t lane_count = lanes_of(picture->plan);
    double from_us = (double)INFINITY;
    char title[160], summary[160];
    for (uint32_t layer = 0; layer < layers; layer++) {
        add_layer(work, picture, picture->plan, &work->run, layer, followed);
    }
    for (uint32_t i = 0; i < work->count; i++) {
        from_us = work->box[i].layer == 0 ? fmin(from_us, work->box[i].start_us) : from_us;
    }
    add_sequential(work, picture, from_us, lane_count);
    (void)snprintf(title, sizeof title, "%u tokens, %u of them decode, in a context of %u",
                   picture->regime->tokens, picture->regime->decode, picture->regime->context);
    (void)snprintf(summary, sizeof summary,
                   "predicted: %.0f us a layer; one operation after the other %.0f us (%.2f times)",
                   work->run.interval_us, work->sequential_run.interval_us,
                   work->sequential_run.interval_us / work->run.interval_us);
    struct lanes lanes = {
        .title = title,
        .summary = summary,
        .lane = {"lane 0", "lane 1", "lane 2", "lane 3"},
        .lane_count = lane_count + 1,
        .box = work->box,
        .box_count = work->count,
        .from_us = from_us,
        .to_us = from_us + fmax(2 * work->run.interval_us, work->sequential_run.interval_us),
        .interval_us = work->run.interval_us};
    lanes.lane[lane_count] = "sequential";
    int code = picture->picture ? lanes_draw(&lanes, picture->picture) : 0;
    if (!code && picture->trace) {
        code = lanes_trace(&lanes, picture->trace);
    }
    return code;
}

int tune_picture_draw(const struct tune_picture *picture)
{
    if (!picture->picture && !picture->trace) {
        return 0;
    }
    struct work *work = calloc(1, sizeof *work);
    must(work);
    plan_sequential(&work->sequential, picture->profile->experts);
    int code = simulate_plan(picture->plan, picture->profile, picture->regime, &work->run);
    if (!code) {
        code = simulate_plan(&work->sequential, picture->profile, picture->regime,
                             &work->sequential_run);
    }
    code = code ? code : draw(work, picture);
    free(work);
    return code;
}
