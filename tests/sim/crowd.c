/*
 * crowd.c - see crowd.h. Called by world.c once a turn and by seam_front.c in between; owns the
 * guests and the codec of their side. Invariant: a guest is over once, by the DONE of each of its
 * answers, by one ERROR, or because its peer is gone.
 */
#include "tests/sim/crowd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/guest.h"
#include "tests/sim/oracle.h"

enum {
    PEERS = 4,
    BODY_BYTES_MAX = 4096,
    GUESTS_MIN = 4,
    GUESTS_USUAL = 40,
    BURST_US = 300,
    CREDIT_US_MAX = 20000,
    CREDIT_MAX = 12,
    BLOCKED_PERCENT = 10,
    BLOCKED_US_MAX = 60000,
    HTTP_NOT_FOUND = 404,
    HTTP_TOO_LONG = 400,
};

struct peer {
    uint64_t free_us; /* It takes nothing before. */
    uint64_t gone_us; /* Nor after. UINT64_MAX: it stays. */
    uint64_t block_us;
};

struct crowd {
    struct guest guest[CROWD_GUESTS_MAX];
    uint32_t count;
    struct peer peer[PEERS];
    struct codec *codec;
    struct wire_generate *generate;
    uint8_t magic[WIRE_MAGIC_BYTES];
    uint8_t command;
    uint8_t id[1];
    uint8_t body[BODY_BYTES_MAX];
    char text[WORLD_CONTEXT_MAX];
    uint8_t ids[WORLD_CONTEXT_MAX * sizeof(uint32_t)];
};

struct crowd *crowd_open(struct world *world)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    must(crowd && codec_open(&crowd->codec) == 0);
    crowd->generate = calloc(1, sizeof *crowd->generate);
    must(crowd->generate);
    wire_magic(crowd->magic);
    const struct config *config = &world->config;
    const uint32_t pool = config->kv.device_pages * config->kv.page_tokens;
    const uint32_t context = config->model.context_tokens_max;
    const uint64_t span_us = world->calm_us - world->now_us;
    uint64_t ask_us = world->now_us + world_draw(world, 30000);
    const uint32_t most = world_chance(world, 90) ? GUESTS_USUAL : CROWD_GUESTS_MAX;
    crowd->count = GUESTS_MIN + world_draw(world, most - GUESTS_MIN + 1);
    const uint64_t gap_us = 2 * span_us / crowd->count;
    for (uint32_t i = 0; i < crowd->count; i++) {
        struct guest *guest = &crowd->guest[i];
        guest_draw(guest, world, pool < context ? pool : context);
        guest->peer = world_draw(world, PEERS);
        ask_us +=
            world_chance(world, 50) ? world_draw(world, BURST_US) : world_bits(world) % gap_us;
        guest->ask_us = ask_us;
        if (world->faults.cancels && world_chance(world, 30)) {
            guest->cancel_us = ask_us + 1 + world_draw(world, 60000);
        }
        if (guest->stream && world_chance(world, world->faults.slow_credit ? 60 : 10)) {
            const uint32_t most_us = world_chance(world, 50) ? BURST_US : CREDIT_US_MAX;
            guest->credit_us = ask_us + 1 + world_draw(world, most_us);
        }
    }
    for (uint32_t i = 0; i < PEERS; i++) {
        const bool leaves = world->faults.gone_peers && world_chance(world, 30);
        crowd->peer[i].gone_us = leaves ? world->now_us + world_bits(world) % span_us : UINT64_MAX;
    }
    return crowd;
}

void crowd_close(struct crowd *crowd)
{
    codec_close(crowd->codec);
    free(crowd->generate);
    free(crowd);
}

static bool is_gone(const struct world *world, const struct guest *guest)
{
    return world->now_us >= world->crowd->peer[guest->peer].gone_us;
}

static uint64_t first_us(const struct guest *guest)
{
    uint64_t next_us = guest->state == GUEST_COMING ? guest->ask_us : UINT64_MAX;
    next_us = guest->cancel_us < next_us ? guest->cancel_us : next_us;
    return guest->credit_us < next_us ? guest->credit_us : next_us;
}

uint64_t crowd_next_us(const struct crowd *crowd)
{
    uint64_t next_us = UINT64_MAX;
    for (uint32_t i = 0; i < crowd->count; i++) {
        const uint64_t own_us = first_us(&crowd->guest[i]);
        next_us = own_us < next_us ? own_us : next_us;
    }
    return next_us;
}

