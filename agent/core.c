/*
 * core.c - start and end of the core process: reads the model's numbers and tokenizer, takes all
 * memory, binds the sockets, runs the loop. Called by main.c in the re-executed child, on its main
 * thread; owns struct core. Invariant: after arena_seal() the request path cannot grow the process.
 */
#include "agent/core.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/loop.h"
#include "base/log.h"
#include "ipc/control.h"
#include "model/weights.h"

struct start_error {
    char text[CONTROL_TEXT_BYTES];
};

static int say(struct start_error *error, int code, const char *text)
{
    (void)snprintf(error->text, sizeof error->text, "%.*s", CONTROL_TEXT_BYTES - 1, text);
    return code;
}

static int open_model(struct core *core, struct start_error *error)
{
    const char *path = core->config->model.path;
    struct model_error model_error = {{0}};
    int code = weights_peek(&core->hparams, path, &model_error);
    if (code) {
        return say(error, code, model_error.text);
    }
    code = tokenizer_open(&core->tokenizer, path, &model_error);
    if (code == -ENOENT) {
        core->tokenizer = NULL; /* Serves ids only. */
    } else if (code) {
        return say(error, code, model_error.text);
    }
    if (chat_template_find(core->config->chat.template, &core->chat)) {
        return say(error, -EINVAL, "chat.template is not one of chatml, none");
    }
    if (core->chat != CHAT_NONE &&
        (!core->tokenizer || chat_template_check(core->chat, core->tokenizer))) {
        core->chat = CHAT_NONE;
    }
    return 0;
}

/* The context that can be served: the model's, the config's, and what the KV pool holds. */
static uint32_t served_context(const struct core *core)
{
    const uint32_t wanted = core->config->model.context_tokens_max;
    const uint64_t pool = (uint64_t)core->config->kv.device_pages * core->config->kv.page_tokens;
    uint32_t context = core->hparams.positions_max;
    context = wanted && wanted < context ? wanted : context;
    return pool < context ? (uint32_t)pool : context;
}

/* Group g is the workers [g * tp, (g + 1) * tp). */
static int open_groups(struct core *core, const struct record_bounds *bounds)
{
    const uint32_t tp = core->config->workers.tp;
    const struct device_options options = {
        .slots_max = bounds->slots, .plans = &core->plans, .watch = core->watch};
    core->device_count = core->config->workers.count;
    int code = 0;
    for (uint32_t i = 0; i < core->device_count && !code; i++) {
        code = device_open(&core->devices[i], &core->arena, bounds, &options);
    }
    for (uint32_t i = 0; i < core->placement.count && !code; i++) {
        core->groups[i] =
            (struct group){.index = i, .ranks = &core->devices[(size_t)i * tp], .rank_count = tp};
        code = group_open(&core->groups[i], &core->arena, bounds->slots);
    }
    return code;
}

/* The longest answer, or what TOKENIZE and DETOKENIZE give: no more than a message's bytes. */
static size_t reply_bytes_max(const struct core *core)
{
    const size_t answer = codec_reply_bytes_max(core->context_max, core->requests.text_bytes_max);
    const size_t text = codec_reply_bytes_max(0, core->config->zmq.message_bytes_max);
    return answer > text ? answer : text;
}

