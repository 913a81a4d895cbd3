/* host.process: child processes of a run. Over src/spawn.c.
 *   spawn(argv, env, search [, cwd [, stdin]]) -> child | nil, message, code
 *       argv: list; env: list of NAME=text; search: folders for a program without a slash, as PATH; stdin: its whole
 *       text, else it reads nothing. No string may hold NUL. The child leads a session and a group of its own.
 *   child:pid() -> integer
 *   child:descriptors() -> end, out, err   to poll for reading; `end` is readable when the process has ended
 *   child:read(which) -> text, whole   which: 1 stdout, 2 stderr. What is there, at most 64 KB, "" when nothing is;
 *       nil at the end. whole: how many bytes of it stand before and with the last newline or carriage return
 *   child:signal(number)         to its group; nothing once it is reaped
 *   child:reap([rest]) -> code, signal   once it has ended: one of both is nil; nothing before. rest: its group is killed
 *   child:close()   kills the group of one that was not reaped, reaps it, closes its descriptors: poll them no more
 *   children([keep]) -> list     pids of our children that are not keys of `keep`
 *   sweep(keep, kill) -> number  kill: kills and reaps those children, with what they leave to us, round by round until
 *       none is left, for at most two seconds, and returns how many are alive. Else reaps dead ones only, and not those
 *       of our own session: whoever started them waits for them
 *   subreaper(on) -> boolean     whether processes that lose their parent below us become our children; what it was
 * Ownership: a child ends with its userdata. Threads: the process's main thread, whose end ends the children. */
#include "host.h"
#include "spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILD "host.process.child"

int luaopen_host_process(lua_State *L);

enum { READ_BYTES = 65536, SWEEP_MS = 2000 };

typedef struct child {
    pid_t pid; /* 0 once reaped */
    int end;   /* pidfd */
    int out[2]; /* our ends of its stdout and stderr */
} child;

/* --- start --- */

/* Moves a descriptor out of the way of the standard three. */
static int above_standard(int fd) {
    if (fd < 0 || fd > 2)
        return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    close(fd);
    return moved;
}

static int open_stdin(const char *text, size_t len) {
    if (!text)
        return above_standard(open("/dev/null", O_RDONLY | O_CLOEXEC));
    int fd = memfd_create("stdin", MFD_CLOEXEC);
    for (size_t done = 0; fd >= 0 && done < len;) {
        ssize_t n = write(fd, text + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            close(fd);
            return -1;
        }
        done += (size_t)n;
    }
    if (fd >= 0)
        lseek(fd, 0, SEEK_SET);
    return above_standard(fd);
}

/* A pipe; our end, for reading, does not block. */
static bool open_pipe(int *ours, int *theirs) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    *ours = above_standard(fds[0]);
    *theirs = above_standard(fds[1]);
    return *ours >= 0 && *theirs >= 0 && fcntl(*ours, F_SETFL, O_NONBLOCK) == 0;
}

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The strings of the list at `arg`, as an array that ends with NULL, in a userdata on top of the stack. They live as long
 * as the list. */
