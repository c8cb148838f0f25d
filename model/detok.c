/*
 * detok.c - token ids back to text, one at a time. Called by the core's detok stage and by the
 * tools, on any thread; the state of a stream is the caller's struct detok, small enough to lie in
 * a request's slot. Invariant: what is pending is always the start of a valid character.
 */
#include "model/tokenizer_parts.h"

#include <assert.h>
#include <string.h>

#include "model/utf8.h"

static const char REPLACEMENT[] = "\xef\xbf\xbd"; /* U+FFFD */
enum { REPLACEMENT_BYTES = sizeof REPLACEMENT - 1 };

/* Where a token's text goes. */
struct writer {
    struct detok *detok;
    char *out;
    size_t count;
};

static void write_bytes(struct writer *writer, const void *bytes, size_t count)
{
    must(count <= DETOK_OUT_BYTES_MAX - writer->count);
    memcpy(writer->out + writer->count, bytes, count);
    writer->count += count;
}

/* One U+FFFD for the longest start of a character, as the Unicode standard recommends (3.9). */
static void give_up_pending(struct writer *writer)
{
    if (writer->detok->pending_count > 0) {
        write_bytes(writer, REPLACEMENT, REPLACEMENT_BYTES);
        writer->detok->pending_count = 0;
    }
}

static void feed(struct writer *writer, uint8_t byte)
{
    struct detok *detok = writer->detok;
    if (detok->pending_count > 0 && !utf8_continues(detok->pending, detok->pending_count, byte)) {
        give_up_pending(writer);
    }
    if (detok->pending_count == 0 && utf8_lead(byte) == 0) {
        write_bytes(writer, REPLACEMENT, REPLACEMENT_BYTES);
        return;
    }
    detok->pending[detok->pending_count++] = byte;
    if (detok->pending_count == utf8_lead(detok->pending[0])) {
        write_bytes(writer, detok->pending, detok->pending_count);
        detok->pending_count = 0;
    }
}

void tokenizer_decode(const struct tokenizer *tokenizer, struct detok *detok, uint32_t id,
                      unsigned flags, char *out, size_t *count)
{
    static_assert(3 * (int)VOCAB_TOKEN_BYTES_MAX + 2 * (int)UTF8_CHAR_BYTES_MAX <=
                      (int)DETOK_OUT_BYTES_MAX,
                  "a token of nothing but invalid bytes fits, with what was pending");
    struct writer writer = {.detok = detok, .out = out};
    const struct decoder *decoder = &tokenizer->decoder;
    const struct vocab_token *token = vocab_at(&tokenizer->vocab, id);
    *count = 0;
    if (!token || token->count == 0 ||
        ((flags & TOKENIZER_SKIP_SPECIAL) && (token->flags & VOCAB_SPECIAL))) {
        return;
    }
    const char *bytes = vocab_bytes(&tokenizer->vocab, token);
    bool strip = decoder->strip_first && detok->tokens == 0;
    for (size_t at = 0; at < token->count;) {
        const char *piece = bytes + at;
        size_t piece_bytes = 1;
        if (decoder->pattern.count > 0 && token->count - at >= decoder->pattern.count &&
            memcmp(piece, decoder->pattern.bytes, decoder->pattern.count) == 0) {
            at += decoder->pattern.count;
            piece = decoder->text.bytes;
            piece_bytes = decoder->text.count;
        } else {
            at++;
        }
        for (size_t i = 0; i < piece_bytes; i++) {
            if (!(strip && piece[i] == ' ')) {
                feed(&writer, (uint8_t)piece[i]);
            }
            strip = false;
        }
    }
    detok->tokens++;
    *count = writer.count;
}

void tokenizer_decode_end(struct detok *detok, char *out, size_t *count)
{
    struct writer writer = {.detok = detok, .out = out};
    give_up_pending(&writer);
    *count = writer.count;
}
