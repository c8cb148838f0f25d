/*
 * validator.c - the bounded walk over one msgpack value. Called by the codec before msgpack-c, in
 * the core and in the tools; pure, on any thread.
 *
 * The walk keeps, for each open container, how many values are still to come. A map of n pairs
 * counts 2n, so that in a map an even rest means that a key is next. Each value, key or container
 * costs one of the element budget; together with the depth this bounds the time and msgpack-c's
 * memory by the length of the message, whatever counts the message claims.
 */
#include "wire/validator.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/limits.h"

enum kind { KIND_SCALAR, KIND_TEXT, KIND_BIN, KIND_ARRAY, KIND_MAP, KIND_EXT, KIND_RESERVED };

/* The first byte of a value, read. */
struct head {
    enum kind kind;
    uint64_t count; /* Bytes that follow, or items of an array, or pairs of a map. */
};

struct level {
    uint64_t left; /* Values still to come. */
    bool is_map;
};

struct walk {
    const uint8_t *at;
    const uint8_t *end;
    uint64_t elements_left;
    bool string_keys; /* Keys must be strings. */
    uint32_t depth;
    struct level levels[LIMIT_MSGPACK_DEPTH_MAX];
};

struct span {
    const uint8_t *bytes;
    size_t count;
};

/* 0xc0 .. 0xdf of the msgpack specification: a big-endian count of count_bytes follows, or none and
 * a payload of fixed size. */
static const struct {
    uint8_t kind;
    uint8_t count_bytes;
    uint8_t payload_bytes;
} formats[32] = {
    {KIND_SCALAR, 0, 0},                                           /* c0: nil */
    {KIND_RESERVED, 0, 0},                                         /* c1 */
    {KIND_SCALAR, 0, 0},   {KIND_SCALAR, 0, 0},                    /* c2: false, true */
    {KIND_BIN, 1, 0},      {KIND_BIN, 2, 0},    {KIND_BIN, 4, 0},  /* c4: bin */
    {KIND_EXT, 1, 0},      {KIND_EXT, 2, 0},    {KIND_EXT, 4, 0},  /* c7: ext */
    {KIND_SCALAR, 0, 4},   {KIND_SCALAR, 0, 8},                    /* ca: float */
    {KIND_SCALAR, 0, 1},   {KIND_SCALAR, 0, 2},                    /* cc: unsigned */
    {KIND_SCALAR, 0, 4},   {KIND_SCALAR, 0, 8},                    /* ce: unsigned */
    {KIND_SCALAR, 0, 1},   {KIND_SCALAR, 0, 2},                    /* d0: signed */
    {KIND_SCALAR, 0, 4},   {KIND_SCALAR, 0, 8},                    /* d2: signed */
    {KIND_EXT, 0, 1},      {KIND_EXT, 0, 2},    {KIND_EXT, 0, 4},  /* d4: fixext */
    {KIND_EXT, 0, 8},      {KIND_EXT, 0, 16},                      /* d7: fixext */
    {KIND_TEXT, 1, 0},     {KIND_TEXT, 2, 0},   {KIND_TEXT, 4, 0}, /* d9: str */
    {KIND_ARRAY, 2, 0},    {KIND_ARRAY, 4, 0},                     /* dc: array */
    {KIND_MAP, 2, 0},      {KIND_MAP, 4, 0},                       /* de: map */
};

static size_t remaining(const struct walk *walk)
{
    return (size_t)(walk->end - walk->at);
}

static int read_head(struct walk *walk, struct head *head)
{
    const uint8_t first = *walk->at++;

    if (first < 0x80 || first >= 0xe0) {
        *head = (struct head){KIND_SCALAR, 0};
    } else if (first < 0x90) {
        *head = (struct head){KIND_MAP, first & 0x0f};
    } else if (first < 0xa0) {
        *head = (struct head){KIND_ARRAY, first & 0x0f};
    } else if (first < 0xc0) {
        *head = (struct head){KIND_TEXT, first & 0x1f};
    } else {
        const size_t count_bytes = formats[first - 0xc0].count_bytes;
        *head = (struct head){formats[first - 0xc0].kind, formats[first - 0xc0].payload_bytes};
        if (count_bytes > remaining(walk)) {
            return -EINVAL;
        }
        for (size_t i = 0; i < count_bytes; i++) {
            head->count = head->count << 8 | *walk->at++;
        }
    }
    return 0;
}

/* Bytes of the UTF-8 sequence at the start of text, 0 when it is none: overlong forms, surrogates
 * and code points above U+10FFFF are none (RFC 3629, section 4). */
