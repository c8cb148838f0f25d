/*
 * audit.h - what must hold between any two turns of the core's loop, looked up in its own tables:
 * pages add up and have the owners that the block tables say, slots are unique, token logs are the
 * truth without a gap, requests and schedulers agree, queues keep their bounds, nobody waits for
 * ever.
 */
#ifndef TESTS_SIM_AUDIT_H
#define TESTS_SIM_AUDIT_H

#include "tests/sim/world.h"

struct audit;

struct audit *audit_open(void);
void audit_close(struct audit *audit);

/* After a turn, before the core sleeps, or only looks whether there is something new. */
void audit_turn(struct world *world, bool sleeps);

/* Everybody is gone: nothing may be left. */
void audit_end(struct world *world);

#endif /* TESTS_SIM_AUDIT_H */
