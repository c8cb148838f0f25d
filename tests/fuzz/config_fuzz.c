/*
 * config_fuzz.c - files of any bytes: a config that loads is within its bounds, one that does not
 * says why in one line.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/config.h"
#include "base/must.h"

static void fuzz_loaded(const struct config *config)
{
    must(config->model.path[0] && strlen(config->model.path) < LIMIT_PATH_BYTES_MAX);
    must(config->zmq.bind_count >= 1 && config->zmq.bind_count <= LIMIT_BINDS_MAX);
    must(config->workers.count >= 1 && config->workers.count <= LIMIT_WORKERS_MAX);
    must(config->workers.count % config->workers.tp == 0);
    must(config->batch.slots_max <= config->batch.tokens_max);
    must(config->kv.page_tokens == 16 || config->kv.page_tokens == 32 ||
         config->kv.page_tokens == 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct config config;
    char error[CONFIG_ERROR_BYTES_MAX] = "";
    char path[32];
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, bytes, count) == (ssize_t)count);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (config_load(&config, path, NULL, 0, error) == 0) {
        fuzz_loaded(&config);
    } else {
        must(error[0] && !strchr(error, '\n') && strlen(error) < sizeof error);
    }
    must(close(fd) == 0);
    return 0;
}