static size_t sequence_bytes(const uint8_t *text, size_t count)
{
    const uint8_t first = text[0];
    size_t bytes = 2;
    uint8_t low = 0x80, high = 0xbf; /* Of the second byte. */

    if (first < 0x80) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    if (first >= 0xf0) {
        bytes = 4;
        low = first == 0xf0 ? 0x90 : 0x80;
        high = first == 0xf4 ? 0x8f : 0xbf;
    } else if (first >= 0xe0) {
        bytes = 3;
        low = first == 0xe0 ? 0xa0 : 0x80;
        high = first == 0xed ? 0x9f : 0xbf;
    }
    if (bytes > count || text[1] < low || text[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return bytes;
}

static bool is_utf8(const uint8_t *text, size_t count)
{
    for (size_t at = 0; at < count;) {
        const size_t bytes = sequence_bytes(text + at, count - at);
        if (bytes == 0) {
            return false;
        }
        at += bytes;
    }
    return true;
}

static int open_container(struct walk *walk, struct head head)
{
    const bool is_map = head.kind == KIND_MAP;
    const uint64_t values = is_map ? 2 * head.count : head.count;

    if (values > remaining(walk)) {
        return -EINVAL;
    }
    if (walk->depth == LIMIT_MSGPACK_DEPTH_MAX || values > walk->elements_left) {
        return -E2BIG;
    }
    walk->levels[walk->depth++] = (struct level){values, is_map};
    return 0;
}

/* Takes one value; of a container, its head alone. */
static int take_value(struct walk *walk, bool is_key)
{
    struct head head;

    if (walk->at == walk->end) {
        return -EINVAL;
    }
    if (walk->elements_left == 0) {
        return -E2BIG;
    }
    walk->elements_left--;
    if (read_head(walk, &head) != 0 || head.kind == KIND_RESERVED) {
        return -EINVAL;
    }
    if (head.kind == KIND_EXT) {
        return -ENOTSUP;
    }
    if (is_key && walk->string_keys && head.kind != KIND_TEXT) {
        return -EINVAL;
    }
    if (head.kind == KIND_ARRAY || head.kind == KIND_MAP) {
        return open_container(walk, head);
    }
    if (head.count > remaining(walk)) {
        return -EINVAL;
    }
    if (head.kind == KIND_TEXT && !is_utf8(walk->at, (size_t)head.count)) {
        return -EINVAL;
    }
    walk->at += head.count;
    return 0;
}

/* The next value inside the innermost open container. */
static int take_next(struct walk *walk)
{
    struct level *level = &walk->levels[walk->depth - 1];
    const bool is_key = level->is_map && level->left % 2 == 0;

    if (level->left == 0) {
        walk->depth--;
        return 0;
    }
    level->left--;
    return take_value(walk, is_key);
}

static int walk_all(struct walk *walk)
{
    int error = take_value(walk, false);

    while (error == 0 && walk->depth > 0) {
        error = take_next(walk);
    }
    if (error == 0 && walk->at != walk->end) {
        error = -EINVAL;
    }
    return error;
}

static struct walk walk_over(const uint8_t *bytes, size_t count, uint64_t elements)
{
    return (struct walk){
        .at = bytes, .end = count ? bytes + count : bytes, .elements_left = elements};
}

/* The root is a map without a duplicate key. The bytes have passed walk_all(). */
static int check_root(const uint8_t *bytes, size_t count)
{
    struct walk walk = walk_over(bytes, count, count);
    struct span keys[LIMIT_MSGPACK_KEYS_MAX];
    struct head root;
    int error = read_head(&walk, &root);

    if (error != 0 || root.kind != KIND_MAP) {
        return -EINVAL;
    }
    if (root.count > LIMIT_MSGPACK_KEYS_MAX) {
        return -E2BIG;
    }
    for (size_t i = 0; i < root.count; i++) {
        struct head key;
        error = read_head(&walk, &key);
        keys[i] = (struct span){walk.at, (size_t)key.count};
        walk.at += key.count;
        error = error ? error : take_value(&walk, false);
        while (error == 0 && walk.depth > 0) {
            error = take_next(&walk);
        }
        if (error != 0) {
            return error;
        }
        for (size_t j = 0; j < i; j++) {
            if (keys[j].count == keys[i].count &&
                memcmp(keys[j].bytes, keys[i].bytes, keys[i].count) == 0) {
                return -EINVAL;
            }
        }
    }
    return 0;
}

static int check_body(const uint8_t *bytes, size_t count, uint64_t elements)
{
    struct walk walk = walk_over(bytes, count, elements);

    walk.string_keys = true;
    const int error = walk_all(&walk);
    return error ? error : check_root(bytes, count);
}

int validator_walk(const uint8_t *bytes, size_t count)
{
    struct walk walk = walk_over(bytes, count, LIMIT_MSGPACK_ELEMENTS_MAX);

    return walk_all(&walk);
}

int validator_body(const uint8_t *bytes, size_t count)
{
    return check_body(bytes, count, LIMIT_MSGPACK_ELEMENTS_MAX);
}

int validator_reply(const uint8_t *bytes, size_t count)
{
    return check_body(bytes, count, count);
}
