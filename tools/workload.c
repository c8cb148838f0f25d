/*
 * workload.c - reads a file of requests line by line, fits their lengths to the context and keeps
 * them. Called by dataset.c once before a run; owns the items and the ids of their blocks. One line
 * is held at a time, so a trace of any size can be opened for its first requests.
 */
#include "tools/workload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/csv.h"
#include "tools/mooncake.h"

enum {
    LINE_BYTES_MAX = 1 << 16, /* A prompt of 2,048 blocks with ids of 20 digits fits. */
};

struct reader {
    const char *path;
    FILE *file;
    uint64_t line_number;
    enum workload_kind kind;
    uint32_t context_tokens_max;
    bool json;
    struct csv csv;
    uint64_t first_us; /* Arrival of the first usable line. */
    uint64_t last_us;  /* Arrival of the last line. */
    struct workload_line line;
    char text[LINE_BYTES_MAX];
};

/* Puts "FILE:LINE: " before what is wrong. */
static int refuse_line(const struct reader *reader, const char *what,
                       char error[WORKLOAD_ERROR_BYTES_MAX])
{
    (void)snprintf(error, WORKLOAD_ERROR_BYTES_MAX, "%.128s:%" PRIu64 ": %.100s", reader->path,
                   reader->line_number, what);
    return -EBADMSG;
}

/* Some editors begin a file with a byte order mark. */
static void drop_mark(char *text, size_t *count)
{
    static const char mark[] = "\xef\xbb\xbf";
    const size_t bytes = sizeof mark - 1;

    if (*count >= bytes && memcmp(text, mark, bytes) == 0) {
        *count -= bytes;
        memmove(text, text + bytes, *count + 1);
    }
}

/* The next line that is not empty, without its break. 1, 0 at the end, or -EBADMSG, -EIO. */
static int next_line(struct reader *reader, char error[WORKLOAD_ERROR_BYTES_MAX])
{
    size_t count;

    do {
        if (!fgets(reader->text, sizeof reader->text, reader->file)) {
            if (ferror(reader->file)) {
                (void)snprintf(error, WORKLOAD_ERROR_BYTES_MAX, "%.128s: %s", reader->path,
                               strerror(EIO));
                return -EIO;
            }
            return 0;
        }
        reader->line_number++;
        count = strlen(reader->text);
        if ((count == 0 || reader->text[count - 1] != '\n') && !feof(reader->file)) {
            return refuse_line(reader, "the line is too long or holds a NUL byte", error);
        }
        while (count > 0 && strchr("\r\n", reader->text[count - 1])) {
            reader->text[--count] = '\0';
        }
        if (reader->line_number == 1) {
            drop_mark(reader->text, &count);
        }
    } while (count == 0);
    return 1;
}

/* False: the line makes no request. */
static bool fit(const struct reader *reader, const struct workload_line *line, uint32_t *in_tokens,
                uint32_t *out_tokens)
{
    const uint32_t room = reader->context_tokens_max;

    *in_tokens = line->in_tokens;
    *out_tokens = line->out_tokens;
    if (*in_tokens == 0 || *out_tokens == 0) {
        return false;
    }
    if (reader->kind == WORKLOAD_BATCH) {
        if (*in_tokens >= room || *out_tokens >= room) {
            return false;
        }
        *out_tokens = *out_tokens < room - *in_tokens ? *out_tokens : room - *in_tokens;
        return true;
    }
    *out_tokens = *out_tokens < room ? *out_tokens : room - 1;
    *in_tokens = *in_tokens < room - *out_tokens ? *in_tokens : room - *out_tokens;
    return true;
}

/* Room for more elements behind count of them. */
static void *grow(void *items, size_t *room, size_t needed, size_t item_bytes)
{
    if (needed <= *room) {
        return items;
    }
    *room = needed > 2 * *room ? needed : 2 * *room;
    items = realloc(items, *room * item_bytes);
    must(items);
    return items;
}

static void keep_blocks(struct workload *workload, struct workload_item *item,
                        const struct workload_line *line)
{
    item->block_count = (item->in_tokens + WORKLOAD_BLOCK_TOKENS - 1) / WORKLOAD_BLOCK_TOKENS;
    item->block_first = workload->block_count;
    workload->blocks = grow(workload->blocks, &workload->block_room,
                            workload->block_count + item->block_count, sizeof *workload->blocks);
    memcpy(workload->blocks + workload->block_count, line->blocks,
           item->block_count * sizeof *workload->blocks);
    workload->block_count += item->block_count;
}

