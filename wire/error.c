/*
 * error.c - the table of errors that a client can see, in the order of enum wire_error_code. Read
 * by the codec when it writes an ERROR and by the tools when they explain one.
 */
#include "wire/error.h"

#include <assert.h>
#include <stddef.h>

#include "base/must.h"

static const struct wire_error_row rows[] = {
    [WIRE_OK] = {"ok", 200, false, "there is no error"},
    [WIRE_INVALID_ARGUMENT] = {"invalid_argument", 400, false, "the request is malformed"},
    [WIRE_CONTEXT_EXCEEDED] = {"context_exceeded", 400, false,
                               "prompt and max_tokens do not fit the context that is served"},
    [WIRE_UNSUPPORTED] = {"unsupported", 400, false, "this server does not offer what was asked"},
    [WIRE_UNAUTHENTICATED] = {"unauthenticated", 401, false, "the peer is not known"},
    [WIRE_PERMISSION_DENIED] = {"permission_denied", 403, false, "the peer may not do this"},
    [WIRE_NOT_FOUND] = {"not_found", 404, false, "no live request of this peer has this id"},
    [WIRE_DUPLICATE_ID] = {"duplicate_id", 409, false,
                           "a live request of this peer has the same id"},
    [WIRE_TOO_LARGE] = {"too_large", 413, false, "the message is larger than the server takes"},
    [WIRE_OVERLOADED] = {"overloaded", 429, true, "the queue is full; try again later"},
    [WIRE_CANCELLED] = {"cancelled", 499, false, "the request was cancelled"},
    [WIRE_INTERNAL] = {"internal", 500, false, "the server failed"},
    [WIRE_WORKER_LOST] = {"worker_lost", 502, true, "the device process was lost; try again"},
    [WIRE_DRAINING] = {"draining", 503, true, "the server is stopping; try again elsewhere"},
    [WIRE_DEADLINE_EXCEEDED] = {"deadline_exceeded", 504, false,
                                "the request did not end within its time"},
};
static_assert(sizeof rows / sizeof rows[0] == WIRE_ERROR_COUNT, "a row for every code");

const struct wire_error_row *wire_error_row(enum wire_error_code code)
{
    must((size_t)code < WIRE_ERROR_COUNT);
    return &rows[code];
}
