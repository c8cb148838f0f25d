/*
 * message.h - the bodies of protocol v1 as structs; codec.h turns them into msgpack and back.
 * Decoded structs borrow from the frame's bytes and from the codec's zone: both outlive them until
 * the next decode.
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "wire/error.h"
#include "wire/frame.h"
#include "wire/message_generate.h"

struct wire_tokenize {
    struct wire_text text;
    bool add_special;   /* default true */
    bool parse_special; /* default false */
};

struct wire_detokenize {
    struct wire_bytes ids;
    bool skip_special; /* default false */
};

struct wire_hello {
    uint32_t minor_max; /* Highest minor version the client speaks. */
};

struct wire_credit {
    uint32_t tokens; /* Added to the stream's window; 1.. */
};

struct wire_logprob {
    uint32_t id;
    float logprob;
};

/* One generated token's logprobs: the chosen one, then top ones in falling order. */
struct wire_token_logprobs {
    struct wire_logprob chosen;
    uint32_t top_count;
    struct wire_logprob top[LIMIT_TOP_LOGPROBS_MAX];
};

/* Logprobs of prompt tokens [first, first + count): of each, given those before it. */
struct wire_scores {
    uint32_t first; /* 1 or more: nothing stands before token 0. */
    uint32_t count;
    const struct wire_token_logprobs *logprobs; /* NULL: not asked for. */
};

/* Which of the answers of one request a message belongs to. */
struct wire_choice {
    bool several; /* "index" is there. */
    uint32_t index;
};

struct wire_tokens {
    uint64_t instance;
    struct wire_choice choice;
    uint32_t offset; /* Index in the answer of the first token here. */
    const uint32_t *ids;
    uint32_t id_count;
    struct wire_text text; /* May be empty while a character or a stop string forms. */
    const struct wire_token_logprobs *logprobs; /* [id_count] or NULL */
    struct wire_scores prompt;
};

enum wire_finish { WIRE_FINISH_STOP, WIRE_FINISH_LENGTH, WIRE_FINISH_CANCELLED };

struct wire_usage {
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    uint32_t cached_tokens;
};

/* When what happened, on the server's monotonic clock. 0: it did not. */
struct wire_events {
    uint64_t queued_us;
    uint64_t scheduled_us; /* It got pages and a slot, for the first time. */
    uint64_t first_token_us;
    uint64_t finished_us;
    uint32_t preempted_count; /* It gave its pages back, or lost them with the worker. */
    uint64_t preempted_us[LIMIT_PREEMPTIONS_TOLD_MAX]; /* The first ones. */
};

struct wire_done {
    uint64_t instance;
    struct wire_choice choice;
    enum wire_finish finish;
    struct wire_usage usage;
    bool whole; /* Not streamed: everything below is sent. */
    const uint32_t *ids;
    uint32_t id_count;
    struct wire_text text;
    const struct wire_token_logprobs *logprobs;
    struct wire_scores prompt;
    const struct wire_events *events; /* NULL: not asked for. */
};

struct wire_welcome {
    uint64_t instance;
    uint8_t minor;            /* Agreed. */
    struct wire_text version; /* Of the server. */
    struct wire_text model;
    uint32_t context_tokens_max;
    uint32_t vocab;
    uint32_t page_tokens;
    uint32_t credit_tokens;
    uint32_t message_bytes_max;
    uint32_t max_tokens_default;
    const uint32_t *eos_ids;
    uint32_t eos_count;
    bool tokenizer; /* false: ids only. */
    bool chat;
};

struct wire_pong {
    uint64_t instance;
    uint64_t steps; /* Steps done by the loop since start. */
};

/* STATS: named counters and gauges in a fixed order. */
struct wire_stat {
    const char *name;
    uint64_t value;
};

struct wire_plan {         /* The steps that ran as one plan file wants it, or without any. */
    struct wire_text file; /* Empty: none was made for such steps. */
    uint32_t plan;         /* Its id; 0: it serves sequentially. */
    uint32_t tokens;       /* For which it was made. */
    uint32_t decode;
    uint32_t context;
    uint64_t steps;
    uint64_t compute_us;
};

struct wire_refusal {
    struct wire_text file;
    struct wire_text reason;
};

struct wire_plans {
    const struct wire_plan *plans; /* [plan_count] */
    uint32_t plan_count;
    uint32_t refused_count;
    const struct wire_refusal *refused; /* [refused_count] */
};

/* An ERROR as a client reads it. */
struct wire_failure {
    struct wire_text code;
    uint32_t status;
    struct wire_text message;
    bool retryable;
    uint32_t retry_after_ms; /* 0: not stated. */
    struct wire_bytes request_id;
};

/* One number of a STATS result as a client reads it. */
struct wire_number {
    struct wire_text name;
    uint64_t value;
};

#endif /* WIRE_MESSAGE_H */
