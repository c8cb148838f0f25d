/*
 * loop.c - see loop.h. Runs on the core's main thread. A turn waits for something to do, then runs
 * every stage once, each with a bound; stages never call each other, they meet in struct core.
 * Invariant: no stage waits, so a turn's length is bounded and PING is answered from the loop.
 */
#include "agent/loop.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/answer.h"
#include "agent/events.h"
#include "agent/intake.h"
#include "agent/slo.h"
#include "agent/stream.h"
#include "base/clock.h"
#include "base/log.h"
#include "ipc/control.h"

enum {
    LOOP_MESSAGES_MAX = 256, /* Of one turn: then results and streams have their turn again. */
    LOOP_TEXTS_MAX = 64,
    LOOP_CONTROLS_MAX = 16,
    LOOP_IDLE_MS = 100,        /* Deadlines and the watchdog are looked at so often when idle. */
    LOOP_BLOCKED_MS = 2,       /* A peer's queue was full: ZeroMQ has no event for one peer. */
    LOOP_FORM_AHEAD_US = 2000, /* Of the end of the step before; a sleep is good to 1 ms. */
    LOOP_TELL_US = 500000,     /* PROGRESS and STATUS. */
    LOOP_DRAIN_US = 500000,    /* For the last messages of ended streams. */
};

static void send_control(const struct core *core, struct control_message *message, const char *text)
{
    (void)snprintf(message->text, sizeof message->text, "%s", text);
    const int code = control_send(core->control_fd, message, -1);
    if (code && code != -EAGAIN) {
        log_error("the supervisor does not listen: error %d", -code);
    }
}

static void tell(const struct core *core, enum control_kind kind, const char *text)
{
    struct control_message message = {.kind = kind};
    send_control(core, &message, text);
}

/* The group's epoch is over: nothing of it is read again, its requests wait or go on elsewhere. */
static void end_epoch(struct core *core, struct group *group)
{
    group_fence(group);
    events_lost(core, group);
    placement_lose(&core->placement, group->index);
}

/* This worker is to be replaced. The other ranks of its group keep their weights. */
static void accuse(struct core *core, const struct device *device, const char *why)
{
    struct control_message message = {
        .kind = CONTROL_SUSPECT, .index = device->index, .epoch = device->bounds.epoch};
    if (core->ready) { /* Before that the supervisor says why there is no start. */
        log_warning("worker %u of epoch %u is lost: %s", device->index, device->bounds.epoch, why);
    }
    send_control(core, &message, why);
    core->counters.worker_losses++;
}

static void lose_worker(struct core *core, struct group *group, uint32_t rank, const char *why)
{
    accuse(core, &group->ranks[rank], why);
    end_epoch(core, group);
}

static void begin_drain(struct core *core)
{
    core->draining = true;
    core->drain_until_us = core->now_us + LOOP_DRAIN_US;
    scribe_drain(core->scribe);
    stream_end_all(core, WIRE_DRAINING);
}

static void take_link(struct core *core, const struct control_message *message, int socket)
{
    must(message->index < core->device_count); /* The supervisor's word. */
    struct group *group = &core->groups[message->index / core->config->workers.tp];
    for (uint32_t i = 0; i < group->rank_count; i++) { /* Seen here first where all went fast. */
        core->counters.worker_losses += device_died(&group->ranks[i]);
    }
    if (group->epoch != message->epoch) {
        end_epoch(core, group);
        group->epoch = message->epoch;
        group->linked_us = core->now_us;
    }
    if (socket < 0) {
        return;
    }
    const int code = device_link(&core->devices[message->index], socket, message);
    if (code && code != -EPIPE) {
        log_error("cannot link to worker %u: error %d", message->index, -code);
    }
}

static void stage_control(struct core *core)
{
    for (uint32_t i = 0; i < LOOP_CONTROLS_MAX; i++) {
        struct control_message message;
        int fd = -1;
        const int code = control_recv(core->control_fd, &message, &fd);
        if (code == -EAGAIN) {
            return;
        }
        if (code || message.kind == CONTROL_STOP) {
            if (code) { /* The supervisor is gone: nothing keeps this process's books. */
                core->stopped = true;
                core->exit_status = 1;
            } else if (!core->draining) {
                begin_drain(core);
            }
            return;
        }
        if (message.kind == CONTROL_LINK) {
            take_link(core, &message, fd);
        } else if (fd >= 0) {
            (void)close(fd);
        }
    }
}

/* Every rank that has not answered is to blame. */
static void blame_late(struct core *core, struct group *group, const struct sched_step *step)
{
    for (uint32_t i = 0; i < group->rank_count; i++) {
        if (group->ranks[i].answered != step->number) {
            accuse(core, &group->ranks[i], "a step got no further within workers.step_timeout_ms");
        }
    }
    end_epoch(core, group);
}

