/* Becoming a child that never outlives its parent. libuv starts processes but cannot ask for a parent-death signal, and
 * nats-server has none of its own; so up.lua starts its children through this mode of our program. The kernel keeps the
 * request over exec. It counts from the *thread* that spawned us: the parent must spawn from one that lives on. */
#include "child.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int ph_exec_child(int argc, char **argv) {
    if (argc < 3 || atoi(argv[0]) <= 0 || atoi(argv[1]) <= 0) {
        fputs("usage: pyoco-host --exec-child SIGNAL PARENT PROGRAM [ARGUMENTS...]\n", stderr);
        return 1;
    }
    if (prctl(PR_SET_PDEATHSIG, atoi(argv[0])) != 0) {
        fprintf(stderr, "pyoco-host: cannot follow the parent process: %s\n", strerror(errno));
        return 1;
    }
    if (getppid() != atoi(argv[1]))
        return 1; /* it died before we could ask */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    execvp(argv[2], argv + 2);
    char path[256]; /* Debian's nats-server is in /usr/sbin, which is not on every user's PATH */
    if (errno == ENOENT && !strchr(argv[2], '/') &&
        snprintf(path, sizeof path, "/usr/sbin/%s", argv[2]) < (int)sizeof path)
        execv(path, argv + 2);
    int code = errno == ENOENT ? 127 : 126;
    fprintf(stderr, "pyoco-host: cannot start %s: %s\n", argv[2], strerror(errno));
    return code;
}
