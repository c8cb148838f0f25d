/*
 * frame.h - the four frames of every message of protocol v1 (docs/protocol.md).
 *
 *   [ "SLCE" major minor ][ command ][ request id, 1..64 bytes ][ one msgpack map ]
 *
 * On a ROUTER the routing id comes before them, and an empty delimiter where the client is a REQ.
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/must.h"

enum { WIRE_MAJOR = 1, WIRE_MINOR = 0, WIRE_MAGIC_BYTES = 6, WIRE_FRAMES = 4 };

enum wire_command {
    WIRE_HELLO = 1,
    WIRE_GENERATE = 2,
    WIRE_CANCEL = 3,
    WIRE_CREDIT = 4,
    WIRE_PING = 5,
    WIRE_TOKENIZE = 6,
    WIRE_DETOKENIZE = 7,
    WIRE_STATS = 8,
    WIRE_PLANS = 9,
    WIRE_WELCOME = 129,
    WIRE_TOKENS = 130,
    WIRE_DONE = 131,
    WIRE_ERROR = 132,
    WIRE_PONG = 133,
    WIRE_RESULT = 134,
};

struct wire_bytes {
    const uint8_t *bytes;
    size_t count;
};

struct wire_id {
    uint8_t count; /* 1 .. LIMIT_REQUEST_ID_BYTES_MAX; 0: none could be read. */
    uint8_t bytes[LIMIT_REQUEST_ID_BYTES_MAX];
};

struct wire_head {
    uint8_t major;
    uint8_t minor;
    uint8_t command;
    struct wire_id id;
};

/* Reads the first three of four frames. On -EINVAL *head holds what could be read (id.count 0 when
 * the id could not), so that the error can be answered by id. -ENOTSUP: another major version. */
int wire_head_parse(const struct wire_bytes frames[WIRE_FRAMES], struct wire_head *head) MUST_CHECK;

/* The first frame. */
void wire_magic(uint8_t out[WIRE_MAGIC_BYTES]);

#endif /* WIRE_FRAME_H */
