/*
 * guest.h - one client's request, the right answers to it, and what has come of them so far. What
 * comes is checked against both: a token that is wrong, twice, missing or too early is a must().
 */
#ifndef TESTS_SIM_GUEST_H
#define TESTS_SIM_GUEST_H

#include "tests/sim/crowd.h"
#include "wire/codec.h"

enum guest_state { GUEST_COMING, GUEST_ASKED, GUEST_OVER };

struct guest_answer { /* One of n. */
    uint32_t ids[WORLD_CONTEXT_MAX];
    uint32_t count;
    char text[WORLD_CONTEXT_MAX * 2];
    uint32_t text_bytes;
    enum wire_finish finish;
    uint32_t got; /* Tokens, bytes and judged prompt tokens that have come. */
    uint32_t got_text;
    uint32_t got_scores;
    uint32_t got_free; /* Tokens that had come when the first CREDIT was sent. */
    bool over;
};

struct guest {
    enum guest_state state;
    uint32_t peer;
    uint64_t ask_us;
    uint64_t cancel_us; /* UINT64_MAX: never, or done. */
    uint64_t credit_us; /* Of the next CREDIT, likewise. */
    uint64_t deaf_us;   /* Since when its peer takes nothing that is for it; 0: it does. */
    uint64_t undeaf_us; /* When it took something again. */
    bool given_up;      /* For so long that the core may have forgotten it. */
    bool cancelled;
    bool not_found; /* An ERROR for a CANCEL that came too late may be coming. */
    bool text;      /* The prompt goes as text. */
    bool too_long;  /* It must be refused. */
    uint32_t prompt[WORLD_CONTEXT_MAX];
    uint32_t prompt_tokens;
    uint32_t max_tokens;
    uint32_t min_tokens;
    uint32_t n;
    uint64_t seed;
    float temperature;
    uint32_t stop_id;   /* Beside the model's; UINT32_MAX: none. */
    uint32_t barred_id; /* Likewise. */
    char stop[4];       /* Empty: none. */
    bool stream;
    bool logprobs;
    bool scores;
    int32_t priority;
    char tenant[2]; /* Empty: none. */
    uint32_t top;
    uint64_t timeout_us;
    uint64_t granted; /* 0: no CREDIT was sent. */
    uint64_t granted_us;
    struct guest_answer answer[CROWD_CHOICES_MAX];
};

/* Draws what it asks; context is the one served. */
void guest_draw(struct guest *guest, struct world *world, uint32_t context);

/* The body of its GENERATE. */
void guest_fill(const struct guest *guest, struct wire_generate *generate);

/* What came. Credit: the window of a stream that was never granted any. */
void guest_take_tokens(struct guest *guest, const struct wire_tokens *tokens, uint64_t credit);
void guest_take_done(struct guest *guest, const struct wire_done *done);

/* Whether the core may end it with this error now. */
bool guest_may_fail(const struct guest *guest, const struct world *world, uint32_t status);

#endif /* TESTS_SIM_GUEST_H */
