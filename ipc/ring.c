/*
 * ring.c - see ring.h. Called by the core's loop thread and a worker's main thread, each on its own
 * end; owns nothing, the memory is the link's. Invariant: no index derived from the peer's segment
 * is used before it is bounded against this side's own count.
 */
#include "ipc/ring.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { RING_SPIN_CHECKS = 32 }; /* Looks at the tail between two looks at the clock. */

static_assert((RING_CELLS & (RING_CELLS - 1)) == 0, "the slot of a position is a mask");

int64_t ring_room(const struct ring_writer *writer)
{
    /* Own word: only this thread writes it. */
    const uint64_t published = atomic_load_explicit(&writer->tail->position, memory_order_relaxed);
    /* Acquire pairs with the release in ring_release(): the peer has copied these cells out before
     * they are overwritten. */
    const uint64_t head = atomic_load_explicit(&writer->head->position, memory_order_acquire);
    if (head > published || writer->written - head > RING_CELLS) {
        return -EBADMSG;
    }
    return (int64_t)(RING_CELLS - (writer->written - head));
}

int ring_push(struct ring_writer *writer, const union record *record)
{
    const int64_t room = ring_room(writer);
    if (room <= 0) {
        return room < 0 ? (int)room : -EAGAIN;
    }
    writer->cells[writer->written & (RING_CELLS - 1)] = *record;
    writer->written++;
    return 0;
}

/*
 * The price of a publication is one system call even when nobody sleeps: the reader maps this
 * segment read-only and so cannot leave a mark that it waits. Steps are published whole, so it is
 * one call a step and not one a cell.
 */
void ring_publish(struct ring_writer *writer)
{
    /* Release pairs with the acquire in ring_take() and ring_wait(): who sees the position sees the
     * cells below it. */
    atomic_store_explicit(&writer->tail->position, writer->written, memory_order_release);
    /* Release pairs with the acquire of the bell in ring_wait(): who sees the new bell sees the new
     * position, and who saw the old bell is refused by the kernel or woken below. */
    (void)atomic_fetch_add_explicit(&writer->tail->bell, 1, memory_order_release);
    (void)syscall(SYS_futex, &writer->tail->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint64_t ring_tail(const struct ring_reader *reader)
{
    /* Acquire pairs with the release store of the position in ring_publish(). */
    return atomic_load_explicit(&reader->tail->position, memory_order_acquire);
}

int ring_take(struct ring_reader *reader, union record *out)
{
    const uint64_t tail = ring_tail(reader);
    if (tail == reader->taken) {
        return -EAGAIN;
    }
    if (tail - reader->taken > RING_CELLS) { /* Also a tail that went back: it wraps. */
        return -EBADMSG;
    }
    memcpy(out, &reader->cells[reader->taken & (RING_CELLS - 1)], sizeof *out);
    reader->taken++;
    return 0;
}

/* The bell beside the head stays silent: a writer that finds no room comes back later. */
void ring_release(struct ring_reader *reader)
{
    /* Release pairs with the acquire of the head in ring_room(). */
    atomic_store_explicit(&reader->head->position, reader->taken, memory_order_release);
}

/* True as soon as the tail moved; gives up at deadline_us. */
static bool ring_spin(const struct ring_reader *reader, uint64_t deadline_us)
{
    do {
        for (int i = 0; i < RING_SPIN_CHECKS; i++) {
            if (ring_tail(reader) != reader->taken) {
                return true;
            }
            __builtin_ia32_pause();
        }
    } while (clock_now_us() < deadline_us);
    return false;
}

int ring_wait(const struct ring_reader *reader, uint32_t spin_us, uint64_t timeout_us)
{
    const uint64_t start_us = clock_now_us();
    const uint64_t deadline_us = start_us + timeout_us;
    if (spin_us > 0 && ring_spin(reader, start_us + spin_us)) {
        return 0;
    }
    for (;;) {
        /* Acquire pairs with the release of the bell in ring_publish(): bell first, then tail. */
        const uint32_t bell = atomic_load_explicit(&reader->tail->bell, memory_order_acquire);
        if (ring_tail(reader) != reader->taken) {
            return 0;
        }
        const uint64_t now_us = clock_now_us();
        if (now_us >= deadline_us) {
            return -ETIMEDOUT;
        }
        const uint64_t left_us = deadline_us - now_us;
        const struct timespec left = {.tv_sec = (time_t)(left_us / 1000000u),
                                      .tv_nsec = (long)(left_us % 1000000u * 1000u)};
        /* Not private: the two ends are in two processes. */
        (void)syscall(SYS_futex, &reader->tail->bell, FUTEX_WAIT, bell, &left, NULL, 0);
    }
}
