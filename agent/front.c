/*
 * front.c - ZeroMQ behind front.h; besides wire/client.c the only file that includes zmq.h. Used by
 * the core's loop thread; owns the context and the sockets. Invariant: a message leaves whole or
 * not at all, since a ROUTER with ROUTER_MANDATORY refuses at its first frame or takes them all.
 */
#include "agent/front.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zmq.h>

#include "base/log.h"

enum {
    FRONT_PARTS_MAX = 8, /* Envelope and four frames, and a few to tell a long message from it. */
    FRONT_LINGER_MS = 300,
    FRONT_HANDSHAKE_MS = 2000,
    FRONT_HEARTBEAT_MS = 10000, /* ZMTP's own: finds peers that vanished without a word. */
};

struct front_parts {
    zmq_msg_t part[FRONT_PARTS_MAX];
    uint32_t count;
};

static int set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) ? -zmq_errno() : 0;
}

static int set_options(void *socket, const struct config *config)
{
    const int64_t message_bytes_max = config->zmq.message_bytes_max;
    int code = set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
    code = code ? code : set_int(socket, ZMQ_LINGER, FRONT_LINGER_MS);
    code = code ? code : set_int(socket, ZMQ_SNDHWM, (int)config->zmq.send_messages_max);
    code = code ? code : set_int(socket, ZMQ_RCVHWM, (int)config->zmq.recv_messages_max);
    code = code ? code : set_int(socket, ZMQ_HANDSHAKE_IVL, FRONT_HANDSHAKE_MS);
    code = code ? code : set_int(socket, ZMQ_HEARTBEAT_IVL, FRONT_HEARTBEAT_MS);
    if (!code &&
        zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &message_bytes_max, sizeof message_bytes_max)) {
        code = -zmq_errno();
    }
    return code;
}

/* The folder of an ipc path, made where missing; others must not be able to write into it. */
static int prepare_folder(const char *path, char error[FRONT_ERROR_BYTES_MAX])
{
    char folder[LIMIT_PATH_BYTES_MAX];
    struct stat info;
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder) {
        return 0;
    }
    *slash = '\0';
    if (mkdir(folder, 0750) == 0) {
        return 0;
    }
    if (errno != EEXIST || stat(folder, &info)) {
        const int code = -errno;
        (void)snprintf(error, FRONT_ERROR_BYTES_MAX, "cannot create %.120s: %s", folder,
                       strerror(-code));
        return code;
    }
    if (S_ISDIR(info.st_mode) && info.st_mode & S_IWOTH && !(info.st_mode & S_ISVTX)) {
        log_warning("others can write to %s: they can take the socket's place", folder);
    }
    return 0;
}

/* True when somebody listens on a socket file: libzmq itself would replace it silently. */
static bool in_use(void *context, const char *endpoint)
{
    void *probe = zmq_socket(context, ZMQ_DEALER);
    void *monitor = NULL;
    bool used = false;
    if (!probe || zmq_socket_monitor(probe, "inproc://front-probe",
                                     ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CONNECT_RETRIED)) {
        (void)zmq_close(probe);
        return false;
    }
    monitor = zmq_socket(context, ZMQ_PAIR);
    if (monitor && !zmq_connect(monitor, "inproc://front-probe") &&
        !set_int(monitor, ZMQ_RCVTIMEO, 500) && !zmq_connect(probe, endpoint)) {
        uint8_t event[6];
        if (zmq_recv(monitor, event, sizeof event, 0) == (int)sizeof event) {
            uint16_t kind;
            memcpy(&kind, event, sizeof kind);
            used = kind == ZMQ_EVENT_CONNECTED;
        }
    }
    (void)set_int(probe, ZMQ_LINGER, 0);
    (void)zmq_close(monitor);
    (void)zmq_close(probe);
    return used;
}

