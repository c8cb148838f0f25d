/*
 * worker_test.c - the program sluice-worker-cpu itself: this test is its supervisor and its core.
 * Start, ready, a step, a restarted core, stop, the end of the control socket, a model that is not
 * there.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "ipc/control.h"
#include "ipc/death.h"
#include "ipc/link.h"
#include "plan/plan.h"
#include "plan/plankey.h"
#include "tests/unit/workers/tiny_model.h"

enum {
    WAIT_MS = 60000,
    POSITIONS = 64,
    VOCAB = 40,
    PAGES = 16,
    PAGE_TOKENS = 16,
    THREADS = 2,
};

static const struct tiny_model model = {.hidden = 32,
                                        .layers = 2,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 8,
                                        .ffn = 48,
                                        .vocab = VOCAB,
                                        .positions = POSITIONS,
                                        .tied = true,
                                        .seed = 5};

struct child {
    pid_t pid;
    int control;
};

static struct config config_for(const char *path)
{
    struct config config = {.model = {.dtype = CONFIG_DTYPE_F32},
                            .workers = {.count = 1, .tp = 1, .threads = THREADS},
                            .batch = {.tokens_max = 32, .slots_max = 4},
                            .kv = {.page_tokens = PAGE_TOKENS, .device_pages = PAGES}};
    (void)snprintf(config.model.path, sizeof config.model.path, "%s", path);
    return config;
}

/* Puts a descriptor in its place for the child; the copy survives exec. */
static void place(int fd, int at)
{
    if (dup2(fd, at) != at) {
        _exit(126);
    }
}

static struct child start(const struct config *config)
{
    int sockets[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets),
                     0);
    const int stored = control_config_store(config);
    assert_true(stored >= 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        /* Away from 3 and 4 first, so that neither is overwritten before it is used. */
        const int control = fcntl(sockets[1], F_DUPFD, 10);
        const int sealed = fcntl(stored, F_DUPFD, 10);
        place(control, CONTROL_FD);
        place(sealed, CONTROL_CONFIG_FD);
        (void)close(control);
        (void)close(sealed);
        (void)execl(WORKER_PATH, "sluice-worker-cpu", (char *)NULL);
        _exit(127);
    }
    (void)close(sockets[1]);
    (void)close(stored);
    return (struct child){.pid = pid, .control = sockets[0]};
}

