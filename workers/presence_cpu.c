/*
 * presence_cpu.c - see presence.h, in sluice-worker-cpu: its device is where it runs. Called by
 * main.c on the main thread; owns nothing.
 */
#include <stdio.h>
#include <unistd.h>

#include "workers/presence.h"

int presence_check(char text[PRESENCE_TEXT_BYTES])
{
    (void)snprintf(text, PRESENCE_TEXT_BYTES, "CPU, %ld cores online",
                   sysconf(_SC_NPROCESSORS_ONLN));
    return 0;
}
