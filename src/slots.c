/* The end of a slot is seen through a pidfd on the loop: no SIGCHLD handler, so nothing here is in the way of
 * libuv's own child processes. */
#include "slots.h"
#include "deadline.h"
#include "foreign.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLOT_FD = PH_SLOT_FD, DEADLINE_FD = PH_SLOT_DEADLINE_FD, REAP_ROUNDS = 500 };

struct ph_slot {
    ph_slot *next;
    pid_t pid; /* 0 once reaped */
    pid_t id; /* the pid, also after the end */
    unsigned long long since; /* when it was started */
    int pidfd;
    uv_poll_t poll;
    ph_channel *channel;
    ph_deadline *deadline; /* shared with it */
    ph_slot_handlers handlers;
    void *ctx;
    int busy; /* callbacks on the stack */
    bool closed, gone;
};

static ph_slot *all; /* those whose process was started and is not freed yet */

static bool is_slot(pid_t pid) {
    for (const ph_slot *slot = all; slot; slot = slot->next)
        if (slot->pid == pid)
            return true;
    return false;
}

static void forget(ph_slot *slot) {
    for (ph_slot **p = &all; *p; p = &(*p)->next) {
        if (*p == slot) {
            *p = slot->next;
            break;
        }
    }
    free(slot);
}

/* When a process was started, in clock ticks since boot; 0 when there is none. */
static unsigned long long start_time(pid_t pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    unsigned long long time = 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *at = strrchr(text, ')'); /* the end of its name; then the third field follows, this is the 22nd */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at)
        sscanf(at, "%llu", &time);
    return time;
}

/* Whether a child of ours is what a slot has left, one that started at `since`: a slot has a session of its own, so
 * nothing below it is in ours, where what this process has started itself is. */
static bool is_left(pid_t pid, unsigned long long since) {
    return getsid(pid) != getsid(0) && !is_slot(pid) && start_time(pid) >= since;
}

/* Kills and reaps what a dead slot has left to us, its subreaper; not for long: one that the kernel cannot end is left
 * to the next time. */
static void reap_inherited(unsigned long long since) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (int round = 0; round < REAP_ROUNDS; round++) {
        FILE *f = fopen(path, "re");
        int pid, found = 0, alive = 0;
        while (f && fscanf(f, "%d", &pid) == 1) {
            if (!is_left(pid, since))
                continue;
            found++;
            kill(pid, SIGKILL);
            alive += waitpid(pid, NULL, WNOHANG) == 0;
        }
        if (f)
            fclose(f);
        if (!found)
            return; /* a killed one's own children have come to us: look again until nothing is left */
        if (alive)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void on_channel_frame(void *ctx, const ph_frame *frame) {
    ph_slot *slot = ctx;
    if (!slot->closed)
        slot->handlers.on_frame(slot->ctx, frame);
}

/* A slot that sends nonsense is of no use any more. One that has closed its socket is ending; its pidfd tells. */
static void on_channel_end(void *ctx, const char *fault) {
    if (fault)
        ph_slot_signal(ctx, SIGKILL);
}

static void release(ph_slot *slot) {
    if (!slot->gone || slot->busy)
        return;
    ph_deadline_unmap(slot->deadline);
    forget(slot);
}

static void on_exit_ready(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    ph_slot *slot = PH_CONTAINER(poll, ph_slot, poll);
    int wait_status = 0;
    if (!slot->pid || waitpid(slot->pid, &wait_status, WNOHANG) != slot->pid)
        return;
    slot->pid = 0;
    uv_poll_stop(&slot->poll);
    reap_inherited(slot->since);
    slot->busy++;
    ph_channel_drain(slot->channel);
    if (!slot->closed)
        slot->handlers.on_exit(slot->ctx, WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 0,
                               WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0);
    slot->busy--;
    release(slot);
}

/* posix_spawn with the socket as descriptor 3 and the deadline's memory as 4, nothing else inherited but the standard
 * three, no signal blocked. Both are above 4 here: dup2 onto itself would keep close-on-exec, onto the other lose it. */
static int spawn_process(pid_t *pid, int fd, int deadline_fd, const char *script) {
    extern char **environ;
    char parent[16], *argv[] = {(char *)(uintptr_t)ph_exe(), "--slot", parent, (char *)(uintptr_t)script, NULL};
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    for (int s = 1; s < 32; s++)
        if (s != SIGKILL && s != SIGSTOP && s != SIGPIPE)
            sigaddset(&usual, s);
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return rc;
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &usual);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    rc = posix_spawn_file_actions_adddup2(&actions, fd, SLOT_FD);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, deadline_fd, DEADLINE_FD);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(&actions, DEADLINE_FD + 1);
    if (rc == 0)
        rc = posix_spawn(pid, argv[0], &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* Starts the process with its ends of the socket and of the shared memory. Returns 0 or errno. */
static int start_process(ph_slot *slot, int socket, const char *script) {
    int memory;
    slot->deadline = ph_deadline_new(&memory);
    if (!slot->deadline)
        return errno;
    int fds[2] = {fcntl(socket, F_DUPFD_CLOEXEC, DEADLINE_FD + 1), fcntl(memory, F_DUPFD_CLOEXEC, DEADLINE_FD + 1)};
    int rc = fds[0] < 0 || fds[1] < 0 ? errno : spawn_process(&slot->pid, fds[0], fds[1], script);
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    close(memory);
    slot->id = slot->pid;
    slot->since = rc == 0 ? start_time(slot->pid) : 0;
    slot->pidfd = rc == 0 ? (int)syscall(SYS_pidfd_open, slot->pid, 0) : -1;
    return rc == 0 && slot->pidfd < 0 ? errno : rc;
}

static bool start(ph_slot *slot, uv_loop_t *loop, const char *script, ph_error *err) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        snprintf(err->text, sizeof err->text, "cannot make a socket for a slot: %s", strerror(errno));
        return false;
    }
    int rc = start_process(slot, fds[1], script);
    close(fds[1]);
    if (rc != 0) {
        snprintf(err->text, sizeof err->text, "cannot start a slot process: %s", strerror(rc));
        close(fds[0]);
        return false;
    }
    ph_channel_handlers handlers = {on_channel_frame, on_channel_end};
    slot->channel = ph_channel_open(loop, fds[0], handlers, slot, err);
    if (!slot->channel)
        close(fds[0]);
    return slot->channel != NULL;
}

