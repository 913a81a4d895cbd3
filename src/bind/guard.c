/* host.guard: what blind writers have destroyed in the bucket of runs; src/guard.h.
 *   take() -> nil | "cancel", run_id, cancel_at, cancel_by | "ended", run_id, image
 *        cancel_at, cancel_by: JSON text, "" when unknown; image: the snapshot as the run ended
 *   see(run_id, snapshot|nil [, revision [, created]])  a write of this process, that the tail may never see
 *   clear()                                             forgets all; for specs
 *   stats() -> runs, bytes                              what is remembered
 * Threads: any. */
#include "../guard.h"
#include "clocks.h"
#include <stdlib.h>
#include <time.h>

int luaopen_host_guard(lua_State *L);

static int push_image(lua_State *L) {
    const ph_guard_fault *fault = lua_touserdata(L, 1);
    lua_pushlstring(L, fault->image, fault->len);
    return 1;
}

static int l_take(lua_State *L) {
    ph_guard_fault fault;
    ph_guard_take(&fault);
    if (fault.kind == PH_GUARD_NOTHING)
        return 0;
    if (fault.kind == PH_GUARD_CANCEL) {
        lua_pushliteral(L, "cancel");
        lua_pushstring(L, fault.key);
        lua_pushstring(L, fault.cancel_at);
        lua_pushstring(L, fault.cancel_by);
        return 4;
    }
    lua_pushcfunction(L, push_image); /* protected: the image is ours to free whatever happens */
    lua_pushlightuserdata(L, &fault);
    int rc = lua_pcall(L, 1, 1, 0);
    free(fault.image);
    if (rc != LUA_OK)
        return lua_error(L);
    lua_pushliteral(L, "ended");
    lua_pushstring(L, fault.key);
    lua_rotate(L, -3, 2);
    return 3;
}

static int l_see(lua_State *L) {
    ph_entry entry = {.key = luaL_checkstring(L, 1), .value = "", .revision = (uint64_t)luaL_optinteger(L, 3, 0)};
    entry.deleted = lua_isnoneornil(L, 2);
    if (!entry.deleted)
        entry.value = luaL_checklstring(L, 2, &entry.len);
    entry.created_ns = (int64_t)(luaL_optnumber(L, 4, ph_wall()) * 1e9);
    ph_guard_see(&entry);
    return 0;
}

static int l_clear(lua_State *L) {
    (void)L;
    ph_guard_clear();
    return 0;
}

static int l_stats(lua_State *L) {
    ph_guard_stats stats = ph_guard_get_stats();
    lua_pushinteger(L, (lua_Integer)stats.runs);
    lua_pushinteger(L, (lua_Integer)stats.bytes);
    return 2;
}

static const luaL_Reg functions[] = {
    {"take", l_take}, {"see", l_see}, {"clear", l_clear}, {"stats", l_stats}, {NULL, NULL}};

int luaopen_host_guard(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
