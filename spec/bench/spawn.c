/* The floor of ctx:exec: posix_spawn of a program and waitpid, one after the other.
 *
 * usage: spawn [--times N] [--program PATH]
 * prints one line of name=value. */
#include "common.h"
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
    extern char **environ;
    long n = bench_number(argc, argv, "times", 500);
    const char *program = bench_option(argc, argv, "program", "/bin/true");
    double *took = n > 0 ? calloc((size_t)n, sizeof *took) : NULL;
    if (!took)
        bench_die("nothing to do: --times %ld", n);
    for (long i = 0; i < n; i++) {
        char *args[] = {(char *)(uintptr_t)program, NULL};
        pid_t pid;
        int status;
        double start = bench_now();
        int rc = posix_spawn(&pid, program, NULL, NULL, args, environ);
        if (rc != 0)
            bench_die("%s: %s", program, strerror(rc));
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        took[i] = bench_now() - start;
    }
    printf("times=%ld", n);
    bench_print_times("spawn", took, (size_t)n);
    putchar('\n');
    free(took);
    return 0;
}
