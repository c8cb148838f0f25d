/*
 * control.c - see control.h. Called by the supervisor and its children on their main threads; owns
 * nothing, the sockets are the callers'. Invariant: a message that is handed out has exactly the
 * size of the struct and a NUL inside its text.
 */
#include "ipc/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/packet.h"

enum { CONTROL_CONFIG_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL };

struct control_config { /* What the memfd holds. */
    uint64_t build_id;
    struct config config;
};

int control_send(int socket, const struct control_message *message, int fd)
{
    must(memchr(message->text, '\0', sizeof message->text));
    return packet_send(socket, message, sizeof *message, &fd, fd < 0 ? 0 : 1);
}

int control_recv(int socket, struct control_message *message, int *fd)
{
    struct control_message arrived;
    int fds[PACKET_FDS_MAX];
    int error = packet_recv(socket, &arrived, sizeof arrived, fds);
    if (error == 0 && (fds[1] >= 0 || !memchr(arrived.text, '\0', sizeof arrived.text))) {
        for (uint32_t i = 0; i < PACKET_FDS_MAX; i++) {
            if (fds[i] >= 0) {
                (void)close(fds[i]);
            }
        }
        error = -EBADMSG;
    }
    *fd = error ? -1 : fds[0];
    if (!error) {
        *message = arrived;
    }
    return error;
}

static int control_write_sealed(int fd, const struct config *config)
{
    static const uint64_t build_id = IPC_BUILD_ID;
    if (pwrite(fd, &build_id, sizeof build_id, offsetof(struct control_config, build_id)) !=
            (ssize_t)sizeof build_id ||
        pwrite(fd, config, sizeof *config, offsetof(struct control_config, config)) !=
            (ssize_t)sizeof *config) {
        return errno ? -errno : -EIO;
    }
    return fcntl(fd, F_ADD_SEALS, CONTROL_CONFIG_SEALS) == 0 ? 0 : -errno;
}

int control_config_store(const struct config *config)
{
    const int fd = memfd_create("sluice-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    errno = 0;
    const int error = control_write_sealed(fd, config);
    if (error) {
        (void)close(fd);
        return error;
    }
    return fd;
}

int control_config_fetch(int fd, struct config *config)
{
    struct stat status;
    uint64_t build_id;
    const int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &status) != 0) {
        return -errno;
    }
    if ((seals & CONTROL_CONFIG_SEALS) != CONTROL_CONFIG_SEALS ||
        status.st_size != (off_t)(offsetof(struct control_config, config) + sizeof *config) ||
        pread(fd, &build_id, sizeof build_id, offsetof(struct control_config, build_id)) !=
            (ssize_t)sizeof build_id ||
        build_id != IPC_BUILD_ID) {
        return -EBADMSG;
    }
    /* pread: the offset of the inherited descriptor is shared between all children. */
    if (pread(fd, config, sizeof *config, offsetof(struct control_config, config)) !=
        (ssize_t)sizeof *config) {
        return -EIO;
    }
    return 0;
}