/* The core has a request of this guest, or its refusal. */
static bool lives(const struct core *core, uint32_t index)
{
    for (uint32_t i = 0; i < core->refusal_count; i++) {
        if (core->refusals[i].address.id.bytes[0] == index) {
            return true;
        }
    }
    for (uint32_t i = 0; i < core->requests.count; i++) {
        const struct request *request = &core->requests.request[i];
        if (request->state != REQUEST_FREE && request->address.id.bytes[0] == index) {
            return true;
        }
    }
    return false;
}

void crowd_turn(struct world *world)
{
    struct crowd *crowd = world->crowd;
    const bool wild = world->phase == WORLD_WILD && world->faults.blocked_peers;
    for (uint32_t i = 0; i < PEERS && wild; i++) {
        struct peer *peer = &crowd->peer[i];
        if (world->now_us >= peer->block_us) { /* Decides again from time to time. */
            const bool blocks = world_chance(world, BLOCKED_PERCENT);
            peer->block_us = world->now_us + world_draw(world, BLOCKED_US_MAX);
            peer->free_us = blocks ? peer->block_us : 0;
        }
    }
    const uint64_t stall_us = world->config.stream.stall_timeout_ms * 1000ull;
    for (uint32_t i = 0; i < crowd->count; i++) {
        struct guest *guest = &crowd->guest[i];
        const bool deaf = guest->deaf_us > 0 && world->now_us - guest->deaf_us >= stall_us;
        guest->given_up = guest->given_up || deaf;
        if (guest->given_up && !lives(world->core, i)) {
            guest->state = GUEST_OVER;
        }
        if (guest->state == GUEST_ASKED && is_gone(world, guest)) {
            guest->state = GUEST_OVER; /* Nobody is there for what comes. */
        }
        if (guest->state == GUEST_OVER || is_gone(world, guest)) {
            guest->credit_us = UINT64_MAX;
        }
        if (guest->state != GUEST_ASKED && is_gone(world, guest)) {
            guest->state = GUEST_OVER;
            guest->cancel_us = UINT64_MAX;
        }
    }
}

void crowd_calm(struct world *world)
{
    struct crowd *crowd = world->crowd;
    for (uint32_t i = 0; i < PEERS; i++) {
        crowd->peer[i].free_us = 0;
    }
    for (uint32_t i = 0; i < crowd->count; i++) {
        struct guest *guest = &crowd->guest[i];
        guest->cancel_us = UINT64_MAX;
        guest->state = guest->state == GUEST_COMING ? GUEST_OVER : guest->state;
        guest->credit_us =
            guest->state == GUEST_ASKED && guest->granted > 0 ? world->now_us : UINT64_MAX;
    }
}

bool crowd_over(const struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->count; i++) {
        if (crowd->guest[i].state != GUEST_OVER) {
            return false;
        }
    }
    return true;
}

static struct guest *guest_of(struct crowd *crowd, const struct request_address *address)
{
    must(address->id.count == 1 && address->id.bytes[0] < crowd->count);
    struct guest *guest = &crowd->guest[address->id.bytes[0]];
    must(address->routing_bytes == 1 && address->routing[0] == guest->peer);
    return guest;
}

uint32_t crowd_truth(const struct crowd *crowd, const struct request *request, uint32_t at)
{
    const struct guest *guest = &crowd->guest[request->address.id.bytes[0]];
    if (at < request->prompt_tokens) {
        return guest->prompt[at];
    }
    return guest->answer[request->params.choice.index].ids[at - request->prompt_tokens];
}

static struct wire_bytes ask(struct crowd *crowd, struct guest *guest)
{
    guest->state = GUEST_ASKED;
    guest_fill(guest, crowd->generate);
    for (uint32_t i = 0; i < guest->prompt_tokens; i++) {
        crowd->text[i] = (char)('a' + guest->prompt[i]);
    }
    memcpy(crowd->ids, guest->prompt, guest->prompt_tokens * sizeof guest->prompt[0]);
    if (guest->text) {
        crowd->generate->prompt = (struct wire_text){crowd->text, guest->prompt_tokens};
    } else {
        const size_t bytes = guest->prompt_tokens * sizeof guest->prompt[0];
        crowd->generate->ids = (struct wire_bytes){crowd->ids, bytes};
    }
    return codec_encode_generate(crowd->codec, crowd->generate);
}

/* In the calm, all that it can ever need. */
static struct wire_bytes grant(struct world *world, struct guest *guest)
{
    const bool calm = world->phase != WORLD_WILD;
    const struct wire_credit credit = {.tokens = calm ? WORLD_CONTEXT_MAX
                                                      : 1 + world_draw(world, CREDIT_MAX)};
    for (uint32_t i = 0; i < guest->n && guest->granted == 0; i++) {
        guest->answer[i].got_free = guest->answer[i].got;
    }
    guest->granted += credit.tokens;
    guest->granted_us = world->now_us;
    guest->credit_us = calm ? UINT64_MAX : world->now_us + world_draw(world, CREDIT_US_MAX);
    return codec_encode_credit(world->crowd->codec, &credit);
}

