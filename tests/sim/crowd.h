/*
 * crowd.h - the clients of the simulation. A guest asks once and knows what it must get: every
 * token, its logprobs, the text, the end and the usage. Guests share peers, which may take nothing
 * for a while, or be gone.
 */
#ifndef TESTS_SIM_CROWD_H
#define TESTS_SIM_CROWD_H

#include "agent/front.h"
#include "tests/sim/world.h"

enum { CROWD_GUESTS_MAX = 160, CROWD_CHOICES_MAX = 4 };

struct crowd;

struct crowd *crowd_open(struct world *world);
void crowd_close(struct crowd *crowd);

/* When the next message comes; UINT64_MAX: none will. */
uint64_t crowd_next_us(const struct crowd *crowd);

/* Peers that wake up, or leave. */
void crowd_turn(struct world *world);

/* Who has not asked will not; readers are quick, nobody cancels. */
void crowd_calm(struct world *world);

/* Everybody has what is coming to them. */
bool crowd_over(const struct crowd *crowd);

/* Token `at` of the answer that the request with this address gives; for the audit. */
uint32_t crowd_truth(const struct crowd *crowd, const struct request *request, uint32_t at);

/* Ends of the seam. */
int crowd_ask(struct world *world, struct front_message *message) MUST_CHECK;
int crowd_hear(struct world *world, const struct request_address *address, uint8_t command,
               struct wire_bytes body) MUST_CHECK;

#endif /* TESTS_SIM_CROWD_H */
