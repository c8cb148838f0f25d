/*
 * seam_front.c - the two ROUTER sockets as the core sees them, with the simulated crowd behind
 * them. Called by the core; owns nothing. Invariant: the world goes on in front_wait() and nowhere
 * else.
 */
#include <stddef.h>

#include "agent/front.h"
#include "tests/sim/crowd.h"

int front_open(struct front *front, const struct config *config, char error[FRONT_ERROR_BYTES_MAX])
{
    (void)config;
    (void)error;
    world_current()->core = (struct core *)((char *)front - offsetof(struct core, front));
    return 0;
}

void front_close(struct front *front)
{
    (void)front;
    world_current()->core = NULL;
}

int front_recv(struct front *front, struct front_message *message)
{
    (void)front;
    return crowd_ask(world_current(), message);
}

int front_send(struct front *front, const struct request_address *address, uint8_t command,
               struct wire_bytes body)
{
    (void)front;
    return crowd_hear(world_current(), address, command, body);
}

void front_wait(struct front *front, const int *fds, uint32_t fd_count, bool want_clients,
                uint32_t timeout_ms)
{
    (void)front;
    (void)fds;
    (void)fd_count;
    world_turn(world_current(), want_clients, timeout_ms);
}
