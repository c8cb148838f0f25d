/*
 * talk.h - one generation from GENERATE to its end, as sluicectl's generate and chat need it.
 */
#ifndef TOOLS_TALK_H
#define TOOLS_TALK_H

#include <stdint.h>
#include <stdio.h>

#include "base/must.h"
#include "wire/client.h"

enum { TALK_ERROR_BYTES_MAX = CLIENT_ERROR_BYTES_MAX };

/* What came. Starts zeroed, but for echo; talk_free() ends it. */
struct talk {
    FILE *echo; /* Text goes here as it arrives; NULL: nowhere. */
    uint32_t *ids;
    size_t id_count;
    size_t id_room;
    struct wire_token_logprobs *logprobs; /* [id_count], when asked for. */
    size_t logprob_count;
    size_t logprob_room;
    struct wire_token_logprobs *prompt; /* Of prompt tokens from 1 on, when asked for. */
    size_t prompt_count;
    size_t prompt_room;
    char *text; /* Not NUL-terminated. */
    size_t text_bytes;
    size_t text_room;
    enum wire_finish finish;
    struct wire_usage usage;
    struct wire_events events; /* All 0 unless asked for. */
    uint64_t sent_us;
    uint64_t first_us; /* Of the first token; 0: none came. */
    uint64_t end_us;
};

/*
 * Sends the request and takes replies until it ends. The agent must show life at least every
 * 20 s, by a PONG if by nothing else. 0, or -E... with one line in error: what the
 * server said (-EREMOTEIO), or that it went away.
 */
int talk_run(struct talk *talk, struct client *client, const struct wire_generate *request,
             const struct wire_id *id, char error[TALK_ERROR_BYTES_MAX]) MUST_CHECK;

void talk_free(struct talk *talk);

/* An ERROR as one line: "code: message". */
void talk_explain(const struct wire_failure *failure, char error[TALK_ERROR_BYTES_MAX]);

#endif /* TOOLS_TALK_H */
