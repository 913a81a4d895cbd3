/* host.nats, loop mode: callbacks on the VM's luv loop; the transport is src/natsloop.c.
 *
 *   conn:request_async(subject, data, timeout_ms, headers|nil, fn) -> true | nil, message, code
 *        fn(msg) or fn(nil, message, code), exactly once, later; not at all when the call itself failed
 *   conn:publish(subject, data [, reply [, headers]]) -> true | nil, message, code
 *   conn:subscribe(subject, fn(msg) [, queue]) -> sub, which lives until sub:close() or the connection's end
 *   conn:on_status(fn(status)|nil)        "connected" | "reconnecting" | "closed"
 *   conn:status() conn:info() conn:clock_offset() conn:close()
 *   conn:flush()                          writes out now; else what is published waits for the turn's end
 * Ownership: an open connection is anchored in the registry, as luv anchors its handles. Its callbacks stand in
 * one table, registry[connection], by number. A borrowed connection's close() forgets this VM's callbacks only.
 * Threads: the loop's. A callback that raises is reported on stderr with its traceback, and the loop goes on.
 */
#include "nats_bind.h"
#include "nats_msg.h"
#include "vm.h"
#include <luv/luv.h>
#include <stdio.h>

#define LOOP "host.nats.loop"
#define LOOP_SUB "host.nats.loop.sub"

typedef struct loop_conn {
    ph_nats_loop *pl; /* NULL once closed */
    bool is_owned;
    lua_State *L; /* the VM's main thread: callbacks run on it */
    lua_Integer status_ref;
} loop_conn;

typedef struct loop_sub {
    ph_nats_sub *sub; /* NULL once closed */
    loop_conn *conn;  /* kept alive by user value 1 */
    lua_Integer ref;
} loop_sub;

typedef struct event {
    loop_conn *conn;
    lua_Integer ref;
    bool is_last; /* the callback is forgotten */
    natsMsg *msg;
    const char *text, *code; /* pushed when msg is NULL: text alone, or nil, text, code */
} event;

static loop_conn *check_loop(lua_State *L) {
    loop_conn *c = luaL_checkudata(L, 1, LOOP);
    luaL_argcheck(L, c->pl, 1, "the NATS connection is closed");
    return c;
}

/* --- callbacks --- */

/* registry[connection][n] = the function at arg. Returns n. */
static lua_Integer keep(lua_State *L, const loop_conn *c, int arg) {
    luaL_checktype(L, arg, LUA_TFUNCTION);
    lua_rawgetp(L, LUA_REGISTRYINDEX, c);
    lua_pushvalue(L, arg);
    lua_Integer ref = luaL_ref(L, -2);
    lua_pop(L, 1);
    return ref;
}

static void forget(lua_State *L, const loop_conn *c, lua_Integer ref) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, c) == LUA_TTABLE)
        luaL_unref(L, -1, (int)ref);
    lua_pop(L, 1);
}

static int dispatch(lua_State *L) {
    const event *e = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, e->conn);
    lua_rawgeti(L, -1, e->ref);
    if (e->is_last)
        luaL_unref(L, -2, (int)e->ref);
    int n = 1;
    if (e->msg) {
        lb_nats_push(L, e->msg);
    } else if (e->code) {
        lua_pushnil(L);
        lua_pushstring(L, e->text);
        lua_pushstring(L, e->code);
        n = 3;
    } else {
        lua_pushstring(L, e->text);
    }
    lua_call(L, n, 0);
    return 0;
}

