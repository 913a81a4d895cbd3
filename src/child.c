/* Becoming a child that never outlives its parent. libuv starts processes but cannot ask for a parent-death signal, and
 * nats-server has none of its own; so up.lua starts its children through this mode of our program. The kernel keeps the
 * request over exec. It counts from the *thread* that spawned us: the parent must spawn from one that lives on. */
#include "child.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Takes a lock that the program, and what it starts, holds as long as it lives. Returns an exit code, 0 = done. */
static int take_lock(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644); /* kept over exec */
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (fd >= 0 && errno == EWOULDBLOCK)
        return PH_CHILD_LOCKED;
    fprintf(stderr, "pyoco-host: %s: %s\n", path, strerror(errno));
    return 1;
}

int ph_exec_child(int argc, char **argv) {
    const char *lock = argc > 1 && strcmp(argv[0], "--lock") == 0 ? argv[1] : NULL;
    argc -= lock ? 2 : 0;
    argv += lock ? 2 : 0;
    if (argc < 3 || atoi(argv[0]) <= 0 || atoi(argv[1]) <= 0) {
        fputs("usage: pyoco-host --exec-child [--lock FILE] SIGNAL PARENT PROGRAM [ARGUMENTS...]\n", stderr);
        return 1;
    }
    if (prctl(PR_SET_PDEATHSIG, atoi(argv[0])) != 0) {
        fprintf(stderr, "pyoco-host: cannot follow the parent process: %s\n", strerror(errno));
        return 1;
    }
    if (getppid() != atoi(argv[1]))
        return 1; /* it died before we could ask */
    int failed = lock ? take_lock(lock) : 0;
    if (failed)
        return failed;
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
