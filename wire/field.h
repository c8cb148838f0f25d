/*
 * field.h - tables that say what a request's map may hold, and the one decoder that runs them. Used
 * by codec_decode.c alone.
 */
#ifndef WIRE_FIELD_H
#define WIRE_FIELD_H

#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "wire/codec.h"
#include "wire/message.h"

enum field_kind {
    FIELD_TEXT,     /* struct wire_text; min and max count its bytes, max 0: any text */
    FIELD_IDS,      /* struct wire_bytes: bin of u32, at least one */
    FIELD_U32,      /* uint32_t */
    FIELD_I32,      /* int32_t */
    FIELD_U64,      /* uint64_t */
    FIELD_F64,      /* double */
    FIELD_BOOL,     /* bool */
    FIELD_MESSAGES, /* message_count and messages of struct wire_generate */
    FIELD_STOP,     /* stop_count and stop */
    FIELD_STOP_IDS, /* stop_id_count and stop_ids */
    FIELD_BAD_IDS,
    FIELD_ALLOWED_IDS,
    FIELD_BIASES,   /* bias_count and biases */
    FIELD_LOGPROBS, /* logprobs and top_logprobs: a boolean, or a number that is both */
};

struct field {
    const char *key;
    enum field_kind kind;
    uint32_t flag; /* Comes out set when the key was there. */
    size_t offset; /* In the struct; of FIELD_MESSAGES and what follows it: 0. */
    double min;    /* Of numbers and FIELD_TEXT. */
    double max;
    const char *rule; /* What a value must be: the text of the error. */
};

/* Another server's name for a field. */
struct field_alias {
    const char *alias;
    const char *key;
};

struct schema {
    const struct field *fields; /* At most 64. */
    size_t field_count;
    const struct field_alias *aliases;
    size_t alias_count;
    const char *(*refusal)(const char *key, size_t count); /* Why this key is never ignored. */
    uint32_t required;                                     /* Flags that must come out set. */
    const char *missing; /* The text of the error when one does not. */
};

/*
 * Decodes body by schema into *out, which holds the defaults; *flags says which fields were there.
 * 0, or -EINVAL with *error filled and *out unspecified. The key strict is known to every schema.
 */
int field_decode(struct codec *codec, struct wire_bytes body, const struct schema *schema,
                 void *out, uint32_t *flags, struct wire_error *error) MUST_CHECK;

/* Fills *error; -EINVAL. message has static storage; NULL: the text of the code. */
int field_refuse(struct wire_error *error, enum wire_error_code code,
                 const char *message) MUST_CHECK;

#endif /* WIRE_FIELD_H */
