/*
 * fleet.h - the workers of the simulation and the supervisor that starts them. A worker is a fake
 * device behind the real rings: it believes only the records that it is told, through the worker's
 * own slot tables, and must()s that they make sense. Its KV pages hold the tag and id of each
 * token, so that a page that was given to two requests, copied too early or lost shows at once.
 *
 *   DOWN -> UP -> LINKED -> JOINED -> LOADED -> SERVING -> DOWN
 */
#ifndef TESTS_SIM_FLEET_H
#define TESTS_SIM_FLEET_H

#include "ipc/control.h"
#include "ipc/link.h"
#include "ipc/sibling.h"
#include "tests/sim/world.h"

struct fleet;

enum { FLEET_SOCKET = 1 << 24 }; /* Worker i's; no descriptor of this process is as large. */

struct fleet *fleet_open(struct world *world);
void fleet_close(struct fleet *fleet);

/* When the next thing happens; UINT64_MAX: nothing will. */
uint64_t fleet_next_us(const struct fleet *fleet);

/* All that is due. */
void fleet_turn(struct world *world);

/* No more faults; what is down comes up. */
void fleet_calm(struct world *world);

/* No step is with a worker, and none is down. */
bool fleet_idle(const struct fleet *fleet);

/* The supervisor tells the core to stop. */
void fleet_stop(struct fleet *fleet, uint64_t now_us);

/* must()s that no page which a step of this group reads or writes now has been free meanwhile. */
void fleet_verify_pages(const struct fleet *fleet, uint32_t group, const struct pages *pages);

/* Ends of the seams. */
int fleet_control(struct world *world, struct control_message *message, int *fd) MUST_CHECK;
void fleet_hear(struct world *world, const struct control_message *message);
uint32_t fleet_progress(struct world *world, const struct link *link);

/* Whether a group's first rank is in a step of which it shows that it gets on. */
bool fleet_gets_on(const struct fleet *fleet, uint32_t group);

int fleet_begin(struct world *world, struct link *link, uint32_t epoch) MUST_CHECK;
void *fleet_board(struct world *world, const struct link *link);
int fleet_finish(struct world *world, struct link *link) MUST_CHECK;
void fleet_end(struct world *world, int socket);
int fleet_take_offer(struct world *world, int socket, struct sibling_offer *offer,
                     int *fd) MUST_CHECK;
int fleet_give_offer(struct world *world, int socket) MUST_CHECK;

#endif /* TESTS_SIM_FLEET_H */
