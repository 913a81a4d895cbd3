/* host: facts about this process and VM.
 *   host.version, host.role, host.exe, host.home, host.script   strings
 *   host.command                 "pyoco-client": the short name that the user called; false for pyoco-host
 *   host.boot() -> string|nil    what the parent VM handed over
 *   host.memory() -> integer     bytes in use by this VM
 *   host.find_script(name) -> path | nil, message, "not_found"
 *   host.lock(path) -> lock | nil, message, "conflict" | "internal"   the file is made when it is missing; the lock is
 *        held until lock:close() or the end of the process, however it comes; child processes do not inherit it
 * Threads: the VM's own. */
#include "host.h"
#include "vm.h"
#include "preload.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK "host.lock"

int luaopen_host(lua_State *L);

static int l_host_boot(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, "host.boot");
    return 1;
}

static int l_host_memory(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)ph_vm_memory(ph_vm_of(L)));
    return 1;
}

static int l_host_find_script(lua_State *L) {
    char path[4096];
    ph_error err = {0};
    if (!ph_find_script(luaL_checkstring(L, 1), path, sizeof path, &err))
        return ph_fail(L, PH_NOT_FOUND, "%s", err.text);
    lua_pushstring(L, path);
    return 1;
}

static void release(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int l_lock_close(lua_State *L) {
    release(luaL_checkudata(L, 1, LOCK));
    return 0;
}

static int l_host_lock(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
    *fd = -1;
    luaL_setmetatable(L, LOCK);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (*fd >= 0 && flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return 1;
    int reason = errno;
    release(fd);
    return ph_fail(L, reason == EWOULDBLOCK ? PH_CONFLICT : PH_INTERNAL, "%s: %s", path,
                   reason == EWOULDBLOCK ? "another process holds this lock" : strerror(reason));
}

static const luaL_Reg lock_methods[] = {{"close", l_lock_close}, {NULL, NULL}};
static const luaL_Reg lock_meta[] = {{"__gc", l_lock_close}, {"__close", l_lock_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {
    {"boot", l_host_boot},
    {"lock", l_host_lock},
    {"memory", l_host_memory},
    {"find_script", l_host_find_script},
    {NULL, NULL},
};

int luaopen_host(lua_State *L) {
    ph_class(L, LOCK, lock_methods, lock_meta);
    luaL_newlib(L, functions);
    lua_pushstring(L, PH_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, ph_exe());
    lua_setfield(L, -2, "exe");
    lua_pushstring(L, ph_home());
    lua_setfield(L, -2, "home");
    if (ph_command())
        lua_pushstring(L, ph_command());
    else
        lua_pushboolean(L, 0);
    lua_setfield(L, -2, "command");
    lua_getfield(L, LUA_REGISTRYINDEX, "host.role");
    lua_setfield(L, -2, "role");
    lua_getfield(L, LUA_REGISTRYINDEX, "host.script");
    lua_setfield(L, -2, "script");
    return 1;
}
