/*
 * log.c - formats one line and writes it with one write(2), so that lines of several processes do
 * not mix. Called by every process on any thread; owns nothing. Longer lines are cut.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOG_LINE_BYTES_MAX = 1024 };

static void log_line(int priority, const char *word, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

static void log_line(int priority, const char *word, const char *format, va_list args)
{
    char line[LOG_LINE_BYTES_MAX];
    int used = getenv("JOURNAL_STREAM")
                   ? snprintf(line, sizeof line, "<%d>", priority)
                   : snprintf(line, sizeof line, "%s[%d] %s: ", program_invocation_short_name,
                              (int)getpid(), word);
    if (used < 0 || (size_t)used >= sizeof line - 1) {
        return;
    }
    int body = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
    if (body < 0) {
        return;
    }
    size_t bytes = (size_t)used + (size_t)body;
    if (bytes > sizeof line - 2) {
        bytes = sizeof line - 2;
    }
    line[bytes] = '\n';
    ssize_t written = write(STDERR_FILENO, line, bytes + 1);
    (void)written; /* There is nobody left to tell. */
}

void log_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line(3, "error", format, args);
    va_end(args);
}

void log_warning(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line(4, "warning", format, args);
    va_end(args);
}

void log_info(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line(6, "info", format, args);
    va_end(args);
}
