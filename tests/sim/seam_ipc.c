/*
 * seam_ipc.c - link.c, sibling.c, death.c and control.c of ipc/ as the core sees them, with the
 * simulated fleet behind them. The rings themselves are the real ones. Called by the core; owns
 * nothing. Invariant: a descriptor given here is no descriptor: reads and closes of it fail.
 */
#include <errno.h>
#include <stddef.h>

#include "ipc/control.h"
#include "ipc/death.h"
#include "ipc/link.h"
#include "ipc/sibling.h"
#include "tests/sim/fleet.h"

int link_core_begin(struct link *link, int socket, uint32_t epoch, uint16_t group, uint16_t rank)
{
    *link =
        (struct link){.socket = socket, .bell = -1, .epoch = epoch, .group = group, .rank = rank};
    return fleet_begin(world_current(), link, epoch);
}

void *link_own_board(struct link *link)
{
    return fleet_board(world_current(), link);
}

/* A worker that says nothing of itself: no plan is made for it. */
const void *link_peer_board(const struct link *link)
{
    static const uint8_t board[LINK_BOARD_BYTES];
    (void)link;
    return board;
}

uint32_t link_peer_progress(const struct link *link)
{
    return fleet_progress(world_current(), link);
}

int link_core_finish(struct link *link)
{
    return fleet_finish(world_current(), link);
}

void link_core_fence(struct link *link)
{
    (void)link; /* link_close() follows at once, and the fleet learns of both by it. */
}

void link_close(struct link *link)
{
    if (link->socket >= 0) {
        fleet_end(world_current(), link->socket);
    }
}

int sibling_recv(int socket, struct sibling_offer *offer, int *fd)
{
    return fleet_take_offer(world_current(), socket, offer, fd);
}

int sibling_send(int socket, const struct sibling_offer *offer, int fd)
{
    (void)offer;
    (void)fd;
    return fleet_give_offer(world_current(), socket);
}

/* Notices are found at the next turn: the loop looks at every word anyway. */
int death_watch_open(struct death_watch **out)
{
    *out = NULL;
    return 0;
}

int death_watch_fd(const struct death_watch *watch)
{
    (void)watch;
    return -1;
}

void death_watch_set(struct death_watch *watch, uint32_t index, const _Atomic uint32_t *word)
{
    (void)watch;
    (void)index;
    (void)word;
}

void death_watch_close(struct death_watch *watch)
{
    (void)watch;
}

bool death_seen(const _Atomic uint32_t *word)
{
    /* Relaxed: one thread. */
    return (atomic_load_explicit(word, memory_order_relaxed) & FUTEX_OWNER_DIED) != 0;
}

int control_recv(int socket, struct control_message *message, int *fd)
{
    (void)socket;
    return fleet_control(world_current(), message, fd);
}

int control_send(int socket, const struct control_message *message, int fd)
{
    (void)socket;
    (void)fd;
    fleet_hear(world_current(), message);
    return 0;
}
