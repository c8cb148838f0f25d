/*
 * client.c - the tools' side of the wire. Called by sluicectl and sluice-bench on their one thread.
 *
 * libzmq connects in the background and never says that nobody is there, so client_open() looks at
 * an ipc path first and then waits for WELCOME with a deadline. A message is four frames; they stay
 * in the client until the next one is received, and replies borrow from them.
 */
#include "wire/client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zmq.h>

#include "base/clock.h"
#include "base/limits.h"

enum {
    RECV_MESSAGES_MAX = 100000, /* sluice-bench holds thousands of streams on one socket. */
    LINGER_MS = 200,            /* For a CANCEL sent just before the end. */
};

struct client {
    void *context;
    void *socket;
    struct codec *codec;
    uint64_t ids_given;
    struct wire_welcome welcome;
    char version[LIMIT_NAME_BYTES_MAX];
    char model[LIMIT_NAME_BYTES_MAX];
    uint32_t eos_ids[LIMIT_EOS_IDS_MAX];
    zmq_msg_t frames[WIRE_FRAMES];
};

/* The address of an ipc endpoint, or NULL. Abstract ones have no path. */
static const char *ipc_path(const char *endpoint)
{
    static const char scheme[] = "ipc://";

    if (strncmp(endpoint, scheme, sizeof scheme - 1) != 0 || endpoint[sizeof scheme - 1] == '@') {
        return NULL;
    }
    return endpoint + sizeof scheme - 1;
}

static int explain(char error[CLIENT_ERROR_BYTES_MAX], int status, const char *endpoint)
{
    const char *path = ipc_path(endpoint);

    switch (status) {
    case -ETIMEDOUT:
    case -ENOENT:
        (void)snprintf(error, CLIENT_ERROR_BYTES_MAX, "no agent answers at %s: is it running?",
                       endpoint);
        break;
    case -EACCES:
        (void)snprintf(error, CLIENT_ERROR_BYTES_MAX,
                       "no permission to connect to %s: run as a member of its group",
                       path ? path : endpoint);
        break;
    case -EINVAL:
        (void)snprintf(error, CLIENT_ERROR_BYTES_MAX,
                       "%s is no endpoint: want ipc://PATH or tcp://HOST:PORT", endpoint);
        break;
    case -EPROTO:
        (void)snprintf(error, CLIENT_ERROR_BYTES_MAX, "what answers at %s is no Sluice agent",
                       endpoint);
        break;
    default:
        (void)snprintf(error, CLIENT_ERROR_BYTES_MAX, "cannot connect to %s: %s", endpoint,
                       zmq_strerror(-status));
    }
    return status;
}

