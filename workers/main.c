/*
 * main.c - sluice-worker-cpu and sluice-worker-cuda, the process of one device. Started by the
 * supervisor, which hands it a control socket and the sealed config; linked to the core by shared
 * memory. Owns one engine and one link at a time.
 *
 * Life: wait for a link, load the model, wait for the sibling ranks where there are any, say ready,
 * serve steps. A new link means that the core or a sibling was restarted: everything about requests
 * is forgotten, the weights stay. STOP or the end of the
 * control socket ends the process with 0; a model that cannot load with 1, after FAILED; no
 * device with 3; a core that breaks the contract with 1.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/log.h"
#include "ipc/control.h"
#include "ipc/link.h"
#include "kernels/kern.h"
#include "model/weights.h"
#include "workers/comm_shm.h"
#include "workers/engine.h"
#include "workers/identity.h"
#include "workers/measure.h"
#include "workers/presence.h"
#include "workers/rehearse.h"
#include "workers/step.h"

enum {
    LINK_TIMEOUT_MS = 5000, /* For the core's half of a handshake. */
    STEP_SPIN_US = 50, /* Covers the core's turn between two steps; then the core is given away. */
    STALL_SHARE = 2,   /* Of a step's time, for one wait: who hangs is told from who waits. */
    IDLE_WAIT_US = 50000, /* Between looks at the control socket: bounds the answer to STOP. */
};

struct worker {
    struct config config;
    uint32_t index; /* Among the workers. */
    struct link link;
    struct comm *comm; /* NULL when alone. */
    bool linked;
    bool attached; /* To this link: it was announced. */
    bool stop;
    struct engine *engine;
    struct step step;
    enum kern_dtype dtype;
    struct plankey key;
    uint64_t load_us;
};

static int tell_supervisor(const struct worker *worker, uint32_t kind, const char *text)
{
    struct control_message message = {.kind = kind,
                                      .index = worker->index,
                                      .epoch = worker->link.epoch,
                                      .group = worker->link.group,
                                      .rank = worker->link.rank};
    (void)snprintf(message.text, sizeof message.text, "%s", text);
    return control_send(CONTROL_FD, &message, -1);
}

/* Nothing more comes from this link, and siblings wait for this rank no longer. The link stays
 * mapped: it holds the life word. */
static void leave_epoch(struct worker *worker)
{
    comm_shm_close(worker->comm);
    worker->comm = NULL;
    worker->linked = false;
    worker->attached = false;
}

/* Joins the core that is at the other end of socket; leaves the old one. */
static void connect_link(struct worker *worker, int socket)
{
    struct link link;
    const int error = link_worker_connect(&link, socket, LINK_TIMEOUT_MS);
    if (error == -ECONNRESET || error == -EPIPE) {
        return; /* The core died meanwhile: the supervisor knows, and sends another link. */
    }
    if (error) {
        log_warning("worker %u: no link to the core (error %d)", worker->index, -error);
        return;
    }
    leave_epoch(worker);
    link_close(&worker->link); /* After the new one has taken the hold of the life word. */
    worker->link = link;
    const struct comm_shm_options options = {
        .epoch = link.epoch,
        .group = link.group,
        .rank = link.rank,
        .ranks = worker->config.workers.tp,
        .timeout_us = (uint64_t)worker->config.workers.step_timeout_ms * 1000 / STALL_SHARE,
        .fence = worker->link.fence,
    };
    if (options.ranks > 1 && comm_shm_open(&worker->comm, &options, worker->link.socket)) {
        log_warning("worker %u: cannot make its siblings an offer", worker->index);
        link_close(&worker->link); /* The core sees it, if it is there. */
        return;
    }
    worker->linked = true;
}

