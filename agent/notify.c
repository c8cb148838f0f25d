/*
 * notify.c - sd_notify(3); the only file that includes systemd/. Called by the supervisor's main
 * thread; owns nothing. A failed notice is nothing that could be repaired here, so it is dropped.
 */
#include "agent/notify.h"

#include <stddef.h>
#include <stdio.h>

#include <systemd/sd-daemon.h>

enum { NOTIFY_STATUS_BYTES_MAX = 256 };

void notify_ready(void)
{
    (void)sd_notify(0, "READY=1");
}

void notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1\nSTATUS=stopping");
}

void notify_progress(void)
{
    (void)sd_notify(0, "WATCHDOG=1");
}

void notify_status(const char *text)
{
    static const char prefix[] = "STATUS=";
    char line[NOTIFY_STATUS_BYTES_MAX];
    (void)snprintf(line, sizeof line, "%s%s", prefix, text);
    for (char *byte = line; *byte; byte++) {
        if ((unsigned char)*byte < ' ' || *byte == 0x7f) {
            *byte = ' ';
        }
    }
    (void)sd_notify(0, line);
}
