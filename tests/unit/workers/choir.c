/*
 * choir.c - see choir.h. Called by test programs on their main thread; owns the ranks' engines,
 * comms and threads while it runs. Invariant: all ranks are fed the same ids, which rank 0 chose.
 */
#include "tests/unit/workers/choir.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/workers/probe.h"
#include "tests/unit/workers/relay.h"

enum { FED = 21, DECODED = 6, TIMEOUT_US = 60 * 1000000 };

struct choir {
    struct relay relay;
    struct probe probe[CHOIR_RANKS_MAX];
    float *logits; /* [DECODED][vocab] of rank 0 */
    uint32_t ids[FED];
};

static void join(void *context, uint32_t rank)
{
    struct choir *choir = context;
    must(engine_join(choir->probe[rank].engine, choir->relay.comm[rank]) == 0);
}

static void sing(void *context, uint32_t rank)
{
    struct choir *choir = context;
    struct probe *probe = &choir->probe[rank];
    struct comm *comm = choir->relay.ranks > 1 ? choir->relay.comm[rank] : NULL;
    uint32_t id = 0;
    for (uint32_t i = 0; i < DECODED; i++) {
        const float *logits =
            i == 0 ? probe_feed(probe, choir->ids, FED) : probe_feed(probe, &id, 1);
        if (rank == 0) {
            memcpy(choir->logits + (size_t)i * probe->vocab, logits, probe->vocab * sizeof *logits);
            id = probe_best(logits, probe->vocab, NULL);
        }
        must(!comm || comm_broadcast(comm, &id, sizeof id) == 0);
    }
}

float *choir_sing(const char *path, uint32_t ranks, const struct engine_options *options,
                  const struct plan *plan, size_t *count)
{
    struct choir *choir = calloc(1, sizeof *choir);
    must(choir && ranks <= CHOIR_RANKS_MAX);
    if (ranks > 1) {
        relay_open(&choir->relay, ranks, TIMEOUT_US);
    }
    for (uint32_t rank = 0; rank < ranks; rank++) {
        struct engine_options own = *options;
        own.rank = rank;
        own.ranks = ranks;
        own.device = rank;
        choir->probe[rank] = probe_open(path, own);
        choir->probe[rank].plan = plan ? *plan : choir->probe[rank].plan;
    }
    const uint32_t vocab = choir->probe[0].vocab;
    for (uint32_t i = 0; i < FED; i++) {
        choir->ids[i] = 1 + (i * 7919) % (vocab - 1);
    }
    *count = (size_t)DECODED * vocab;
    choir->logits = calloc(*count, sizeof *choir->logits);
    must(choir->logits);
    relay_run(ranks, join, choir);
    relay_run(ranks, sing, choir);
    for (uint32_t rank = 0; rank < ranks; rank++) {
        probe_close(&choir->probe[rank]);
    }
    relay_close(&choir->relay);
    float *logits = choir->logits;
    free(choir);
    return logits;
}

size_t choir_differ(const float *a, const float *b, size_t count)
{
    size_t differ = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits[2];
        memcpy(&bits[0], &a[i], sizeof bits[0]);
        memcpy(&bits[1], &b[i], sizeof bits[1]);
        differ += bits[0] != bits[1];
    }
    return differ;
}
