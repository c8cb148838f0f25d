/*
 * log.h - one line on stderr, journald priority prefix included when stderr is the journal.
 * Stateless: no level to set, nothing to open. Prompts, answers and keys are never logged.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#define LOG_PRINTF __attribute__((format(printf, 1, 2)))

void log_error(const char *format, ...) LOG_PRINTF;
void log_warning(const char *format, ...) LOG_PRINTF;
void log_info(const char *format, ...) LOG_PRINTF;

#endif /* BASE_LOG_H */
