/*
 * model_error.c - formats the one line that explains a refused model. Called by every reader in
 * model/ on any thread; owns nothing. Invariant: the text is always NUL-terminated and one line.
 */
#include "model/model_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int model_error_set(struct model_error *error, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    for (char *c = error->text; *c; c++) {
        if ((unsigned char)*c < ' ') { /* Names come from the file. */
            *c = '?';
        }
    }
    return code;
}

int model_error_prefix(struct model_error *error, int code, const char *prefix)
{
    const struct model_error inner = *error;
    return model_error_set(error, code, "%.200s: %.300s", prefix, inner.text);
}