static int open_memory(struct core *core)
{
    const struct config *config = core->config;
    const uint32_t slots = config->batch.slots_max;
    const uint32_t requests = config->queue.requests_max + slots;
    struct sched_options sched = {
        .requests_max = requests,
        .slots_max = slots,
        .tokens_max = config->batch.tokens_max,
        .page_tokens = config->kv.page_tokens,
        .page_count = config->kv.device_pages,
        .context_max = core->context_max,
        .forecast_percent = config->batch.forecast_percent,
    };
    const struct scribe_options scribe = {
        .tokenizer = core->tokenizer,
        .chat = core->chat,
        .vocab = core->hparams.vocab,
        .message_bytes_max = config->zmq.message_bytes_max,
    };
    const struct record_bounds bounds = {
        .slots = slots,
        .pages = config->kv.device_pages,
        .vocab = core->hparams.vocab,
        .positions = core->context_max,
        .rows = slots,
        .tokens = config->batch.tokens_max,
    };
    must(getrandom(&sched.salt, sizeof sched.salt, 0) == (ssize_t)sizeof sched.salt);
    const uint32_t groups = config->workers.count / config->workers.tp;
    int code =
        arena_open(&core->arena,
                   requests_bytes(requests, core->context_max) + placement_bytes(&sched, groups) +
                       scribe_bytes(&scribe) + config->workers.count * device_bytes(slots) +
                       groups * group_bytes(slots) + sizeof(struct wire_generate) + 4096);
    code = code ? code : requests_open(&core->requests, &core->arena, requests, core->context_max);
    code = code ? code : placement_open(&core->placement, &core->arena, &sched, groups);
    code = code ? code : death_watch_open(&core->watch);
    code = code ? code : open_groups(core, &bounds);
    code = code ? code : codec_open(&core->codec);
    code = code ? code : codec_reserve(core->codec, reply_bytes_max(core));
    code = code ? code : scribe_open(&core->scribe, &core->arena, &scribe);
    if (!code) {
        core->generate = arena_alloc(&core->arena, 1, sizeof *core->generate);
        must(core->generate);
        arena_seal(&core->arena);
    }
    return code;
}

static int core_open(struct core *core, struct start_error *error)
{
    char front_error[FRONT_ERROR_BYTES_MAX];
    int code = open_model(core, error);
    if (code) {
        return code;
    }
    struct model_error model_error = {{0}};
    code = hparams_check_ranks(&core->hparams, core->config->workers.tp, &model_error);
    if (code) {
        return say(error, code, model_error.text);
    }
    core->context_max = served_context(core);
    plans_open(&core->plans, core->hparams.experts > 0);
    code = open_memory(core);
    if (code) {
        return say(error, code,
                   "not enough memory: lower queue.requests_max or "
                   "model.context_tokens_max");
    }
    code = front_open(&core->front, core->config, front_error);
    return code ? say(error, code, front_error) : 0;
}

static void core_close(struct core *core)
{
    front_close(&core->front);
    scribe_close(core->scribe);
    for (uint32_t i = 0; i < core->device_count; i++) {
        device_close(&core->devices[i]);
    }
    if (core->watch) { /* Not there when the core failed to start. */
        death_watch_close(core->watch);
    }
    codec_close(core->codec);
    tokenizer_close(core->tokenizer);
    arena_close(&core->arena);
}

static int core_run(struct core *core)
{
    struct start_error error = {{0}};
    if (core_open(core, &error)) {
        struct control_message failed = {.kind = CONTROL_FAILED};
        memcpy(failed.text, error.text, sizeof failed.text);
        if (control_send(core->control_fd, &failed, -1)) {
            log_error("%s", error.text);
        }
        core_close(core);
        return 1;
    }
    loop_run(core);
    core_close(core);
    return core->exit_status;
}

/* libzmq aborts when a client of an ipc socket comes and no descriptor is left to accept it with:
 * the soft limit, often 1,024, must not be the one that counts. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0); /* Up to its own hard limit anybody may. */
}

int core_main(const struct config *config, int control_fd)
{
    struct core *core = calloc(1, sizeof *core); /* Too large for a stack. */
    must(core);
    core->config = config;
    core->control_fd = control_fd;
    must(getrandom(&core->instance, sizeof core->instance, 0) == (ssize_t)sizeof core->instance);
    raise_descriptor_limit();
    must(signal(SIGINT, SIG_IGN) != SIG_ERR && signal(SIGHUP, SIG_IGN) != SIG_ERR &&
         signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    const int status = core_run(core);
    free(core);
    return status;
}
