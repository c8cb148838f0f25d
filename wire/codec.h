/*
 * codec.h - msgpack bodies to structs and back; the only user of msgpack-c. A codec owns a reused
 * zone and a reused buffer: requests are decoded without allocating, and what codec_reserve() has
 * made room for is encoded so. One codec a thread.
 */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "wire/message.h"

struct codec;

/* 0 or -ENOMEM. */
int codec_open(struct codec **out) MUST_CHECK;
void codec_close(struct codec *codec);

/* Room for every body of up to so many bytes; a larger one allocates. Pages become resident when
 * first written. 0 or -ENOMEM. */
int codec_reserve(struct codec *codec, size_t bytes) MUST_CHECK;

/* Bytes that hold any reply with so many tokens, each with all of its logprobs, and so much text.
 */
size_t codec_reply_bytes_max(size_t tokens, size_t text_bytes);

/* "stop", "length" or "cancelled". */
const char *codec_finish_name(enum wire_finish finish);

/*
 * Decoders run validator_body() first. 0, or -EINVAL with *error filled (a code and a fixed text
 * that names the field). Unknown keys are ignored, or refused when the map has strict: true.
 */
int codec_decode_hello(struct codec *codec, struct wire_bytes body, struct wire_hello *out,
                       struct wire_error *error) MUST_CHECK;
int codec_decode_generate(struct codec *codec, struct wire_bytes body, struct wire_generate *out,
                          struct wire_error *error) MUST_CHECK;
int codec_decode_credit(struct codec *codec, struct wire_bytes body, struct wire_credit *out,
                        struct wire_error *error) MUST_CHECK;
int codec_decode_tokenize(struct codec *codec, struct wire_bytes body, struct wire_tokenize *out,
                          struct wire_error *error) MUST_CHECK;
int codec_decode_detokenize(struct codec *codec, struct wire_bytes body,
                            struct wire_detokenize *out, struct wire_error *error) MUST_CHECK;
/* CANCEL, PING, STATS and PLANS: an empty map, or one whose keys are ignored. */
int codec_decode_empty(struct codec *codec, struct wire_bytes body,
                       struct wire_error *error) MUST_CHECK;

/* Encoders: the result is valid until the next encode of this codec. Out of memory is must(). */
struct wire_bytes codec_encode_welcome(struct codec *codec, const struct wire_welcome *in);
struct wire_bytes codec_encode_tokens(struct codec *codec, const struct wire_tokens *in);
struct wire_bytes codec_encode_done(struct codec *codec, const struct wire_done *in);
struct wire_bytes codec_encode_error(struct codec *codec, const struct wire_error *in,
                                     const struct wire_id *id);
struct wire_bytes codec_encode_pong(struct codec *codec, const struct wire_pong *in);
struct wire_bytes codec_encode_ids(struct codec *codec, const uint32_t *ids, size_t count);
struct wire_bytes codec_encode_text(struct codec *codec, struct wire_text text);
struct wire_bytes codec_encode_stats(struct codec *codec, const struct wire_stat *stats,
                                     size_t count);
struct wire_bytes codec_encode_plans(struct codec *codec, const struct wire_plans *in);

/* The client's side. */
struct wire_bytes codec_encode_hello(struct codec *codec, const struct wire_hello *in);
struct wire_bytes codec_encode_generate(struct codec *codec, const struct wire_generate *in);
struct wire_bytes codec_encode_credit(struct codec *codec, const struct wire_credit *in);
struct wire_bytes codec_encode_tokenize(struct codec *codec, const struct wire_tokenize *in);
struct wire_bytes codec_encode_detokenize(struct codec *codec, const struct wire_detokenize *in);
struct wire_bytes codec_encode_empty(struct codec *codec);

/* What the server sent. 0, or -EPROTO where it is not what protocol v1 says. Unknown keys are
 * ignored. Arrays live in the codec's zone until the next decode. */
int codec_decode_welcome(struct codec *codec, struct wire_bytes body,
                         struct wire_welcome *out) MUST_CHECK;
int codec_decode_tokens(struct codec *codec, struct wire_bytes body,
                        struct wire_tokens *out) MUST_CHECK;
int codec_decode_done(struct codec *codec, struct wire_bytes body,
                      struct wire_done *out) MUST_CHECK;
int codec_decode_error(struct codec *codec, struct wire_bytes body,
                       struct wire_failure *out) MUST_CHECK;
int codec_decode_pong(struct codec *codec, struct wire_bytes body,
                      struct wire_pong *out) MUST_CHECK;
int codec_decode_ids(struct codec *codec, struct wire_bytes body, const uint32_t **ids,
                     uint32_t *count) MUST_CHECK;
int codec_decode_text(struct codec *codec, struct wire_bytes body,
                      struct wire_text *out) MUST_CHECK;
/* numbers has room for LIMIT_MSGPACK_KEYS_MAX. */
int codec_decode_stats(struct codec *codec, struct wire_bytes body, struct wire_number *numbers,
                       uint32_t *count) MUST_CHECK;
int codec_decode_plans(struct codec *codec, struct wire_bytes body,
                       struct wire_plans *out) MUST_CHECK;

#endif /* WIRE_CODEC_H */
