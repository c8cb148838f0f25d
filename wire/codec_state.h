/*
 * codec_state.h - what the files of the codec share, and the one place that sees msgpack.h.
 * Included by codec*.c and field.c alone.
 */
#ifndef WIRE_CODEC_STATE_H
#define WIRE_CODEC_STATE_H

#include <msgpack.h>

#include "wire/codec.h"

enum { CODEC_MESSAGE_BYTES = 96 };

struct codec {
    msgpack_zone zone;                 /* What the last decoded struct borrows from. */
    msgpack_sbuffer buffer;            /* The last encoded body. */
    msgpack_packer packer;             /* Writes to buffer. */
    char message[CODEC_MESSAGE_BYTES]; /* Of an error that names the client's key. */
};

/* Unpacks bytes that a validator accepted: the root, whose memory is the zone until the next call.
 * -ENOMEM, or -EINVAL where msgpack-c disagrees with the validator. */
int codec_unpack(struct codec *codec, struct wire_bytes body, msgpack_object *root) MUST_CHECK;

/* Whether a key is this word. */
bool codec_key_is(const msgpack_object *key, const char *word);

#endif /* WIRE_CODEC_STATE_H */
