/*
 * admit.c - see admit.h. Part of the intake stages of the core's loop; owns nothing. Invariant:
 * what reaches the scheduler fits the context and the page pool, and the queue's bounds were
 * counted at the first look.
 */
#include "agent/admit.h"

#include <math.h>
#include <string.h>
#include <sys/random.h>

#include "agent/answer.h"
#include "agent/intake.h"
#include "base/hash.h"

static double pick(bool given, double value, double model, double fallback)
{
    return given ? value : isnan(model) ? fallback : model;
}

/* Request, then generation_config.json, then the server. */
static void fill_sampling(const struct core *core, const struct wire_generate *generate,
                          struct request_params *params)
{
    const struct hparams *model = &core->hparams;
    const uint32_t given = generate->given;
    params->temperature =
        pick(given & WIRE_GIVEN_TEMPERATURE, generate->temperature, model->temperature, 1.0);
    params->top_p = pick(given & WIRE_GIVEN_TOP_P, generate->top_p, model->top_p, 1.0);
    params->min_p = pick(given & WIRE_GIVEN_MIN_P, generate->min_p, model->min_p, 0.0);
    params->repetition_penalty = pick(given & WIRE_GIVEN_REPETITION, generate->repetition_penalty,
                                      model->repetition_penalty, 1.0);
    params->presence_penalty = generate->presence_penalty;
    params->frequency_penalty = generate->frequency_penalty;
    params->top_k = given & WIRE_GIVEN_TOP_K     ? generate->top_k
                    : model->top_k == UINT32_MAX ? 0
                                                 : model->top_k;
    params->seed = generate->seed;
    if (!(given & WIRE_GIVEN_SEED)) {
        must(getrandom(&params->seed, sizeof params->seed, 0) == (ssize_t)sizeof params->seed);
    }
}

static void fill_params(const struct core *core, const struct wire_generate *generate,
                        struct request_params *params)
{
    *params = (struct request_params){
        .max_tokens = generate->given & WIRE_GIVEN_MAX_TOKENS ? generate->max_tokens : 0,
        .n = generate->n,
        .choice.several = generate->n > 1,
        .min_tokens = generate->min_tokens,
        .priority = generate->priority,
        .tenant =
            generate->tenant.bytes ? hash_u64(generate->tenant.bytes, generate->tenant.count) : 0,
        .ignore_eos = generate->ignore_eos,
        .stream = generate->stream,
        .logprobs = generate->logprobs,
        .top_logprobs = generate->top_logprobs,
        .scores_prompt = generate->scores_prompt,
        .prompt_logprobs = generate->prompt_logprobs,
        .skip_special = generate->skip_special,
        .include_stop = generate->include_stop,
        .events = generate->events,
        .stop_id_count = generate->stop_id_count,
        .stop_count = generate->stop_count,
    };
    fill_sampling(core, generate, params);
    memcpy(params->stop_ids, generate->stop_ids, sizeof generate->stop_ids);
    for (uint32_t i = 0; i < core->hparams.eos_count && !generate->ignore_eos; i++) {
        params->stop_ids[params->stop_id_count++] = core->hparams.eos_ids[i];
    }
    for (uint32_t i = 0; i < generate->stop_count; i++) {
        params->stop_bytes[i] = (uint16_t)generate->stop[i].count;
        memcpy(params->stop[i], generate->stop[i].bytes, generate->stop[i].count);
    }
}

/* The lists that are too long for the parameters. A bad id is one with a bias of -infinity. */
static void fill_lists(const struct wire_generate *generate, struct request *request)
{
    struct request_params *params = &request->params;
    memcpy(request->biases, generate->biases, generate->bias_count * sizeof *request->biases);
    params->bias_count = generate->bias_count;
    for (uint32_t i = 0; i < generate->bad_id_count; i++) {
        request->biases[params->bias_count++] =
            (struct wire_bias){.id = generate->bad_ids[i], .bias = -INFINITY};
    }
    memcpy(request->allowed, generate->allowed_ids,
           generate->allowed_id_count * sizeof *request->allowed);
    params->allowed_count = generate->allowed_id_count;
}

