/*
 * relay.c - see relay.h. Called by test programs on their main thread; owns the comms. Nothing here
 * waits: an offer is in its socket when it was sent.
 */
#include "tests/unit/workers/relay.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/must.h"
#include "ipc/sibling.h"

enum { RELAY_EPOCH = 3, RELAY_GROUP = 1 };

void relay_open(struct relay *relay, uint32_t ranks, uint64_t timeout_us)
{
    int sockets[LIMIT_WORKERS_MAX][2];
    must(ranks <= LIMIT_WORKERS_MAX);
    *relay = (struct relay){.ranks = ranks};
    for (uint32_t rank = 0; rank < ranks; rank++) {
        must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets[rank]) == 0);
        const struct comm_shm_options options = {.epoch = RELAY_EPOCH,
                                                 .group = RELAY_GROUP,
                                                 .rank = (uint16_t)rank,
                                                 .ranks = ranks,
                                                 .timeout_us = timeout_us,
                                                 .fence = &relay->fence};
        must(comm_shm_open(&relay->comm[rank], &options, sockets[rank][1]) == 0);
    }
    for (uint32_t rank = 0; rank < ranks; rank++) {
        struct sibling_offer offer;
        int fd;
        must(sibling_recv(sockets[rank][0], &offer, &fd) == 0);
        for (uint32_t other = 0; other < ranks; other++) {
            must(other == rank || sibling_send(sockets[other][0], &offer, fd) == 0);
        }
        must(close(fd) == 0);
    }
    for (uint32_t rank = 0; rank < ranks; rank++) {
        must(comm_shm_join(relay->comm[rank], sockets[rank][1]) == 0);
        must(close(sockets[rank][0]) == 0 && close(sockets[rank][1]) == 0);
    }
}

void relay_close(struct relay *relay)
{
    for (uint32_t rank = 0; rank < relay->ranks; rank++) {
        comm_shm_close(relay->comm[rank]);
        relay->comm[rank] = NULL;
    }
}

struct runner {
    pthread_t thread;
    uint32_t rank;
    void (*work)(void *context, uint32_t rank);
    void *context;
};

static void *run(void *argument)
{
    const struct runner *runner = argument;
    runner->work(runner->context, runner->rank);
    return NULL;
}

void relay_run(uint32_t ranks, void (*work)(void *context, uint32_t rank), void *context)
{
    struct runner runners[LIMIT_WORKERS_MAX];
    for (uint32_t rank = 0; rank < ranks; rank++) {
        runners[rank] = (struct runner){.rank = rank, .work = work, .context = context};
        must(pthread_create(&runners[rank].thread, NULL, run, &runners[rank]) == 0);
    }
    for (uint32_t rank = 0; rank < ranks; rank++) {
        must(pthread_join(runners[rank].thread, NULL) == 0);
    }
}
