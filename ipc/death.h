/*
 * death.h - notice that a worker died, in well under the time its memory takes to tear down.
 *
 * A worker's main thread holds a raw robust-list futex word in its own segment, with FUTEX_WAITERS
 * set from the start. When the thread ends for any reason, the kernel sets FUTEX_OWNER_DIED and
 * wakes a waiter before the address space is freed. The core's death waiter, one thread, sleeps on
 * the words of all links (read-only mappings) with futex_waitv and writes an eventfd.
 *
 * This is the notice only: the memory of the dead may be reused once the supervisor has reaped it.
 */
#ifndef IPC_DEATH_H
#define IPC_DEATH_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/must.h"

/* In the worker's segment. The list is the kernel's and lives as long as the word: its addresses
 * are the worker's own and mean nothing to a reader. */
struct death_life {
    _Alignas(64) _Atomic uint32_t word;
    struct robust_list_head list;
    struct robust_list entry;
};

/* Worker: sets the word to this thread's id and registers it. Once a process, on its main thread;
 * calling it again moves the hold to the new word. */
void death_hold(struct death_life *life);

/* True when the holder of word has died. */
bool death_seen(const _Atomic uint32_t *word);

struct death_watch; /* The waiter thread and its eventfd. */

/* Starts the thread. 0 or -errno. */
int death_watch_open(struct death_watch **out) MUST_CHECK;

/* Readable when a watched word has died; read it to clear, then ask death_seen() of each link. */
int death_watch_fd(const struct death_watch *watch);

/* Watches, or with NULL stops watching, entry index (below LIMIT_WORKERS_MAX). On return the thread
 * no longer looks at the word that was there, so that its segment may be unmapped. */
void death_watch_set(struct death_watch *watch, uint32_t index, const _Atomic uint32_t *word);

void death_watch_close(struct death_watch *watch);

#endif /* IPC_DEATH_H */
