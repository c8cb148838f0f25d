/*
 * guest.c - see guest.h. Called by crowd.c; owns nothing. Invariant: the right answer is worked out
 * from the request alone, before it is asked.
 */
#include "tests/sim/guest.h"

#include <string.h>

#include "base/prng.h"
#include "tests/sim/oracle.h"

enum { FAMILIES = 3, TOP_MAX = 3, HTTP_DEADLINE = 504, HTTP_OVERLOADED = 429, HTTP_DRAINING = 503 };

static uint32_t least(uint32_t left, uint32_t right)
{
    return left < right ? left : right;
}

/* Prompts come in families that begin alike, for a length of their own each. */
static void draw_prompt(struct guest *guest, struct world *world, uint32_t context)
{
    const uint64_t family = world->seed * FAMILIES + world_draw(world, FAMILIES);
    const bool alone = world_chance(world, 30);
    const uint32_t bound = guest->text ? ORACLE_LETTERS : ORACLE_VOCAB;
    const uint32_t most = world_chance(world, 20) ? context - 1 : context / 2;
    guest->prompt_tokens = 1 + world_draw(world, most);
    const uint32_t alike = alone ? 0 : world_draw(world, guest->prompt_tokens * 2);
    for (uint32_t i = 0; i < guest->prompt_tokens; i++) {
        const uint64_t own = world_bits(world);
        const uint64_t shared = prng_bits(family, i, 1) % ORACLE_LETTERS;
        guest->prompt[i] = (uint32_t)(i < alike ? shared : own % bound);
    }
}

static bool is_stop(const struct guest *guest, uint32_t id)
{
    return id == ORACLE_EOS || id == guest->stop_id;
}

/* Ends the text before the stop string, if it is whole by its newest bytes. */
static bool cut_text(const struct guest *guest, struct guest_answer *answer, uint32_t added)
{
    const uint32_t bytes = (uint32_t)strlen(guest->stop);
    for (uint32_t i = 0; bytes > 0 && i + bytes <= answer->text_bytes; i++) {
        if (i + bytes > added && memcmp(answer->text + i, guest->stop, bytes) == 0) {
            answer->text_bytes = i;
            return true;
        }
    }
    return false;
}

/* The tokens after the prompt, up to whatever ends them. */
static void foretell(const struct guest *guest, uint32_t choice, struct guest_answer *answer)
{
    const uint32_t masked[] = {ORACLE_EOS, guest->stop_id};
    const struct oracle_rules rules = {
        .salt = oracle_salt(guest->seed + choice, guest->temperature, 1, 0),
        .masked = masked,
        .masked_count = 2,
        .masked_below = guest->prompt_tokens + guest->min_tokens,
        .barred = &guest->barred_id,
        .barred_count = guest->barred_id != UINT32_MAX,
    };
    uint64_t tag = 0;
    for (uint32_t i = 0; i < guest->prompt_tokens; i++) {
        tag = oracle_extend(tag, guest->prompt[i]);
    }
    answer->finish = WIRE_FINISH_LENGTH;
    while (answer->count < guest->max_tokens) {
        const uint32_t id = oracle_next(tag, guest->prompt_tokens + answer->count, &rules);
        const uint32_t added = answer->text_bytes;
        answer->ids[answer->count++] = id;
        tag = oracle_extend(tag, id);
        const bool may_stop = answer->count > guest->min_tokens;
        const bool stops = may_stop && is_stop(guest, id);
        if (!stops) {
            answer->text_bytes += oracle_text(id, answer->text + answer->text_bytes);
        }
        if (stops || (may_stop && cut_text(guest, answer, added))) {
            answer->finish = WIRE_FINISH_STOP;
            return;
        }
    }
}

