/*
 * chat.c - renders a conversation. Called by the core's tokenizer threads and by sluicectl; owns
 * nothing. Markers go in by id, and everything between two markers is encoded as one text without
 * special tokens: merges across the template's own line breaks come out as the model was trained,
 * and no content can open or close a turn.
 */
#include "model/chat.h"

#include <errno.h>
#include <string.h>

#include "model/tokenizer_parts.h"
#include "model/utf8.h"

/* ChatML, without the default system turn that some models' own templates put in front. */
static const char TURN_START[] = "<|im_start|>";
static const char TURN_END[] = "<|im_end|>";

struct chat {
    const struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    uint32_t start;
    uint32_t end;
    struct ids ids;
};

int chat_template_find(const char *name, enum chat_template *out)
{
    if (strcmp(name, "none") == 0) {
        *out = CHAT_NONE;
        return 0;
    }
    if (strcmp(name, "chatml") == 0) {
        *out = CHAT_CHATML;
        return 0;
    }
    return -EINVAL;
}

int chat_template_check(enum chat_template template, const struct tokenizer *tokenizer)
{
    if (template == CHAT_NONE) {
        return 0;
    }
    /* A marker that is not special would be found in the users' text too. */
    const uint32_t start = tokenizer_find(tokenizer, TURN_START, sizeof TURN_START - 1);
    const uint32_t end = tokenizer_find(tokenizer, TURN_END, sizeof TURN_END - 1);
    return tokenizer_is_special(tokenizer, start) && tokenizer_is_special(tokenizer, end)
               ? 0
               : -ENOTSUP;
}

static bool role_known(const struct chat_message *message)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (message->role_bytes == strlen(roles[i]) &&
            memcmp(message->role, roles[i], message->role_bytes) == 0) {
            return true;
        }
    }
    return false;
}

static int append_text(struct chat *chat, const char *text, size_t bytes)
{
    const struct tokenizer_part part = {.text = text, .bytes = bytes};
    return bytes > chat->scratch->text_bytes_max
               ? -E2BIG
               : tokenizer_append(chat->tokenizer, chat->scratch, &part, &chat->ids);
}

/* <start> role line-break content <end> line-break */
static int append_turn(struct chat *chat, const struct chat_message *message)
{
    char *joined = chat->scratch->joined;
    const size_t head = message->role_bytes + 1;
    const size_t room = chat->scratch->text_bytes_max;
    if (!role_known(message) || !utf8_valid(message->content, message->content_bytes)) {
        return -EINVAL;
    }
    if (head > room || message->content_bytes > room - head) {
        return -E2BIG;
    }
    memcpy(joined, message->role, message->role_bytes);
    joined[head - 1] = '\n';
    if (message->content_bytes > 0) {
        memcpy(joined + head, message->content, message->content_bytes);
    }
    int error = ids_push(&chat->ids, chat->start);
    if (!error) {
        error = append_text(chat, joined, head + message->content_bytes);
    }
    if (!error) {
        error = ids_push(&chat->ids, chat->end);
    }
    return error ? error : append_text(chat, "\n", 1);
}

int chat_encode(enum chat_template template, const struct tokenizer *tokenizer,
                struct tokenizer_scratch *scratch, const struct chat_message *messages,
                size_t message_count, struct ids *ids)
{
    static const char opening[] = "assistant\n";
    if (template != CHAT_CHATML || chat_template_check(template, tokenizer)) {
        return -ENOTSUP;
    }
    struct chat chat = {.tokenizer = tokenizer,
                        .scratch = scratch,
                        .start = tokenizer_find(tokenizer, TURN_START, sizeof TURN_START - 1),
                        .end = tokenizer_find(tokenizer, TURN_END, sizeof TURN_END - 1),
                        .ids = *ids};
    int error = 0;
    for (size_t i = 0; i < message_count && !error; i++) {
        error = append_turn(&chat, &messages[i]);
    }
    if (!error) {
        error = ids_push(&chat.ids, chat.start);
    }
    if (!error) {
        error = append_text(&chat, opening, sizeof opening - 1);
    }
    if (!error) {
        ids->count = chat.ids.count;
    }
    return error;
}