static bool is_listed(const uint32_t *ids, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Whether some id may be sampled. Of more distinct ids than there are bad ones, one is not bad. */
static bool leaves_an_id(const struct core *core, const struct wire_generate *generate)
{
    const uint32_t bad_count = generate->bad_id_count;
    const bool chosen = generate->allowed_id_count > 0;
    const uint32_t most = core->hparams.vocab < bad_count + 1 ? core->hparams.vocab : bad_count + 1;
    const uint32_t count = chosen ? generate->allowed_id_count : most;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_listed(generate->bad_ids, bad_count, chosen ? generate->allowed_ids[i] : i)) {
            return true;
        }
    }
    return false;
}

/* What the ids of a request's lists must be. */
static struct wire_error judge_lists(const struct core *core, const struct wire_generate *generate)
{
    static const char *const outside[] = {
        "stop_ids holds an id outside the vocabulary",
        "bad_ids holds an id outside the vocabulary",
        "allowed_ids holds an id outside the vocabulary",
    };
    const uint32_t *const lists[] = {generate->stop_ids, generate->bad_ids, generate->allowed_ids};
    const uint32_t counts[] = {generate->stop_id_count, generate->bad_id_count,
                               generate->allowed_id_count};
    for (uint32_t list = 0; list < 3; list++) {
        for (uint32_t i = 0; i < counts[list]; i++) {
            if (lists[list][i] >= core->hparams.vocab) {
                return (struct wire_error){WIRE_INVALID_ARGUMENT, outside[list], 0};
            }
        }
    }
    for (uint32_t i = 0; i < generate->bias_count; i++) {
        if (generate->biases[i].id >= core->hparams.vocab) {
            return (struct wire_error){WIRE_INVALID_ARGUMENT,
                                       "logit_bias holds an id outside the vocabulary", 0};
        }
    }
    if (!leaves_an_id(core, generate)) {
        return (struct wire_error){WIRE_INVALID_ARGUMENT,
                                   "bad_ids and allowed_ids leave no token to sample", 0};
    }
    return (struct wire_error){.code = WIRE_OK};
}

/* What can be said before the prompt's length is known. */
static struct wire_error judge_early(const struct core *core, const struct request_address *address,
                                     const struct wire_generate *generate)
{
    const struct config *config = core->config;
    const struct placement_total total = placement_total(&core->placement);
    struct wire_error error = {.code = WIRE_OK};
    if (core->draining) {
        error.code = WIRE_DRAINING;
    } else if (address->admin) {
        error.code = WIRE_PERMISSION_DENIED;
    } else if (requests_find(&core->requests, address)) {
        error.code = WIRE_DUPLICATE_ID;
    } else if (generate->n > 1 && address->delimiter) {
        error =
            (struct wire_error){WIRE_INVALID_ARGUMENT, "a REQ client gets one reply: n is 1", 0};
    } else if ((generate->ids.bytes == NULL || generate->stop_count > 0) && !core->tokenizer) {
        error = (struct wire_error){
            WIRE_UNSUPPORTED, "this model has no tokenizer: send ids, and no stop strings", 0};
    } else if (generate->message_count > 0 && core->chat == CHAT_NONE) {
        error = (struct wire_error){WIRE_UNSUPPORTED,
                                    "this model has no chat template: send prompt or ids", 0};
    } else if (total.waiting >= config->queue.requests_max ||
               total.waiting_tokens >= config->queue.tokens_max ||
               core->requests.count - core->requests.live < generate->n) {
        error = (struct wire_error){WIRE_OVERLOADED, NULL, config->queue.retry_after_ms};
    }
    return error.code == WIRE_OK ? judge_lists(core, generate) : error;
}

