/*
 * accel_cuda_algorithms.c - see accel_cuda_algorithms.h. Called by accel_cuda_product.c on the
 * worker's main thread; owns nothing beside the file. Open addressing over a table that is never
 * more than half full; entries are never removed, so a free slot ends a search.
 *
 *   file: head {magic, tag, records, hash of the records} | struct algorithm [records]
 */
#include "workers/accel_cuda_algorithms.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"

#define FILE_MAGIC 0x326f676c61756c73u /* "slualgo2" */

struct file_head {
    uint64_t magic;
    uint64_t tag;
    uint64_t records;
    uint64_t hash;
};

static uint32_t slot_of(const struct accel_cuda_algorithms *algorithms,
                        const struct algorithm_key *key)
{
    uint32_t at = (uint32_t)(hash_u64(key, sizeof *key) % ALGORITHM_SLOTS);
    while (algorithms->slot[at].key.rows > 0 &&
           memcmp(&algorithms->slot[at].key, key, sizeof *key) != 0) {
        at = (at + 1) % ALGORITHM_SLOTS;
    }
    return at;
}

const struct algorithm *accel_cuda_algorithms_find(const struct accel_cuda_algorithms *algorithms,
                                                   const struct algorithm_key *key)
{
    const struct algorithm *found = &algorithms->slot[slot_of(algorithms, key)];
    return found->key.rows > 0 ? found : NULL;
}

int accel_cuda_algorithms_put(struct accel_cuda_algorithms *algorithms,
                              const struct algorithm *algorithm)
{
    must(algorithm->key.rows > 0);
    struct algorithm *slot = &algorithms->slot[slot_of(algorithms, &algorithm->key)];
    if (slot->key.rows == 0) {
        if (algorithms->count >= ALGORITHM_SLOTS / 2) {
            return -ENOSPC;
        }
        algorithms->count++;
    }
    *slot = *algorithm;
    return 0;
}

/* The folder, which is made where only its last part is missing; empty when none is to be had. */
static void find_folder(char folder[LIMIT_PATH_BYTES_MAX])
{
    const char *service = getenv("CACHE_DIRECTORY");
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int bytes = 0;
    if (service) {
        bytes = snprintf(folder, LIMIT_PATH_BYTES_MAX, "%s", service);
    } else if (cache) {
        bytes = snprintf(folder, LIMIT_PATH_BYTES_MAX, "%s/sluice", cache);
    } else if (home) {
        bytes = snprintf(folder, LIMIT_PATH_BYTES_MAX, "%s/.cache/sluice", home);
    }
    if (bytes <= 0 || bytes >= LIMIT_PATH_BYTES_MAX ||
        (mkdir(folder, S_IRWXU) != 0 && errno != EEXIST)) {
        folder[0] = '\0';
    }
}

/* True when the records are whole, of this tag and all fit. */
static bool read_records(struct accel_cuda_algorithms *algorithms, FILE *file)
{
    struct file_head head;
    if (fread(&head, sizeof head, 1, file) != 1 || head.magic != FILE_MAGIC ||
        head.tag != algorithms->tag || head.records > ALGORITHM_SLOTS / 2) {
        return false;
    }
    const size_t count = (size_t)head.records;
    struct algorithm *records = calloc(count + 1, sizeof *records); /* One more: the end shows. */
    const size_t got = records ? fread(records, sizeof *records, count + 1, file) : 0;
    bool whole = records && got == count && hash_u64(records, count * sizeof *records) == head.hash;
    for (size_t i = 0; i < count && whole; i++) {
        whole = records[i].key.rows > 0 && accel_cuda_algorithms_put(algorithms, &records[i]) == 0;
    }
    free(records);
    return whole;
}

void accel_cuda_algorithms_open(struct accel_cuda_algorithms *algorithms, const char *tag)
{
    char folder[LIMIT_PATH_BYTES_MAX] = "";
    memset(algorithms, 0, sizeof *algorithms);
    algorithms->tag = hash_u64(tag, strlen(tag));
    find_folder(folder);
    const int bytes =
        snprintf(algorithms->path, sizeof algorithms->path, "%s/cublaslt-%016llx.algorithms",
                 folder, (unsigned long long)algorithms->tag);
    if (folder[0] == '\0' || bytes >= (int)sizeof algorithms->path) {
        algorithms->path[0] = '\0';
        return;
    }
    FILE *file = fopen(algorithms->path, "rbe");
    if (!file) {
        return;
    }
    if (!read_records(algorithms, file)) {
        log_warning("%s: damaged or of another format; products are measured again",
                    algorithms->path);
        memset(algorithms->slot, 0, sizeof algorithms->slot);
        algorithms->count = 0;
    }
    (void)fclose(file);
}

static bool write_records(const struct accel_cuda_algorithms *algorithms, FILE *file)
{
    struct algorithm *records = calloc(ALGORITHM_SLOTS / 2, sizeof *records);
    struct file_head head = {.magic = FILE_MAGIC, .tag = algorithms->tag};
    for (uint32_t i = 0; i < ALGORITHM_SLOTS && records; i++) {
        if (algorithms->slot[i].key.rows > 0 && algorithms->slot[i].us > 0) {
            records[head.records++] = algorithms->slot[i];
        }
    }
    bool done = records != NULL;
    if (done) {
        head.hash = hash_u64(records, (size_t)head.records * sizeof *records);
        done = fwrite(&head, sizeof head, 1, file) == 1 &&
               fwrite(records, sizeof *records, (size_t)head.records, file) == head.records;
    }
    free(records);
    return done;
}

int accel_cuda_algorithms_save(const struct accel_cuda_algorithms *algorithms)
{
    char fresh[LIMIT_PATH_BYTES_MAX + 16];
    if (algorithms->path[0] == '\0') {
        return 0;
    }
    (void)snprintf(fresh, sizeof fresh, "%s.%d", algorithms->path, getpid());
    FILE *file = fopen(fresh, "wbe");
    if (!file) {
        return -errno;
    }
    const bool written = write_records(algorithms, file);
    const bool closed = fclose(file) == 0;
    if (!written || !closed || rename(fresh, algorithms->path) != 0) {
        (void)unlink(fresh);
        return -EIO;
    }
    return 0;
}
