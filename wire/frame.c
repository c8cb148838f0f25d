/*
 * frame.c - reads the three binary frames before the body. Called by the core's front and by the
 * client of the tools. It judges shape alone: whether a command exists is for whoever serves it.
 */
#include "wire/frame.h"

#include <errno.h>
#include <string.h>

static const uint8_t signature[] = {'S', 'L', 'C', 'E'};

void wire_magic(uint8_t out[WIRE_MAGIC_BYTES])
{
    memcpy(out, signature, sizeof signature);
    out[4] = WIRE_MAJOR;
    out[5] = WIRE_MINOR;
}

int wire_head_parse(const struct wire_bytes frames[WIRE_FRAMES], struct wire_head *head)
{
    const struct wire_bytes *magic = &frames[0], *command = &frames[1], *id = &frames[2];

    *head = (struct wire_head){0};
    if (id->count >= 1 && id->count <= LIMIT_REQUEST_ID_BYTES_MAX) {
        head->id.count = (uint8_t)id->count;
        memcpy(head->id.bytes, id->bytes, id->count);
    }
    if (command->count == 1) {
        head->command = command->bytes[0];
    }
    if (magic->count != WIRE_MAGIC_BYTES ||
        memcmp(magic->bytes, signature, sizeof signature) != 0) {
        return -EINVAL;
    }
    head->major = magic->bytes[4];
    head->minor = magic->bytes[5];
    if (head->major != WIRE_MAJOR) {
        return -ENOTSUP;
    }
    return command->count == 1 && head->id.count > 0 ? 0 : -EINVAL;
}
