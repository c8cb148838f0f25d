/*
 * stub_worker.c - stands in for a worker in the supervisor's tests: connects every link it is sent
 * and is ready after the first.
 *
 * Modes (worker.mode): fail: says why it cannot start; exit: ends with status 3; hang: is never
 * ready; deaf: ignores the stop.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ipc/control.h"
#include "ipc/link.h"
#include "tests/fault/stub.h"

enum { TURN_MS = 20, LIFE_US = 120 * 1000000, CONNECT_MS = 5000 };

struct stub_worker {
    struct link link;
    bool deaf;
    bool mute;
    bool ready;
};

static void tell(uint32_t kind, const char *text)
{
    struct control_message message = {.kind = kind};
    memcpy(message.text, text, strlen(text) + 1);
    must(control_send(CONTROL_FD, &message, -1) == 0);
}

/* False once it was told to stop, or the supervisor is gone. */
static bool hear(struct stub_worker *worker)
{
    struct control_message message;
    int fd = -1;
    int error;
    while ((error = control_recv(CONTROL_FD, &message, &fd)) == 0) {
        if (message.kind == CONTROL_STOP) {
            stub_log("worker stop");
            return worker->deaf;
        }
        must(message.kind == CONTROL_LINK);
        link_close(&worker->link);
        if (link_worker_connect(&worker->link, fd, CONNECT_MS) != 0) {
            continue; /* The core died meanwhile; the next link is on its way. */
        }
        must(worker->link.epoch == message.epoch);
        stub_log("worker %u linked epoch %u", message.index, message.epoch);
        if (!worker->ready && !worker->mute) {
            worker->ready = true;
            tell(CONTROL_READY, "");
        }
    }
    return error == -EAGAIN;
}

int main(void)
{
    struct config *config = calloc(1, sizeof *config);
    must(config && control_config_fetch(CONTROL_CONFIG_FD, config) == 0);
    stub_log("worker start fds %d", stub_extra_fds());
    free(config);
    if (stub_mode("worker", "fail")) {
        tell(CONTROL_FAILED, "model.safetensors: no tensor blk.0; fetch it again");
        return EXIT_FAILURE;
    }
    if (stub_mode("worker", "exit")) {
        return 3;
    }
    struct stub_worker worker = {.link = {.socket = -1, .bell = -1},
                                 .deaf = stub_mode("worker", "deaf"),
                                 .mute = stub_mode("worker", "hang")};
    const uint64_t deadline_us = clock_now_us() + LIFE_US;
    while (hear(&worker) && clock_now_us() < deadline_us) {
        struct pollfd wait = {.fd = CONTROL_FD, .events = POLLIN};
        (void)poll(&wait, 1, TURN_MS);
    }
    link_close(&worker.link);
    return EXIT_SUCCESS;
}
