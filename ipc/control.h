/*
 * control.h - messages between the supervisor and its children on a SOCK_SEQPACKET pair.
 *
 * Every child inherits its end as CONTROL_FD and the sealed config as CONTROL_CONFIG_FD. A message
 * is one fixed struct, with at most one file descriptor beside it.
 */
#ifndef IPC_CONTROL_H
#define IPC_CONTROL_H

#include <assert.h>
#include <stdint.h>

#include "base/config.h"
#include "base/must.h"

enum { CONTROL_FD = 3, CONTROL_CONFIG_FD = 4 };

enum control_kind {
    CONTROL_LINK = 1,  /* supervisor -> core, worker; with the socket of their new link. */
    CONTROL_STOP = 2,  /* supervisor -> child: end in an orderly way. */
    CONTROL_READY = 3, /* child -> supervisor: it serves. A worker: its weights are loaded. */
    CONTROL_SUSPECT =
        4, /* core -> supervisor: worker `index` of `epoch` died or hangs: kill, reap. */
    CONTROL_STATUS = 5,   /* core -> supervisor: text for STATUS=. */
    CONTROL_PROGRESS = 6, /* core -> supervisor: the loop turned (watchdog). */
    CONTROL_FAILED = 7,   /* child -> supervisor: text says why it ends; do not restart it
                             before it was ever ready. */
};

enum { CONTROL_TEXT_BYTES = 232 };

struct control_message {
    uint32_t kind;
    uint32_t index; /* Of the worker. */
    uint32_t epoch;
    uint16_t group;
    uint16_t rank;
    uint64_t reserved;
    char text[CONTROL_TEXT_BYTES]; /* NUL-terminated. */
};
static_assert(sizeof(struct control_message) == 256, "one message");

/* Sends without waiting; fd -1: none. 0 or -errno (-EAGAIN: the peer does not read). */
int control_send(int socket, const struct control_message *message, int fd) MUST_CHECK;

/* Receives without waiting. *fd is -1 or a descriptor the caller owns. 0, -EAGAIN, -ECONNRESET when
 * the peer is gone, -EBADMSG. */
int control_recv(int socket, struct control_message *message, int *fd) MUST_CHECK;

/* The config in a sealed memfd, and back. A descriptor or -errno; 0 or -errno. */
int control_config_store(const struct config *config) MUST_CHECK;
int control_config_fetch(int fd, struct config *config) MUST_CHECK;

#endif /* IPC_CONTROL_H */
