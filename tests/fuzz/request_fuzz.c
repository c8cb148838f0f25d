/*
 * request_fuzz.c - the decoders of every request and reply; the first byte chooses. A request that
 * was taken must survive encoding and decoding again, a refused one must have its error.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "wire/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

struct pair {
    struct codec *reader;
    struct codec *writer;
};

static void check_refusal(const struct wire_error *error)
{
    must(error->code != WIRE_OK && error->code != WIRE_INTERNAL);
    must(error->message && error->message[0] != '\0');
}

/* Taken, written, taken and written again: the two writings are the same bytes. */
static void try_generate(const struct pair *pair, struct wire_bytes body)
{
    struct wire_generate *request = calloc(1, sizeof *request);
    struct wire_error error = {0};
    uint8_t *copy;

    must(request);
    if (codec_decode_generate(pair->reader, body, request, &error) != 0) {
        check_refusal(&error);
        free(request);
        return;
    }
    must((request->prompt.bytes != NULL) + (request->ids.bytes != NULL) +
             (request->message_count > 0) ==
         1);
    const struct wire_bytes once = codec_encode_generate(pair->writer, request);
    copy = malloc(once.count);
    must(copy);
    memcpy(copy, once.bytes, once.count);
    must(codec_decode_generate(pair->reader, (struct wire_bytes){copy, once.count}, request,
                               &error) == 0);
    const struct wire_bytes twice = codec_encode_generate(pair->writer, request);
    must(twice.count == once.count && memcmp(twice.bytes, copy, twice.count) == 0);
    free(copy);
    free(request);
}

static void try_small(struct codec *codec, uint8_t command, struct wire_bytes body)
{
    struct wire_hello hello;
    struct wire_credit credit;
    struct wire_tokenize tokenize;
    struct wire_detokenize detokenize;
    struct wire_error error = {0};
    int status = 0;

    switch (command) {
    case WIRE_HELLO:
        status = codec_decode_hello(codec, body, &hello, &error);
        break;
    case WIRE_CREDIT:
        status = codec_decode_credit(codec, body, &credit, &error);
        must(status != 0 || credit.tokens > 0);
        break;
    case WIRE_TOKENIZE:
        status = codec_decode_tokenize(codec, body, &tokenize, &error);
        must(status != 0 || tokenize.text.bytes);
        break;
    case WIRE_DETOKENIZE:
        status = codec_decode_detokenize(codec, body, &detokenize, &error);
        must(status != 0 || detokenize.ids.count % sizeof(uint32_t) == 0);
        break;
    default:
        status = codec_decode_empty(codec, body, &error);
    }
    if (status != 0) {
        check_refusal(&error);
    }
}

static void try_reply(struct codec *codec, uint8_t command, struct wire_bytes body)
{
    struct wire_number numbers[LIMIT_MSGPACK_KEYS_MAX];
    struct wire_welcome welcome;
    struct wire_tokens tokens;
    struct wire_done done;
    struct wire_failure failure;
    struct wire_pong pong;
    struct wire_plans plans;
    struct wire_text text;
    const uint32_t *ids;
    uint32_t count;
    int status = 0;

    switch (command) {
    case WIRE_WELCOME:
        status = codec_decode_welcome(codec, body, &welcome);
        break;
    case WIRE_TOKENS:
        status = codec_decode_tokens(codec, body, &tokens);
        break;
    case WIRE_DONE:
        status = codec_decode_done(codec, body, &done);
        break;
    case WIRE_ERROR:
        status = codec_decode_error(codec, body, &failure);
        break;
    case WIRE_PONG:
        status = codec_decode_pong(codec, body, &pong);
        break;
    default:
        status = codec_decode_ids(codec, body, &ids, &count) == 0 &&
                 codec_decode_text(codec, body, &text) == 0 &&
                 codec_decode_stats(codec, body, numbers, &count) == 0 &&
                 codec_decode_plans(codec, body, &plans) == 0;
    }
    (void)status;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct pair pair;

    if (count == 0) {
        return 0;
    }
    const uint8_t command = bytes[0];
    const struct wire_bytes body = {bytes + 1, count - 1};
    must(codec_open(&pair.reader) == 0 && codec_open(&pair.writer) == 0);
    if (command == WIRE_GENERATE) {
        try_generate(&pair, body);
    } else if (command < WIRE_WELCOME) {
        try_small(pair.reader, command, body);
    } else {
        try_reply(pair.reader, command, body);
    }
    codec_close(pair.reader);
    codec_close(pair.writer);
    return 0;
}