/* Takes one message if there is one. */
static void take_control(struct worker *worker)
{
    struct control_message message;
    int fd = -1;
    const int error = control_recv(CONTROL_FD, &message, &fd);
    if (error == -EAGAIN) {
        return;
    }
    if (error || message.kind == CONTROL_STOP) {
        worker->stop = true; /* An error: the supervisor is gone or not itself. */
    } else if (message.kind == CONTROL_LINK && fd >= 0) {
        worker->index = message.index;
        connect_link(worker, fd);
        return;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* Until the supervisor speaks, or the core on behalf of a sibling. */
static void wait_control(struct worker *worker)
{
    struct pollfd waits[] = {{.fd = CONTROL_FD, .events = POLLIN},
                             {.fd = worker->linked ? worker->link.socket : -1, .events = POLLIN}};
    (void)poll(waits, 2, IDLE_WAIT_US / 1000);
    take_control(worker);
}

/* Leaves this worker its part of the cores, where there are enough for all. */
static uint32_t take_cores(const struct worker *worker)
{
    cpu_set_t all;
    CPU_ZERO(&all);
    if (sched_getaffinity(0, sizeof all, &all)) {
        return 1;
    }
    const uint32_t cores = (uint32_t)CPU_COUNT(&all);
    const uint32_t count = worker->config.workers.count;
    if (count <= 1 || cores < count || worker->index >= count) {
        return cores < count ? 1 : cores / count;
    }
    const uint32_t first = cores * worker->index / count;
    const uint32_t end = cores * (worker->index + 1) / count;
    cpu_set_t own;
    CPU_ZERO(&own);
    uint32_t nth = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && nth++ >= first && nth <= end) {
            CPU_SET(cpu, &own);
        }
    }
    (void)sched_setaffinity(0, sizeof own, &own);
    return end - first;
}