void guest_draw(struct guest *guest, struct world *world, uint32_t context)
{
    guest->cancel_us = UINT64_MAX;
    guest->credit_us = UINT64_MAX;
    guest->text = world_chance(world, 30);
    draw_prompt(guest, world, context);
    const uint32_t room = context - guest->prompt_tokens;
    guest->max_tokens = 1 + world_draw(world, world_chance(world, 70) ? least(room, 24) : room);
    guest->too_long = world_chance(world, 2);
    guest->max_tokens = guest->too_long ? room + 1 : guest->max_tokens;
    guest->min_tokens = world_chance(world, 30) ? world_draw(world, guest->max_tokens) : 0;
    guest->n = world_chance(world, 75) ? 1 : 2 + world_draw(world, CROWD_CHOICES_MAX - 1);
    guest->seed = world_bits(world);
    guest->temperature = world_chance(world, 50) ? 0 : 0.5f;
    guest->stop_id = world_chance(world, 20) ? world_draw(world, ORACLE_VOCAB) : UINT32_MAX;
    guest->barred_id = world_chance(world, 10) ? world_draw(world, ORACLE_VOCAB) : UINT32_MAX;
    for (uint32_t i = 0; i < 2 && world_chance(world, 25); i++) {
        guest->stop[i] = (char)('a' + world_draw(world, 4));
    }
    guest->stream = world_chance(world, 80);
    guest->logprobs = world_chance(world, 20);
    guest->top = guest->logprobs ? world_draw(world, TOP_MAX) : 0;
    guest->scores = world_chance(world, 15);
    guest->priority = world_chance(world, 30) ? (int32_t)world_draw(world, 5) - 2 : 0;
    if (world->tenants > 1 && world_chance(world, 70)) {
        guest->tenant[0] = (char)('A' + world_draw(world, world->tenants - 1));
    }
    guest->timeout_us = world->config.queue.timeout_ms * 1000ull;
    if (world->faults.deadlines && world_chance(world, 30)) {
        guest->timeout_us = 1000 * (1 + (uint64_t)world_draw(world, 200));
    }
    for (uint32_t i = 0; i < guest->n && !guest->too_long; i++) {
        foretell(guest, i, &guest->answer[i]);
    }
}

void guest_fill(const struct guest *guest, struct wire_generate *generate)
{
    memset(generate, 0, sizeof *generate);
    generate->given = WIRE_GIVEN_MAX_TOKENS | WIRE_GIVEN_TEMPERATURE | WIRE_GIVEN_SEED;
    generate->max_tokens = guest->max_tokens;
    generate->min_tokens = guest->min_tokens;
    generate->temperature = (double)guest->temperature;
    generate->seed = guest->seed;
    generate->n = guest->n;
    generate->top_p = 1;
    generate->repetition_penalty = 1;
    generate->stream = guest->stream;
    generate->logprobs = guest->logprobs;
    generate->top_logprobs = guest->top;
    generate->scores_prompt = guest->scores;
    generate->add_special = true;
    generate->skip_special = true;
    generate->timeout_ms = (uint32_t)(guest->timeout_us / 1000);
    generate->priority = guest->priority;
    if (guest->tenant[0]) {
        generate->tenant = (struct wire_text){guest->tenant, 1};
    }
    if (guest->stop_id != UINT32_MAX) {
        generate->stop_ids[generate->stop_id_count++] = guest->stop_id;
    }
    if (guest->barred_id != UINT32_MAX) {
        generate->bad_ids[generate->bad_id_count++] = guest->barred_id;
    }
    if (guest->stop[0]) {
        generate->stop[generate->stop_count++] =
            (struct wire_text){guest->stop, strlen(guest->stop)};
    }
}

static uint64_t tag_of(const struct guest *guest, const struct guest_answer *answer, uint32_t count)
{
    uint64_t tag = 0;
    for (uint32_t i = 0; i < count; i++) {
        const bool prompt = i < guest->prompt_tokens;
        tag = oracle_extend(tag, prompt ? guest->prompt[i] : answer->ids[i - guest->prompt_tokens]);
    }
    return tag;
}

/* Of the tokens at positions [first, first + count). */
static void check_logprobs(const struct guest *guest, const struct guest_answer *answer,
                           uint32_t first, uint32_t count,
                           const struct wire_token_logprobs *logprobs)
{
    const uint32_t top = first < guest->prompt_tokens ? 0 : guest->top;
    uint64_t tag = tag_of(guest, answer, first);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = first + i;
        const uint32_t id =
            at < guest->prompt_tokens ? guest->prompt[at] : answer->ids[at - guest->prompt_tokens];
        must(logprobs[i].chosen.id == id && logprobs[i].chosen.logprob == oracle_logprob(tag, id));
        must(logprobs[i].top_count == top);
        for (uint32_t t = 0; t < top; t++) {
            must(logprobs[i].top[t].id == oracle_top(tag, t));
        }
        tag = oracle_extend(tag, id);
    }
}

static struct guest_answer *answer_of(struct guest *guest, const struct wire_choice *choice)
{
    must(choice->several == (guest->n > 1));
    const uint32_t index = choice->several ? choice->index : 0;
    must(index < guest->n && guest->state == GUEST_ASKED && !guest->answer[index].over);
    return &guest->answer[index];
}

