/*
 * load.h - sends the requests of a dataset when they arrive and measures what comes back. A request
 * starts when it has arrived and fewer than a bound are under way; its times count from its send.
 */
#ifndef TOOLS_LOAD_H
#define TOOLS_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/must.h"
#include "tools/dataset.h"
#include "tools/lifetime.h"
#include "tools/report.h"
#include "tools/timeline.h"
#include "wire/client.h"

/* What is sent. */
struct load_plan {
    struct client *client;
    struct dataset *dataset;
    const char *command; /* For the progress line. */
    const char *what;
    uint32_t first;       /* Number of the first request in the dataset. */
    uint32_t requests;    /* How many; above 0. */
    uint32_t concurrency; /* At most so many at one time. */
    uint32_t max_tokens;  /* 0: the server's default, or the dataset's. */
    bool ignore_eos;
    const char *tenant; /* NULL: the agent's default. */
    int32_t priority;
    uint64_t seed;
    const uint64_t *arrivals_us; /* [requests], rising, from the start; NULL: all at once. */
    struct lifetime *lifetime;   /* With rows for `concurrency`. NULL: nobody wants them. */
};

/* Fills what number index of the dataset sends under this plan. */
void load_fill(const struct load_plan *plan, uint32_t index, struct wire_generate *request);

/*
 * Runs until every request has ended and adds to report and timeline. A request fails when the
 * agent says so, or when the tokens received are not those that its usage counts; the first failure
 * is put into error, which is left alone otherwise. SIGINT and SIGTERM end the run early and well:
 * what is under way is cancelled and counted as unfinished. -ETIMEDOUT: the agent went silent.
 */
int load_run(const struct load_plan *plan, struct report *report, struct timeline *timeline,
             char error[CLIENT_ERROR_BYTES_MAX]) MUST_CHECK;

#endif /* TOOLS_LOAD_H */
