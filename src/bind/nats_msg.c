/* Messages between Lua and nats.c; see nats_msg.h. A natsMsg is never held here across a call that may raise. */
#include "nats_msg.h"
#include <stdlib.h>
#include <string.h>

static const char *header_fault(const char *text, size_t len, bool is_name) {
    if (len == 0) /* nats.c 3.4.1 misreads an empty value: it takes the next header for it */
        return is_name ? "an empty name" : "an empty value";
    if (strlen(text) != len || strpbrk(text, "\r\n"))
        return "a line break or a zero byte";
    if (is_name && strpbrk(text, ": "))
        return "a colon or a space in its name";
    return NULL;
}

static int read_headers(lua_State *L, lb_nats_out *o, int index) {
    if (lua_isnoneornil(L, index))
        return 0;
    luaL_checktype(L, index, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            return luaL_argerror(L, index, "headers are a table of name = \"value\"");
        if (o->out.header_count == LB_NATS_HEADERS)
            return luaL_argerror(L, index, "more than 32 headers");
        size_t name_len, value_len;
        const char *name = lua_tolstring(L, -2, &name_len), *value = lua_tolstring(L, -1, &value_len);
        const char *fault = header_fault(name, name_len, true);
        if (!fault)
            fault = header_fault(value, value_len, false);
        if (fault)
            return ph_fail(L, PH_INVALID, "header %s holds %s", name, fault);
        o->headers[o->out.header_count++] = (ph_nats_header){name, value};
        lua_pop(L, 1);
    }
    return 0;
}

int lb_nats_read(lua_State *L, lb_nats_out *o, int subject, int data, int reply, int headers) {
    size_t len;
    o->out = (ph_nats_out){.headers = o->headers};
    o->out.subject = luaL_checklstring(L, subject, &len);
    const char *fault = ph_nats_bad_subject(o->out.subject, len);
    if (fault)
        return ph_fail(L, PH_INVALID, "%s: '%s'", fault, o->out.subject);
    if (lua_type(L, data) == LUA_TSTRING)
        o->out.data = lua_tolstring(L, data, &o->out.len);
    else if (!lua_isnoneornil(L, data))
        luaL_typeerror(L, data, "string");
    if (reply && !lua_isnoneornil(L, reply)) {
        o->out.reply = luaL_checklstring(L, reply, &len);
        fault = ph_nats_bad_subject(o->out.reply, len);
        if (fault)
            return ph_fail(L, PH_INVALID, "reply: %s: '%s'", fault, o->out.reply);
    }
    return headers ? read_headers(L, o, headers) : 0;
}

int64_t lb_nats_timeout(lua_State *L, int arg, int64_t fallback) {
    lua_Number ms = luaL_optnumber(L, arg, (lua_Number)fallback);
    luaL_argcheck(L, ms > 0 && ms <= 3600000, arg, "a timeout is 1 to 3600000 milliseconds");
    return ms < 1 ? 1 : (int64_t)ms;
}

static void push_headers(lua_State *L, natsMsg *msg, const char **keys, int count) {
    lua_createtable(L, 0, count);
    for (int i = 0; i < count; i++) {
        const char *value = NULL;
        if (natsMsgHeader_Get(msg, keys[i], &value) != NATS_OK)
            continue;
        lua_pushstring(L, value ? value : "");
        lua_setfield(L, -2, keys[i]);
    }
}

/* The keys come from malloc: a box frees them when a push runs out of memory. */
static int free_keys(lua_State *L) {
    void **box = lua_touserdata(L, 1);
    free(*box);
    *box = NULL;
    return 0;
}

static void add_headers(lua_State *L, natsMsg *msg) {
    const char **keys = NULL;
    int count = 0;
    if (natsMsgHeader_Keys(msg, &keys, &count) != NATS_OK) /* NATS_NOT_FOUND: it has none */
        return;
    free((void *)keys); /* asked again once a box stands ready to hold them */
    void **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    if (luaL_newmetatable(L, "host.nats.keys")) {
        lua_pushcfunction(L, free_keys);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    if (natsMsgHeader_Keys(msg, &keys, &count) == NATS_OK) {
        *box = (void *)keys;
        push_headers(L, msg, keys, count);
        lua_setfield(L, -3, "headers");
        free((void *)keys);
        *box = NULL;
    }
    lua_pop(L, 1);
}

void lb_nats_push(lua_State *L, natsMsg *msg) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, natsMsg_GetSubject(msg));
    lua_setfield(L, -2, "subject");
    lua_pushlstring(L, natsMsg_GetData(msg) ? natsMsg_GetData(msg) : "", (size_t)natsMsg_GetDataLength(msg));
    lua_setfield(L, -2, "data");
    if (natsMsg_GetReply(msg)) {
        lua_pushstring(L, natsMsg_GetReply(msg));
        lua_setfield(L, -2, "reply");
    }
    add_headers(L, msg);
}
