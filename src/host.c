/* Process life: who we are, where our files are, which signals reach which threads. */
#include "host.h"
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char exe_path[PATH_MAX];
static char home_path[PATH_MAX];
static const char *command;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool holds_library(const char *dir) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/lua/pyoco/init.lua", dir);
    return is_file(path);
}

/* PYOCO_HOME if set; else the nearest folder above the program that holds the library: a checkout, or the
 * share folder of an installation, wherever that was moved to. Empty when there is none. */
static void find_self(void) {
    ssize_t n = readlink("/proc/self/exe", exe_path, sizeof exe_path - 1);
    exe_path[n > 0 ? n : 0] = '\0';
    const char *env = getenv("PYOCO_HOME");
    if (env && *env) {
        if (!realpath(env, home_path))
            snprintf(home_path, sizeof home_path, "%s", env);
        return;
    }
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", exe_path);
    for (char *slash = strrchr(dir, '/'); slash; slash = strrchr(dir, '/')) {
        *slash = '\0';
        const char *formats[] = {"%s", "%s/share/pyoco-host"};
        for (int i = 0; i < 2; i++) {
            if (snprintf(home_path, sizeof home_path, formats[i], dir) < (int)sizeof home_path &&
                holds_library(home_path))
                return;
        }
    }
    home_path[0] = '\0';
}

const char *ph_exe(void) {
    pthread_once(&once, find_self);
    return exe_path;
}

const char *ph_home(void) {
    pthread_once(&once, find_self);
    return home_path;
}

void ph_set_command(const char *name) {
    command = name;
}

const char *ph_command(void) {
    return command;
}

bool ph_find_script(const char *name, char *out, size_t n, ph_error *err) {
    snprintf(out, n, "%s", name);
    if (is_file(out))
        return true;
    snprintf(out, n, "%s/lua/%s", ph_home(), name);
    if (name[0] != '/' && is_file(out))
        return true;
    snprintf(err->text, sizeof err->text,
             "script %s not found: looked for ./%s and %s/lua/%s; check the name or set PYOCO_HOME", name,
             name, ph_home(), name);
    return false;
}

void ph_streams_init(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            _exit(1);
}

void ph_signals_init(void) {
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2); /* the interrupt: only a slot's VM thread takes it */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int ph_fail(lua_State *L, const char *code, const char *fmt, ...) {
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushstring(L, code);
    return 3;
}

void ph_class(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *meta) {
    if (luaL_newmetatable(L, name)) {
        luaL_setfuncs(L, meta, 0);
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
}
