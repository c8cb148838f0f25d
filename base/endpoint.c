/*
 * endpoint.c - see endpoint.h. Called by setting.c at start; pure. The invariant that matters: no
 * address that another machine can reach passes, because clients are not authenticated yet.
 */
#include "base/endpoint.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

static const char IPC[] = "ipc://";
static const char TCP[] = "tcp://";

enum { ENDPOINT_ADMIN_BYTES = sizeof ".admin" }; /* Added to the first ipc endpoint; config.h. */

const char *endpoint_ipc_fault(const char *text)
{
    if (strncmp(text, IPC, sizeof IPC - 1) != 0) {
        return "must be ipc://PATH";
    }
    const char *path = text + sizeof IPC - 1;
    if (*path == '@' || *path == '*') {
        return "must name a file: other ipc sockets have no permissions";
    }
    if (!*path || path[strlen(path) - 1] == '/') {
        return "must name a file after ipc://";
    }
    if (strlen(path) + ENDPOINT_ADMIN_BYTES > sizeof((struct sockaddr_un){0}.sun_path)) {
        return "has a longer path than a Unix socket takes";
    }
    return NULL;
}

/* An address in brackets is IPv6, and only then: by them the sockets are set up for it. */
static bool endpoint_loopback(const char *host, bool brackets)
{
    struct in_addr four;
    struct in6_addr six;
    if (brackets) {
        return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
    }
    return inet_pton(AF_INET, host, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

/* 1 to 65535 in decimal digits. */
static bool endpoint_port(const char *text)
{
    unsigned port = 0;
    for (; *text >= '0' && *text <= '9' && port <= 65535; text++) {
        port = port * 10 + (unsigned)(*text - '0');
    }
    return !*text && port >= 1 && port <= 65535;
}

static const char *endpoint_tcp_fault(const char *address)
{
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(address, ':');
    if (!colon || !endpoint_port(colon + 1)) {
        return "must end in a port from 1 to 65535";
    }
    size_t bytes = (size_t)(colon - address);
    const bool brackets = bytes >= 2 && address[0] == '[' && address[bytes - 1] == ']';
    if (brackets) {
        address++;
        bytes -= 2;
    }
    if (bytes < sizeof host) {
        memcpy(host, address, bytes);
        host[bytes] = '\0';
        if (endpoint_loopback(host, brackets)) {
            return NULL;
        }
    }
    return "must be a loopback address, such as tcp://127.0.0.1:5555: without CURVE, which this "
           "version does not have, anybody who reaches the port could use it";
}

const char *endpoint_fault(const char *text)
{
    if (strncmp(text, IPC, sizeof IPC - 1) == 0) {
        return endpoint_ipc_fault(text);
    }
    if (strncmp(text, TCP, sizeof TCP - 1) == 0) {
        return endpoint_tcp_fault(text + sizeof TCP - 1);
    }
    return "must begin with ipc:// or tcp://";
}
