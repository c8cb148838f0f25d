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

struct wire_text {
    const char *bytes; /* UTF-8, not NUL-terminated. NULL: absent. */
    size_t count;
};

struct wire_chat_message {
    struct wire_text role;
    struct wire_text content;
};

/* Which optional fields the client gave; others take the model's or the server's defaults. */
enum wire_given {
    WIRE_GIVEN_MAX_TOKENS = 1 << 0,
    WIRE_GIVEN_TEMPERATURE = 1 << 1,
    WIRE_GIVEN_TOP_K = 1 << 2,
    WIRE_GIVEN_TOP_P = 1 << 3,
    WIRE_GIVEN_MIN_P = 1 << 4,
    WIRE_GIVEN_SEED = 1 << 5,
};

struct wire_generate {
    /* Exactly one of the three. */
    struct wire_text prompt; /* "prompt" str */
    struct wire_bytes ids;   /* "ids" bin: little-endian u32; bytes NULL: absent */
    uint32_t message_count;  /* "messages": 0: absent */
    struct wire_chat_message messages[LIMIT_MESSAGES_MAX];

    uint32_t given;      /* enum wire_given */
    uint32_t max_tokens; /* "max_tokens" 1..LIMIT_CONTEXT_MAX; default 256 */
    double temperature;  /* 0..100; 0: greedy */
    uint32_t top_k;      /* 0: off */
    double top_p;        /* (0, 1]; 1: off */
    double min_p;        /* [0, 1]; 0: off */
    uint64_t seed;
    uint32_t n;          /* "n": answers, 1..LIMIT_CHOICES_MAX; default 1 */
    uint32_t min_tokens; /* default 0 */
    bool ignore_eos;
    bool stream;           /* default true; false for a REQ client */
    bool logprobs;         /* true when "top_logprobs" is given, 0 included */
    uint32_t top_logprobs; /* 0..20 */
    bool add_special;      /* default true: BOS before a text prompt */
    bool parse_special;    /* default false */
    bool skip_special;     /* default true: special tokens leave no text */
    bool strict;           /* unknown keys are errors */
    bool events;           /* default false: DONE tells the request's lifetime */
    uint32_t timeout_ms;   /* 0: the server's */
    uint32_t stop_count;   /* "stop": str or array of str */
    struct wire_text stop[LIMIT_STOP_STRINGS_MAX];
    uint32_t stop_id_count; /* "stop_ids": bin of u32, or an array of integers */
    uint32_t stop_ids[LIMIT_STOP_IDS_MAX];
};

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
