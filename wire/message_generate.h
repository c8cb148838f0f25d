/* message_generate.h - the body of GENERATE, part of message.h. */
#ifndef WIRE_MESSAGE_GENERATE_H
#define WIRE_MESSAGE_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
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
    WIRE_GIVEN_REPETITION = 1 << 6,
};

struct wire_bias {
    uint32_t id;
    float bias;
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
    uint32_t n;                /* "n": answers, 1..LIMIT_CHOICES_MAX; default 1 */
    double repetition_penalty; /* 0.01..100; 1: off */
    double presence_penalty;   /* -2..2; 0: off */
    double frequency_penalty;  /* -2..2; 0: off */
    uint32_t min_tokens;       /* default 0 */
    bool ignore_eos;
    bool stream;              /* default true; false for a REQ client */
    bool logprobs;            /* "logprobs" is true or a number, or "top_logprobs" is given */
    bool logprobs_counted;    /* "logprobs" is a number: what "top_logprobs" says elsewhere */
    uint32_t top_logprobs;    /* 0..20 */
    bool scores_prompt;       /* "prompt_logprobs" is given, 0 included */
    uint32_t prompt_logprobs; /* 0..20 */
    bool include_stop;        /* default false: the stop text that ended the answer is cut off */
    bool add_special;         /* default true: BOS before a text prompt */
    bool parse_special;       /* default false */
    bool skip_special;        /* default true: special tokens leave no text */
    bool strict;              /* unknown keys are errors */
    bool events;              /* default false: DONE tells the request's lifetime */
    uint32_t timeout_ms;      /* 0: the server's */
    int32_t priority;         /* -100..100, lower runs earlier; default 0 */
    struct wire_text tenant;  /* "tenant" str of 1 to 64 bytes; bytes NULL: absent */
    uint32_t stop_count;      /* "stop": str or array of str */
    struct wire_text stop[LIMIT_STOP_STRINGS_MAX];
    uint32_t stop_id_count; /* "stop_ids": bin of u32, or an array of integers */
    uint32_t stop_ids[LIMIT_STOP_IDS_MAX];
    uint32_t bias_count; /* "logit_bias": map of decimal ids to -100..100 */
    struct wire_bias biases[LIMIT_LOGIT_BIASES_MAX];
    uint32_t bad_id_count; /* "bad_ids": as stop_ids; never sampled */
    uint32_t bad_ids[LIMIT_BAD_IDS_MAX];
    uint32_t
        allowed_id_count; /* "allowed_ids": as stop_ids, at least one; nothing else is sampled */
    uint32_t allowed_ids[LIMIT_ALLOWED_IDS_MAX];
};

#endif /* WIRE_MESSAGE_GENERATE_H */
