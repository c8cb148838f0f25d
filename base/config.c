/*
 * config.c - reads the file and --set into struct config through the table of setting.c. Called by
 * the supervisor's main thread at start and by tools; owns nothing. The only file that includes
 * yaml.h.
 *
 * Invariant: a config that config_load() hands out holds every key within its bounds and fulfils
 * every relation of config_relate(), so that nobody else checks a setting again.
 */
#include "base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <yaml.h>

#include "base/setting.h"

enum {
    CONFIG_FILE_BYTES_MAX = 64 << 10, /* Hundreds of lines; bounds the memory of the parser. */
    CONFIG_MESSAGE_BYTES_MAX = 192,   /* Room for the largest fault of setting.c. */
};

struct config_origin { /* Where a value came from; all zero: its default. */
    uint32_t line;
    const char *override;
};

enum config_place { /* What the next event of the file is. */
                    CONFIG_ROOT,
                    CONFIG_SECTION,
                    CONFIG_SECTION_BODY,
                    CONFIG_KEY,
                    CONFIG_VALUE,
                    CONFIG_ITEM,
                    CONFIG_END,
};

struct config_reader {
    struct config *config;
    const char *file;
    char *error;              /* CONFIG_ERROR_BYTES_MAX */
    struct config_origin now; /* What is being read. */
    struct config_origin origins[SETTINGS_MAX];
    bool sections_seen[SETTINGS_MAX]; /* By the place of the section's first key. */
    enum config_place place;
    uint32_t setting;                  /* The key being read. */
    char name[SETTING_NAME_BYTES_MAX]; /* "section" or "section.key" being read. */
    size_t section_bytes;              /* Of name. */
};

struct config_event { /* What we need of a YAML event. Borrowed. */
    yaml_event_type_t type;
    const char *text; /* Of a scalar, NUL-terminated. */
    size_t bytes;
    bool plain; /* A scalar without quotes. */
};

