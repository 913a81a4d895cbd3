/* The one table of modules: require "host.<name>" -> its open function. Loadable ones (Makefile: LOADABLE)
 * are found on package.cpath instead. */
#include "preload.h"
#include "host.h"
#include <luv/luv.h>

int luaopen_host(lua_State *L);
int luaopen_host_slot(lua_State *L);
int luaopen_host_slots(lua_State *L);
int luaopen_host_task(lua_State *L);
int luaopen_host_clock(lua_State *L);
int luaopen_host_crypto(lua_State *L);
int luaopen_host_guard(lua_State *L);
int luaopen_host_json(lua_State *L);
int luaopen_host_metrics(lua_State *L);
int luaopen_host_process(lua_State *L);
int luaopen_host_shared(lua_State *L);
int luaopen_host_mirror(lua_State *L);
int luaopen_host_nats(lua_State *L);
int luaopen_host_tail(lua_State *L);
int luaopen_host_yaml(lua_State *L);

static const luaL_Reg modules[] = {
    {"host", luaopen_host},
    {"host.clock", luaopen_host_clock},
    {"host.crypto", luaopen_host_crypto},
    {"host.guard", luaopen_host_guard},
    {"host.json", luaopen_host_json},
    {"host.task", luaopen_host_task},
    {"host.shared", luaopen_host_shared},
    {"host.mirror", luaopen_host_mirror},
    {"host.nats", luaopen_host_nats},
    {"host.metrics", luaopen_host_metrics},
    {"host.slot", luaopen_host_slot},
    {"host.slots", luaopen_host_slots},
    {"host.process", luaopen_host_process},
    {"host.tail", luaopen_host_tail},
    {"host.yaml", luaopen_host_yaml},
    {"luv", luaopen_luv},
    {NULL, NULL},
};

void ph_preload(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    for (const luaL_Reg *m = modules; m->name; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
    lua_pop(L, 1);
}
