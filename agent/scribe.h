/*
 * scribe.h - the tokenizer's thread: text, conversations and ids go in as the bytes of the client's
 * message, ids or text come out. The loop hands jobs over and takes them back; neither waits.
 */
#ifndef AGENT_SCRIBE_H
#define AGENT_SCRIBE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/request.h"
#include "base/must.h"
#include "model/chat.h"
#include "model/tokenizer.h"

enum {
    SCRIBE_JOBS = 32, /* Messages at the tokenizer at one time; the front stops reading above. */
    SCRIBE_MESSAGE_BYTES = 128, /* Of an error: all of ours are shorter. */
};

struct scribe_job {
    uint8_t command;                /* WIRE_GENERATE, WIRE_TOKENIZE or WIRE_DETOKENIZE. */
    uint32_t request;               /* GENERATE: its index; its ids are the output. */
    struct request_address address; /* The others: where the answer goes. */
    uint8_t *body;                  /* [message_bytes_max], a copy of the message */
    size_t body_bytes;
    uint32_t *own_ids; /* [message_bytes_max / 4] */
    uint32_t *ids;     /* Output: the request's, or own_ids. */
    size_t ids_max;
    size_t id_count;
    char *text; /* Output of DETOKENIZE: [text_bytes_max] */
    size_t text_bytes;
    struct wire_error error; /* WIRE_OK: it worked. Its message is static, or this: */
    char message[SCRIBE_MESSAGE_BYTES];
};

struct scribe;

struct scribe_options {
    const struct tokenizer *tokenizer; /* NULL: every job fails as unsupported. */
    enum chat_template chat;
    uint32_t vocab;
    uint32_t message_bytes_max;
};

/* Starts the thread; its memory comes from the arena. 0 or -errno. */
int scribe_open(struct scribe **out, struct arena *arena,
                const struct scribe_options *options) MUST_CHECK;
size_t scribe_bytes(const struct scribe_options *options);
void scribe_close(struct scribe *scribe);

/* A job to fill, or NULL when all are in use. */
struct scribe_job *scribe_take(struct scribe *scribe);
bool scribe_has_room(const struct scribe *scribe);

/* Hands a filled job to the thread. */
void scribe_submit(struct scribe *scribe, struct scribe_job *job);

/* From here on every job that is not begun yet fails at once, as draining. */
void scribe_drain(struct scribe *scribe);

/* Readable when a job is done. scribe_done() clears it and gives the next one done, or NULL. */
int scribe_fd(const struct scribe *scribe);
struct scribe_job *scribe_done(struct scribe *scribe);

/* Gives a job of scribe_take() or scribe_done() back. */
void scribe_release(struct scribe *scribe, struct scribe_job *job);

#endif /* AGENT_SCRIBE_H */
