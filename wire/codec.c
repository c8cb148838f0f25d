/*
 * codec.c - opens, closes and unpacks. One codec serves one thread: the core's loop, or a tool.
 *
 * The zone has one chunk as large as the validator's element budget can make a request, so that
 * unpacking a request never allocates. Replies may be larger; the tools that unpack them may
 * allocate.
 */
#include "wire/codec.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "wire/codec_state.h"

/* A map pair costs as much as two objects, so an element costs 24 bytes whatever it stands in. */
static_assert(sizeof(msgpack_object_kv) == 2 * sizeof(msgpack_object), "an element is an object");
enum { ZONE_BYTES = (LIMIT_MSGPACK_ELEMENTS_MAX + 1) * sizeof(msgpack_object) };

int codec_open(struct codec **out)
{
    struct codec *codec = calloc(1, sizeof *codec);

    if (!codec) {
        return -ENOMEM;
    }
    if (!msgpack_zone_init(&codec->zone, ZONE_BYTES)) {
        free(codec);
        return -ENOMEM;
    }
    msgpack_sbuffer_init(&codec->buffer);
    msgpack_packer_init(&codec->packer, &codec->buffer, msgpack_sbuffer_write);
    *out = codec;
    return 0;
}

void codec_close(struct codec *codec)
{
    if (codec) {
        msgpack_sbuffer_destroy(&codec->buffer);
        msgpack_zone_destroy(&codec->zone);
        free(codec);
    }
}

int codec_reserve(struct codec *codec, size_t bytes)
{
    msgpack_sbuffer *buffer = &codec->buffer;

    if (bytes > buffer->alloc) {
        char *data = realloc(buffer->data, bytes);
        if (!data) {
            return -ENOMEM;
        }
        buffer->data = data;
        buffer->alloc = bytes;
    }
    return 0;
}

int codec_unpack(struct codec *codec, struct wire_bytes body, msgpack_object *root)
{
    size_t end = 0;

    msgpack_zone_clear(&codec->zone);
    switch (msgpack_unpack((const char *)body.bytes, body.count, &end, &codec->zone, root)) {
    case MSGPACK_UNPACK_SUCCESS:
        return 0;
    case MSGPACK_UNPACK_NOMEM_ERROR:
        return -ENOMEM;
    default:
        return -EINVAL;
    }
}

bool codec_key_is(const msgpack_object *key, const char *word)
{
    const size_t count = strlen(word);

    return key->via.str.size == count && memcmp(key->via.str.ptr, word, count) == 0;
}

const char *codec_finish_name(enum wire_finish finish)
{
    static const char *const names[] = {
        [WIRE_FINISH_STOP] = "stop",
        [WIRE_FINISH_LENGTH] = "length",
        [WIRE_FINISH_CANCELLED] = "cancelled",
    };

    must((size_t)finish < sizeof names / sizeof names[0]);
    return names[finish];
}
