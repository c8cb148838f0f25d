/*
 * notify.h - what the service manager is told. Without one (NOTIFY_SOCKET unset) every call does
 * nothing. Supervisor only.
 */
#ifndef AGENT_NOTIFY_H
#define AGENT_NOTIFY_H

void notify_ready(void);
void notify_stopping(void);
void notify_progress(void); /* Feeds the watchdog. */

/* One line for `systemctl status`. Control characters, which could start another assignment, are
 * replaced: the text comes from the process that talks to clients. */
void notify_status(const char *text);

#endif /* AGENT_NOTIFY_H */
