/* host.slot: what the VM of a run has of its slot process (role "slot" only). Over src/slot.c.
 *   slot.send(type, head [, body]) -> true | nil, message, "unavailable"   a frame to the supervisor
 *   slot.deadline(at, task, seconds)   tells the supervisor until when the slot must have answered: at is
 *         clock.monotonic's; nil: there is no limit. seconds: the task's limit, for the message
 *   slot.nats() -> conn the process's loop-mode connection (host.nats), borrowed
 * Threads: the slot's one thread. */
#include "nats.h"
#include "slot.h"

int luaopen_host_slot(lua_State *L);

static ph_slot_self *self_of(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, PH_SLOT_KEY);
    ph_slot_self *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (!s)
        luaL_error(L, "host.slot is for the VM of a run in a slot process");
    return s;
}

static int l_slot_send(lua_State *L) {
    size_t type_len, head_len, body_len;
    const char *type = luaL_checklstring(L, 1, &type_len);
    luaL_argcheck(L, type_len == 1 && (unsigned char)type[0] < 128, 1, "one letter expected");
    const char *head = luaL_checklstring(L, 2, &head_len);
    const char *body = luaL_optlstring(L, 3, "", &body_len);
    if (!ph_slot_self_send(self_of(L), type[0], head, head_len, body, body_len))
        return ph_fail(L, PH_UNAVAILABLE, "the supervisor is gone");
    lua_pushboolean(L, 1);
    return 1;
}

static int l_slot_deadline(lua_State *L) {
    bool is_set = !lua_isnoneornil(L, 1);
    ph_slot_self_deadline(self_of(L), is_set ? luaL_checknumber(L, 1) : 0, is_set ? luaL_checknumber(L, 3) : 0,
                          is_set ? luaL_checkstring(L, 2) : "");
    return 0;
}

static int l_slot_nats(lua_State *L) {
    return ph_nats_push_loop(L, ph_slot_self_nats(self_of(L)), false);
}

static const luaL_Reg functions[] = {
    {"send", l_slot_send},
    {"deadline", l_slot_deadline},
    {"nats", l_slot_nats},
    {NULL, NULL},
};

int luaopen_host_slot(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
