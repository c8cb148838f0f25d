/*
 * chat.h - renders a conversation with a template chosen by name in the config. Template text is
 * encoded with special tokens parsed, the messages' content without: a user cannot forge a turn.
 */
#ifndef MODEL_CHAT_H
#define MODEL_CHAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "model/ids.h"
#include "model/tokenizer.h"

struct chat_message {
    const char *role;
    size_t role_bytes;
    const char *content;
    size_t content_bytes;
};

enum chat_template { CHAT_NONE, CHAT_CHATML };

/* chatml, none. -EINVAL for another name. */
int chat_template_find(const char *name, enum chat_template *out) MUST_CHECK;

/* Checks that the tokenizer knows the template's special tokens. 0 or -ENOTSUP. */
int chat_template_check(enum chat_template template, const struct tokenizer *tokenizer) MUST_CHECK;

/* Appends the ids of the conversation with the assistant's turn opened. Errors as
 * tokenizer_encode(), and -ENOTSUP for CHAT_NONE, -EINVAL for a role that is not system, user or
 * assistant. */
int chat_encode(enum chat_template template, const struct tokenizer *tokenizer,
                struct tokenizer_scratch *scratch, const struct chat_message *messages,
                size_t message_count, struct ids *ids) MUST_CHECK;

#endif /* MODEL_CHAT_H */
