/*
 * client_test.c - the tools' client against a server of a few lines: the handshake, who is not
 * there, who is no agent, and replies that belong to others.
 */
#include "wire/client.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

enum { SERVER_WAIT_MS = 2000, PARTS = 1 + WIRE_FRAMES };

enum manner { POLITE, SILENT, RUDE };

/* A ROUTER on a thread. It answers HELLO with WELCOME, PING with a stray PONG and then the right
 * one, STATS with three frames; CANCEL ends it. */
struct server {
    char folder[64];
    char endpoint[128];
    void *context;
    void *socket;
    enum manner manner;
    pthread_t thread;
};

static void reply(struct server *server, char parts[PARTS][256], const int counts[PARTS],
                  struct wire_bytes body)
{
    for (int i = 0; i < PARTS - 1; i++) {
        assert_true(zmq_send(server->socket, parts[i], (size_t)counts[i], ZMQ_SNDMORE) >= 0);
    }
    assert_true(zmq_send(server->socket, body.bytes, body.count, 0) >= 0);
}

static bool serve_one(struct server *server, struct codec *codec)
{
    static const uint32_t eos_ids[] = {2};
    const struct wire_welcome welcome = {.instance = 9,
                                         .version = {"1.2.3", 5},
                                         .model = {"tiny", 4},
                                         .vocab = 512,
                                         .eos_ids = eos_ids,
                                         .eos_count = 1};
    const struct wire_pong pong = {9, 1};
    char parts[PARTS][256];
    int counts[PARTS];
    for (int i = 0; i < PARTS; i++) {
        counts[i] = zmq_recv(server->socket, parts[i], sizeof parts[i], 0);
        if (counts[i] < 0) {
            return false;
        }
    }
    const uint8_t command = (uint8_t)parts[2][0];
    if (server->manner == SILENT) {
        return command != WIRE_CANCEL;
    }
    if (command == WIRE_HELLO) {
        parts[2][0] = (char)(server->manner == RUDE ? WIRE_PONG : WIRE_WELCOME);
        reply(server, parts, counts, codec_encode_welcome(codec, &welcome));
    } else if (command == WIRE_PING) {
        char stray[PARTS][256];
        memcpy(stray, parts, sizeof stray);
        stray[2][0] = parts[2][0] = (char)WIRE_PONG;
        stray[3][0] ^= 1;
        reply(server, stray, counts, codec_encode_pong(codec, &pong));
        reply(server, parts, counts, codec_encode_pong(codec, &pong));
    } else if (command == WIRE_STATS) {
        assert_true(zmq_send(server->socket, parts[0], (size_t)counts[0], ZMQ_SNDMORE) >= 0);
        assert_true(zmq_send(server->socket, "x", 1, ZMQ_SNDMORE) >= 0);
        assert_true(zmq_send(server->socket, "y", 1, 0) >= 0);
    }
    return command != WIRE_CANCEL;
}

static void *serve(void *argument)
{
    struct server *server = argument;
    struct codec *codec;
    assert_int_equal(codec_open(&codec), 0);
    while (serve_one(server, codec)) {
    }
    codec_close(codec);
    return NULL;
}

