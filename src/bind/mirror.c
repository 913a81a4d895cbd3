/* host.mirror: copies of KV buckets for all VMs of the process; src/mirror.h does it.
 *   start(conn, bucket) -> m | nil, message, "invalid"   conn: a blocking-mode host.nats connection
 *   m:stop()                                             closing or collecting it stops it too
 *   get(bucket, key [, max_age_sec = 5]) -> value | nil, is_fresh
 *        From any VM, with no request. is_fresh: the server has confirmed within max_age_sec that the copy is complete;
 *        only then does nil mean that there is no such key.
 * Ownership: m keeps conn (user value 1). When that is closed all the same, nothing is fresh any more. Threads: start and stop by the owner, get by any VM. */
#include "mirror.h"
#include "nats_bind.h"
#include <string.h>

#define MIRROR "host.mirror"

int luaopen_host_mirror(lua_State *L);

static int l_mirror_start(lua_State *L) {
    ph_nats_conn *conn = lb_nats_check_conn(L, 1);
    const char *bucket = luaL_checkstring(L, 2);
    ph_mirror **box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = NULL;
    luaL_setmetatable(L, MIRROR);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    ph_error err = {0};
    *box = ph_mirror_start(conn, bucket, &err);
    return *box ? 1 : ph_fail(L, PH_INVALID, "%s", err.text);
}

static int l_mirror_stop(lua_State *L) {
    ph_mirror **box = luaL_checkudata(L, 1, MIRROR), *m = *box;
    *box = NULL;
    ph_mirror_stop(m);
    return 0;
}

static int l_mirror_get(lua_State *L) {
    const char *bucket = luaL_checkstring(L, 1), *key = luaL_checkstring(L, 2);
    double max_age_sec = luaL_optnumber(L, 3, 5);
    /* asked first: what is read below is then at least as new as the answer */
    bool is_fresh = (double)ph_mirror_age_ms(bucket) < max_age_sec * 1000;
    lua_getfield(L, lua_upvalueindex(1), "get");
    lua_pushfstring(L, "mirror.%s.%s", bucket, key);
    lua_call(L, 1, 1);
    lua_pushboolean(L, is_fresh);
    return 2;
}

static const luaL_Reg methods[] = {{"stop", l_mirror_stop}, {NULL, NULL}};

static const luaL_Reg meta[] = {{"__gc", l_mirror_stop}, {"__close", l_mirror_stop}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"start", l_mirror_start}, {"get", l_mirror_get}, {NULL, NULL}};

int luaopen_host_mirror(lua_State *L) {
    ph_class(L, MIRROR, methods, meta);
    luaL_newlibtable(L, functions);
    lua_getglobal(L, "require");
    lua_pushstring(L, "host.shared");
    lua_call(L, 1, 1); /* the upvalue of all: get reads through it */
    luaL_setfuncs(L, functions, 1);
    return 1;
}
