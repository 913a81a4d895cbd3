/* What the bench programs share: time, percentiles, options, a NATS connection set up as ours are. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <nats/nats.h>
#include <stddef.h>
#include <stdint.h>

/* Seconds of the monotonic clock. */
double bench_now(void);

/* CPU seconds (user + system) of this process so far, all its threads. */
double bench_cpu(void);

/* Prints the message and ends the process with code 1: a bench that went wrong has no figure. */
_Noreturn void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Ends the process, naming what failed, unless the status is NATS_OK. */
void bench_check(natsStatus s, const char *what);

/* Value of `--name VALUE` among the arguments, or fallback; the integer form ends the process on other text.
 */
const char *bench_option(int argc, char **argv, const char *name, const char *fallback);
long bench_number(int argc, char **argv, const char *name, long fallback);

/* Prints " <name>_p50_us=... <name>_p99_us=... <name>_max_us=..." for n times in seconds; sorts them in
 * place. */
void bench_print_times(const char *name, double *seconds, size_t n);

/* A connection with SendAsap (nats.c otherwise holds publishes back for a millisecond). Owned by the caller.
 */
natsConnection *bench_connect(const char *url, const char *name);

/* Fresh random hex text, 8 characters and the end, so that two bench runs on one server never share ids. */
void bench_random(char out[9]);

#endif
