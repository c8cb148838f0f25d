/*
 * request.c - see request.h. Used by the core's loop thread alone; the arena owns the memory.
 * Invariant: state changes only in request_move(), by the table below, and live counts what is not
 * FREE.
 */
#include "agent/request.h"

#include <errno.h>
#include <string.h>

enum {
    REQUEST_TEXT_BYTES_A_TOKEN = 16,
    REQUEST_TEXT_BYTES_MIN = 1 << 16,
    BIASES_MAX = LIMIT_LOGIT_BIASES_MAX + LIMIT_BAD_IDS_MAX,
};

static const bool legal[4][4] = {
    [REQUEST_FREE] = {[REQUEST_TEXT] = true, [REQUEST_ACTIVE] = true},
    [REQUEST_TEXT] = {[REQUEST_ACTIVE] = true, [REQUEST_ENDING] = true, [REQUEST_FREE] = true},
    [REQUEST_ACTIVE] = {[REQUEST_ENDING] = true},
    [REQUEST_ENDING] = {[REQUEST_FREE] = true},
};

static uint32_t text_bytes_for(uint32_t context_max)
{
    return context_max * REQUEST_TEXT_BYTES_A_TOKEN + REQUEST_TEXT_BYTES_MIN;
}

size_t requests_bytes(uint32_t count, uint32_t context_max)
{
    const size_t token = sizeof(uint32_t) + sizeof(struct wire_token_logprobs);
    return count *
               (sizeof(struct request) + context_max * token + text_bytes_for(context_max) +
                BIASES_MAX * sizeof(struct wire_bias) + LIMIT_ALLOWED_IDS_MAX * sizeof(uint32_t)) +
           6 * (size_t)64;
}

int requests_open(struct requests *requests, struct arena *arena, uint32_t count,
                  uint32_t context_max)
{
    const uint32_t text_bytes = text_bytes_for(context_max);
    *requests = (struct requests){
        .request = arena_alloc(arena, count, sizeof(struct request)),
        .count = count,
        .context_max = context_max,
        .text_bytes_max = text_bytes,
    };
    uint32_t *ids = arena_alloc(arena, (size_t)count * context_max, sizeof *ids);
    struct wire_token_logprobs *logprobs =
        arena_alloc(arena, (size_t)count * context_max, sizeof *logprobs);
    char *text = arena_alloc(arena, count, text_bytes);
    struct wire_bias *biases = arena_alloc(arena, (size_t)count * BIASES_MAX, sizeof *biases);
    uint32_t *allowed = arena_alloc(arena, (size_t)count * LIMIT_ALLOWED_IDS_MAX, sizeof *allowed);
    if (!requests->request || !ids || !logprobs || !text || !biases || !allowed) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        requests->request[i].ids = ids + i * context_max;
        requests->request[i].logprobs = logprobs + i * context_max;
        requests->request[i].text = text + i * text_bytes;
        requests->request[i].biases = biases + i * BIASES_MAX;
        requests->request[i].allowed = allowed + i * LIMIT_ALLOWED_IDS_MAX;
    }
    return 0;
}

void request_move(struct requests *requests, struct request *request, enum request_state state)
{
    must(legal[request->state][state]);
    requests->live += request->state == REQUEST_FREE;
    requests->live -= state == REQUEST_FREE;
    request->generation += state == REQUEST_FREE;
    request->state = state;
}

/* The lowest free one: memory that was touched before is touched again. */
struct request *requests_take(struct requests *requests, enum request_state state)
{
    for (uint32_t i = 0; i < requests->count; i++) {
        struct request *request = &requests->request[i];
        if (request->state != REQUEST_FREE) {
            continue;
        }
        const struct request memory = *request;
        *request = (struct request){
            .generation = memory.generation,
            .ids = memory.ids,
            .logprobs = memory.logprobs,
            .text = memory.text,
            .biases = memory.biases,
            .allowed = memory.allowed,
        };
        request_move(requests, request, state);
        return request;
    }
    return NULL;
}

uint32_t request_index(const struct requests *requests, const struct request *request)
{
    return (uint32_t)(request - requests->request);
}

bool request_adjusts(const struct request *request)
{
    const struct request_params *params = &request->params;
    return params->repetition_penalty != 1 || params->presence_penalty != 0 ||
           params->frequency_penalty != 0 || params->bias_count > 0 || params->allowed_count > 0;
}

bool request_shares_prompt(const struct request *request)
{
    return !request->params.scores_prompt;
}

bool request_waits_for_credit(const struct request *request)
{
    return request->state == REQUEST_ENDING && request->error.code == WIRE_OK &&
           request->params.stream && request->sent_tokens < request->answer_tokens;
}

bool request_same_peer(const struct request *request, const struct request_address *address)
{
    const struct request_address *own = &request->address;
    return own->admin == address->admin && own->routing_bytes == address->routing_bytes &&
           memcmp(own->routing, address->routing, own->routing_bytes) == 0;
}

bool request_is(const struct request *request, const struct request_address *address)
{
    return request->state != REQUEST_FREE && request->address.id.count == address->id.count &&
           memcmp(request->address.id.bytes, address->id.bytes, address->id.count) == 0 &&
           request_same_peer(request, address);
}

struct request *requests_find(const struct requests *requests,
                              const struct request_address *address)
{
    uint32_t left = requests->live;
    for (uint32_t i = 0; i < requests->count && left > 0; i++) {
        struct request *request = &requests->request[i];
        if (request_is(request, address)) {
            return request;
        }
        left -= request->state != REQUEST_FREE;
    }
    return NULL;
}