/* Ranks that were linked and are not ready in time. Those that wait for them are not to blame. */
static void blame_unready(struct core *core, struct group *group)
{
    bool blamed = false;
    for (uint32_t i = 0; i < group->rank_count; i++) {
        if (group_waits_for(group, i)) {
            accuse(core, &group->ranks[i], "not ready in time");
            blamed = true;
        }
    }
    if (blamed) {
        end_epoch(core, group);
    }
}

static void watch_group(struct core *core, struct group *group)
{
    for (uint32_t i = 0; i < group->rank_count; i++) {
        struct device *device = &group->ranks[i];
        if (device_died(device)) {
            lose_worker(core, group, i, "it died");
        } else if (device->state == DEVICE_JOINING && device_join(device, group->rank_count == 1)) {
            lose_worker(core, group, i, "its half of the link is not acceptable");
        } else if (device->state == DEVICE_PAIRING && device->offer_fd < 0 &&
                   device_take_offer(device)) {
            lose_worker(core, group, i, "its offer to its siblings is not acceptable");
        }
    }
    if (group_pair(group)) {
        end_epoch(core, group); /* Somebody died meanwhile: a new link comes with the next start. */
    }
    if (core->now_us - group->linked_us > (uint64_t)core->config->workers.start_timeout_ms * 1000) {
        blame_unready(core, group);
    }
}

static void stage_worker(struct core *core)
{
    uint64_t notices;
    ssize_t got = read(death_watch_fd(core->watch), &notices, sizeof notices);
    (void)got; /* EAGAIN: nobody died. */
    for (uint32_t i = 0; i < core->placement.count; i++) {
        watch_group(core, &core->groups[i]);
    }
}

/* What this model cannot do although the config asks for it, once it is known to serve. */
static void tell_limits(const struct core *core)
{
    enum chat_template wanted = CHAT_NONE;
    must(chat_template_find(core->config->chat.template, &wanted) == 0);
    if (!core->tokenizer) {
        log_warning("%s has no tokenizer: serving token ids only", core->config->model.path);
    } else if (wanted != core->chat) {
        log_warning("the model does not know the tokens of chat.template %s: chat is off",
                    core->config->chat.template);
    }
}

/* Reads what the ranks tell of the oldest step in flight. True when they all have answered it. */
static bool collect_step(struct core *core, struct group *group)
{
    const struct sched_step *step = group_oldest(group, &core->placement.sched[group->index]);
    for (uint32_t i = 0; i < group->rank_count; i++) {
        const int code = device_collect(&group->ranks[i], step);
        const uint32_t late = group->ranks[i].late;
        if (code == -ETIMEDOUT && late != i && late < group->rank_count) {
            lose_worker(core, group, late, "its siblings wait for it in vain");
            return false;
        }
        if (code) {
            lose_worker(core, group, i, "a record does not fit the step in flight");
            return false;
        }
    }
    return step && group_answered(group, step);
}

/* The next step's answer may have come with this one's: the bell tells of both. */
static void collect_group(struct core *core, struct group *group)
{
    while (collect_step(core, group)) {
        answer_step(core, group);
        group->since_us = core->now_us;
    }
    if (group_ready(group)) {
        placement_set_ready(&core->placement, group->index);
    }
}

/* Once all workers have said what they are; until now their steps were sequential. A plan may have
 * the units that each of them has. */
static void read_plans(struct core *core)
{
    struct plankey here = core->devices[0].key;
    for (uint32_t i = 1; i < core->device_count; i++) {
        const uint32_t units = core->devices[i].key.units;
        here.units = units < here.units ? units : here.units;
    }
    plans_read(&core->plans, core->config, &here);
    for (uint32_t i = 0; i < core->device_count; i++) {
        device_offer_plans(&core->devices[i]);
    }
}

static bool all_ready(const struct core *core)
{
    for (uint32_t i = 0; i < core->placement.count; i++) {
        if (!core->placement.ready[i]) {
            return false;
        }
    }
    return true;
}

static void stage_results(struct core *core)
{
    for (uint32_t i = 0; i < core->placement.count; i++) {
        collect_group(core, &core->groups[i]);
    }
    if (!core->ready && all_ready(core)) {
        core->ready = true;
        read_plans(core);
        tell_limits(core);
        tell(core, CONTROL_READY, "");
    }
}

/* After the results: a step that was answered while this process stood still is not late. */
static void stage_deadline(struct core *core)
{
    const uint64_t timeout_us = (uint64_t)core->config->workers.step_timeout_ms * 1000;
    for (uint32_t i = 0; i < core->placement.count; i++) {
        struct group *group = &core->groups[i];
        const struct sched_step *step = group_oldest(group, &core->placement.sched[i]);
        if (step && group_hangs(group, core->now_us, timeout_us)) {
            blame_late(core, group, step);
        }
    }
}

