/*
 * encode_fuzz.c - fuzz target: the first byte chooses flags and one of two small tokenizers, the
 * rest is a text. A valid text must come back from the byte-level one byte by byte; any ids must
 * decode to valid UTF-8.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_parts.h"
#include "model/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

enum { TEXT_BYTES_MAX = 4096, FILE_BYTES_MAX = 16384 };

static const char BYTE_LEVEL[] =
    "{\"added_tokens\":[{\"id\":256,\"content\":\"<s>\",\"special\":true},{\"id\":257,"
    "\"content\":\"<t>\"}],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
    "\"Digits\",\"individual_digits\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[\"a b\",\"a a\","
    "\"aa aa\",\"\xc4\xa0 a\",\"ab \xc4\xa0\"],\"vocab\":{\"ab\":258,\"aa\":259,\"aaaa\":260,"
    "\"\xc4\xa0\x61\":261,\"ab\xc4\xa0\":262";

static const char CHARS[] =
    "{\"added_tokens\":[{\"id\":256,\"content\":\"<s>\",\"special\":true,\"lstrip\":true},{\"id\":"
    "257,\"content\":\"<t>\",\"normalized\":true,\"single_word\":true}],\"normalizer\":{\"type\":"
    "\"NFKC\"},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"},"
    "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"},\"model\":{\"type\":"
    "\"BPE\",\"byte_fallback\":true,\"merges\":[\"a b\",\"\xe2\x96\x81 a\"],\"vocab\":{\"a\":258,"
    "\"b\":259,\"ab\":260,\"\xe2\x96\x81\":261,\"\xe2\x96\x81\x61\":262";

/* The character that stands for a byte; see model/bytelevel.c. */
static unsigned alphabet(unsigned byte)
{
    if (byte <= 0x20) {
        return 0x100 + byte;
    }
    if (byte >= 0x7f && byte <= 0xa0) {
        return 0x121 + byte - 0x7f;
    }
    return byte == 0xad ? 0x143 : byte;
}

/* A tokenizer that knows every byte. */
static struct tokenizer *open_tokenizer(bool byte_level)
{
    char file[FILE_BYTES_MAX];
    struct tokenizer *tokenizer = NULL;
    struct json *root = NULL;
    struct json_error reason;
    struct model_error error;
    size_t bytes = (size_t)snprintf(file, sizeof file, "%s", byte_level ? BYTE_LEVEL : CHARS);
    for (unsigned byte = 0; byte < 256; byte++) {
        bytes += (size_t)snprintf(file + bytes, sizeof file - bytes,
                                  byte_level ? ",\"\\u%04x\":%u" : ",\"<0x%02X>\":%u",
                                  byte_level ? alphabet(byte) : byte, byte);
    }
    (void)snprintf(file + bytes, sizeof file - bytes, "}}}");
    must(json_parse(file, strlen(file), &root, &reason) == 0);
    const struct tokenizer_source source = {.root = root};
    must(tokenizer_build(&tokenizer, &source, &error) == 0);
    json_free(root);
    return tokenizer;
}

static void decode(const struct tokenizer *tokenizer, const struct ids *ids, char *out,
                   size_t *count)
{
    struct detok detok = {0};
    size_t more;
    *count = 0;
    for (size_t i = 0; i < ids->count; i++) {
        tokenizer_decode(tokenizer, &detok, ids->items[i], 0, out + *count, &more);
        *count += more;
    }
    tokenizer_decode_end(&detok, out + *count, &more);
    *count += more;
    must(utf8_valid(out, *count));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (count == 0 || count > TEXT_BYTES_MAX) {
        return 0;
    }
    const bool byte_level = bytes[0] & 1;
    const unsigned flags = bytes[0] >> 1 & TOKENIZER_PARSE_SPECIAL;
    const char *text = (const char *)bytes + 1;
    const size_t text_bytes = count - 1;
    struct ids ids = {.max = 12 * TEXT_BYTES_MAX};
    struct tokenizer *tokenizer = open_tokenizer(byte_level);
    struct tokenizer_scratch *scratch;
    size_t decoded;
    ids.items = calloc(ids.max, sizeof *ids.items);
    char *out = malloc(12 * TEXT_BYTES_MAX * 3 + 2 * DETOK_OUT_BYTES_MAX);
    must(ids.items && out && tokenizer_scratch_open(&scratch, tokenizer, text_bytes) == 0);
    const int code = tokenizer_encode(tokenizer, scratch, text, text_bytes, flags, &ids);
    must((code == -EINVAL) == !utf8_valid(text, text_bytes));
    if (code == 0) {
        decode(tokenizer, &ids, out, &decoded);
        must(!byte_level || (decoded == text_bytes && memcmp(out, text, decoded) == 0));
    }
    for (ids.count = 0; ids.count < text_bytes; ids.count++) { /* The text as ids. */
        ids.items[ids.count] = (uint32_t)(uint8_t)text[ids.count] * 263 / 255;
    }
    decode(tokenizer, &ids, out, &decoded);
    free(out);
    free(ids.items);
    tokenizer_scratch_close(scratch);
    tokenizer_close(tokenizer);
    return 0;
}
