/* model_error.h - one line on what is wrong with a model file, and in which file. */
#ifndef MODEL_MODEL_ERROR_H
#define MODEL_MODEL_ERROR_H

#include "base/must.h"

enum { MODEL_ERROR_BYTES_MAX = 512 };

struct model_error {
    char text[MODEL_ERROR_BYTES_MAX]; /* Names the key or tensor, and both values on a disagreement.
                                       */
};

/* Writes the line and returns code, so that a check and its refusal stand together. */
int model_error_set(struct model_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the line: the file's name, added by whoever knows it. Returns code. */
int model_error_prefix(struct model_error *error, int code, const char *prefix);

#endif /* MODEL_MODEL_ERROR_H */
