/*
 * ring.h - a single-producer single-consumer ring of 64-byte records between two processes.
 *
 *   producer's segment: [tail]  [cells ...]        consumer's segment: [head]
 *
 * Each side maps the other's segment read-only. The tail is published with release order and read
 * with acquire; so is the head. Cells are copied out before anything looks at them.
 */
#ifndef IPC_RING_H
#define IPC_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "ipc/record.h"

enum {
    RING_CELLS = 65536
}; /* 4 MiB a direction: two steps of the largest kind, or their answers. */

struct ring_words { /* Lives in the writer's segment of each word. */
    _Alignas(
        64) _Atomic uint64_t position; /* Monotonic cell count; slot = position % RING_CELLS. */
    _Atomic uint32_t bell;             /* Futex word, bumped at every publication of position. */
};

struct ring_writer {
    union record *cells;           /* Own segment. */
    struct ring_words *tail;       /* Own segment. */
    const struct ring_words *head; /* Peer's segment. */
    uint64_t written;              /* Cells written, published or not. */
};

struct ring_reader {
    const union record *cells;     /* Peer's segment. */
    const struct ring_words *tail; /* Peer's segment. */
    struct ring_words *head;       /* Own segment. */
    uint64_t taken;
};

/* Cells that can be written now. -EBADMSG when the peer's head is impossible. */
int64_t ring_room(const struct ring_writer *writer);

/* Writes one cell, not yet visible. -EAGAIN when full, -EBADMSG as above. */
int ring_push(struct ring_writer *writer, const union record *record) MUST_CHECK;

/* Makes all written cells visible and wakes a waiting reader (futex). */
void ring_publish(struct ring_writer *writer);

/* Copies the next visible cell to *out and takes it. -EAGAIN when none; -EBADMSG when the peer's
 * tail is impossible (the link must end). */
int ring_take(struct ring_reader *reader, union record *out) MUST_CHECK;

/* Gives the room of the taken cells back to the writer. */
void ring_release(struct ring_reader *reader);

/* Waits until a cell is visible: spins spin_us, then futex. 0 or -ETIMEDOUT. */
int ring_wait(const struct ring_reader *reader, uint32_t spin_us, uint64_t timeout_us) MUST_CHECK;

#endif /* IPC_RING_H */