static int connect_socket(struct client *client, const char *endpoint)
{
    const int linger = LINGER_MS, messages = RECV_MESSAGES_MAX;
    const int64_t bytes = LIMIT_FRAME_BYTES_MAX;
    const int ipv6 = strchr(endpoint, '[') != NULL;
    const char *path = ipc_path(endpoint);

    if (path && access(path, R_OK | W_OK) != 0) {
        return -errno;
    }
    client->context = zmq_ctx_new();
    client->socket = client->context ? zmq_socket(client->context, ZMQ_DEALER) : NULL;
    if (!client->socket ||
        zmq_setsockopt(client->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_setsockopt(client->socket, ZMQ_RCVHWM, &messages, sizeof messages) != 0 ||
        zmq_setsockopt(client->socket, ZMQ_IPV6, &ipv6, sizeof ipv6) != 0 ||
        zmq_setsockopt(client->socket, ZMQ_MAXMSGSIZE, &bytes, sizeof bytes) != 0 ||
        zmq_connect(client->socket, endpoint) != 0) {
        const int status = zmq_errno();
        return status == EPROTONOSUPPORT ? -EINVAL : -status;
    }
    return 0;
}

/* Takes over what WELCOME says; its texts and ids go when the next message comes. */
static int keep_welcome(struct client *client, struct wire_bytes body)
{
    struct wire_welcome *welcome = &client->welcome;

    if (codec_decode_welcome(client->codec, body, welcome) != 0 ||
        welcome->version.count >= sizeof client->version ||
        welcome->model.count >= sizeof client->model || welcome->eos_count > LIMIT_EOS_IDS_MAX) {
        return -EPROTO;
    }
    memcpy(client->version, welcome->version.bytes, welcome->version.count);
    memcpy(client->model, welcome->model.bytes, welcome->model.count);
    memcpy(client->eos_ids, welcome->eos_ids, welcome->eos_count * sizeof client->eos_ids[0]);
    welcome->version.bytes = client->version;
    welcome->model.bytes = client->model;
    welcome->eos_ids = client->eos_ids;
    return 0;
}

static int say_hello(struct client *client, uint32_t timeout_ms)
{
    const struct wire_hello hello = {.minor_max = WIRE_MINOR};
    struct client_reply reply;
    const int status = client_ask(client, WIRE_HELLO, codec_encode_hello(client->codec, &hello),
                                  timeout_ms, &reply);

    if (status != 0) {
        return status == -EAGAIN ? -ETIMEDOUT : status;
    }
    return reply.command == WIRE_WELCOME ? keep_welcome(client, reply.body) : -EPROTO;
}

int client_open(struct client **out, const char *endpoint, uint32_t timeout_ms,
                char error[CLIENT_ERROR_BYTES_MAX])
{
    struct client *client = calloc(1, sizeof *client);
    int status;

    if (!client) {
        return explain(error, -ENOMEM, endpoint);
    }
    for (size_t i = 0; i < WIRE_FRAMES; i++) {
        must(zmq_msg_init(&client->frames[i]) == 0);
    }
    status = codec_open(&client->codec);
    status = status ? status : connect_socket(client, endpoint);
    status = status ? status : say_hello(client, timeout_ms);
    if (status != 0) {
        client_close(client);
        return explain(error, status, endpoint);
    }
    *out = client;
    return 0;
}

void client_close(struct client *client)
{
    if (!client) {
        return;
    }
    for (size_t i = 0; i < WIRE_FRAMES; i++) {
        (void)zmq_msg_close(&client->frames[i]);
    }
    if (client->socket) {
        (void)zmq_close(client->socket);
    }
    if (client->context) {
        (void)zmq_ctx_term(client->context);
    }
    codec_close(client->codec);
    free(client);
}

const struct wire_welcome *client_welcome(const struct client *client)
{
    return &client->welcome;
}

struct codec *client_codec(struct client *client)
{
    return client->codec;
}

struct wire_id client_next_id(struct client *client)
{
    struct wire_id id;
    const int count = snprintf((char *)id.bytes, sizeof id.bytes, "%" PRIu64, ++client->ids_given);

    id.count = (uint8_t)count;
    return id;
}

int client_send(struct client *client, enum wire_command command, const struct wire_id *id,
                struct wire_bytes body)
{
    const uint8_t code = (uint8_t)command;
    uint8_t magic[WIRE_MAGIC_BYTES];

    wire_magic(magic);
    if (zmq_send(client->socket, magic, sizeof magic, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        return -zmq_errno();
    }
    /* Once the first part is in, libzmq takes the rest of the message. */
    if (zmq_send(client->socket, &code, sizeof code, ZMQ_SNDMORE) < 0 ||
        zmq_send(client->socket, id->bytes, id->count, ZMQ_SNDMORE) < 0 ||
        zmq_send(client->socket, body.bytes, body.count, 0) < 0) {
        return -zmq_errno();
    }
    return 0;
}

/* Takes the frames of one message. -EPROTO, with the rest dropped, when they are not four. */
static int receive_frames(struct client *client)
{
    size_t count = 0;
    bool more = true;

    while (more) {
        zmq_msg_t *frame = &client->frames[count < WIRE_FRAMES ? count : WIRE_FRAMES - 1];
        if (zmq_msg_recv(frame, client->socket, ZMQ_DONTWAIT) < 0) {
            return -zmq_errno();
        }
        more = zmq_msg_more(frame);
        count++;
    }
    return count == WIRE_FRAMES ? 0 : -EPROTO;
}

int client_receive(struct client *client, uint32_t timeout_ms, struct client_reply *out)
{
    zmq_pollitem_t item = {.socket = client->socket, .events = ZMQ_POLLIN};
    struct wire_bytes frames[WIRE_FRAMES];
    struct wire_head head;
    int status = receive_frames(client);

    *out = (struct client_reply){0};
    if (status == -EAGAIN) { /* Asked first: under load there is nothing to wait for. */
        const int ready = zmq_poll(&item, 1, (long)timeout_ms);
        if (ready <= 0) {
            return ready < 0 ? -zmq_errno() : -EAGAIN;
        }
        status = receive_frames(client);
    }
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < WIRE_FRAMES; i++) {
        frames[i] =
            (struct wire_bytes){zmq_msg_data(&client->frames[i]), zmq_msg_size(&client->frames[i])};
    }
    if (wire_head_parse(frames, &head) != 0) {
        return -EPROTO;
    }
    *out = (struct client_reply){head.command, head.id, frames[WIRE_FRAMES - 1]};
    return 0;
}

int client_ask(struct client *client, enum wire_command command, struct wire_bytes body,
               uint32_t timeout_ms, struct client_reply *out)
{
    const struct wire_id id = client_next_id(client);
    const uint64_t deadline_us = clock_now_us() + (uint64_t)timeout_ms * 1000;
    int status = client_send(client, command, &id, body);

    while (status == 0) {
        const uint64_t now_us = clock_now_us();
        if (now_us >= deadline_us) {
            return -EAGAIN;
        }
        status = client_receive(client, (uint32_t)((deadline_us - now_us) / 1000 + 1), out);
        if (status == 0 && out->id.count == id.count &&
            memcmp(out->id.bytes, id.bytes, id.count) == 0) {
            return 0;
        }
    }
    return status;
}
