/* Starting a program as a process of its own session. Not posix_spawn: it says which step failed, and lets the child
 * ask for its end when our thread ends.
 * Threads: one thread of the process, the one whose end is to end the children. */
#ifndef PH_SPAWN_H
#define PH_SPAWN_H

#include "host.h"
#include <sys/types.h>

typedef struct ph_program {
    char **argv; /* argv[0] without a slash is looked for in `search` */
    char **envp;
    const char *search; /* folders separated by colons, as PATH; relative ones count from cwd */
    const char *cwd;    /* NULL: ours */
    int fds[3];         /* become 0, 1, 2; 3 or more */
} ph_program;

/* Starts it: session and group of its own, default signals, no descriptor but the three, SIGKILL when the calling
 * thread ends. Returns NULL, or the code of the failure with its text in err. */
const char *ph_spawn(const ph_program *program, pid_t *pid, ph_error *err);

#endif