static struct control_message receive(const struct child *child)
{
    struct control_message message;
    int fd;
    struct pollfd wait = {.fd = child->control, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
    assert_int_equal(control_recv(child->control, &message, &fd), 0);
    assert_int_equal(fd, -1);
    return message;
}

/* Wait status of the child, which must end by itself. */
static int await_end(const struct child *child)
{
    int status;
    const uint64_t deadline_us = clock_now_us() + (uint64_t)WAIT_MS * 1000;
    pid_t reaped = 0;
    while (reaped == 0 && clock_now_us() < deadline_us) {
        reaped = waitpid(child->pid, &status, WNOHANG);
        (void)usleep(1000);
    }
    if (reaped != child->pid) {
        (void)kill(child->pid, SIGKILL);
        (void)waitpid(child->pid, &status, 0);
        fail_msg("the worker did not end");
    }
    return status;
}

static int reap(const struct child *child)
{
    const int status = await_end(child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void say(const struct child *child, uint32_t kind, int fd)
{
    const struct control_message message = {.kind = kind};
    assert_int_equal(control_send(child->control, &message, fd), 0);
}

/* Gives the worker a link and plays the core's half of the handshake. */
static void join(const struct child *child, struct link *core, uint32_t epoch)
{
    int sockets[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets),
                     0);
    assert_int_equal(link_core_begin(core, sockets[0], epoch, 0, 0), 0);
    say(child, CONTROL_LINK, sockets[1]);
    (void)close(sockets[1]);
    int error;
    do {
        struct pollfd wait = {.fd = core->socket, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
        error = link_core_finish(core);
    } while (error == -EAGAIN);
    assert_int_equal(error, 0);
}

static union record take(struct link *core, uint8_t kind)
{
    union record record;
    assert_int_equal(ring_wait(&core->in, 0, (uint64_t)WAIT_MS * 1000), 0);
    assert_int_equal(ring_take(&core->in, &record), 0);
    assert_int_equal(record.head.kind, kind);
    assert_int_equal(record.head.epoch, core->epoch);
    return record;
}

static void push(struct link *core, union record record)
{
    record.head.epoch = core->epoch;
    assert_int_equal(ring_push(&core->out, &record), 0);
}

/* A greedy request of three tokens in slot 0. */
static void push_request(struct link *core)
{
    struct plan plan;
    plan_sequential(&plan, false);
    push(core, (union record){.open = {.head.kind = RECORD_OPEN, .generation = 1, .top_p = 1.0f}});
    push(core, (union record){.pages = {.head.kind = RECORD_PAGES,
                                        .generation = 1,
                                        .count = 1,
                                        .pages = {PAGES - 1}}});
    push(core, (union record){.step = {.head.kind = RECORD_STEP,
                                       .plan_id = plan.id,
                                       .plan_hash = plan.hash,
                                       .row_count = 1,
                                       .token_count = 3,
                                       .ids_count = 3}});
    push(core, (union record){.row = {.head = {.kind = RECORD_ROW, .flags = RECORD_ROW_SAMPLE},
                                      .generation = 1,
                                      .tokens = 3}});
    push(core, (union record){.ids = {.head.kind = RECORD_IDS, .count = 3, .ids = {1, 17, 30}}});
}

/* The first token of that request. */
static uint32_t ask(struct link *core)
{
    push_request(core);
    ring_publish(&core->out);
    const struct record_result result = take(core, RECORD_RESULT).result;
    assert_int_equal(result.position, 3);
    (void)take(core, RECORD_DONE);
    ring_release(&core->in);
    return result.id;
}

/* What the worker is stands on its board: all of it, or plans of others would serve. */
static void expect_identity(const struct link *core)
{
    struct plankey key;
    memcpy(&key, link_peer_board(core), sizeof key);
    assert_true(plankey_sound(&key));
    assert_true(key.model[0] && key.device[0] && key.kernels[0]);
    assert_string_equal(key.dtype, "f32");
    assert_string_equal(key.weights, "f32");
    assert_string_equal(key.kv, "f32");
    assert_memory_equal(key.library, "oneDNN ", 7);
    assert_int_equal(key.tp, 1);
    assert_int_equal(key.units, THREADS);
}

static void lives_through_a_new_core(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    tiny_model_write(&model, path);
    const struct config config = config_for(path);
    const struct child child = start(&config);
    struct link core;
    join(&child, &core, 1);
    assert_int_equal(receive(&child).kind, CONTROL_READY);
    const struct record_ready ready = take(&core, RECORD_READY).ready;
    assert_int_equal(ready.vocab, VOCAB);
    assert_int_equal(ready.device_pages, PAGES);
    assert_int_equal(ready.page_tokens, PAGE_TOKENS);
    assert_int_equal(ready.dtype, CONFIG_DTYPE_F32);
    assert_true(ready.weight_bytes > 0 && ready.kv_bytes > 0);
    expect_identity(&core);
    const uint32_t id = ask(&core);

    struct link next;
    join(&child, &next, 2);
    assert_int_equal(receive(&child).kind, CONTROL_READY);
    (void)take(&next, RECORD_READY);
    assert_int_equal(kill(child.pid, SIGINT), 0); /* Not for the worker to decide. */
    assert_int_equal(ask(&next), id);
    assert_false(death_seen(next.life));
    say(&child, CONTROL_STOP, -1);
    assert_int_equal(reap(&child), 0);
    assert_true(death_seen(next.life));
    link_close(&core);
    link_close(&next);
    (void)close(child.control);
    tiny_model_remove(path);
}

static void ends_with_its_supervisor(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    tiny_model_write(&model, path);
    const struct config config = config_for(path);
    const struct child child = start(&config);
    struct link core;
    join(&child, &core, 1);
    assert_int_equal(receive(&child).kind, CONTROL_READY);
    (void)close(child.control);
    assert_int_equal(reap(&child), 0);
    link_close(&core);
    tiny_model_remove(path);
}

static void says_why_a_model_cannot_load(void **state)
{
    (void)state;
    const struct config config = config_for("/nonexistent/model");
    const struct child child = start(&config);
    struct link core;
    join(&child, &core, 1);
    const struct control_message message = receive(&child);
    assert_int_equal(message.kind, CONTROL_FAILED);
    assert_non_null(strstr(message.text, "/nonexistent/model"));
    assert_int_equal(reap(&child), 1);
    link_close(&core);
    (void)close(child.control);
}

static void ends_when_the_core_breaks_the_contract(void **state)
{
    (void)state;
    char path[TINY_MODEL_PATH_BYTES];
    tiny_model_write(&model, path);
    const struct config config = config_for(path);
    const struct child child = start(&config);
    struct link core;
    join(&child, &core, 1);
    assert_int_equal(receive(&child).kind, CONTROL_READY);
    push(&core, (union record){.close = {.head.kind = RECORD_CLOSE, .slot = 0}});
    ring_publish(&core.out);
    assert_int_equal(reap(&child), 1);
    link_close(&core);
    (void)close(child.control);
    tiny_model_remove(path);
}

/* The second step decodes. A death at a failpoint leaves nothing of its step behind. */
static void dies_at_failpoints_without_a_trace(void **state)
{
    (void)state;
    static const struct {
        const char *point;
        bool answered; /* The first step, of the prompt, is. */
    } cases[] = {
        {"prefill:1", false}, {"decode:1", true}, {"publish:1", false}, {"publish:2", true}};
    char path[TINY_MODEL_PATH_BYTES];
    tiny_model_write(&model, path);
    const struct config config = config_for(path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(setenv("SLUICE_FAILPOINT", cases[i].point, 1), 0);
        const struct child child = start(&config);
        struct link core;
        join(&child, &core, 1);
        (void)take(&core, RECORD_READY);
        push_request(&core);
        struct plan plan;
        plan_sequential(&plan, false);
        push(&core, (union record){.step = {.head.kind = RECORD_STEP,
                                            .step = 1,
                                            .plan_id = plan.id,
                                            .plan_hash = plan.hash,
                                            .row_count = 1,
                                            .token_count = 1}});
        push(&core, (union record){.row = {.head = {.kind = RECORD_ROW},
                                           .generation = 1,
                                           .position = 3,
                                           .tokens = 1,
                                           .source = RECORD_SOURCE_LAST}});
        ring_publish(&core.out);
        const int status = await_end(&child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
        assert_true(death_seen(core.life));
        if (cases[i].answered) {
            (void)take(&core, RECORD_RESULT);
            assert_int_equal(take(&core, RECORD_DONE).done.step, 0);
        }
        union record record;
        assert_int_equal(ring_take(&core.in, &record), -EAGAIN);
        link_close(&core);
        (void)close(child.control);
    }
    assert_int_equal(unsetenv("SLUICE_FAILPOINT"), 0);
    tiny_model_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lives_through_a_new_core),
        cmocka_unit_test(ends_with_its_supervisor),
        cmocka_unit_test(says_why_a_model_cannot_load),
        cmocka_unit_test(ends_when_the_core_breaks_the_contract),
        cmocka_unit_test(dies_at_failpoints_without_a_trace),
    };
    return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
