/* Preloaded into a process whose wall clock is to be wrong by FAULTS_SKEW seconds. Debian's faketime shifts the waits of
 * pthread_cond_timedwait too, which no wrong clock does to the monotonic one. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(clock, ts);
    const char *skew = getenv("FAULTS_SKEW");
    if (rc == 0 && skew && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        ts->tv_sec += atol(skew);
    return rc;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    (void)zone;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (into)
        *into = ts.tv_sec;
    return ts.tv_sec;
}
