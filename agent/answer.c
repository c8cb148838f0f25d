/*
 * answer.c - see answer.h. A stage of the core's loop, on its thread; owns nothing. Invariant: a
 * token enters the log once, when the core reads the result of a whole step, and what was logged
 * never changes.
 */
#include "agent/answer.h"

#include <string.h>

static bool is_stop_id(const struct request *request, uint32_t id)
{
    for (uint32_t i = 0; i < request->params.stop_id_count; i++) {
        if (request->params.stop_ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Longest end of the text that is a beginning of a stop string: it may yet become one. */
static uint32_t held_bytes(const struct request *request)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < request->params.stop_count; i++) {
        uint32_t bytes = request->params.stop_bytes[i] - 1u;
        bytes = bytes < request->text_bytes ? bytes : request->text_bytes;
        while (bytes > held && memcmp(request->text + request->text_bytes - bytes,
                                      request->params.stop[i], bytes) != 0) {
            bytes--;
        }
        held = bytes > held ? bytes : held;
    }
    return held;
}

struct place {
    uint32_t first; /* UINT32_MAX: none. */
    uint32_t bytes;
};

/* First place of any stop string that ends in the text added since `added`; of those that begin
 * there the shortest, which was complete first. */
static struct place stop_place(const struct request *request, uint32_t added)
{
    struct place place = {UINT32_MAX, 0};
    for (uint32_t i = 0; i < request->params.stop_count; i++) {
        const uint32_t bytes = request->params.stop_bytes[i];
        const uint32_t from = added >= bytes ? added - bytes + 1 : 0;
        const char *found = memmem(request->text + from, request->text_bytes - from,
                                   request->params.stop[i], bytes);
        const uint32_t first = found ? (uint32_t)(found - request->text) : UINT32_MAX;
        if (first < place.first || (first == place.first && bytes < place.bytes)) {
            place = (struct place){first, bytes};
        }
    }
    return place;
}

static void decode(struct core *core, struct request *request, uint32_t id)
{
    size_t bytes = 0;
    tokenizer_decode(core->tokenizer, &request->detok, id,
                     request->params.skip_special ? TOKENIZER_SKIP_SPECIAL : 0,
                     request->text + request->text_bytes, &bytes);
    request->text_bytes += (uint32_t)bytes;
}

/* Adds a token's text. True when a stop string ended the answer; its text is cut before it, or
 * behind it where the client wants it. */
static bool add_text(struct core *core, struct request *request, uint32_t id, bool may_stop)
{
    const uint32_t added = request->text_bytes;
    const bool include = request->params.include_stop;
    if (!core->tokenizer) {
        return false;
    }
    decode(core, request, id);
    const struct place stop = may_stop ? stop_place(request, added) : (struct place){UINT32_MAX, 0};
    if (stop.first != UINT32_MAX) {
        request->text_bytes = stop.first + (include ? stop.bytes : 0);
        request->text_free = request->text_bytes;
        return true;
    }
    request->text_free = request->text_bytes - (include ? 0 : held_bytes(request));
    return false;
}

static void end_text(struct core *core, struct request *request)
{
    size_t bytes = 0;
    if (core->tokenizer) {
        tokenizer_decode_end(&request->detok, request->text + request->text_bytes, &bytes);
    }
    request->text_bytes += (uint32_t)bytes;
    request->text_free = request->text_bytes;
}

static void leave(struct core *core, struct request *request)
{
    const uint32_t index = request_index(&core->requests, request);
    if (request->error.code == WIRE_OK && request->finish == WIRE_FINISH_STOP) {
        placement_end(&core->placement, index);
    } else {
        placement_remove(&core->placement, index);
    }
    request->events.finished_us = core->now_us;
    request->progress_us = core->now_us; /* What its end has to say waits from now on. */
    request_move(&core->requests, request, REQUEST_ENDING);
}

void answer_finish(struct core *core, struct request *request, enum wire_finish finish)
{
    request->finish = finish;
    core->counters.finished++;
    leave(core, request);
}

void answer_cancel(struct core *core, struct request *request)
{
    if (request->params.stream) { /* Nobody wants what has not left. */
        request->answer_tokens = request->sent_tokens;
        request->text_free = request->sent_text;
    }
    request->finish = WIRE_FINISH_CANCELLED;
    if (request->state == REQUEST_ACTIVE) { /* Else it was counted when it ended. */
        core->counters.cancelled++;
        leave(core, request);
    }
}

void answer_fail(struct core *core, struct request *request, enum wire_error_code code,
                 const char *message)
{
    request->error = (struct wire_error){.code = code, .message = message};
    core->counters.failed++;
    leave(core, request);
}

static void copy_logprobs(const struct device *device, const struct record_result *result,
                          struct wire_token_logprobs *out)
{
    const struct record_logprob *pairs = device->pairs + result->logprob_first;
    out->chosen = (struct wire_logprob){pairs[0].id, pairs[0].logprob};
    out->top_count = 0;
    for (uint32_t i = 1; i < result->logprob_count && i <= LIMIT_TOP_LOGPROBS_MAX; i++) {
        out->top[out->top_count++] = (struct wire_logprob){pairs[i].id, pairs[i].logprob};
    }
}

static void answer_token(struct core *core, struct request *request, const struct device *device,
                         const struct record_result *result)
{
    if (request->sent_tokens == request->answer_tokens) { /* Nothing waited for its reader. */
        request->progress_us = core->now_us;
    }
    const uint32_t at = request->answer_tokens++;
    if (at == 0) {
        const uint32_t index = request_index(&core->requests, request);
        request->cached_tokens =
            placement_sched(&core->placement, index)->entry[index].shared_tokens;
        request->events.first_token_us = core->now_us;
    }
    request->ids[request->prompt_tokens + at] = result->id;
    core->counters.generated_tokens++;
    if (request->params.logprobs && result->logprob_count > 0) {
        copy_logprobs(device, result, &request->logprobs[request->prompt_tokens + at]);
    }
    const bool may_stop = request->answer_tokens > request->params.min_tokens;
    if (may_stop && is_stop_id(request, result->id)) {
        if (request->params.include_stop && core->tokenizer) {
            decode(core, request, result->id);
        }
        end_text(core, request);
        answer_finish(core, request, WIRE_FINISH_STOP);
        return;
    }
    if (add_text(core, request, result->id, may_stop)) {
        answer_finish(core, request, WIRE_FINISH_STOP);
    } else if (request->answer_tokens == request->params.max_tokens) {
        end_text(core, request);
        answer_finish(core, request, WIRE_FINISH_LENGTH);
    } else if (request->text_bytes + DETOK_OUT_BYTES_MAX + 8 > core->requests.text_bytes_max) {
        answer_fail(core, request, WIRE_TOO_LARGE, "the answer's text is too long to keep");
    }
}

/* Logprobs of prompt tokens, in the order of positions: those that are there already stay. */
static bool answer_scores(const struct device *device, struct request *request,
                          const struct record_result *scores, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (scores[i].head.flags & RECORD_RESULT_INVALID || scores[i].logprob_count == 0) {
            return false;
        }
        if (scores[i].position == request->scored + 1) {
            copy_logprobs(device, &scores[i], &request->logprobs[scores[i].position]);
            request->scored++;
        }
    }
    return true;
}