static int bind_one(struct front *front, void *socket, const char *endpoint, mode_t mode,
                    char error[FRONT_ERROR_BYTES_MAX])
{
    const bool ipc = strncmp(endpoint, "ipc://", 6) == 0;
    const char *path = endpoint + 6;
    if (ipc) {
        const int code = prepare_folder(path, error);
        if (code) {
            return code;
        }
    }
    int code = 0;
    if (ipc && access(path, F_OK) == 0 && in_use(front->context, endpoint)) {
        code = -EADDRINUSE;
    } else if (set_int(socket, ZMQ_IPV6, strchr(endpoint, '[') != NULL) || /* Of this bind. */
               zmq_bind(socket, endpoint)) {
        code = -zmq_errno();
    } else if (ipc && chmod(path, mode)) {
        code = -errno;
    }
    if (ipc && !code) {
        (void)snprintf(front->ipc_path[front->ipc_count++], FRONT_PATH_BYTES_MAX, "%s", path);
    }
    if (code) {
        (void)snprintf(error, FRONT_ERROR_BYTES_MAX,
                       "cannot listen on %.100s: %s (set zmq.bind to another address)", endpoint,
                       zmq_strerror(-code));
    }
    return code;
}

static int bind_all(struct front *front, const struct config *config,
                    char error[FRONT_ERROR_BYTES_MAX])
{
    char admin[LIMIT_PATH_BYTES_MAX] = "";
    (void)snprintf(admin, sizeof admin, "%s", config->admin.bind);
    for (uint32_t i = 0; i < config->zmq.bind_count; i++) {
        const char *endpoint = config->zmq.bind[i];
        const int code = bind_one(front, front->clients, endpoint, 0660, error);
        if (code) {
            return code;
        }
        if (admin[0] == '\0' && strncmp(endpoint, "ipc://", 6) == 0) {
            (void)snprintf(admin, sizeof admin, "%.1000s.admin", endpoint);
        }
    }
    return admin[0] ? bind_one(front, front->admin, admin, 0600, error) : 0;
}

int front_open(struct front *front, const struct config *config, char error[FRONT_ERROR_BYTES_MAX])
{
    *front = (struct front){
        .context = zmq_ctx_new(),
        .parts = calloc(1, sizeof *front->parts),
    };
    must(front->context && front->parts);
    front->clients = zmq_socket(front->context, ZMQ_ROUTER);
    front->admin = zmq_socket(front->context, ZMQ_ROUTER);
    int code = front->clients && front->admin ? 0 : -zmq_errno();
    code = code ? code : set_options(front->clients, config);
    code = code ? code : set_options(front->admin, config);
    if (code) {
        (void)snprintf(error, FRONT_ERROR_BYTES_MAX, "ZeroMQ: %s", zmq_strerror(-code));
    } else {
        code = bind_all(front, config, error);
    }
    if (code) {
        front_close(front);
    }
    return code;
}

static void drop_parts(struct front_parts *parts)
{
    for (uint32_t i = 0; i < parts->count; i++) {
        (void)zmq_msg_close(&parts->part[i]);
    }
    parts->count = 0;
}

void front_close(struct front *front)
{
    if (front->parts) {
        drop_parts(front->parts);
        free(front->parts);
    }
    (void)zmq_close(front->clients);
    (void)zmq_close(front->admin);
    (void)zmq_ctx_term(front->context);
    for (uint32_t i = 0; i < front->ipc_count; i++) {
        (void)unlink(front->ipc_path[i]); /* libzmq leaves the file behind. */
    }
    *front = (struct front){0};
}

/* Reads a whole message; parts past FRONT_PARTS_MAX are read and dropped. Parts read, 0 for none.
 */
