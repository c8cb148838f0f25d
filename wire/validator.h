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

/* The same, and: the root is a map, all keys of all maps are strings, no duplicate key in the root
 * map. Call after validator_walk() said 0, or on its own: it walks first. */
int validator_body(const uint8_t *bytes, size_t count) MUST_CHECK;

#endif /* WIRE_VALIDATOR_H */
