/*
 * slo.c - see slo.h. Called by the core's loop on its thread; owns nothing, the model of a group's
 * steps is the group's. Invariant: without a target every step may hold batch.tokens_max.
 */
#include "agent/slo.h"

/* A prompt that runs, in the order in which steps take them on. */
static void add_prompt(struct pace_load *load, uint32_t position, uint32_t tokens)
{
    if (load->next_tokens == 0) {
        load->next_position = position;
        load->next_tokens = tokens;
    } else {
        load->rest.tokens += tokens;
        load->rest.context += pace_context(position, tokens);
    }
}

/* Of those that run: rows that are due in any case, and prompts. */
static void add_running(const struct core *core, const struct sched *sched, struct pace_load *load)
{
    for (uint32_t i = 0; i < sched->running_count; i++) {
        const uint32_t request = sched->running[i];
        const struct sched_entry *entry = &sched->entry[request];
        const uint32_t left = entry->tokens - entry->computed;
        if (left == 1) {
            const bool runs = !(entry->held && entry->last_on_worker);
            load->answer_rows += runs;
            load->answers_context += runs ? entry->tokens : 0;
        } else {
            const uint64_t queued_us = core->requests.request[request].events.queued_us;
            const uint64_t waited_us = core->now_us - queued_us;
            const bool first = core->requests.request[request].answer_tokens == 0;
            add_prompt(load, entry->computed, left);
            load->waited_us = first && waited_us > load->waited_us ? waited_us : load->waited_us;
        }
    }
}

/* Of those that wait, each as long as their mean. */
static void add_waiting(const struct sched *sched, struct pace_load *load)
{
    const uint64_t count = sched->fair.waiting_count;
    if (count > 0) {
        load->rest.tokens += sched->waiting_tokens;
        load->rest.context += count * pace_context(0, sched->waiting_tokens / count);
    }
}

void slo_set_dense(struct core *core, const struct group *group)
{
    struct sched *sched = &core->placement.sched[group->index];
    const struct pace_target target = {.ttft_us = (uint64_t)core->config->slo.ttft_ms * 1000,
                                       .tpot_us = (uint64_t)core->config->slo.tpot_ms * 1000,
                                       .steps_in_flight = core->config->batch.steps_in_flight};
    struct pace_load load = {.tokens_max = sched->options.tokens_max};
    if (target.ttft_us == 0 && target.tpot_us == 0) {
        return;
    }
    const uint32_t head = fair_first(&sched->fair);
    if (head != FAIR_NONE) {
        load.waited_us = core->now_us - core->requests.request[head].events.queued_us;
    }
    add_running(core, sched, &load);
    add_waiting(sched, &load);
    sched_set_dense(sched, pace_dense(&group->pace, &target, &load));
}
