/*
 * request.h - the table of requests and the token log, which is the truth: workers are disposable.
 *
 *   FREE      no request
 *   TEXT      at the tokenizer: its thread owns the ids, the loop everything else
 *   ACTIVE    with the scheduler, waiting or running
 *   ENDING    has its outcome; what is unsent still leaves, then DONE or ERROR
 *
 *   FREE -> TEXT | ACTIVE    TEXT -> ACTIVE | ENDING    ACTIVE -> ENDING    TEXT, ENDING -> FREE
 */
#ifndef AGENT_REQUEST_H
#define AGENT_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/must.h"
#include "model/tokenizer.h"
#include "wire/message.h"

enum request_state { REQUEST_FREE, REQUEST_TEXT, REQUEST_ACTIVE, REQUEST_ENDING };

struct request_address { /* Who asked, and under which id. */
    uint8_t routing[LIMIT_ROUTING_ID_BYTES_MAX];
    uint8_t routing_bytes;
    bool delimiter; /* A REQ client: its empty frame is mirrored. */
    bool admin;     /* Came in on the admin socket. */
    struct wire_id id;
};

struct request_params {
    uint32_t max_tokens;
    uint32_t min_tokens;
    uint32_t n; /* Siblings, itself included: one address, a request each. */
    struct wire_choice choice;
    uint64_t tenant; /* Digest of its name; 0: of those without one. */
    int32_t priority;
    double temperature;
    double top_p;
    double min_p;
    uint32_t top_k;
    uint64_t seed;
    double repetition_penalty;
    double presence_penalty;
    double frequency_penalty;
    bool ignore_eos;
    bool stream;
    bool logprobs;
    bool skip_special;
    bool include_stop;
    bool scores_prompt; /* Logprobs of the prompt are wanted. */
    bool events;
    uint32_t top_logprobs;
    uint32_t prompt_logprobs;
    uint32_t bias_count; /* Of the lists of the request. */
    uint32_t allowed_count;
    uint32_t stop_id_count; /* The request's own, and the model's unless those are ignored. */
    uint32_t stop_ids[LIMIT_STOP_IDS_MAX + LIMIT_EOS_IDS_MAX];
    uint32_t stop_count;
    uint16_t stop_bytes[LIMIT_STOP_STRINGS_MAX];
    char stop[LIMIT_STOP_STRINGS_MAX][LIMIT_STOP_STRING_BYTES_MAX];
};

struct request {
    enum request_state state;
    uint32_t generation; /* Bumped when it becomes FREE. */
    struct request_address address;
    struct request_params params;
    struct wire_bias *biases; /* [LIMIT_LOGIT_BIASES_MAX + LIMIT_BAD_IDS_MAX] */
    uint32_t *allowed;        /* [LIMIT_ALLOWED_IDS_MAX] */
    bool cancelled;           /* While in TEXT: ends when the tokenizer returns it. */
    uint64_t deadline_us;

    uint32_t *ids; /* [context_max]: the prompt, then the answer. */
    uint32_t prompt_tokens;
    uint32_t answer_tokens;
    uint32_t cached_tokens;               /* Of the prompt, found in pages of other requests. */
    uint32_t scored;                      /* Prompt tokens from 1 on whose logprobs are there. */
    struct wire_token_logprobs *logprobs; /* [context_max] of the token at each position. */

    struct detok detok;
    char *text;          /* [text_bytes_max] of the answer, as decoded. */
    uint32_t text_bytes; /* Decoded so far. */
    uint32_t text_free;  /* Of them, not held back for a stop string that may be forming. */

    uint32_t sent_tokens; /* Of the answer. */
    uint32_t sent_text;
    uint32_t sent_scores;
    bool credit_explicit; /* The client has sent CREDIT. */
    uint64_t credit;      /* Tokens that may have been sent in all; meaningful when explicit. */
    uint64_t progress_us; /* Something was sent last, or nothing was waiting. */

    struct wire_events events;
    uint32_t slot; /* Of its present or last residency, to know its own preemptions by. */
    uint32_t slot_generation;

    struct wire_error error; /* code WIRE_OK: ends with DONE and this: */
    enum wire_finish finish;
};

struct requests {
    struct request *request; /* [count] */
    uint32_t count;
    uint32_t live; /* Not FREE. */
    uint32_t context_max;
    uint32_t text_bytes_max; /* Of one answer. */
};

int requests_open(struct requests *requests, struct arena *arena, uint32_t count,
                  uint32_t context_max) MUST_CHECK;
size_t requests_bytes(uint32_t count, uint32_t context_max);

/* A FREE request, moved to state and cleared but for its memory; NULL when there is none. */
struct request *requests_take(struct requests *requests, enum request_state state);

/* The only way to change a state; a transition that the table does not list is our bug. */
void request_move(struct requests *requests, struct request *request, enum request_state state);

/* Whether it changes logits before it samples. */
bool request_adjusts(const struct request *request);

/* Whether it may borrow pages of another's prompt: not when it needs the logits of every token. */
bool request_shares_prompt(const struct request *request);

uint32_t request_index(const struct requests *requests, const struct request *request);

/* A live request of this address and id, of several answers any; or NULL. */
struct request *requests_find(const struct requests *requests,
                              const struct request_address *address);

/* ENDING, but its reader has not granted all of its tokens. */
bool request_waits_for_credit(const struct request *request);

/* Live, and of this address and id. */
bool request_is(const struct request *request, const struct request_address *address);

bool request_same_peer(const struct request *request, const struct request_address *address);

#endif /* AGENT_REQUEST_H */