static int config_fail(struct config_reader *reader, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes "FILE:LINE: NAME: message", or "--set KEY=VALUE: message". Always -EINVAL. */
static int config_fail(struct config_reader *reader, const char *name, const char *format, ...)
{
    va_list args;
    char message[CONFIG_MESSAGE_BYTES_MAX];
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    const char *join = name[0] ? ": " : "";
    const size_t room = CONFIG_ERROR_BYTES_MAX;
    if (reader->now.override) {
        (void)snprintf(reader->error, room, "--set %s: %s", reader->now.override, message);
    } else if (reader->now.line > 0) {
        (void)snprintf(reader->error, room, "%s:%u: %s%s%s", reader->file, reader->now.line, name,
                       join, message);
    } else {
        (void)snprintf(reader->error, room, "%s%s%s", name, join, message);
    }
    for (char *byte = reader->error; *byte; byte++) { /* Names come from outside: one line. */
        if ((unsigned char)*byte < ' ' || *byte == 0x7f) {
            *byte = '?';
        }
    }
    return -EINVAL;
}

/* Control bytes would break log lines, and a NUL would hide what follows it. */
static bool config_printable(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static int config_store(struct config_reader *reader, const char *text, size_t bytes)
{
    char fault[SETTING_FAULT_BYTES_MAX];
    const struct setting *setting = setting_at(reader->setting);
    if (!config_printable(text, bytes)) {
        return config_fail(reader, setting->name, "holds a control character");
    }
    if (setting_store(reader->config, setting, text, fault) != 0) {
        return config_fail(reader, setting->name, "%s", fault);
    }
    return 0;
}

/* The next value stored is a new one of this key. */
static void config_begin_value(struct config_reader *reader, uint32_t index)
{
    reader->setting = index;
    reader->origins[index] = reader->now;
    setting_clear(reader->config, setting_at(index));
}

/* What YAML reads as null, a boolean or a number is not text unless it is quoted. */
static bool config_is_text(const char *text)
{
    static const char *const words[] = {"",     "~",    "null",  "Null",  "NULL", "true",
                                        "True", "TRUE", "false", "False", "FALSE"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(text, words[i]) == 0) {
            return false;
        }
    }
    char *end = NULL;
    (void)strtod(text, &end);
    return *end != '\0';
}

static int config_scalar(struct config_reader *reader, const struct config_event *event)
{
    const struct setting *setting = setting_at(reader->setting);
    if (setting->kind == SETTING_NUMBER) {
        if (!event->plain) {
            return config_fail(reader, setting->name, "must be a number, not text");
        }
    } else if (event->plain && !config_is_text(event->text)) {
        return config_fail(reader, setting->name, "must be text; quote it if it is meant");
    }
    return config_store(reader, event->text, event->bytes);
}

/* Puts a key of the root or of a section behind the first `kept` bytes of the name. */
static int config_append_name(struct config_reader *reader, size_t kept,
                              const struct config_event *event)
{
    const size_t room = sizeof reader->name - kept;
    (void)snprintf(reader->name + kept, room, "%s%s", kept > 0 ? "." : "", event->text);
    if (strlen(event->text) != event->bytes || event->bytes + (kept > 0) >= room) {
        return config_fail(reader, reader->name, "there is no such key");
    }
    return 0;
}

static int config_section(struct config_reader *reader, const struct config_event *event)
{
    int error = config_append_name(reader, 0, event);
    if (error) {
        return error;
    }
    reader->section_bytes = event->bytes;
    const int first = setting_find_section(event->text, event->bytes);
    if (first < 0) {
        return config_fail(reader, reader->name, "there is no such section");
    }
    if (reader->sections_seen[first]) {
        return config_fail(reader, reader->name, "stands here a second time");
    }
    reader->sections_seen[first] = true;
    reader->place = CONFIG_SECTION_BODY;
    return 0;
}

static int config_key(struct config_reader *reader, const struct config_event *event)
{
    int error = config_append_name(reader, reader->section_bytes, event);
    if (error) {
        return error;
    }
    const int index = setting_find(reader->name, strlen(reader->name));
    if (index < 0) {
        return config_fail(reader, reader->name, "there is no such key");
    }
    if (reader->origins[index].line > 0) {
        return config_fail(reader, reader->name, "stands here a second time");
    }
    config_begin_value(reader, (uint32_t)index);
    reader->place = CONFIG_VALUE;
    return 0;
}

/* One row a place: what may come there. The nesting is the table's, so depth needs no count. */
static int config_event(struct config_reader *reader, const struct config_event *event)
{
    const bool scalar = event->type == YAML_SCALAR_EVENT;
    switch (reader->place) {
    case CONFIG_ROOT:
        reader->place = CONFIG_SECTION;
        return event->type == YAML_MAPPING_START_EVENT
                   ? 0
                   : config_fail(reader, "", "want sections, such as \"model:\"");
    case CONFIG_SECTION:
        if (event->type == YAML_MAPPING_END_EVENT) {
            reader->place = CONFIG_END;
            return 0;
        }
        return scalar ? config_section(reader, event)
                      : config_fail(reader, "", "want the name of a section");
    case CONFIG_SECTION_BODY:
        reader->place = CONFIG_KEY;
        return event->type == YAML_MAPPING_START_EVENT
                   ? 0
                   : config_fail(reader, reader->name, "must hold keys");
    case CONFIG_KEY:
        if (event->type == YAML_MAPPING_END_EVENT) {
            reader->place = CONFIG_SECTION;
            return 0;
        }
        reader->name[reader->section_bytes] = '\0';
        return scalar ? config_key(reader, event)
                      : config_fail(reader, reader->name, "want the name of a key");
    case CONFIG_VALUE:
        reader->place = CONFIG_KEY;
        if (event->type == YAML_SEQUENCE_START_EVENT &&
            setting_at(reader->setting)->kind == SETTING_ENDPOINTS) {
            reader->place = CONFIG_ITEM;
            return 0;
        }
        return scalar ? config_scalar(reader, event)
                      : config_fail(reader, reader->name, "must be a single value");
    case CONFIG_ITEM:
        if (event->type == YAML_SEQUENCE_END_EVENT) {
            reader->place = CONFIG_KEY;
            return reader->config->zmq.bind_count > 0
                       ? 0
                       : config_fail(reader, reader->name, "must not be empty");
        }
        return scalar ? config_scalar(reader, event)
                      : config_fail(reader, reader->name, "must be a list of single values");
    case CONFIG_END:
        break;
    }
    return config_fail(reader, "", "want one YAML document");
}

/* Anchors could make one line stand for many, and tags could change a type: neither is needed. */
static int config_yaml_event(struct config_reader *reader, const yaml_event_t *yaml)
{
    struct config_event event = {.type = yaml->type};
    const unsigned char *anchor = NULL;
    const unsigned char *tag = NULL;
    reader->now.line = (uint32_t)yaml->start_mark.line + 1;
    switch (yaml->type) {
    case YAML_SCALAR_EVENT:
        anchor = yaml->data.scalar.anchor;
        tag = yaml->data.scalar.tag;
        event.text = (const char *)yaml->data.scalar.value;
        event.bytes = yaml->data.scalar.length;
        event.plain = yaml->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = yaml->data.sequence_start.anchor;
        tag = yaml->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = yaml->data.mapping_start.anchor;
        tag = yaml->data.mapping_start.tag;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        break;
    case YAML_ALIAS_EVENT:
        return config_fail(reader, "", "aliases are not supported");
    default: /* Starts and ends of the stream and its documents. */
        return 0;
    }
    if (anchor || tag) {
        return config_fail(reader, "", "anchors and tags are not supported");
    }
    return config_event(reader, &event);
}

static int config_parse(struct config_reader *reader, const unsigned char *bytes, size_t count)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        return config_fail(reader, "", "out of memory");
    }
    yaml_parser_set_input_string(&parser, bytes, count);
    int error = 0;
    for (bool end = false; !end && !error;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            reader->now.line = (uint32_t)parser.problem_mark.line + 1;
            error = config_fail(reader, "", "not YAML: %s",
                                parser.problem ? parser.problem : "out of memory");
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        error = config_yaml_event(reader, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return error;
}

/* A value is text as it stands; of a list, one entry or a YAML list of them. */
static int config_override(struct config_reader *reader, const char *override)
{
    reader->now = (struct config_origin){.override = override};
    const char *equals = strchr(override, '=');
    if (!equals) {
        return config_fail(reader, "", "want key=value");
    }
    const int index = setting_find(override, (size_t)(equals - override));
    if (index < 0) {
        return config_fail(reader, "", "there is no such key");
    }
    const char *value = equals + 1;
    config_begin_value(reader, (uint32_t)index);
    if (*value == '[' && setting_at(reader->setting)->kind == SETTING_ENDPOINTS) {
        reader->place = CONFIG_VALUE;
        (void)snprintf(reader->name, sizeof reader->name, "%s", setting_at(reader->setting)->name);
        return config_printable(value, strlen(value))
                   ? config_parse(reader, (const unsigned char *)value, strlen(value))
                   : config_fail(reader, reader->name, "holds a control character");
    }
    return config_store(reader, value, strlen(value));
}

/* Reads up to CONFIG_FILE_BYTES_MAX bytes of a regular file into bytes. The count or -errno. */
static ssize_t config_read(const char *path, unsigned char *bytes)
{
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return -errno;
    }
    ssize_t count = 0;
    ssize_t got = 1;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        count = -EINVAL;
    } else if (status.st_size > CONFIG_FILE_BYTES_MAX) {
        count = -EFBIG;
    }
    while (count >= 0 && got > 0 && count < CONFIG_FILE_BYTES_MAX) {
        got = read(fd, bytes + count, (size_t)(CONFIG_FILE_BYTES_MAX - count));
        count = got < 0 ? -errno : count + got;
    }
    (void)close(fd);
    return count;
}

