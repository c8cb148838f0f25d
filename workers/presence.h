/*
 * presence.h - whether the device of this program is there. main.c asks before anything else, so
 * that `--probe` and a start without the device cost milliseconds; each worker program links the
 * one presence_*.c of its device.
 */
#ifndef WORKERS_PRESENCE_H
#define WORKERS_PRESENCE_H

#include "base/must.h"

enum { PRESENCE_TEXT_BYTES = 200, PRESENCE_EXIT_ABSENT = 3 };

/* One line in text: the device, or why there is none. 0, -ENODEV, or -ENOTSUP for a device that
 * this build cannot use. */
int presence_check(char text[PRESENCE_TEXT_BYTES]) MUST_CHECK;

#endif /* WORKERS_PRESENCE_H */