static uint32_t read_parts(void *socket, struct front_parts *parts)
{
    uint32_t count = 0;
    int more = 1;
    size_t more_bytes = sizeof more;
    drop_parts(parts);
    while (more) {
        zmq_msg_t part;
        (void)zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0) {
            (void)zmq_msg_close(&part);
            return 0;
        }
        count++;
        if (parts->count < FRONT_PARTS_MAX) {
            (void)zmq_msg_init(&parts->part[parts->count]);
            (void)zmq_msg_move(&parts->part[parts->count++], &part);
        }
        (void)zmq_msg_close(&part);
        must(zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_bytes) == 0);
    }
    return count;
}

static struct wire_bytes bytes_of(zmq_msg_t *part)
{
    return (struct wire_bytes){zmq_msg_data(part), zmq_msg_size(part)};
}

/* [routing id] [empty delimiter of a REQ]? [four frames] */
static void open_envelope(struct front_parts *parts, uint32_t count, struct front_message *message)
{
    const struct wire_bytes routing = bytes_of(&parts->part[0]);
    must(routing.count <= LIMIT_ROUTING_ID_BYTES_MAX);
    memcpy(message->address.routing, routing.bytes, routing.count);
    message->address.routing_bytes = (uint8_t)routing.count;
    const bool delimiter = /* Four frames have none: then the magic is what is empty. */
        count > 1 && count != 1 + WIRE_FRAMES && zmq_msg_size(&parts->part[1]) == 0;
    const uint32_t first = delimiter ? 2 : 1;
    message->address.delimiter = delimiter;
    message->malformed = count != first + WIRE_FRAMES;
    for (uint32_t i = 0; i < WIRE_FRAMES && first + i < parts->count; i++) {
        message->frames[i] = bytes_of(&parts->part[first + i]);
    }
}

int front_recv(struct front *front, struct front_message *message)
{
    *message = (struct front_message){0};
    uint32_t count = read_parts(front->admin, front->parts);
    message->address.admin = count > 0;
    if (count == 0) {
        count = read_parts(front->clients, front->parts);
    }
    if (count == 0) {
        return -EAGAIN;
    }
    open_envelope(front->parts, count, message);
    return 0;
}

int front_send(struct front *front, const struct request_address *address, uint8_t command,
               struct wire_bytes body)
{
    void *socket = address->admin ? front->admin : front->clients;
    uint8_t magic[WIRE_MAGIC_BYTES];
    wire_magic(magic);
    if (zmq_send(socket, address->routing, address->routing_bytes, ZMQ_DONTWAIT | ZMQ_SNDMORE) <
        0) {
        const int code = zmq_errno();
        return code == EHOSTUNREACH ? -EHOSTUNREACH : -EAGAIN;
    }
    const struct wire_bytes frames[] = {
        {(const uint8_t *)"", 0},
        {magic, sizeof magic},
        {&command, 1},
        {address->id.bytes, address->id.count},
        body,
    };
    for (uint32_t i = address->delimiter ? 0 : 1; i < 5; i++) {
        const int more = i < 4 ? ZMQ_SNDMORE : 0;
        if (zmq_send(socket, frames[i].bytes, frames[i].count, ZMQ_DONTWAIT | more) < 0) {
            return -EHOSTUNREACH; /* The peer went away between two frames. */
        }
    }
    return 0;
}

void front_wait(struct front *front, const int *fds, uint32_t fd_count, bool want_clients,
                uint32_t timeout_ms)
{
    zmq_pollitem_t items[FRONT_FDS_MAX + 2];
    int count = 0;
    items[count++] = (zmq_pollitem_t){.socket = front->admin, .events = ZMQ_POLLIN};
    if (want_clients) {
        items[count++] = (zmq_pollitem_t){.socket = front->clients, .events = ZMQ_POLLIN};
    }
    must(fd_count <= FRONT_FDS_MAX);
    for (uint32_t i = 0; i < fd_count; i++) {
        if (fds[i] >= 0) {
            items[count++] = (zmq_pollitem_t){.fd = fds[i], .events = ZMQ_POLLIN};
        }
    }
    (void)zmq_poll(items, count, (long)timeout_ms); /* EINTR: the next turn looks again. */
}