static void keep(struct workload *workload, struct reader *reader, const struct workload_line *line)
{
    struct workload_item item = {0};

    if (!fit(reader, line, &item.in_tokens, &item.out_tokens)) {
        workload->skipped++;
        return;
    }
    if (workload->count == 0) {
        reader->first_us = line->arrival_us;
    }
    item.arrival_us = line->arrival_us - reader->first_us;
    if (line->block_count > 0) {
        keep_blocks(workload, &item, line);
    }
    if (item.in_tokens != line->in_tokens || item.out_tokens != line->out_tokens) {
        workload->clipped++;
    }
    if (item.in_tokens > workload->in_tokens_max) {
        workload->in_tokens_max = item.in_tokens;
    }
    workload->items =
        grow(workload->items, &workload->room, workload->count + 1, sizeof *workload->items);
    workload->items[workload->count++] = item;
}

static int take_line(struct workload *workload, struct reader *reader,
                     char error[WORKLOAD_ERROR_BYTES_MAX])
{
    char what[WORKLOAD_ERROR_BYTES_MAX];
    const int status = reader->json ? mooncake_read(reader->text, &reader->line, what)
                                    : csv_read(&reader->csv, reader->text, &reader->line, what);

    if (status != 0) {
        return refuse_line(reader, what, error);
    }
    if (reader->line.arrival_us < reader->last_us) {
        return refuse_line(reader, "its time is before that of the line above", error);
    }
    reader->last_us = reader->line.arrival_us;
    keep(workload, reader, &reader->line);
    return 0;
}

/* Looks at the first line: what is it, and is it a request already? 1: yes, 0: no, -EBADMSG. */
static int take_form(struct reader *reader, char error[WORKLOAD_ERROR_BYTES_MAX])
{
    char what[WORKLOAD_ERROR_BYTES_MAX];

    reader->json = reader->kind == WORKLOAD_TRACE && reader->text[0] == '{';
    if (reader->json) {
        return 1;
    }
    if (csv_open(&reader->csv, reader->text, reader->kind == WORKLOAD_TRACE, what) != 0) {
        return refuse_line(reader, what, error);
    }
    return !reader->csv.headed;
}

static int read_all(struct workload *workload, struct reader *reader, size_t items_max,
                    char error[WORKLOAD_ERROR_BYTES_MAX])
{
    int more = next_line(reader, error);
    int status = 0;

    if (more == 1) {
        more = take_form(reader, error);
        if (more == 0) {
            more = next_line(reader, error);
        }
    }
    while (more == 1 && status == 0) {
        status = take_line(workload, reader, error);
        if (workload->count == items_max) {
            break;
        }
        more = status == 0 ? next_line(reader, error) : 0;
    }
    if (more < 0 || status != 0) {
        return more < 0 ? more : status;
    }
    if (workload->count == 0) {
        (void)snprintf(error, WORKLOAD_ERROR_BYTES_MAX, "%.128s: no line of it can be used",
                       reader->path);
        return -ENODATA;
    }
    return 0;
}

int workload_open(struct workload *workload, enum workload_kind kind, const char *path,
                  uint32_t context_tokens_max, size_t items_max,
                  char error[WORKLOAD_ERROR_BYTES_MAX])
{
    struct reader *reader = calloc(1, sizeof *reader);
    int status;

    must(reader && context_tokens_max >= 2 && items_max > 0);
    *workload = (struct workload){0};
    reader->path = path;
    reader->kind = kind;
    reader->context_tokens_max = context_tokens_max;
    reader->file = fopen(path, "re");
    if (!reader->file) {
        status = -errno;
        (void)snprintf(error, WORKLOAD_ERROR_BYTES_MAX, "%.128s: %s", path, strerror(errno));
    } else {
        status = read_all(workload, reader, items_max, error);
        (void)fclose(reader->file);
    }
    free(reader);
    if (status != 0) {
        workload_close(workload);
    }
    return status;
}

void workload_close(struct workload *workload)
{
    free(workload->items);
    free(workload->blocks);
    *workload = (struct workload){0};
}
