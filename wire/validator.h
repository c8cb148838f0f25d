/*
 * validator.h - the bounded walk that every msgpack body passes before msgpack-c sees it.
 *
 * No recursion, no allocation: an explicit stack of LIMIT_MSGPACK_DEPTH_MAX, one element budget
 * over all levels, every count checked against the bytes that remain. Refuses ext types (timestamps
 * included), the reserved byte 0xc1 and trailing bytes. Strings must be UTF-8.
 */
#ifndef WIRE_VALIDATOR_H
#define WIRE_VALIDATOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"

/* 0; -EINVAL malformed; -E2BIG above depth or element budget; -ENOTSUP an ext type. Any root. */
int validator_walk(const uint8_t *bytes, size_t count) MUST_CHECK;

/* The same, and: the root is a map of at most LIMIT_MSGPACK_KEYS_MAX pairs, all keys of all maps
 * are strings, no duplicate key in the root map. Walks by itself. */
int validator_body(const uint8_t *bytes, size_t count) MUST_CHECK;

/* validator_body() for what a server sent: a whole answer with logprobs has more elements than any
 * request, so its bytes are the only budget. */
int validator_reply(const uint8_t *bytes, size_t count) MUST_CHECK;

#endif /* WIRE_VALIDATOR_H */
