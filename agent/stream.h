/* stream.h - what has been generated leaves: TOKENS as far as credit and the peer allow, then DONE
 * or ERROR. */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include "agent/core.h"

/* Sends what can leave, pauses and resumes sequences whose readers lag or caught up. True when
 * something is left that only waits for a peer's queue. */
bool stream_send(struct core *core);

/* Ends requests past their deadline and streams whose reader takes nothing. */
void stream_expire(struct core *core);

/* Ends everything that lives, with a retryable error. */
void stream_end_all(struct core *core, enum wire_error_code code);

#endif /* AGENT_STREAM_H */