void answer_step(struct core *core, struct group *group)
{
    struct sched *sched = &core->placement.sched[group->index];
    const struct sched_step *step = group_oldest(group, sched);
    const struct device *device = &group->ranks[0]; /* The rank that samples. */
    const struct record_result *result = device->results;
    const struct record_result *scores = device->scores;
    sched_commit(sched, step);
    group_learn(group, step, device->compute_us);
    plans_count(&core->plans, group_plan_row(group, step), device->compute_us);
    group->answered++;
    core->counters.steps++;
    core->counters.last_step_us = core->now_us - group->since_us;
    core->counters.compute_us += device->compute_us;
    core->counters.wait_us += step->rested ? 0 : device->wait_us;
    for (uint32_t i = 0; i < step->row_count; i++) {
        const struct sched_row *row = &step->rows[i];
        struct request *request = &core->requests.request[row->request];
        const struct record_result *own_scores = scores;
        const struct record_result *own = result;
        scores += row->score_count;
        result += row->sample;
        if (!sched_row_current(sched, row)) {
            continue;
        }
        if (!answer_scores(device, request, own_scores, row->score_count) ||
            (row->sample && own->head.flags & RECORD_RESULT_INVALID)) {
            answer_fail(core, request, WIRE_INTERNAL, "the model gave no usable logits");
        } else if (row->sample) {
            answer_token(core, request, device, own);
        }
    }
}
