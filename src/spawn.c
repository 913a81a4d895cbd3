/* vfork: the child borrows our memory until it execs, so nothing is copied however big we are. It may only make system
 * calls. A failure comes through a pipe that exec closes, since ThreadSanitizer makes a fork of vfork. */
#include "spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct report {
    enum { AT_EXEC, AT_CWD } step;
    int error; /* 0: the program runs */
} report;

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
static report become(const ph_program *p, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    setsid();
    for (int i = 0; i < 3; i++)
        dup2(p->fds[i], i);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int s = 1; s < 32; s++) /* no handler of ours may run here, and ignored ones would stay so */
        if (s != SIGKILL && s != SIGSTOP)
            sigaction(s, &usual, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (p->cwd && chdir(p->cwd) != 0)
        return (report){AT_CWD, errno};
    if (!strchr(p->argv[0], '/'))
        return (report){AT_EXEC, exec_searched(p)};
    execve(p->argv[0], p->argv, p->envp);
    return (report){AT_EXEC, errno};
}

static pid_t start(const ph_program *p, int pipe) {
    pid_t parent = getpid(), pid = vfork();
    if (pid == 0) {
        report r = become(p, parent);
        _exit(write(pipe, &r, sizeof r) == sizeof r ? 127 : 126);
    }
    return pid;
}

/* Starts the child; r->error is 0 when the program runs. Returns an errno when there is no child. */
static int start_masked(const ph_program *p, pid_t *pid, report *r) {
    int fds[2];
    sigset_t all, before;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *pid = start(p, fds[1]);
    int error = *pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(fds[1]);
    *r = (report){AT_EXEC, 0};
    while (!error && read(fds[0], r, sizeof *r) < 0 && errno == EINTR)
        ;
    close(fds[0]);
    return error;
}

/* Whether the file is there: then exec's ENOENT was about the interpreter that its first line names. */
static bool is_there(const ph_program *p) {
    char path[PATH_MAX];
    const char *name = p->argv[0];
    snprintf(path, sizeof path, "%s/%s", *name != '/' && p->cwd ? p->cwd : *name == '/' ? "" : ".", name);
    return strchr(name, '/') && access(path, F_OK) == 0;
}

static const char *say_failure(const ph_program *p, const report *r, ph_error *err) {
    const char *name = p->argv[0], *reason = strerror(r->error), *code = PH_UNAVAILABLE;
    char text[700];
    if (r->step == AT_CWD) {
        snprintf(err->text, sizeof err->text, "cannot start '%s' in the folder '%s': %s", name, p->cwd, reason);
        return r->error == EACCES ? PH_FORBIDDEN : PH_NOT_FOUND;
    }
    switch (r->error) {
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
    report r;
    int error = start_masked(program, pid, &r);
    if (error) {
        snprintf(err->text, sizeof err->text, "cannot start '%s': %s", program->argv[0], strerror(error));
        return PH_UNAVAILABLE;
    }
    if (!r.error)
        return NULL;
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return say_failure(program, &r, err);
}