/* What the prompt's length decides. Fills in max_tokens where the client gave none. */
static struct wire_error judge_tokens(const struct core *core, struct request_params *params,
                                      size_t prompt_tokens)
{
    const uint64_t context = core->context_max;
    if (prompt_tokens == 0) {
        return (struct wire_error){WIRE_INVALID_ARGUMENT, "the prompt has no tokens", 0};
    }
    if (prompt_tokens >= context) {
        return (struct wire_error){WIRE_CONTEXT_EXCEEDED, "the prompt leaves no room to answer", 0};
    }
    if (params->max_tokens == 0) {
        const uint64_t room = context - prompt_tokens;
        params->max_tokens =
            (uint32_t)(room < ADMIT_MAX_TOKENS_DEFAULT ? room : ADMIT_MAX_TOKENS_DEFAULT);
    }
    if (!placement_fits(&core->placement, prompt_tokens + params->max_tokens)) {
        return (struct wire_error){WIRE_CONTEXT_EXCEEDED,
                                   "prompt and max_tokens exceed what can be served", 0};
    }
    if (params->scores_prompt && !params->stream && prompt_tokens > ADMIT_WHOLE_SCORES_MAX) {
        return (struct wire_error){WIRE_TOO_LARGE,
                                   "prompt_logprobs of so long a prompt need stream: true", 0};
    }
    if (params->min_tokens > params->max_tokens) {
        return (struct wire_error){WIRE_INVALID_ARGUMENT, "min_tokens must not exceed max_tokens",
                                   0};
    }
    return (struct wire_error){.code = WIRE_OK};
}

/* near: index of a request with the same prompt, or SCHED_NONE. */
static void activate(struct core *core, struct request *request, uint32_t near,
                     uint32_t prompt_tokens)
{
    request->prompt_tokens = prompt_tokens;
    request->detok.tokens =
        1; /* The answer goes on where the prompt ends: no leading space goes. */
    core->counters.prompt_tokens += prompt_tokens;
    const uint32_t index = request_index(&core->requests, request);
    const struct sched_terms terms = {
        .tenant = request->params.tenant,
        .priority = request->params.priority,
        .answer_tokens_max = request->params.max_tokens,
        .open_cells = device_open_cells(request),
        .scores = request->params.scores_prompt ? prompt_tokens - 1 : 0,
    };
    placement_add(&core->placement, index, near,
                  request_shares_prompt(request) ? request->ids : NULL, prompt_tokens, &terms);
}

/* The other answers of a request that has its prompt: a request each, with the next seed. */
static void add_siblings(struct core *core, const struct request *first)
{
    for (uint32_t i = 1; i < first->params.n; i++) {
        struct request *request = requests_take(&core->requests, REQUEST_ACTIVE);
        must(request); /* Counted by those who activate. */
        request->address = first->address;
        request->params = first->params;
        request->params.choice.index = i;
        request->params.seed += i;
        request->params.scores_prompt = false; /* Told once. */
        memcpy(request->biases, first->biases, first->params.bias_count * sizeof first->biases[0]);
        memcpy(request->allowed, first->allowed,
               first->params.allowed_count * sizeof first->allowed[0]);
        request->deadline_us = first->deadline_us;
        request->progress_us = first->progress_us;
        request->events = first->events;
        request->credit = first->credit;
        request->credit_explicit = first->credit_explicit; /* It may come while they are text. */
        memcpy(request->ids, first->ids, first->prompt_tokens * sizeof first->ids[0]);
        core->counters.requests++;
        activate(core, request, request_index(&core->requests, first), first->prompt_tokens);
    }
}

static void start_clock(struct core *core, struct request *request, uint32_t timeout_ms)
{
    const uint32_t most = core->config->queue.timeout_ms;
    const uint32_t limit = timeout_ms && timeout_ms < most ? timeout_ms : most;
    request->deadline_us = core->now_us + (uint64_t)limit * 1000;
    request->progress_us = core->now_us;
    request->events.queued_us = core->now_us;
    request->credit = core->config->stream.credit_tokens;
    core->counters.requests++;
}