static void take_scores(const struct guest *guest, struct guest_answer *answer,
                        const struct wire_scores *scores)
{
    if (!scores->logprobs) {
        return;
    }
    must(guest->scores && scores->first == answer->got_scores + 1);
    must(scores->first + scores->count <= guest->prompt_tokens);
    check_logprobs(guest, answer, scores->first, scores->count, scores->logprobs);
    answer->got_scores += scores->count;
}

static void take_ids(struct guest_answer *answer, const uint32_t *ids, uint32_t count)
{
    must(count <= answer->count - answer->got); /* None, where it is too long. */
    for (uint32_t i = 0; i < count; i++) {
        must(ids[i] == answer->ids[answer->got + i]);
    }
    answer->got += count;
}

static void take_text(struct guest_answer *answer, const struct wire_text *text)
{
    must(text->count <= answer->text_bytes - answer->got_text);
    must(memcmp(text->bytes, answer->text + answer->got_text, text->count) == 0);
    answer->got_text += (uint32_t)text->count;
}

void guest_take_tokens(struct guest *guest, const struct wire_tokens *tokens, uint64_t credit)
{
    struct guest_answer *answer = answer_of(guest, &tokens->choice);
    must(guest->stream && (tokens->prompt.logprobs || tokens->offset == answer->got));
    must(tokens->id_count == 0 || !guest->logprobs == !tokens->logprobs);
    if (tokens->id_count > 0 && guest->logprobs) {
        check_logprobs(guest, answer, guest->prompt_tokens + answer->got, tokens->id_count,
                       tokens->logprobs);
    }
    take_scores(guest, answer, &tokens->prompt);
    take_ids(answer, tokens->ids, tokens->id_count);
    take_text(answer, &tokens->text);
    const uint64_t most = credit + guest->granted;
    must(guest->granted == 0 || answer->got <= most || answer->got <= answer->got_free);
}

void guest_take_done(struct guest *guest, const struct wire_done *done)
{
    if (guest->n > 1 && !done->choice.several) { /* Cancelled at the tokenizer: one for all. */
        must(guest->text && guest->cancelled && done->finish == WIRE_FINISH_CANCELLED);
        guest->state = GUEST_OVER;
        return;
    }
    struct guest_answer *answer = answer_of(guest, &done->choice);
    const bool cancelled = done->finish == WIRE_FINISH_CANCELLED;
    const uint32_t index = (uint32_t)(answer - guest->answer);
    must(done->whole == !guest->stream && (!cancelled || guest->cancelled));
    if (done->whole) {
        must(!guest->logprobs == !done->logprobs || done->id_count == 0);
        if (guest->logprobs && done->id_count > 0) {
            check_logprobs(guest, answer, guest->prompt_tokens, done->id_count, done->logprobs);
        }
        take_scores(guest, answer, &done->prompt);
        take_ids(answer, done->ids, done->id_count);
        take_text(answer, &done->text);
    }
    must(done->usage.completion_tokens == answer->got);
    must(cancelled || done->usage.prompt_tokens == guest->prompt_tokens);
    must(done->usage.cached_tokens < guest->prompt_tokens);
    if (!cancelled) {
        must(done->finish == answer->finish && answer->got == answer->count);
        must(answer->got_text == answer->text_bytes);
        must(!guest->scores || index > 0 || answer->got_scores == guest->prompt_tokens - 1);
    }
    answer->over = true;
    for (uint32_t i = 0; i < guest->n; i++) {
        if (!guest->answer[i].over) {
            return;
        }
    }
    guest->state = GUEST_OVER;
}

/* Whether it, or one of its answers, has not taken what there was for it, up to this very turn. */
static bool lagged(const struct guest *guest, const struct world *world)
{
    const uint64_t most = world->config.stream.credit_tokens + guest->granted;
    bool lags = guest->undeaf_us == world->now_us || guest->granted_us == world->now_us;
    for (uint32_t i = 0; i < guest->n && guest->granted > 0; i++) {
        lags = lags || guest->answer[i].got >= most;
    }
    return lags;
}

bool guest_may_fail(const struct guest *guest, const struct world *world, uint32_t status)
{
    const bool late = world->now_us >= guest->ask_us + guest->timeout_us;
    switch (status) {
    case HTTP_DEADLINE:
        return late || lagged(guest, world);
    case HTTP_OVERLOADED:
        return guest->answer[0].got == 0 && guest->answer[0].got_scores == 0;
    case HTTP_DRAINING:
        return world->phase == WORLD_ENDING;
    default:
        return false;
    }
}