static void deliver(event *e) {
    lua_State *L = e->conn->L;
    if (!lua_checkstack(L, LUA_MINSTACK))
        return;
    lua_pushcfunction(L, dispatch);
    lua_pushlightuserdata(L, e);
    if (ph_vm_call(L, 1, 0) == LUA_OK)
        return;
    fprintf(stderr, "pyoco-host: error in a NATS callback: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
}

static void on_reply(void *ctx, intptr_t tag, natsMsg *msg, const char *message, const char *code) {
    deliver(&(event){.conn = ctx, .ref = tag, .is_last = true, .msg = msg, .text = message, .code = code});
}

static void on_message(void *ctx, intptr_t tag, natsMsg *msg) {
    deliver(&(event){.conn = ctx, .ref = tag, .msg = msg});
}

static void on_status(void *ctx, const char *status) {
    loop_conn *c = ctx;
    deliver(&(event){.conn = c, .ref = c->status_ref, .text = status});
}

/* --- methods --- */

static int l_loop_request_async(lua_State *L) {
    loop_conn *c = check_loop(L);
    lb_nats_out o;
    int64_t timeout_ms = lb_nats_timeout(L, 4, 5000);
    luaL_checktype(L, 6, LUA_TFUNCTION);
    int failed = lb_nats_read(L, &o, 2, 3, 0, 5);
    if (failed)
        return failed;
    lua_Integer ref = keep(L, c, 6);
    ph_error err = {0};
    const char *code = ph_nats_loop_request(c->pl, &o.out, timeout_ms, on_reply, c, (intptr_t)ref, &err);
    if (code) {
        forget(L, c, ref);
        return ph_fail(L, code, "%s", err.text);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int l_loop_publish(lua_State *L) {
    loop_conn *c = check_loop(L);
    lb_nats_out o;
    int failed = lb_nats_read(L, &o, 2, 3, 4, 5);
    if (failed)
        return failed;
    ph_error err = {0};
    const char *code = ph_nats_loop_publish(c->pl, &o.out, &err);
    if (code)
        return ph_fail(L, code, "%s", err.text);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_loop_subscribe(lua_State *L) {
    loop_conn *c = check_loop(L);
    const char *subject = luaL_checkstring(L, 2), *queue = luaL_optstring(L, 4, NULL);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    loop_sub *s = lua_newuserdatauv(L, sizeof *s, 1);
    *s = (loop_sub){.conn = c};
    luaL_setmetatable(L, LOOP_SUB);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    s->ref = keep(L, c, 3);
    ph_error err = {0};
    const char *code =
        ph_nats_loop_subscribe(&s->sub, c->pl, subject, queue, on_message, c, (intptr_t)s->ref, &err);
    if (code) {
        forget(L, c, s->ref);
        return ph_fail(L, code, "%s", err.text);
    }
    return 1;
}

static int l_sub_close(lua_State *L) {
    loop_sub *s = luaL_checkudata(L, 1, LOOP_SUB);
    if (s->sub && s->conn->pl) {
        ph_nats_sub_close(s->sub);
        forget(L, s->conn, s->ref);
    }
    s->sub = NULL;
    return 0;
}

static int l_loop_on_status(lua_State *L) {
    loop_conn *c = check_loop(L);
    bool is_set = !lua_isnoneornil(L, 2);
    lua_Integer ref = is_set ? keep(L, c, 2) : LUA_NOREF;
    forget(L, c, c->status_ref);
    c->status_ref = ref;
    ph_error err = {0};
    const char *code = ph_nats_loop_on_status(c->pl, is_set ? on_status : NULL, c, &err);
    return code ? ph_fail(L, code, "%s", err.text) : 0;
}

static int l_loop_status(lua_State *L) {
    loop_conn *c = luaL_checkudata(L, 1, LOOP);
    lua_pushstring(L, c->pl ? ph_nats_loop_status(c->pl) : "closed");
    return 1;
}

static int l_loop_info(lua_State *L) {
    loop_conn *c = check_loop(L);
    ph_nats_info info;
    ph_nats_loop_info(c->pl, &info);
    lb_nats_push_info(L, &info);
    return 1;
}

static int l_loop_flush(lua_State *L) {
    ph_nats_loop_flush(check_loop(L)->pl);
    lua_pushboolean(L, 1);
    return 1;
}

/* Forgets this VM's part in it, then closes it when it is ours. The pending callbacks of an owned connection are
 * called (unavailable) by close(), but not by the end of the VM. */
static void end_conn(lua_State *L, loop_conn *c, bool is_told) {
    ph_nats_loop *pl = c->pl;
    if (!pl)
        return;
    if (!is_told || !c->is_owned)
        ph_nats_loop_drop(pl, c);
    if (c->is_owned)
        ph_nats_loop_close(pl); /* frees nothing that the callbacks below it still need */
    c->pl = NULL;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, c);
}

static int l_loop_close(lua_State *L) {
    end_conn(L, luaL_checkudata(L, 1, LOOP), true);
    return 0;
}

static int l_loop_gc(lua_State *L) {
    end_conn(L, luaL_checkudata(L, 1, LOOP), false);
    return 0;
}

static int l_loop_tostring(lua_State *L) {
    loop_conn *c = luaL_checkudata(L, 1, LOOP);
    lua_pushfstring(L, LOOP " (%s)", c->pl ? ph_nats_loop_status(c->pl) : "closed");
    return 1;
}

static const luaL_Reg loop_methods[] = {
    {"request_async", l_loop_request_async},
    {"publish", l_loop_publish},
    {"subscribe", l_loop_subscribe},
    {"on_status", l_loop_on_status},
    {"status", l_loop_status},
    {"info", l_loop_info},
    {"clock_offset", lb_nats_clock_offset},
    {"flush", l_loop_flush},
    {"close", l_loop_close},
    {NULL, NULL},
};

static const luaL_Reg loop_meta[] = {
    {"__gc", l_loop_gc}, {"__close", l_loop_close}, {"__tostring", l_loop_tostring}, {NULL, NULL}};

static const luaL_Reg sub_methods[] = {{"close", l_sub_close}, {NULL, NULL}};

static const luaL_Reg sub_meta[] = {{"__close", l_sub_close}, {NULL, NULL}};

static loop_conn *new_loop(lua_State *L) {
    ph_class(L, LOOP, loop_methods, loop_meta);
    ph_class(L, LOOP_SUB, sub_methods, sub_meta);
    loop_conn *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (loop_conn){.status_ref = LUA_NOREF};
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    c->L = lua_tothread(L, -1);
    lua_pop(L, 1);
    luaL_setmetatable(L, LOOP);
    lua_newtable(L);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "conn");
    lua_rawsetp(L, LUA_REGISTRYINDEX, c);
    return c;
}

static void forget_conn(lua_State *L, const loop_conn *c) {
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, c);
}

int ph_nats_push_loop(lua_State *L, ph_nats_loop *pl, bool owned) {
    loop_conn *c = new_loop(L);
    c->pl = pl;
    c->is_owned = owned;
    return 1;
}

int lb_nats_borrow(lua_State *L) {
    luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
    return ph_nats_push_loop(L, lua_touserdata(L, 1), false);
}

/* luv makes or takes its loop when it is first required; its finaliser must run after ours. */
static uv_loop_t *vm_loop(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "luv");
    lua_call(L, 1, 0);
    return luv_loop(L);
}

int lb_nats_connect_loop(lua_State *L, const ph_nats_options *options) {
    uv_loop_t *loop = vm_loop(L);
    loop_conn *c = new_loop(L);
    ph_error err = {0};
    const char *code = ph_nats_loop_connect(&c->pl, loop, options, &err);
    if (code) {
        forget_conn(L, c);
        return ph_fail(L, code, "%s", err.text);
    }
    c->is_owned = true;
    return 1;
}
