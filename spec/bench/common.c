/* What the bench programs share; see common.h. */
#include "common.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double bench_cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

_Noreturn void bench_die(const char *fmt, ...) {
    va_list args;
    fflush(stdout);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    _Exit(1); /* other threads are in the middle of their work: no orderly exit */
}

void bench_check(natsStatus s, const char *what) {
    if (s != NATS_OK)
        bench_die("%s: %s (%s)", what, natsStatus_GetText(s), nats_GetLastError(NULL));
}

const char *bench_option(int argc, char **argv, const char *name, const char *fallback) {
    for (int i = 1; i + 1 < argc && strcmp(argv[i], "--") != 0; i++)
        if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, name) == 0)
            return argv[i + 1];
    return fallback;
}

long bench_number(int argc, char **argv, const char *name, long fallback) {
    const char *text = bench_option(argc, argv, name, NULL);
    if (!text)
        return fallback;
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < 0)
        bench_die("--%s wants a number, got '%s'", name, text);
    return value;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_print_times(const char *name, double *seconds, size_t n) {
    if (n == 0)
        return;
    qsort(seconds, n, sizeof *seconds, by_value);
    printf(" %s_p50_us=%.0f %s_p99_us=%.0f %s_max_us=%.0f", name, seconds[n / 2] * 1e6, name,
           seconds[n * 99 / 100] * 1e6, name, seconds[n - 1] * 1e6);
}

natsConnection *bench_connect(const char *url, const char *name) {
    natsConnection *nc = NULL;
    natsOptions *opts = NULL;
    nats_Open(0); /* no spinning on locks: on two cores it takes time from the server (a quarter of the CPU [m]) */
    bench_check(natsOptions_Create(&opts), "options");
    bench_check(natsOptions_SetURL(opts, url), "NATS URL");
    natsOptions_SetName(opts, name);
    natsOptions_SetSendAsap(opts, true);
    bench_check(natsConnection_Connect(&nc, opts), url);
    natsOptions_Destroy(opts);
    return nc;
}

void bench_random(char out[9]) {
    uint32_t value = 0;
    if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value)
        bench_die("no random bytes");
    snprintf(out, 9, "%08x", value);
}
