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
#include "agent/stream.h"
#include "base/clock.h"
#include "base/log.h"
#include "ipc/control.h"

enum {
    LOOP_MESSAGES_MAX = 256, /* Of one turn: then results and streams have their turn again. */
    LOOP_TEXTS_MAX = 64,
    LOOP_CONTROLS_MAX = 16,
    LOOP_IDLE_MS = 100,     /* Deadlines and the watchdog are looked at so often when idle. */
    LOOP_BLOCKED_MS = 2,    /* A peer's queue was full: ZeroMQ has no event for one peer. */
    LOOP_TELL_US = 500000,  /* PROGRESS and STATUS. */
    LOOP_DRAIN_US = 500000, /* For the last messages of ended streams. */
};

static void tell(const struct core *core, enum control_kind kind, const char *text)
{
    struct control_message message = {
        .kind = kind, .index = core->device.index, .epoch = core->device.bounds.epoch};
    (void)snprintf(message.text, sizeof message.text, "%s", text);
    const int code = control_send(core->control_fd, &message, -1);
    if (code && code != -EAGAIN) {
        log_error("the supervisor does not listen: error %d", -code);
    }
}

/* The worker's epoch is over: nothing of it is read again, its requests wait for the next. */
static void lose_worker(struct core *core, const char *why)
{
    if (core->ready) { /* Before that the supervisor says why there is no start. */
        log_warning("worker %u of epoch %u is lost: %s", core->device.index,
                    core->device.bounds.epoch, why);
    }
    tell(core, CONTROL_SUSPECT, why);
    device_fence(&core->device);
    events_lost(core);
    sched_reset(&core->sched);
    core->counters.worker_losses++;
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
    sched_reset(&core->sched);
    if (socket < 0) {
        return;
    }
    const int code = device_link(&core->device, socket, message->index, message->epoch);
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

static void stage_worker(struct core *core)
{
    struct device *device = &core->device;
    uint64_t notices;
    ssize_t got = read(death_watch_fd(device->watch), &notices, sizeof notices);
    (void)got; /* EAGAIN: nobody died. */
    if (device_died(device)) {
        lose_worker(core, "it died");
    } else if (device->state == DEVICE_JOINING && device_join(device)) {
        lose_worker(core, "its half of the link is not acceptable");
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

static void stage_results(struct core *core)
{
    const int code = device_collect(&core->device, &core->step);
    if (code < 0) {
        lose_worker(core, "a record does not fit the step in flight");
    } else if (code > 0 && core->sched.in_flight) {
        answer_step(core);
    }
    if (core->device.state == DEVICE_READY && !core->ready) {
        core->ready = true;
        tell_limits(core);
        tell(core, CONTROL_READY, "");
    }
}

/* After the results: a step that was answered while this process stood still is not late. */
static void stage_deadline(struct core *core)
{
    const uint64_t timeout_us = (uint64_t)core->config->workers.step_timeout_ms * 1000;
    if (core->sched.in_flight && core->now_us - core->device.sent_us > timeout_us) {
        lose_worker(core, "a step passed workers.step_timeout_ms");
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

static void stage_step(struct core *core)
{
    if (core->sched.in_flight || core->device.state != DEVICE_READY ||
        !sched_form(&core->sched, &core->step)) {
        return;
    }
    events_step(core);
    if (device_send(&core->device, &core->sched, &core->step, &core->requests, clock_now_us())) {
        lose_worker(core, "the ring does not take the step");
    }
}

static void stage_tell(struct core *core)
{
    char status[CONTROL_TEXT_BYTES];
    if (core->now_us - core->told_us < LOOP_TELL_US) {
        return;
    }
    core->told_us = core->now_us;
    tell(core, CONTROL_PROGRESS, "");
    (void)snprintf(status, sizeof status, "%s, %u running, %u waiting",
                   core->draining                       ? "draining"
                   : core->device.state == DEVICE_READY ? "serving"
                                                        : "waiting for a worker",
                   core->sched.running_count, core->sched.waiting_count);
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
    const struct device *device = &core->device;
    const int fds[] = {
        core->control_fd,
        scribe_fd(core->scribe),
        death_watch_fd(device->watch),
        device->state == DEVICE_JOINING ? device->link.socket : -1,
        device->state >= DEVICE_JOINING ? device->link.bell : -1,
    };
    front_wait(&core->front, fds, sizeof fds / sizeof fds[0], scribe_has_room(core->scribe),
               timeout_ms);
}

void loop_run(struct core *core)
{
    bool blocked = false;
    while (!core->stopped) {
        wait_for_work(core, blocked ? LOOP_BLOCKED_MS : LOOP_IDLE_MS);
        core->now_us = clock_now_us();
        for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
            stages[i].run(core);
        }
        blocked = intake_resend(core); /* Before tokens take the room. */
        blocked = stream_send(core) || blocked;
        const bool told = core->requests.live == 0 && core->refusal_count == 0 && core->heard;
        if (core->draining && (told || core->now_us >= core->drain_until_us)) {
            core->stopped = true;
        }
    }
}
