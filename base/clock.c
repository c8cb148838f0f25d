/*
 * clock.c - reads CLOCK_MONOTONIC. Called by every process and thread; owns nothing. Pure code
 * (scheduler, KV manager) is handed the time instead of calling this.
 */
#include "base/clock.h"

#include <time.h>

#include "base/must.h"

uint64_t clock_now_ns(void)
{
    struct timespec now;
    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_now_us(void)
{
    return clock_now_ns() / 1000u;
}
