/* The two clocks, for all of C; in seconds where the name does not say otherwise. */
#ifndef PH_CLOCKS_H
#define PH_CLOCKS_H

#include <stdint.h>
#include <time.h>

static inline double ph_clock_seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Goes on steadily, whatever is set: for durations and deadlines. */
static inline double ph_monotonic(void) {
    return ph_clock_seconds(CLOCK_MONOTONIC);
}

static inline int64_t ph_monotonic_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Unix seconds of this machine. */
static inline double ph_wall(void) {
    return ph_clock_seconds(CLOCK_REALTIME);
}

/* A time in seconds for the calls that wait until one. */
static inline struct timespec ph_timespec(double seconds) {
    time_t whole = (time_t)seconds;
    return (struct timespec){.tv_sec = whole, .tv_nsec = (long)((seconds - (double)whole) * 1e9)};
}

#endif
