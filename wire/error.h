/*
 * error.h - what a client can be told: one table of codes with status, text and retryability. Texts
 * are fixed: no pointers, names, paths or sizes of internals.
 */
#ifndef WIRE_ERROR_H
#define WIRE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

enum wire_error_code {
    WIRE_OK = 0,
    WIRE_INVALID_ARGUMENT,  /* 400 */
    WIRE_CONTEXT_EXCEEDED,  /* 400 */
    WIRE_UNSUPPORTED,       /* 400 */
    WIRE_UNAUTHENTICATED,   /* 401 */
    WIRE_PERMISSION_DENIED, /* 403 */
    WIRE_NOT_FOUND,         /* 404 */
    WIRE_DUPLICATE_ID,      /* 409 */
    WIRE_TOO_LARGE,         /* 413 */
    WIRE_OVERLOADED,        /* 429, retryable */
    WIRE_CANCELLED,         /* 499 */
    WIRE_INTERNAL,          /* 500 */
    WIRE_WORKER_LOST,       /* 502, retryable */
    WIRE_DRAINING,          /* 503, retryable */
    WIRE_DEADLINE_EXCEEDED, /* 504 */
    WIRE_ERROR_COUNT,
};

struct wire_error_row {
    const char *code; /* "invalid_argument" */
    uint16_t status;
    bool retryable;
    const char *message; /* Default text, one sentence. */
};

const struct wire_error_row *wire_error_row(enum wire_error_code code);

/* An error about to be sent: a code, and a fixed text of ours that may name the client's own field
 * ("temperature must be between 0 and 100"). NULL message: the row's. */
struct wire_error {
    enum wire_error_code code;
    const char *message;     /* Static storage, or the codec's until its next decode. */
    uint32_t retry_after_ms; /* 0: not stated. */
};

#endif /* WIRE_ERROR_H */
