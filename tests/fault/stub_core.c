/*
 * stub_core.c - stands in for the core in the supervisor's tests: joins every worker it is linked
 * to, is ready when it has joined all, and tells the supervisor what a core tells.
 *
 * Modes (core.mode): fail: cannot start; deaf: ignores the stop; suspect: names worker 0 with its
 * epoch once; stale: names it with the epoch before.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/core.h"
#include "base/clock.h"
#include "ipc/control.h"
#include "ipc/link.h"
#include "tests/fault/stub.h"

enum { TURN_MS = 20, LIFE_US = 120 * 1000000 };

struct stub_core {
    struct link links[LIMIT_WORKERS_MAX];
    bool joined[LIMIT_WORKERS_MAX];
    uint32_t workers;
    int control;
    bool ready;
    bool accused;
};

static void tell(const struct stub_core *core, uint32_t kind, uint32_t epoch, const char *text)
{
    struct control_message message = {.kind = kind, .epoch = epoch};
    memcpy(message.text, text, strlen(text) + 1);
    must(control_send(core->control, &message, -1) == 0);
}

/* False once it was told to stop, or the supervisor is gone. */
static bool hear(struct stub_core *core)
{
    struct control_message message;
    int fd = -1;
    int error;
    while ((error = control_recv(core->control, &message, &fd)) == 0) {
        if (message.kind == CONTROL_STOP) {
            stub_log("core stop");
            return stub_mode("core", "deaf");
        }
        must(message.kind == CONTROL_LINK && message.index < core->workers);
        struct link *link = &core->links[message.index];
        link_close(link);
        core->joined[message.index] = false;
        const int begun = link_core_begin(link, fd, message.epoch, message.group, message.rank);
        must(begun == 0 || begun == -EPIPE); /* The worker is gone already; so is this link. */
    }
    return error == -EAGAIN;
}

static void join(struct stub_core *core)
{
    uint32_t joined = 0;
    for (uint32_t i = 0; i < core->workers; i++) {
        struct link *link = &core->links[i];
        if (!core->joined[i] && link->socket >= 0 && link_core_finish(link) == 0) {
            core->joined[i] = true;
            stub_log("core joined %u epoch %u group %u rank %u", i, link->epoch, link->group,
                     link->rank);
        }
        joined += core->joined[i];
    }
    if (joined == core->workers && !core->ready) {
        core->ready = true;
        tell(core, CONTROL_READY, 0, "");
        tell(core, CONTROL_STATUS, 0, "serving\nMAINPID=1");
    }
}

static void accuse(struct stub_core *core)
{
    const bool stale = stub_mode("core", "stale");
    if (core->ready && !core->accused && (stale || stub_mode("core", "suspect"))) {
        core->accused = true;
        const struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
        (void)nanosleep(&pause, NULL); /* The worker's READY must be there first. */
        stub_log("core suspects epoch %u", core->links[0].epoch - stale);
        tell(core, CONTROL_SUSPECT, core->links[0].epoch - stale, "");
    }
}

int core_main(const struct config *config, int control_fd)
{
    stub_log("core start fds %d", stub_extra_fds());
    struct stub_core *core = calloc(1, sizeof *core);
    must(core);
    core->control = control_fd;
    core->workers = config->workers.count;
    for (uint32_t i = 0; i < core->workers; i++) {
        core->links[i].socket = core->links[i].bell = -1;
    }
    const bool fails = stub_mode("core", "fail");
    if (fails) {
        tell(core, CONTROL_FAILED, 0, "cannot bind tcp://127.0.0.1:1: in use, choose another");
    }
    const uint64_t deadline_us = clock_now_us() + LIFE_US;
    while (!fails && hear(core) && clock_now_us() < deadline_us) {
        join(core);
        accuse(core);
        tell(core, CONTROL_PROGRESS, 0, "");
        struct pollfd wait = {.fd = control_fd, .events = POLLIN};
        (void)poll(&wait, 1, TURN_MS);
    }
    for (uint32_t i = 0; i < core->workers; i++) {
        link_close(&core->links[i]);
    }
    free(core);
    return fails ? EXIT_FAILURE : EXIT_SUCCESS;
}
