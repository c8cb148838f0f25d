/*
 * client.h - a small synchronous client of protocol v1 for the tools: one DEALER socket, one
 * thread, any number of requests told apart by their ids.
 */
#ifndef WIRE_CLIENT_H
#define WIRE_CLIENT_H

#include <stdint.h>

#include "base/must.h"
#include "wire/codec.h"
#include "wire/frame.h"
#include "wire/message.h"

enum { CLIENT_ERROR_BYTES_MAX = 512 };

struct client;

/* One message of the server. id and body are valid until the next client_receive(). */
struct client_reply {
    uint8_t command; /* enum wire_command, 129 and above. */
    struct wire_id id;
    struct wire_bytes body;
};

/*
 * Connects, says HELLO and waits at most timeout_ms for WELCOME. -ETIMEDOUT where nobody answers,
 * -errno or -EPROTO; error is then one line for a person, the endpoint in it.
 */
int client_open(struct client **out, const char *endpoint, uint32_t timeout_ms,
                char error[CLIENT_ERROR_BYTES_MAX]) MUST_CHECK;
void client_close(struct client *client); /* NULL is allowed. */

/* What the server said of itself; lives as long as the client. */
const struct wire_welcome *client_welcome(const struct client *client);

/* For encoding what is sent and decoding what was received. */
struct codec *client_codec(struct client *client);

/* An id of this client that no other request of it has. */
struct wire_id client_next_id(struct client *client);

/* Sends one command. -EAGAIN when the socket's queue is full, else -errno. */
int client_send(struct client *client, enum wire_command command, const struct wire_id *id,
                struct wire_bytes body) MUST_CHECK;

/* The next message, in at most timeout_ms. -EAGAIN: none came. -EINTR: a signal came first.
 * -EPROTO: a message that is not of protocol v1 came, and was dropped. */
int client_receive(struct client *client, uint32_t timeout_ms, struct client_reply *out) MUST_CHECK;

/* Sends one command under a new id and waits for the reply to it; other messages are dropped. An
 * ERROR is a reply. -EAGAIN: none came in timeout_ms. */
int client_ask(struct client *client, enum wire_command command, struct wire_bytes body,
               uint32_t timeout_ms, struct client_reply *out) MUST_CHECK;

#endif /* WIRE_CLIENT_H */
