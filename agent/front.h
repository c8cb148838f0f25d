/*
 * front.h - the two ROUTER sockets: clients on every zmq.bind, operators on admin.bind. The only
 * part of the agent that knows ZeroMQ. Nothing here waits: what cannot leave now is told so.
 */
#ifndef AGENT_FRONT_H
#define AGENT_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/request.h"
#include "base/config.h"
#include "base/must.h"
#include "wire/frame.h"

enum {
    FRONT_FDS_MAX = 3 + 2 * LIMIT_WORKERS_MAX, /* Control, texts, deaths; two a worker. */
    FRONT_ERROR_BYTES_MAX = 200,
    FRONT_PATH_BYTES_MAX = 108, /* sun_path of a Unix socket. */
};

struct front {
    void *context;
    void *clients;                                            /* ROUTER */
    void *admin;                                              /* ROUTER */
    struct front_parts *parts;                                /* Of the message being read. */
    char ipc_path[LIMIT_BINDS_MAX + 1][FRONT_PATH_BYTES_MAX]; /* Bound: unlinked at the end. */
    uint32_t ipc_count;
};

struct front_message {              /* Valid until the next front_recv(). */
    struct request_address address; /* id not filled in. */
    struct wire_bytes frames[WIRE_FRAMES];
    bool malformed; /* Not four frames after the envelope. */
};

/* Binds. 0, or -errno with one line in error that says what to do. */
int front_open(struct front *front, const struct config *config,
               char error[FRONT_ERROR_BYTES_MAX]) MUST_CHECK;
void front_close(struct front *front);

/* Next message of either socket, without waiting. 0 or -EAGAIN. */
int front_recv(struct front *front, struct front_message *message) MUST_CHECK;

/* Sends one message. 0; -EAGAIN: the peer's queue is full; -EHOSTUNREACH: the peer is gone. */
int front_send(struct front *front, const struct request_address *address, uint8_t command,
               struct wire_bytes body) MUST_CHECK;

/* Waits until a socket or one of fds (negative: skipped) is readable, at most timeout_ms.
 * want_clients false: clients' messages do not wake it. */
void front_wait(struct front *front, const int *fds, uint32_t fd_count, bool want_clients,
                uint32_t timeout_ms);

#endif /* AGENT_FRONT_H */
