/* host.slots: slot processes for a worker's supervisor. Over src/slots.c; metatable "host.slots.slot".
 *   slots.spawn{ script=path, on_frame=fn(type, head, body), on_exit=fn(code, signal) } -> slot | nil, message, "internal"
 *   slots.adopt()   this process inherits, kills and reaps what dead slots leave behind (child subreaper)
 *   slot:send(type, head [, body]) -> true | nil, message, "unavailable"   type: one letter; head, body: strings
 *   slot:signal(number), slot:pid(), slot:close()   close kills what still lives, with no callback
 *   slot:deadline() -> at, task, seconds   of what it runs (host.slot's deadline); nil: no limit
 * Ownership: the slot owns its process and socket. It is kept alive by its registry entry until it is closed, so
 * a supervisor must close every slot. Callbacks run on the loop (luv's of this VM), protected: an error in one
 * is printed and the supervisor goes on.
 * Threads: the VM's, which must be the process's main thread (the parent-death signal follows it). */
#include "host.h"
#include "deadline.h"
#include "slots.h"
#include "vm.h"
#include <luv/luv.h>
#include <stdio.h>
#include <string.h>

#define SLOT "host.slots.slot"

int luaopen_host_slots(lua_State *L);

typedef struct l_slot {
    ph_slot *slot; /* NULL once closed */
    lua_State *L;  /* the VM's main state */
    int on_frame, on_exit, self;
} l_slot;

static void report(lua_State *L) {
    fprintf(stderr, "pyoco-host: error in a slot's callback: %s\n", lua_tostring(L, -1));
}

static void on_frame(void *ctx, const ph_frame *frame) {
    l_slot *s = ctx;
    lua_State *L = s->L;
    int top = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->on_frame);
    lua_pushlstring(L, &frame->type, 1);
    lua_pushlstring(L, frame->head, frame->head_len);
    lua_pushlstring(L, frame->body, frame->body_len);
    if (ph_vm_call(L, 3, 0) != LUA_OK)
        report(L);
    lua_settop(L, top);
}

static void on_exit_(void *ctx, int code, int signal) {
    l_slot *s = ctx;
    lua_State *L = s->L;
    int top = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->on_exit);
    lua_pushinteger(L, code);
    lua_pushinteger(L, signal);
    if (ph_vm_call(L, 2, 0) != LUA_OK)
        report(L);
    lua_settop(L, top);
}

static int l_slot_close(lua_State *L) {
    l_slot *s = luaL_checkudata(L, 1, SLOT);
    if (!s->slot)
        return 0;
    ph_slot_close(s->slot);
    s->slot = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, s->on_frame);
    luaL_unref(L, LUA_REGISTRYINDEX, s->on_exit);
    luaL_unref(L, LUA_REGISTRYINDEX, s->self);
    return 0;
}

static l_slot *check_slot(lua_State *L) {
    l_slot *s = luaL_checkudata(L, 1, SLOT);
    if (!s->slot)
        luaL_error(L, "attempt to use a closed slot");
    return s;
}

static int l_slots_spawn(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "script");
    const char *script = luaL_checkstring(L, 2);
    lua_getfield(L, 1, "on_frame");
    luaL_checktype(L, 3, LUA_TFUNCTION);
    lua_getfield(L, 1, "on_exit");
    luaL_checktype(L, 4, LUA_TFUNCTION);
    l_slot *s = lua_newuserdatauv(L, sizeof *s, 0);
    memset(s, 0, sizeof *s);
    luaL_setmetatable(L, SLOT);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    s->L = lua_tothread(L, -1);
    lua_pop(L, 1);
    ph_error err = {0};
    s->slot = ph_slot_spawn(luv_loop(L), script, (ph_slot_handlers){on_frame, on_exit_}, s, &err);
    if (!s->slot)
        return ph_fail(L, PH_INTERNAL, "%s", err.text);
    lua_pushvalue(L, 4);
    s->on_exit = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 3);
    s->on_frame = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 5);
    s->self = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

static int l_slots_adopt(lua_State *L) {
    (void)L;
    ph_slots_adopt();
    return 0;
}

static int l_slot_send(lua_State *L) {
    l_slot *s = check_slot(L);
    size_t type_len, head_len, body_len;
    const char *type = luaL_checklstring(L, 2, &type_len);
    luaL_argcheck(L, type_len == 1 && (unsigned char)type[0] < 128, 2, "one letter expected");
    const char *head = luaL_checklstring(L, 3, &head_len);
    const char *body = luaL_optlstring(L, 4, "", &body_len);
    if (!ph_slot_send(s->slot, type[0], head, head_len, body, body_len))
        return ph_fail(L, PH_UNAVAILABLE, "slot %d is gone", ph_slot_pid(s->slot));
    lua_pushboolean(L, 1);
    return 1;
}

static int l_slot_signal(lua_State *L) {
    ph_slot_signal(check_slot(L)->slot, (int)luaL_checkinteger(L, 2));
    return 0;
}

static int l_slot_pid(lua_State *L) {
    lua_pushinteger(L, ph_slot_pid(check_slot(L)->slot));
    return 1;
}

static int l_slot_deadline(lua_State *L) {
    double at, seconds;
    char task[PH_DEADLINE_TASK_MAX];
    if (!ph_slot_deadline(check_slot(L)->slot, &at, &seconds, task))
        return 0;
    lua_pushnumber(L, at);
    lua_pushstring(L, task);
    lua_pushnumber(L, seconds);
    return 3;
}

static int l_slot_tostring(lua_State *L) {
    l_slot *s = luaL_checkudata(L, 1, SLOT);
    if (s->slot)
        lua_pushfstring(L, SLOT " (pid %d)", ph_slot_pid(s->slot));
    else
        lua_pushliteral(L, SLOT " (closed)");
    return 1;
}

static const luaL_Reg methods[] = {
    {"send", l_slot_send}, {"signal", l_slot_signal}, {"pid", l_slot_pid}, {"deadline", l_slot_deadline}, {"close", l_slot_close}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", l_slot_close}, {"__close", l_slot_close}, {"__tostring", l_slot_tostring}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"spawn", l_slots_spawn},
    {"adopt", l_slots_adopt},
    {NULL, NULL},
};

int luaopen_host_slots(lua_State *L) {
    ph_class(L, SLOT, methods, metamethods);
    luaL_newlib(L, functions);
    return 1;
}
