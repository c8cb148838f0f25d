/* clock.h - the one source of time. Decisions use the monotonic clock; nothing reads wall time. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Microseconds of CLOCK_MONOTONIC: comparable between processes of one boot. */
uint64_t clock_now_us(void);

/* Nanoseconds of the same clock, for measuring. */
uint64_t clock_now_ns(void);

#endif /* BASE_CLOCK_H */
