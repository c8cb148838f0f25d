/*
 * answer.h - what a sampled token does to its request: log, text, stop conditions, outcome.
 */
#ifndef AGENT_ANSWER_H
#define AGENT_ANSWER_H

#include "agent/core.h"
#include "ipc/record.h"

/* The group's oldest step in flight is done: appends every result to its token log and ends what is
 * finished. */
void answer_step(struct core *core, struct group *group);

/* Ends an ACTIVE request, or what an ENDING one has not sent, with DONE cancelled. */
void answer_cancel(struct core *core, struct request *request);

/* Ends an ACTIVE request with DONE and this reason, or with an error. */
void answer_finish(struct core *core, struct request *request, enum wire_finish finish);
void answer_fail(struct core *core, struct request *request, enum wire_error_code code,
                 const char *message);

#endif /* AGENT_ANSWER_H */
