/* vfork: the child borrows our memory until it execs, so nothing is copied however big we are. It may only make system
 * calls. What it reports is in a shared page, since ThreadSanitizer makes a fork of vfork. */
#include "spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct report {
    enum { AT_EXEC, AT_CWD } step;
    int error; /* 0: the program runs */
} report;

static volatile report *shared;

/* Tries the program in each folder, as execvp does. Returns the error. */
static int exec_searched(const ph_program *p) {
    const char *name = p->argv[0];
    char path[PATH_MAX];
    int error = ENOENT;
    size_t name_len = strlen(name);
    for (const char *at = p->search; at; at = *at ? at + 1 : NULL) {
        size_t len = strcspn(at, ":");
        if (len + name_len + 2 <= sizeof path) {
            memcpy(path, at, len);
            path[len] = '/'; /* an empty folder is the current one */
            memcpy(path + (len ? len + 1 : 0), name, name_len + 1);
            execve(path, p->argv, p->envp);
            if (errno == EACCES)
                error = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR)
                return errno;
        }
        at += len;
    }
    return error;
}

/* The child, up to exec. Returns only when that fails. */
static void become(const ph_program *p, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        return;
    setsid();
    for (int i = 0; i < 3; i++)
        dup2(p->fds[i], i);
    close_range(3, ~0U, 0);
    struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int s = 1; s < 32; s++) /* no handler of ours may run here, and ignored ones would stay so */
        if (s != SIGKILL && s != SIGSTOP)
            sigaction(s, &usual, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (p->cwd && chdir(p->cwd) != 0) {
        shared->step = AT_CWD;
        shared->error = errno;
        return;
    }
    if (strchr(p->argv[0], '/')) {
        execve(p->argv[0], p->argv, p->envp);
        shared->error = errno;
    } else {
        shared->error = exec_searched(p);
    }
}

static pid_t start(const ph_program *p) {
    pid_t parent = getpid(), pid = vfork();
    if (pid == 0) {
        become(p, parent);
        _exit(127);
    }
    return pid;
}

/* Whether the file is there: then exec's ENOENT was about the interpreter that its first line names. */
static bool is_there(const ph_program *p) {
    char path[PATH_MAX];
    const char *name = p->argv[0];
    snprintf(path, sizeof path, "%s/%s", *name != '/' && p->cwd ? p->cwd : *name == '/' ? "" : ".", name);
    return strchr(name, '/') && access(path, F_OK) == 0;
}

static const char *say_failure(const ph_program *p, ph_error *err) {
    const char *name = p->argv[0], *reason = strerror(shared->error), *code = PH_UNAVAILABLE;
    char text[700];
    if (shared->step == AT_CWD) {
        snprintf(err->text, sizeof err->text, "cannot start '%s' in the folder '%s': %s", name, p->cwd, reason);
        return shared->error == EACCES ? PH_FORBIDDEN : PH_NOT_FOUND;
    }
    switch (shared->error) {
    case ENOENT:
    case ENOTDIR:
        code = PH_NOT_FOUND;
        if (is_there(p))
            reason = "the interpreter that its first line (#!) names does not exist";
        else if (strchr(name, '/') && *name != '/' && p->cwd)
            snprintf(text, sizeof text, "no such file in '%s'", p->cwd), reason = text;
        else if (strchr(name, '/'))
            reason = "no such file";
        else
            snprintf(text, sizeof text, "no such program in PATH (%s)", p->search), reason = text;
        break;
    case EACCES:
        code = PH_FORBIDDEN;
        reason = "it is not executable (chmod +x makes it so)";
        break;
    case ENOEXEC:
        code = PH_INVALID;
        reason = "it is no program; a script begins with a line like #!/bin/sh";
        break;
    case E2BIG:
        code = PH_TOO_LARGE;
        reason = "its arguments and environment are too long; hand large data over on stdin";
        break;
    }
    snprintf(err->text, sizeof err->text, "cannot start '%s': %s", name, reason);
    return code;
}

const char *ph_spawn(const ph_program *program, pid_t *pid, ph_error *err) {
    if (!shared) {
        void *page = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) {
            snprintf(err->text, sizeof err->text, "out of memory");
            return PH_INTERNAL;
        }
        shared = page;
    }
    shared->step = AT_EXEC;
    shared->error = 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *pid = start(program);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (*pid < 0) {
        snprintf(err->text, sizeof err->text, "cannot start '%s': %s", program->argv[0], strerror(error));
        return PH_UNAVAILABLE;
    }
    if (!shared->error)
        return NULL;
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return say_failure(program, err);
}