static void stage_intake(struct core *core)
{
    core->heard = intake_messages(core, LOOP_MESSAGES_MAX);
}

static void stage_texts(struct core *core)
{
    intake_texts(core, LOOP_TEXTS_MAX);
}

static void stage_expire(struct core *core)
{
    stream_expire(core);
}

/* The next step waits for the end of the one that runs to come near: requests that arrive until
 * then are in it. Early enough that the worker does not wait; too late costs it what forming a step
 * takes, as the answer wakes this loop. */
static bool may_come_later(struct core *core, const struct group *group)
{
    const struct sched_step *step = group_oldest(group, &core->placement.sched[group->index]);
    const uint64_t end_us = step ? group_end_us(group, step) : 0;
    const uint64_t form_us = end_us > LOOP_FORM_AHEAD_US ? end_us - LOOP_FORM_AHEAD_US : 0;
    if (form_us < core->now_us + 1000) {
        return false;
    }
    const uint32_t left_ms = (uint32_t)((form_us - core->now_us) / 1000);
    core->sleep_ms = left_ms < core->sleep_ms ? left_ms : core->sleep_ms;
    return true;
}

/* The next step is formed and sent while the one before runs. */
static void form_steps(struct core *core, struct group *group)
{
    struct sched *sched = &core->placement.sched[group->index];
    while (flight_steps(&sched->flight) < core->config->batch.steps_in_flight &&
           !may_come_later(core, group)) {
        struct sched_step *step = group_next(group, sched);
        slo_set_dense(core, group);
        if (!placement_form(&core->placement, group->index, step)) {
            return;
        }
        if (flight_steps(&sched->flight) == 1) {
            group->since_us = clock_now_us();
        }
        events_step(core, group, step);
        if (group_send(group, sched, step, &core->requests)) {
            lose_worker(core, group, 0, "the ring does not take the step");
            return;
        }
    }
}

static void stage_step(struct core *core)
{
    for (uint32_t i = 0; i < core->placement.count; i++) {
        if (core->placement.ready[i]) {
            form_steps(core, &core->groups[i]);
        }
    }
}

static bool any_ready(const struct core *core)
{
    for (uint32_t i = 0; i < core->placement.count; i++) {
        if (core->placement.ready[i]) {
            return true;
        }
    }
    return false;
}

static void stage_tell(struct core *core)
{
    char status[CONTROL_TEXT_BYTES];
    if (core->now_us - core->told_us < LOOP_TELL_US) {
        return;
    }
    const struct placement_total total = placement_total(&core->placement);
    core->told_us = core->now_us;
    tell(core, CONTROL_PROGRESS, "");
    (void)snprintf(status, sizeof status, "%s, %u running, %u waiting",
                   core->draining    ? "draining"
                   : any_ready(core) ? "serving"
                                     : "waiting for a worker",
                   total.running, total.waiting);
    tell(core, CONTROL_STATUS, status);
}

struct stage {
    const char *name;
    void (*run)(struct core *core);
};

/* The path of a request, left to right; stream_send() closes the turn. */
static const struct stage stages[] = {
    {"control", stage_control},   {"worker", stage_worker}, {"results", stage_results},
    {"deadline", stage_deadline}, {"intake", stage_intake}, {"texts", stage_texts},
    {"expire", stage_expire},     {"step", stage_step},     {"tell", stage_tell},
};

static void wait_for_work(struct core *core, uint32_t timeout_ms)
{
    int fds[FRONT_FDS_MAX] = {core->control_fd, scribe_fd(core->scribe),
                              death_watch_fd(core->watch)};
    uint32_t count = 3;
    for (uint32_t i = 0; i < core->device_count; i++) {
        const struct device *device = &core->devices[i];
        const bool waits = device->state == DEVICE_JOINING ||
                           (device->state == DEVICE_PAIRING && device->offer_fd < 0);
        fds[count++] = waits ? device->link.socket : -1;
        fds[count++] = device->state >= DEVICE_JOINING ? device->link.bell : -1;
    }
    front_wait(&core->front, fds, count, scribe_has_room(core->scribe), timeout_ms);
}

void loop_run(struct core *core)
{
    while (!core->stopped) {
        wait_for_work(core, core->again ? 0 : core->sleep_ms);
        core->again = false;
        core->sleep_ms = LOOP_IDLE_MS;
        core->now_us = clock_now_us();
        for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
            stages[i].run(core);
        }
        const bool refusing = intake_resend(core); /* Before tokens take the room. */
        if (stream_send(core) || refusing) {
            core->sleep_ms = core->sleep_ms < LOOP_BLOCKED_MS ? core->sleep_ms : LOOP_BLOCKED_MS;
        }
        const bool told = core->requests.live == 0 && core->refusal_count == 0 && core->heard;
        if (core->draining && (told || core->now_us >= core->drain_until_us)) {
            core->stopped = true;
        }
    }
}