static void on_closed(uv_handle_t *handle) {
    ph_slot *slot = PH_CONTAINER(handle, ph_slot, poll);
    slot->gone = true;
    release(slot);
}

static void kill_and_reap(ph_slot *slot) {
    if (slot->pid <= 0)
        return;
    kill(slot->pid, SIGKILL);
    while (waitpid(slot->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    slot->pid = 0;
    reap_inherited(slot->since);
}

void ph_slots_adopt(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

ph_slot *ph_slot_spawn(uv_loop_t *loop, const char *script, ph_slot_handlers handlers, void *ctx, ph_error *err) {
    ph_slot *slot = calloc(1, sizeof *slot);
    if (!slot) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    slot->next = all;
    all = slot;
    slot->handlers = handlers;
    slot->ctx = ctx;
    slot->pidfd = -1;
    bool started = start(slot, loop, script, err);
    if (started && uv_poll_init(loop, &slot->poll, slot->pidfd) == 0) {
        ph_foreign_mark((uv_handle_t *)&slot->poll);
        uv_poll_start(&slot->poll, UV_READABLE, on_exit_ready);
        return slot;
    }
    if (started)
        snprintf(err->text, sizeof err->text, "cannot watch a slot process");
    kill_and_reap(slot);
    if (slot->pidfd >= 0)
        close(slot->pidfd);
    ph_channel_close(slot->channel);
    ph_deadline_unmap(slot->deadline);
    forget(slot);
    return NULL;
}

int ph_slot_pid(const ph_slot *slot) {
    return (int)slot->id;
}

bool ph_slot_send(ph_slot *slot, char type, const char *head, size_t head_len, const char *body, size_t body_len) {
    return !slot->closed && ph_channel_send(slot->channel, type, head, head_len, body, body_len);
}

void ph_slot_signal(ph_slot *slot, int signal) {
    if (slot->pid > 0)
        kill(slot->pid, signal);
}

bool ph_slot_deadline(const ph_slot *slot, double *at, double *seconds, char *task) {
    return ph_deadline_get(slot->deadline, at, seconds, task);
}

void ph_slot_close(ph_slot *slot) {
    if (!slot || slot->closed)
        return;
    slot->closed = true;
    kill_and_reap(slot);
    ph_channel_close(slot->channel);
    uv_poll_stop(&slot->poll);
    close(slot->pidfd);
    uv_close((uv_handle_t *)&slot->poll, on_closed);
}