static enum kern_dtype choose_dtype(const struct config *config, unsigned isa)
{
    if (config->model.dtype == CONFIG_DTYPE_AUTO) {
        return engine_dtype_auto(isa);
    }
    return config->model.dtype == CONFIG_DTYPE_BF16 ? KERN_BF16 : KERN_F32;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static int open_engine(struct worker *worker, const struct weights *weights,
                       struct model_error *error)
{
    static const enum matmul_weights weights_of[] = {
        [CONFIG_WEIGHTS_AUTO] = MATMUL_WEIGHTS_DTYPE,
        [CONFIG_WEIGHTS_INT8] = MATMUL_WEIGHTS_INT8,
        [CONFIG_WEIGHTS_FP8] = MATMUL_WEIGHTS_FP8,
    };
    const struct config *config = &worker->config;
    const struct hparams *hparams = weights_hparams(weights);
    const unsigned isa = kern_isa_detect();
    const uint32_t cores = take_cores(worker);
    const uint32_t context = config->model.context_tokens_max;
    worker->dtype = choose_dtype(config, isa);
    const struct engine_options options = {
        .dtype = worker->dtype,
        .weights = weights_of[config->model.weights],
        .kv = config->kv.dtype == CONFIG_KV_DTYPE_E4M3 ? ENGINE_KV_E4M3 : ENGINE_KV_DTYPE,
        .isa = isa,
        .threads = config->workers.threads > 0 ? config->workers.threads : cores,
        .tokens_max = config->batch.tokens_max,
        .rows_max = smaller(config->batch.slots_max, config->batch.tokens_max),
        .context_max = smaller(context > 0 ? context : hparams->positions_max, LIMIT_CONTEXT_MAX),
        .page_tokens = config->kv.page_tokens,
        .device_pages = config->kv.device_pages,
        .rank = worker->index % config->workers.tp,
        .ranks = config->workers.tp,
        .device = worker->index,
        .slots_max = config->batch.slots_max,
        .timeout_ms = config->workers.step_timeout_ms,
    };
    const int status = engine_open(&worker->engine, weights, &options, error);
    if (status) {
        return status;
    }
    identity_fill(&worker->key, worker->engine, &options);
    const struct record_bounds bounds = {.slots = config->batch.slots_max,
                                         .pages = options.device_pages,
                                         .vocab = hparams->vocab,
                                         .positions = options.context_max,
                                         .rows = options.rows_max,
                                         .tokens = options.tokens_max};
    return step_open(&worker->step, worker->engine, &bounds, options.page_tokens, options.ranks);
}

static int load(struct worker *worker)
{
    const uint64_t start_us = clock_now_us();
    struct model_error error = {"out of memory"};
    struct weights *weights = NULL;
    const char *path = worker->config.model.path;
    const uint32_t seed = worker->config.model.random_weights;
    int status = seed > 0 ? weights_open_random(&weights, path, seed, &error)
                          : weights_open(&weights, path, &error);
    if (!status) {
        status = open_engine(worker, weights, &error);
        weights_close(weights);
    }
    if (status) {
        if (tell_supervisor(worker, CONTROL_FAILED, error.text)) { /* It prints the one line. */
            log_error("worker %u: %s", worker->index, error.text);
        }
        return status;
    }
    worker->load_us = clock_now_us() - start_us;
    return 0;
}

/* Begins a link: the core learns what it is joined to, the supervisor that this worker serves. */
static int announce(struct worker *worker)
{
    const struct hparams *hparams = engine_hparams(worker->engine);
    union record record = {0};
    record.ready = (struct record_ready){
        .head = {.kind = RECORD_READY, .group = worker->link.group, .epoch = worker->link.epoch},
        .vocab = hparams->vocab,
        .device_pages = worker->config.kv.device_pages,
        .page_tokens = worker->config.kv.page_tokens,
        .dtype = worker->dtype == KERN_BF16 ? CONFIG_DTYPE_BF16 : CONFIG_DTYPE_F32,
        .weight_bytes = engine_weight_bytes(worker->engine),
        .kv_bytes = engine_kv_bytes(worker->engine),
        .load_us = worker->load_us,
        .sharing = engine_sharing(worker->engine),
    };
    memcpy(link_own_board(&worker->link), &worker->key, sizeof worker->key);
    int error = step_attach(&worker->step, &worker->link, worker->comm);
    error = error ? error : ring_push(&worker->link.out, &record);
    if (error) {
        return error;
    }
    link_worker_publish(&worker->link);
    worker->attached = true;
    return tell_supervisor(worker, CONTROL_READY, "");
}

/* Announces this worker once all siblings are there; waits for one, or for another link. */
static int attach(struct worker *worker)
{
    int error = -EAGAIN;
    if (worker->linked) {
        error = worker->comm ? comm_shm_join(worker->comm, worker->link.socket) : 0;
    }
    error = error ? error : announce(worker);
    if (!error) {
        return 0;
    }
    const bool over = error == -ECONNRESET || error == -ECANCELED; /* Of the core, of a sibling. */
    if (over) {
        leave_epoch(worker); /* Another link will come. */
    }
    wait_control(worker);
    return over || error == -EAGAIN ? 0 : error;
}

/* Until STOP. 0 or -errno. */
static int serve(struct worker *worker)
{
    int error = 0;
    while (!error && !worker->stop) {
        if (!worker->attached) {
            error = attach(worker);
            continue;
        }
        if (ring_wait(&worker->link.in, STEP_SPIN_US, IDLE_WAIT_US) == 0) {
            error = step_serve(&worker->step);
        }
        if (error == -ECANCELED) {
            leave_epoch(worker);
            error = 0;
        }
        take_control(worker);
    }
    return error;
}

static int run(struct worker *worker)
{
    int error = control_config_fetch(CONTROL_CONFIG_FD, &worker->config);
    if (error) {
        log_error("worker: started without the agent's config: this program is not for the shell");
        return error;
    }
    while (!worker->linked && !worker->stop) {
        wait_control(worker);
    }
    if (worker->stop) {
        return 0;
    }
    error = load(worker);
    if (!error) {
        error = serve(worker);
    }
    const char *failure = worker->engine ? engine_failure(worker->engine) : NULL;
    if (failure && tell_supervisor(worker, CONTROL_FAILED, failure)) { /* It logs the cause. */
        log_error("worker %u: the device has failed: %s", worker->index, failure);
    }
    return error;
}

/* For the supervisor where there is one, or for the shell. */
static int refuse(const char *why)
{
    const struct worker nobody = {.index = 0};
    if (tell_supervisor(&nobody, CONTROL_FAILED, why)) {
        log_error("%s", why);
    }
    return PRESENCE_EXIT_ABSENT;
}

int main(int argc, char **argv)
{
    char device[PRESENCE_TEXT_BYTES];
    const int absent = presence_check(device); /* Before anything large is loaded. */
    if (absent) {
        return refuse(device);
    }
    if (argc > 1 && strcmp(argv[1], "--probe") == 0) {
        return puts(device) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (argc > 1 && strcmp(argv[1], "--measure") == 0) {
        return measure_main(argc - 1, argv + 1);
    }
    if (argc > 1 && strcmp(argv[1], "--rehearse") == 0) {
        return rehearse_main(argc - 1, argv + 1);
    }
    (void)signal(SIGINT, SIG_IGN); /* A terminal's reach the whole group; the supervisor decides. */
    (void)signal(SIGHUP, SIG_IGN);
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker) {
        return EXIT_FAILURE;
    }
    worker->link.socket = -1;
    worker->link.bell = -1;
    const int error = run(worker);
    step_close(&worker->step);
    engine_close(worker->engine);
    comm_shm_close(worker->comm);
    free(worker); /* The link stays mapped: the kernel marks its life word when this thread ends. */
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
