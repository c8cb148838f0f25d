/*
 * validator_fuzz.c - the walk against msgpack-c: what the walk takes, msgpack-c must decode, using
 * every byte, in no more memory than the element budget allows; and a body is a stricter value.
 */
#include <stdlib.h>

#include <msgpack.h>

#include "base/limits.h"
#include "base/must.h"
#include "wire/validator.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    const size_t zone_bytes = (LIMIT_MSGPACK_ELEMENTS_MAX + 1) * sizeof(msgpack_object);
    const int walked = validator_walk(bytes, count);
    const int body = validator_body(bytes, count);
    const int reply = validator_reply(bytes, count);
    msgpack_object root;
    msgpack_zone zone;
    size_t end = 0;

    must(body != 0 || (walked == 0 && reply == 0));
    if (walked == 0) {
        must(msgpack_zone_init(&zone, zone_bytes));
        const msgpack_zone_chunk *only = zone.chunk_list.head;
        must(msgpack_unpack((const char *)bytes, count, &end, &zone, &root) ==
             MSGPACK_UNPACK_SUCCESS);
        must(end == count);
        must(zone.chunk_list.head == only);
        must(body != 0 || root.type == MSGPACK_OBJECT_MAP);
        msgpack_zone_destroy(&zone);
    }
    return 0;
}