/* The message of this guest that is due first. */
static struct wire_bytes speak(struct world *world, struct guest *guest, uint8_t *command)
{
    struct crowd *crowd = world->crowd;
    const uint32_t index = (uint32_t)(guest - crowd->guest);
    if (guest->state == GUEST_COMING) {
        *command = WIRE_GENERATE;
        world_note(world, "guest %u asks: %u + %u tokens, n %u", index, guest->prompt_tokens,
                   guest->max_tokens, guest->n);
        return ask(crowd, guest);
    }
    if (guest->cancel_us <= guest->credit_us) {
        *command = WIRE_CANCEL;
        world_note(world, "guest %u cancels", index);
        guest->cancel_us = UINT64_MAX;
        guest->cancelled = true;
        guest->not_found = true;
        return codec_encode_empty(crowd->codec);
    }
    *command = WIRE_CREDIT;
    return grant(world, guest);
}

int crowd_ask(struct world *world, struct front_message *message)
{
    struct crowd *crowd = world->crowd;
    const uint64_t next_us = crowd_next_us(crowd);
    if (next_us > world->now_us) {
        return -EAGAIN;
    }
    uint32_t index = 0;
    while (first_us(&crowd->guest[index]) != next_us) {
        index++;
    }
    struct guest *guest = &crowd->guest[index];
    const struct wire_bytes body = speak(world, guest, &crowd->command);
    must(body.count <= sizeof crowd->body);
    memcpy(crowd->body, body.bytes, body.count);
    crowd->id[0] = (uint8_t)index;
    *message = (struct front_message){
        .address = {.routing = {(uint8_t)guest->peer}, .routing_bytes = 1},
        .frames = {{crowd->magic, sizeof crowd->magic},
                   {&crowd->command, 1},
                   {crowd->id, 1},
                   {crowd->body, body.count}},
    };
    return 0;
}

static void take_error(struct world *world, struct guest *guest, struct wire_bytes body)
{
    struct wire_failure failure;
    must(codec_decode_error(world->crowd->codec, body, &failure) == 0);
    if (failure.status == HTTP_NOT_FOUND) { /* Its CANCEL came when it was over. */
        must(guest->not_found);
        guest->not_found = false;
        return;
    }
    must(guest->state == GUEST_ASKED);
    must(guest->too_long
             ? failure.status == HTTP_TOO_LONG || guest_may_fail(guest, world, failure.status)
             : guest_may_fail(guest, world, failure.status));
    guest->state = GUEST_OVER;
    world->totals->refused += failure.retryable;
    world->totals->late += !failure.retryable;
}

int crowd_hear(struct world *world, const struct request_address *address, uint8_t command,
               struct wire_bytes body)
{
    struct crowd *crowd = world->crowd;
    struct guest *guest = guest_of(crowd, address);
    const uint32_t index = (uint32_t)(guest - crowd->guest);
    if (is_gone(world, guest)) {
        return -EHOSTUNREACH;
    }
    if (world->now_us < crowd->peer[guest->peer].free_us) {
        guest->deaf_us = guest->deaf_us ? guest->deaf_us : world->now_us;
        return -EAGAIN;
    }
    guest->undeaf_us = guest->deaf_us ? world->now_us : guest->undeaf_us;
    guest->deaf_us = 0;
    if (command == WIRE_TOKENS) {
        struct wire_tokens tokens;
        must(codec_decode_tokens(crowd->codec, body, &tokens) == 0);
        world_note(world, "guest %u.%u gets tokens %u..%u", index, tokens.choice.index,
                   tokens.offset, tokens.offset + tokens.id_count);
        guest_take_tokens(guest, &tokens, world->config.stream.credit_tokens);
    } else if (command == WIRE_DONE) {
        struct wire_done done;
        must(codec_decode_done(crowd->codec, body, &done) == 0);
        world_note(world, "guest %u.%u is done: %s after %u", index, done.choice.index,
                   codec_finish_name(done.finish), done.usage.completion_tokens);
        guest_take_done(guest, &done);
        world->totals->answers++;
        world->totals->cancelled += done.finish == WIRE_FINISH_CANCELLED;
    } else {
        must(command == WIRE_ERROR);
        world_note(world, "guest %u gets an error", index);
        take_error(world, guest, body);
    }
    return 0;
}
