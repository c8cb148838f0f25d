/* admit.h - the one place that refuses a client: GENERATE is judged before anything is spent on it.
 */
#ifndef AGENT_ADMIT_H
#define AGENT_ADMIT_H

#include "agent/core.h"

enum {
    ADMIT_MAX_TOKENS_DEFAULT = 256,
    ADMIT_WHOLE_SCORES_MAX = 16384, /* Prompt tokens judged in one message: about 4 MiB of it. */
};

/* A GENERATE message: becomes a request, or is refused. */
void admit_generate(struct core *core, const struct request_address *address,
                    struct wire_bytes body);

/* Its text came back from the tokenizer. */
void admit_text(struct core *core, struct request *request, const struct scribe_job *job);

#endif /* AGENT_ADMIT_H */