static void start(struct server *server, enum manner manner)
{
    const int wait_ms = SERVER_WAIT_MS, linger = 0;
    *server = (struct server){.folder = "/tmp/sluice-client-XXXXXX", .manner = manner};
    assert_non_null(mkdtemp(server->folder));
    (void)snprintf(server->endpoint, sizeof server->endpoint, "ipc://%s/s", server->folder);
    server->context = zmq_ctx_new();
    server->socket = zmq_socket(server->context, ZMQ_ROUTER);
    assert_int_equal(zmq_setsockopt(server->socket, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms), 0);
    assert_int_equal(zmq_setsockopt(server->socket, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(zmq_bind(server->socket, server->endpoint), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

/* The client's CANCEL, or its own deadline, ends the thread. */
static void stop(struct server *server)
{
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    (void)zmq_close(server->socket);
    (void)zmq_ctx_term(server->context);
    (void)rmdir(server->folder);
}

static void end_server(struct client *client)
{
    const struct wire_id id = client_next_id(client);
    assert_int_equal(
        client_send(client, WIRE_CANCEL, &id, codec_encode_empty(client_codec(client))), 0);
}

static void says_hello_and_asks(void **state)
{
    (void)state;
    char error[CLIENT_ERROR_BYTES_MAX];
    struct server server;
    struct client *client;
    struct client_reply reply_got;
    struct wire_pong pong;
    start(&server, POLITE);
    assert_int_equal(client_open(&client, server.endpoint, 5000, error), 0);
    assert_int_equal(client_welcome(client)->vocab, 512);
    assert_int_equal(client_welcome(client)->eos_ids[0], 2);
    assert_int_equal(client_welcome(client)->eos_count, 1);
    struct codec *codec = client_codec(client);
    assert_int_equal(client_ask(client, WIRE_PING, codec_encode_empty(codec), 5000, &reply_got), 0);
    assert_int_equal(reply_got.command, WIRE_PONG);
    assert_int_equal(codec_decode_pong(codec, reply_got.body, &pong), 0);
    assert_int_equal(pong.instance, 9);
    assert_memory_equal(client_welcome(client)->model.bytes, "tiny", 4); /* Not of the frame. */
    assert_int_equal(client_receive(client, 0, &reply_got), -EAGAIN);
    end_server(client);
    client_close(client);
    stop(&server);
}

static void drops_what_is_not_of_the_protocol(void **state)
{
    (void)state;
    char error[CLIENT_ERROR_BYTES_MAX];
    struct server server;
    struct client *client;
    struct client_reply reply_got;
    start(&server, POLITE);
    assert_int_equal(client_open(&client, server.endpoint, 5000, error), 0);
    struct codec *codec = client_codec(client);
    assert_int_equal(client_ask(client, WIRE_STATS, codec_encode_empty(codec), 5000, &reply_got),
                     -EPROTO);
    assert_int_equal(client_ask(client, WIRE_PING, codec_encode_empty(codec), 5000, &reply_got), 0);
    end_server(client);
    client_close(client);
    stop(&server);
}

static void gives_up_on_the_silent(void **state)
{
    (void)state;
    char error[CLIENT_ERROR_BYTES_MAX];
    struct server server;
    struct client *client;
    start(&server, SILENT);
    assert_int_equal(client_open(&client, server.endpoint, 50, error), -ETIMEDOUT);
    assert_non_null(strstr(error, server.endpoint));
    assert_non_null(strstr(error, "is it running?"));
    stop(&server);
}

static void knows_who_is_no_agent(void **state)
{
    (void)state;
    char error[CLIENT_ERROR_BYTES_MAX];
    struct server server;
    struct client *client;
    start(&server, RUDE);
    assert_int_equal(client_open(&client, server.endpoint, 5000, error), -EPROTO);
    assert_non_null(strstr(error, "no Sluice agent"));
    stop(&server);
}

static void says_what_is_wrong_with_an_endpoint(void **state)
{
    (void)state;
    char error[CLIENT_ERROR_BYTES_MAX];
    struct client *client;
    assert_int_equal(client_open(&client, "ipc:///nowhere/at/all", 5000, error), -ENOENT);
    assert_string_equal(error, "no agent answers at ipc:///nowhere/at/all: is it running?");
    assert_int_equal(client_open(&client, "what", 50, error), -EINVAL);
    assert_non_null(strstr(error, "ipc://PATH"));
    assert_int_equal(client_open(&client, "carrier://pigeon", 50, error), -EINVAL);
    if (geteuid() != 0) {
        assert_int_equal(client_open(&client, "ipc:///etc/passwd", 50, error), -EACCES);
        assert_non_null(strstr(error, "permission"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_hello_and_asks),
        cmocka_unit_test(drops_what_is_not_of_the_protocol),
        cmocka_unit_test(gives_up_on_the_silent),
        cmocka_unit_test(knows_who_is_no_agent),
        cmocka_unit_test(says_what_is_wrong_with_an_endpoint),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
