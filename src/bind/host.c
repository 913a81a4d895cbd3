/* host: facts about this process and VM.
 *   host.version, host.role, host.exe, host.home, host.script   strings
 *   host.command                 "pyoco-client": the short name that the user called; false for pyoco-host
 *   host.boot() -> string|nil    what the parent VM handed over
 *   host.memory() -> integer     bytes in use by this VM
 *   host.find_script(name) -> path | nil, message, "not_found"
 * Threads: the VM's own. */
#include "host.h"
#include "vm.h"
#include "preload.h"

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

static const luaL_Reg functions[] = {
    {"boot", l_host_boot},
    {"memory", l_host_memory},
    {"find_script", l_host_find_script},
    {NULL, NULL},
};

int luaopen_host(lua_State *L) {
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
