/*
 * enter.h - who is let in: the queue's first takes a slot and pages when they are there. Part of
 * the scheduler and as pure: called by sched.c alone.
 */
#ifndef AGENT_ENTER_H
#define AGENT_ENTER_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/sched.h"

/* The request that runs from now on, or SCHED_NONE when the queue's first has to wait. borrowers:
 * only one that finds pages of others to borrow may enter. */
uint32_t enter_head(struct sched *sched, bool borrowers);

#endif /* AGENT_ENTER_H */
