/*
 * group.c - see group.h. Used by the core's loop thread; owns the steps of its group, the
 * devices are the core's. Invariant: all ranks have been told the same, or the group is fenced.
 */
#include "agent/group.h"

#include <errno.h>
#include <unistd.h>

size_t group_bytes(uint32_t slots_max)
{
    return FLIGHT_STEPS_MAX * sched_step_bytes(slots_max);
}

int group_open(struct group *group, struct arena *arena, uint32_t slots_max)
{
    int code = 0;
    for (uint32_t i = 0; i < FLIGHT_STEPS_MAX && !code; i++) {
        code = sched_step_open(&group->steps[i], arena, slots_max);
    }
    return code;
}

bool group_ready(const struct group *group)
{
    for (uint32_t i = 0; i < group->rank_count; i++) {
        if (group->ranks[i].state != DEVICE_READY) {
            return false;
        }
    }
    return true;
}

static int hand_on(const struct group *group, uint32_t from)
{
    const struct device *device = &group->ranks[from];
    int code = 0;
    for (uint32_t i = 0; i < group->rank_count && !code; i++) {
        code = i == from
                   ? 0
                   : sibling_send(group->ranks[i].link.socket, &device->offer, device->offer_fd);
    }
    return code;
}

int group_pair(struct group *group)
{
    int code = 0;
    for (uint32_t i = 0; i < group->rank_count; i++) {
        if (group->ranks[i].state != DEVICE_PAIRING || group->ranks[i].offer_fd < 0) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < group->rank_count && !code; i++) {
        code = hand_on(group, i);
    }
    for (uint32_t i = 0; i < group->rank_count; i++) {
        struct device *device = &group->ranks[i];
        (void)close(device->offer_fd); /* Theirs now. */
        device->offer_fd = -1;
        device->state = DEVICE_LOADING;
    }
    return code;
}

struct sched_step *group_next(struct group *group, const struct sched *sched)
{
    return &group->steps[(sched->flight.formed + 1) % FLIGHT_STEPS_MAX];
}

const struct sched_step *group_oldest(const struct group *group, const struct sched *sched)
{
    return flight_steps(&sched->flight) > 0
               ? &group->steps[(sched->flight.ended + 1) % FLIGHT_STEPS_MAX]
               : NULL;
}

/* The same for every rank: sequential where one of them cannot run the others'. */
static uint32_t choose_plan(const struct group *group, const struct sched_step *step)
{
    for (uint32_t i = 0; i < group->rank_count; i++) {
        if (!group->ranks[i].planned) {
            return 0;
        }
    }
    return plans_choose(group->ranks[0].plans, step);
}

void group_count(struct group *group, const struct sched_step *step)
{
    struct pace_step work = {.tokens = step->token_count};
    for (uint32_t i = 0; i < step->row_count; i++) {
        const struct sched_row *row = &step->rows[i];
        const uint64_t context = pace_context(row->position, row->tokens);
        *(row->tokens == 1 ? &work.answers_context : &work.prompts_context) += context;
    }
    group->work[step->number % FLIGHT_STEPS_MAX] = work;
}

int group_send(struct group *group, const struct sched *sched, const struct sched_step *step,
               const struct requests *requests)
{
    const uint32_t row = choose_plan(group, step);
    const struct device_order order = {sched, step, requests, group->ranks[0].plans->row[row].plan};
    int code = 0;
    group->plan_row[step->number % FLIGHT_STEPS_MAX] = row;
    group_count(group, step);
    for (uint32_t i = 0; i < group->rank_count && !code; i++) {
        code = device_send(&group->ranks[i], &order);
    }
    return code;
}

uint32_t group_plan_row(const struct group *group, const struct sched_step *step)
{
    return group->plan_row[step->number % FLIGHT_STEPS_MAX];
}

bool group_answered(const struct group *group, const struct sched_step *step)
{
    for (uint32_t i = 0; i < group->rank_count; i++) {
        if (group->ranks[i].answered != step->number) {
            return false;
        }
    }
    return true;
}

bool group_waits_for(const struct group *group, uint32_t rank)
{
    enum device_state least = DEVICE_READY;
    for (uint32_t i = 0; i < group->rank_count; i++) {
        least = group->ranks[i].state < least ? group->ranks[i].state : least;
    }
    /* An absent one is the supervisor's. */
    return least != DEVICE_ABSENT && least != DEVICE_READY && group->ranks[rank].state == least;
}

bool group_hangs(struct group *group, uint64_t now_us, uint64_t timeout_us)
{
    uint32_t progress = 0;
    for (uint32_t i = 0; i < group->rank_count; i++) {
        progress += device_progress(&group->ranks[i]);
    }
    if (progress != group->progress) {
        group->progress = progress;
        group->moved_us = now_us;
    }
    const uint64_t from_us = group->moved_us > group->since_us ? group->moved_us : group->since_us;
    return now_us - from_us > timeout_us;
}

void group_fence(struct group *group)
{
    for (uint32_t i = 0; i < group->rank_count; i++) {
        device_fence(&group->ranks[i]);
    }
}

void group_learn(struct group *group, const struct sched_step *step, uint64_t compute_us)
{
    pace_learn(&group->pace, &group->work[step->number % FLIGHT_STEPS_MAX], compute_us);
}

uint64_t group_end_us(const struct group *group, const struct sched_step *step)
{
    const double step_us =
        pace_step_us(&group->pace, &group->work[step->number % FLIGHT_STEPS_MAX]);
    return step_us > 0 ? group->since_us + (uint64_t)step_us : 0;
}