static int config_file(struct config_reader *reader, const char *path)
{
    unsigned char *bytes = malloc(CONFIG_FILE_BYTES_MAX);
    const ssize_t count = bytes ? config_read(path, bytes) : -ENOMEM;
    int error;
    if (count < 0) {
        const char *why = count == -EINVAL  ? "not a regular file"
                          : count == -EFBIG ? "larger than 64 KiB"
                                            : strerror((int)-count);
        reader->now = (struct config_origin){0};
        (void)config_fail(reader, path, "%s", why);
        error = (int)count;
    } else {
        reader->file = path;
        error = config_parse(reader, bytes, (size_t)count);
    }
    free(bytes);
    return error;
}

/* What one key asks of another. The message stands at the key that it names. */
static int config_relate(struct config_reader *reader)
{
    const struct config *config = reader->config;
    const char *name = NULL;
    const char *fault = NULL;
    if (!config->model.path[0]) {
        name = "model.path";
        fault = "is required: set it in the file or with --set model.path=PATH";
    } else if (config->workers.count % config->workers.tp != 0) {
        name = "workers.tp";
        fault = "must divide workers.count";
    } else if (config->batch.slots_max > config->batch.tokens_max) {
        name = "batch.slots_max";
        fault = "must be at most batch.tokens_max: every request takes a token of a step";
    } else {
        return 0;
    }
    reader->now = reader->origins[setting_find(name, strlen(name))];
    return config_fail(reader, name, "%s", fault);
}

int config_load(struct config *config, const char *path, const char *const *overrides,
                uint32_t override_count, char error[CONFIG_ERROR_BYTES_MAX])
{
    struct config_reader reader = {.config = config, .error = error};
    char fault[SETTING_FAULT_BYTES_MAX];
    memset(config, 0, sizeof *config);
    const struct setting *setting = setting_at(0);
    for (uint32_t i = 0; setting; setting = setting_at(++i)) {
        must(!setting->preset || setting_store(config, setting, setting->preset, fault) == 0);
    }
    int status = path ? config_file(&reader, path) : 0;
    for (uint32_t i = 0; i < override_count && !status; i++) {
        status = config_override(&reader, overrides[i]);
    }
    return status ? status : config_relate(&reader);
}

void config_print_keys(FILE *out)
{
    (void)fprintf(out, "| key | value | default | meaning |\n|---|---|---|---|\n");
    const struct setting *setting = setting_at(0);
    for (uint32_t i = 0; setting; setting = setting_at(++i)) {
        (void)fprintf(out, "| `%s` | ", setting->name);
        if (setting->choices) {
            (void)fprintf(out, "one of %s", setting->choices);
        } else if (setting->kind == SETTING_NUMBER) {
            (void)fprintf(out, "%u to %u", setting->min, setting->max);
        } else {
            (void)fprintf(out, "%s", setting->kind == SETTING_ENDPOINTS ? "texts" : "text");
        }
        const char *preset = !setting->preset ? "required" : setting->preset;
        (void)fprintf(out, " | %s | %s |\n", preset[0] ? preset : "empty", setting->doc);
    }
}
