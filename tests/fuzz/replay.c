/*
 * replay.c - runs a fuzz target over every file of the folders given, so that a corpus is a normal
 * test in any build. Linked instead of libFuzzer; fails when a folder holds no file.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    uint8_t *bytes = NULL;
    size_t count = 0;
    for (size_t got = 1; got > 0;) {
        uint8_t *grown = realloc(bytes, count + 65536);
        if (!grown) {
            abort();
        }
        bytes = grown;
        got = fread(bytes + count, 1, 65536, file);
        count += got;
    }
    (void)fclose(file);
    (void)LLVMFuzzerTestOneInput(bytes, count);
    free(bytes);
    return 0;
}

static int replay_folder(const char *folder, size_t *files)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        perror(folder);
        return 1;
    }
    int failures = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        char path[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        failures += replay_file(path);
        (*files)++;
    }
    (void)closedir(dir);
    return failures;
}

int main(int argc, char **argv)
{
    size_t files = 0;
    int failures = 0;
    for (int i = 1; i < argc; i++) {
        failures += replay_folder(argv[i], &files);
    }
    printf("%zu inputs replayed\n", files);
    return failures || files == 0;
}
