/*
 * setting.h - the table of all settings, and how one of them is read from text.
 *
 * A row drives the file, --set, the bounds, the default and the documentation of its key. Used by
 * config.c; everybody else sees struct config.
 */
#ifndef BASE_SETTING_H
#define BASE_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/must.h"

enum {
    SETTINGS_MAX = 64,             /* Rows; for arrays beside the table. */
    SETTING_NAME_BYTES_MAX = 64,   /* "section.key", NUL included. */
    SETTING_FAULT_BYTES_MAX = 160, /* A message about a value. */
};

enum setting_kind {
    SETTING_NUMBER,
    SETTING_TEXT,
    SETTING_CHOICE,    /* Stored as the place of the word. */
    SETTING_ENDPOINT,  /* An ipc:// endpoint, or empty. */
    SETTING_ENDPOINTS, /* The list zmq.bind. */
};

struct setting {
    const char *name; /* "section.key" */
    const char *doc;
    const char *preset;  /* The default, as --set would give it. NULL: required. */
    const char *choices; /* Words between blanks that are allowed; NULL: any. */
    enum setting_kind kind;
    uint32_t min;
    uint32_t max;  /* Of a number; else of the bytes, NUL included. */
    size_t offset; /* In struct config. */
};

/* NULL past the last. The keys of one section stand together. */
const struct setting *setting_at(uint32_t index);

/* The place of the key of this name, or of the section's first key. -1: none. */
int setting_find(const char *name, size_t bytes);
int setting_find_section(const char *name, size_t bytes);

/* Empties a list. Nothing for other kinds. */
void setting_clear(struct config *config, const struct setting *setting);

/* Stores one value; of a list, the next entry. -EINVAL with what is wrong in fault. */
int setting_store(struct config *config, const struct setting *setting, const char *text,
                  char fault[SETTING_FAULT_BYTES_MAX]) MUST_CHECK;

#endif /* BASE_SETTING_H */
