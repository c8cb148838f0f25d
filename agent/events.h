/*
 * events.h - when a request was scheduled and preempted, as its DONE tells on demand. The stages
 * that see the other moments of its life note them themselves.
 */
#ifndef AGENT_EVENTS_H
#define AGENT_EVENTS_H

#include "agent/core.h"

/* The group has formed this step: who entered by it, and who had to leave. */
void events_step(struct core *core, const struct group *group, const struct sched_step *step);

/* The group is lost, and its scheduler does not know yet: all that run leave. */
void events_lost(struct core *core, const struct group *group);

#endif /* AGENT_EVENTS_H */