static struct wire_error admit_ids(struct core *core, const struct request_address *address,
                                   struct request_params *params)
{
    const struct wire_bytes ids = core->generate->ids;
    const size_t count = ids.count / sizeof(uint32_t);
    const struct wire_error error = judge_tokens(core, params, count);
    if (error.code != WIRE_OK) {
        return error;
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t id;
        memcpy(&id, ids.bytes + i * sizeof id, sizeof id);
        if (id >= core->hparams.vocab) {
            return (struct wire_error){WIRE_INVALID_ARGUMENT,
                                       "ids holds an id outside the vocabulary", 0};
        }
    }
    struct request *request = requests_take(&core->requests, REQUEST_ACTIVE);
    request->address = *address;
    request->params = *params;
    fill_lists(core->generate, request);
    memcpy(request->ids, ids.bytes, ids.count);
    start_clock(core, request, core->generate->timeout_ms);
    activate(core, request, SCHED_NONE, (uint32_t)count);
    add_siblings(core, request);
    return error;
}

void admit_generate(struct core *core, const struct request_address *address,
                    struct wire_bytes body)
{
    struct wire_generate *generate = core->generate;
    struct wire_error error;
    if (codec_decode_generate(core->codec, body, generate, &error)) {
        intake_refuse(core, address, &error);
        return;
    }
    struct request_params params;
    error = judge_early(core, address, generate);
    fill_params(core, generate, &params);
    params.stream = params.stream && !address->delimiter; /* A REQ client gets one reply. */
    if (error.code == WIRE_OK && generate->ids.bytes) {
        error = admit_ids(core, address, &params);
    } else if (error.code == WIRE_OK) {
        struct request *request = requests_take(&core->requests, REQUEST_TEXT);
        struct scribe_job *job = scribe_take(core->scribe);
        must(request && job); /* Counted by judge_early() and by the loop. */
        request->address = *address;
        request->params = params;
        fill_lists(generate, request);
        start_clock(core, request, generate->timeout_ms);
        job->command = WIRE_GENERATE;
        job->request = request_index(&core->requests, request);
        job->ids = request->ids;
        job->ids_max = core->requests.context_max;
        job->body_bytes = body.count;
        memcpy(job->body, body.bytes, body.count);
        scribe_submit(core->scribe, job);
    }
    if (error.code != WIRE_OK) {
        intake_refuse(core, address, &error);
    }
}

void admit_text(struct core *core, struct request *request, const struct scribe_job *job)
{
    struct wire_error error = job->error;
    must(request->state == REQUEST_TEXT);
    if (error.code == WIRE_OK) {
        error = judge_tokens(core, &request->params, job->id_count);
    }
    if (error.code == WIRE_OK && core->draining) {
        error.code = WIRE_DRAINING;
    } else if (error.code == WIRE_OK &&
               core->requests.count - core->requests.live < request->params.n - 1) {
        error = (struct wire_error){WIRE_OVERLOADED, NULL, core->config->queue.retry_after_ms};
    }
    if (error.code == WIRE_OK && !request->cancelled) {
        request_move(&core->requests, request, REQUEST_ACTIVE);
        activate(core, request, SCHED_NONE, (uint32_t)job->id_count);
        add_siblings(core, request);
        return;
    }
    request->prompt_tokens = (uint32_t)job->id_count;
    request->params.choice.several = false; /* Its siblings never were. */
    request->error = request->cancelled ? (struct wire_error){.code = WIRE_OK} : error;
    request->finish = WIRE_FINISH_CANCELLED;
    core->counters.cancelled += request->cancelled;
    core->counters.refused += !request->cancelled;
    request_move(&core->requests, request, REQUEST_ENDING);
}