static char **push_strings(lua_State *L, int arg) {
    luaL_checktype(L, arg, LUA_TTABLE);
    size_t n = lua_rawlen(L, arg);
    char **list = lua_newuserdatauv(L, (n + 1) * sizeof *list, 0);
    for (size_t i = 0; i < n; i++) {
        size_t len;
        lua_rawgeti(L, arg, (lua_Integer)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_argerror(L, arg, "a list of strings expected");
        list[i] = (char *)(uintptr_t)lua_tolstring(L, -1, &len);
        if (strlen(list[i]) != len)
            luaL_argerror(L, arg, "a string holds NUL");
        lua_pop(L, 1);
    }
    list[n] = NULL;
    return list;
}

static const char *start(child *c, ph_program *p, const char *text, size_t text_len, ph_error *err) {
    p->fds[0] = open_stdin(text, text_len);
    const char *code = NULL;
    if (p->fds[0] < 0 || !open_pipe(&c->out[0], &p->fds[1]) || !open_pipe(&c->out[1], &p->fds[2])) {
        snprintf(err->text, sizeof err->text, "cannot start '%s': %s", p->argv[0], strerror(errno));
        code = PH_UNAVAILABLE;
    } else {
        pid_t pid;
        code = ph_spawn(p, &pid, err);
        if (!code)
            c->pid = pid;
    }
    for (int i = 0; i < 3; i++)
        close_fd(&p->fds[i]);
    if (code)
        return code;
    c->end = (int)syscall(SYS_pidfd_open, c->pid, 0); /* close-on-exec by itself */
    if (c->end < 0) {
        snprintf(err->text, sizeof err->text, "cannot watch '%s': %s", p->argv[0], strerror(errno));
        return PH_UNAVAILABLE;
    }
    return NULL;
}

static void end_child(child *c) {
    if (c->pid > 0) {
        kill(-c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        c->pid = 0;
    }
    close_fd(&c->end);
    close_fd(&c->out[0]);
    close_fd(&c->out[1]);
}

static int l_process_spawn(lua_State *L) {
    size_t text_len = 0;
    lua_settop(L, 5);
    ph_program program = {.search = luaL_checkstring(L, 3), .cwd = luaL_optstring(L, 4, NULL), .fds = {-1, -1, -1}};
    const char *text = luaL_optlstring(L, 5, NULL, &text_len);
    program.argv = push_strings(L, 1);
    luaL_argcheck(L, program.argv[0] && *program.argv[0], 1, "a program expected");
    program.envp = push_strings(L, 2);
    child *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (child){.end = -1, .out = {-1, -1}};
    luaL_setmetatable(L, CHILD);
    ph_error err = {0};
    const char *code = start(c, &program, text, text_len, &err);
    if (!code)
        return 1;
    end_child(c);
    return ph_fail(L, code, "%s", err.text);
}

/* --- a child --- */

static child *check_child(lua_State *L) {
    return luaL_checkudata(L, 1, CHILD);
}

static int l_child_pid(lua_State *L) {
    lua_pushinteger(L, check_child(L)->pid);
    return 1;
}

static int l_child_descriptors(lua_State *L) {
    child *c = check_child(L);
    lua_pushinteger(L, c->end);
    lua_pushinteger(L, c->out[0]);
    lua_pushinteger(L, c->out[1]);
    return 3;
}

static int l_child_read(lua_State *L) {
    child *c = check_child(L);
    lua_Integer which = luaL_checkinteger(L, 2);
    luaL_argcheck(L, which == 1 || which == 2, 2, "1 or 2 expected");
    char buffer[READ_BYTES];
    ssize_t n;
    do
        n = read(c->out[which - 1], buffer, sizeof buffer);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        n = 0;
    else if (n <= 0)
        return 0;
    const char *line = memrchr(buffer, '\n', (size_t)n), *rest = line ? line + 1 : buffer;
    const char *back = memrchr(rest, '\r', (size_t)(buffer + n - rest));
    lua_pushlstring(L, buffer, (size_t)n);
    lua_pushinteger(L, (back ? back + 1 : rest) - buffer);
    return 2;
}

static int l_child_signal(lua_State *L) {
    child *c = check_child(L);
    int number = (int)luaL_checkinteger(L, 2);
    if (c->pid > 0)
        kill(-c->pid, number);
    return 0;
}

static int l_child_reap(lua_State *L) {
    child *c = check_child(L);
    siginfo_t info = {0};
    int status = 0;
    if (c->pid <= 0 || waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
        return 0;
    if (lua_toboolean(L, 2)) /* while the dead leader still holds the group's number */
        kill(-c->pid, SIGKILL);
    waitpid(c->pid, &status, 0);
    c->pid = 0;
    if (WIFSIGNALED(status)) {
        lua_pushnil(L);
        lua_pushinteger(L, WTERMSIG(status));
        return 2;
    }
    lua_pushinteger(L, WEXITSTATUS(status));
    return 1;
}

static int l_child_close(lua_State *L) {
    end_child(check_child(L));
    return 0;
}

static int l_child_tostring(lua_State *L) {
    lua_pushfstring(L, CHILD " (pid %d)", (int)check_child(L)->pid);
    return 1;
}

/* --- all of them --- */

/* Pushes the list of our main thread's children: those that we have started and those that came to us. */
static void push_children(lua_State *L) {
    char path[64];
    lua_newtable(L);
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    int pid;
    for (lua_Integer n = 1; f && fscanf(f, "%d", &pid) == 1; n++) {
        lua_pushinteger(L, pid);
        lua_rawseti(L, -2, n);
    }
    if (f)
        fclose(f);
}

/* Pushes the list without the keys of the table at `keep`, if there is one. */
static void push_others(lua_State *L, int keep) {
    lua_newtable(L);
    push_children(L);
    lua_Integer found = 0;
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
        bool is_kept = false;
        if (lua_istable(L, keep)) {
            lua_pushvalue(L, -1);
            is_kept = lua_rawget(L, keep) != LUA_TNIL;
            lua_pop(L, 1);
        }
        if (is_kept)
            lua_pop(L, 1);
        else
            lua_rawseti(L, -3, ++found);
    }
    lua_pop(L, 2);
}

static int l_process_children(lua_State *L) {
    lua_settop(L, 1);
    push_others(L, 1);
    return 1;
}

/* Kills (or not) and reaps those of the list on top, which is popped. Returns how many live on. */
static int end_listed(lua_State *L, bool kill_them) {
    int alive = 0;
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
        pid_t pid = (pid_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
        if (kill_them)
            kill(pid, SIGKILL);
        else if (getsid(pid) == getsid(0))
            continue;
        alive += waitpid(pid, NULL, WNOHANG) == 0;
    }
    lua_pop(L, 2);
    return alive;
}

static int l_process_sweep(lua_State *L) {
    bool kill_them = lua_toboolean(L, 2);
    int alive = 0;
    siginfo_t info = {0};
    lua_settop(L, 1);
    if (!kill_them && (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0))
        return 0; /* as nearly always */
    for (int round = 0; round < SWEEP_MS; round++) {
        push_others(L, 1);
        size_t count = lua_rawlen(L, -1);
        alive = end_listed(L, kill_them);
        if (!kill_them || count == 0)
            break;
        if (alive > 0) /* the kernel needs a moment to end them */
            nanosleep(&(struct timespec){.tv_nsec = round < 20 ? 50000 : 1000000}, NULL);
    }
    lua_pushinteger(L, alive);
    return 1;
}

static int l_process_subreaper(lua_State *L) {
    int was = 0;
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    prctl(PR_GET_CHILD_SUBREAPER, &was);
    prctl(PR_SET_CHILD_SUBREAPER, lua_toboolean(L, 1));
    lua_pushboolean(L, was);
    return 1;
}

static const luaL_Reg functions[] = {
    {"spawn", l_process_spawn},
    {"children", l_process_children},
    {"sweep", l_process_sweep},
    {"subreaper", l_process_subreaper},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"pid", l_child_pid},       {"descriptors", l_child_descriptors},
    {"read", l_child_read},     {"signal", l_child_signal},
    {"reap", l_child_reap},     {"close", l_child_close},
    {"__gc", l_child_close},    {"__tostring", l_child_tostring},
    {NULL, NULL},
};

int luaopen_host_process(lua_State *L) {
    if (luaL_newmetatable(L, CHILD)) {
        luaL_setfuncs(L, methods, 0);
        lua_pushvalue(L, -1);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
