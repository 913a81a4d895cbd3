/* coroutine.resume, wrap, close and yield, as the standard library has them, plus two things:
 * the watch learns which coroutine runs (interrupts reach it there), and a task's wait inside a user's own
 * coroutine passes outward: the coroutine yields (start function, private marker); our resume yields the same
 * from its own coroutine, up to the scheduler, and hands the answer back in. Threads: the VM's own. */
#include "task.h"
#include "../preload.h"

static const char marker = 0;

bool ph_is_waiting(lua_State *co) {
    return lua_status(co) == LUA_YIELD && lua_gettop(co) >= 2 && lua_touserdata(co, -1) == (const void *)&marker;
}

void ph_push_wait_marker(lua_State *L) {
    lua_pushlightuserdata(L, (void *)(uintptr_t)&marker);
}

int ph_resume(lua_State *L, lua_State *co, int nargs, int *nresults) {
    ph_vm *vm = ph_vm_of(L);
    if (!ph_vm_watch(vm)->running) /* library code's own coroutines are not interrupted */
        return lua_resume(co, L, nargs, nresults);
    lua_State *previous = ph_user_enter(vm, co);
    int status = lua_resume(co, L, nargs, nresults);
    ph_user_leave(vm, previous);
    return status;
}

static lua_State *check_coroutine(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

enum { WAITS = -2, FAILED = -1 };

/* Runs co with nargs values on its stack until it ends, yields or waits. Returns the number of results moved
 * to L, FAILED with the error on L, or WAITS with the start function on L. */
static int run(lua_State *L, lua_State *co, int nargs) {
    for (;;) {
        int n;
        int status = ph_resume(L, co, nargs, &n);
        if (status != LUA_OK && status != LUA_YIELD) {
            lua_xmove(co, L, 1);
            return FAILED;
        }
        if (!ph_is_waiting(co)) {
            if (!lua_checkstack(L, n + 1)) {
                lua_pop(co, n);
                lua_pushliteral(L, "too many results to resume");
                return FAILED;
            }
            lua_xmove(co, L, n);
            return n;
        }
        if (lua_isyieldable(L)) {
            lua_pushvalue(co, -2);
            lua_xmove(co, L, 1);
            return WAITS;
        }
        lua_pop(co, 2); /* the wait cannot pass us: it fails where it was called */
        lua_pushboolean(co, 0);
        lua_pushliteral(co, "cannot wait here: the coroutine is resumed inside a callback of a C function "
                            "(sort, gsub, ...)");
        nargs = 2;
    }
}

/* Moves the nargs values on top of L to co and runs it. */
static int resume_with(lua_State *L, lua_State *co, int nargs) {
    if (!lua_checkstack(co, nargs)) {
        lua_pushliteral(L, "too many arguments to resume");
        return FAILED;
    }
    if (ph_is_waiting(co)) {
        lua_pushliteral(L, "cannot resume a coroutine in a wait: it goes on when the wait ends");
        return FAILED;
    }
    lua_xmove(L, co, nargs);
    return run(L, co, nargs);
}

/* Hands the nargs values on top of L to co's wait and runs on. */
static int answer_with(lua_State *L, lua_State *co, int nargs) {
    if (!ph_is_waiting(co) || !lua_checkstack(co, nargs)) {
        lua_pushliteral(L, "the coroutine was closed while it waited");
        return FAILED;
    }
    lua_pop(co, 2);
    lua_xmove(L, co, nargs);
    return run(L, co, nargs);
}

static int wait_outward(lua_State *L, lua_KContext base, lua_KFunction k) {
    ph_push_wait_marker(L);
    return lua_yieldk(L, 2, base, k);
}

static int resume_done(lua_State *L, int n);

static int resume_k(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return resume_done(L, answer_with(L, lua_tothread(L, 1), lua_gettop(L) - 1));
}

static int resume_done(lua_State *L, int n) {
    if (n == WAITS)
        return wait_outward(L, 0, resume_k);
    lua_pushboolean(L, n != FAILED);
    int results = n == FAILED ? 1 : n;
    lua_insert(L, -(results + 1));
    return results + 1;
}

static int l_coroutine_resume(lua_State *L) {
    lua_State *co = check_coroutine(L);
    return resume_done(L, resume_with(L, co, lua_gettop(L) - 1));
}

enum { CLOSE_STACK = 1 << 20 }; /* bytes of C stack that closes inside of a close may take */

static _Thread_local const char *outermost_close; /* the C stack where it began; NULL: none runs */

/* Lua 5.4.4 counts C calls per coroutine and lua_resetthread starts from the count of the one to be closed: a chain of
 * coroutines whose __close handlers close the next one would overflow C's stack. So its bytes are counted. */
static void check_close_stack(lua_State *L) {
    const char *here = __builtin_frame_address(0);
    if (outermost_close && (size_t)(outermost_close - here) > CLOSE_STACK)
        luaL_error(L, "C stack overflow");
}

static int reset(lua_State *co) {
    const char *outer = outermost_close;
    if (!outer)
        outermost_close = __builtin_frame_address(0);
    int status = lua_resetthread(co);
    outermost_close = outer;
    return status;
}

/* lua_resetthread as user code, since it runs __close handlers. Not when the task is being cut and co is dead: a
 * hook that raised leaves co's hooks off, so its handlers, which would be cut at their first line, could not be. */
static int close_coroutine(lua_State *L, lua_State *co) {
    ph_vm *vm = ph_vm_of(L);
    ph_watch *w = ph_vm_watch(vm);
    check_close_stack(L);
    if (!w->running)
        return reset(co);
    int dead = lua_status(co);
    if (ph_cut_text(w) && dead != LUA_OK && dead != LUA_YIELD)
        return dead;
    lua_State *previous = ph_user_enter(vm, co);
    int status = reset(co);
    ph_user_leave(vm, previous);
    return status;
}

static int wrap_done(lua_State *L, lua_State *co, int n);

static int wrap_k(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    lua_pushnil(L);
    lua_insert(L, 1);
    return wrap_done(L, co, answer_with(L, co, lua_gettop(L) - 1));
}

/* L: a free slot at index 1, then what run left. */
static int wrap_done(lua_State *L, lua_State *co, int n) {
    if (n == WAITS) {
        lua_replace(L, 1); /* nothing below it is kept: the answers will be the whole stack */
        return wait_outward(L, 0, wrap_k);
    }
    if (n != FAILED)
        return n;
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) { /* it failed itself: close what it left open */
        lua_xmove(L, co, 1);
        status = close_coroutine(L, co);
        lua_xmove(co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) { /* say where, as the standard one does */
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrapped(lua_State *L) {
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int nargs = lua_gettop(L);
    lua_pushnil(L);
    lua_insert(L, 1);
    return wrap_done(L, co, resume_with(L, co, nargs));
}

static int l_coroutine_wrap(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

static bool is_closable(lua_State *L, lua_State *co) {
    if (co == L)
        return false;
    lua_Debug ar;
    int status = lua_status(co);
    /* with a status of OK it runs something (normal) when it has frames */
    return status != LUA_OK || !lua_getstack(co, 0, &ar);
}

static int l_coroutine_close(lua_State *L) {
    lua_State *co = check_coroutine(L);
    if (!is_closable(L, co))
        return luaL_error(L, "cannot close a %s coroutine", co == L ? "running" : "normal");
    if (ph_is_waiting(co)) /* what it waits for will answer it */
        return luaL_error(L, "cannot close a coroutine in a wait");
    if (close_coroutine(L, co) == LUA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_xmove(co, L, 1);
    return 2;
}

static int l_coroutine_yield(lua_State *L) {
    if (L == ph_vm_watch(ph_vm_of(L))->task)
        return luaL_error(L, "coroutine.yield outside of a coroutine of your own; to wait, use ctx:sleep");
    return lua_yield(L, lua_gettop(L));
}

static const luaL_Reg functions[] = {
    {"resume", l_coroutine_resume},
    {"wrap", l_coroutine_wrap},
    {"close", l_coroutine_close},
    {"yield", l_coroutine_yield},
    {NULL, NULL},
};

void ph_open_coroutine(lua_State *L) {
    lua_getglobal(L, "coroutine");
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
