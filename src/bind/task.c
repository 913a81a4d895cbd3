/* host.task: running user code in coroutines that can be cut, ticked and limited (interrupt.h). For the engine.
 *
 *   start(fn, ...) -> co, state, a, b   a new coroutine runs fn(...) until it ends or waits
 *   answer(co, ...) -> state, a, b      the wait of co returns ...
 *   stop(co, reason) -> state, a, b     the wait of co fails and all its code is cut; reason: "cancel"|"timeout"
 *       state "ended": a, b = the first two values it returned
 *       state "failed": a = the error value, b = traceback (lines of user code only)
 *       state "waits": a = the function given to wait
 *   wait(start) -> ...                  in a task: suspends it; start is what the scheduler gets
 *   cut(reason)                         cuts the task that runs now (from a callback during its tick)
 *   cancel(), cancelled(), reset()      the sticky cancel of all tasks of this VM
 *   attach(), detach()                  ticks for this VM on this thread; nil, message, "unavailable"
 *   memory_limit([bytes]) -> bytes      what user code may bring the VM to; 0 = none
 *   write(text)                         in a task: the same as io.write(text)
 *   on_output(fn(text)|nil)             gets what print and io.write of tasks say; runs as library code
 *   on_callback_error(fn(text)|nil)     gets errors of event callbacks instead of stderr
 *
 * Threads: the VM's own. */
#include "task.h"
#include "../preload.h"
#include <string.h>

int luaopen_host_task(lua_State *L);

static const char output_key = 0;
enum { FRAMES_MAX = 24, SPARE_MAX = 16 };
#define SPARE "host.task.spare" /* registry: list of coroutines for the next tasks */
#define TRACEBACKS "host.task.tracebacks" /* registry: { coroutine = text } between a failure and its report */

/* --- running --- */

/* Appends one frame's line; false for frames that are not user code. */
static bool add_frame(lua_State *co, lua_Debug *ar, luaL_Buffer *b) {
    lua_getinfo(co, "Sln", ar);
    if (ar->what[0] == 'C' || ph_in_library(ar))
        return false;
    lua_State *L = b->L;
    luaL_addstring(b, "\n\t");
    luaL_addstring(b, ar->source[0] == '@' ? ar->source + 1 : ar->short_src);
    if (ar->currentline > 0)
        lua_pushfstring(L, ":%d: in ", ar->currentline);
    else
        lua_pushliteral(L, ": in ");
    luaL_addvalue(b);
    if (*ar->namewhat)
        lua_pushfstring(L, "%s '%s'", ar->namewhat, ar->name);
    else if (*ar->what == 'm')
        lua_pushliteral(L, "main chunk");
    else
        lua_pushfstring(L, "function <line %d>", ar->linedefined);
    luaL_addvalue(b);
    return true;
}

/* Pushes on L the traceback of co: user code only, innermost first. */
static void push_traceback(lua_State *L, lua_State *co) {
    lua_Debug ar;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addstring(&b, "stack traceback:");
    int shown = 0;
    for (int level = 0; shown < FRAMES_MAX && lua_getstack(co, level, &ar); level++)
        shown += add_frame(co, &ar, &b);
    if (shown == FRAMES_MAX)
        luaL_addstring(&b, "\n\t...");
    luaL_pushresult(&b);
}

/* Message handler of a task: keeps the traceback (registry, by coroutine), returns the error. */
static int on_error(lua_State *L) {
    ph_vm *vm = ph_vm_of(L);
    ph_watch *w = ph_vm_watch(vm);
    lua_State *running = w->running;
    w->running = NULL; /* the traceback must fit when memory is short */
    luaL_getsubtable(L, LUA_REGISTRYINDEX, TRACEBACKS);
    lua_pushthread(L);
    push_traceback(L, L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    ph_user_leave(vm, running);
    return 1;
}

static int task_k(lua_State *L, int status, lua_KContext ctx) {
    (void)ctx;
    lua_pushboolean(L, status == LUA_OK || status == LUA_YIELD);
    lua_replace(L, 1); /* the handler's place */
    return lua_gettop(L);
}

/* The base of a task's coroutine: calls its function with its arguments. It is a protected call rather than the
 * coroutine's own end, since that one leaves hooks off when a hook raised: __close handlers could not be cut. */
static int task_main(lua_State *L) {
    lua_pushcfunction(L, on_error);
    lua_insert(L, 1);
    return task_k(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, 0, task_k), 0);
}

/* Pushes "failed", the error value on top of co, and the traceback that was kept for co. */
static void push_failed(lua_State *L, lua_State *co) {
    lua_pushliteral(L, "failed");
    if (lua_type(co, -1) == LUA_TSTRING && strcmp(lua_tostring(co, -1), "not enough memory") == 0)
        lua_pushfstring(L, "not enough memory (the limit is %d MB)",
                        (int)(ph_vm_memory_limit(ph_vm_of(L)) >> 20));
    else
        lua_xmove(co, L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, TRACEBACKS);
    lua_pushthread(co);
    lua_xmove(co, L, 1);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushliteral(L, "stack traceback:");
    }
    lua_remove(L, -2);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, TRACEBACKS);
    lua_pushthread(co);
    lua_xmove(co, L, 1);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* Pushes a coroutine: one that an earlier task has ended on, since making one costs more than a short task. */
static lua_State *push_coroutine(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, SPARE);
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    if (n == 0) {
        lua_pop(L, 1);
        return lua_newthread(L);
    }
    lua_rawgeti(L, -1, n);
    lua_pushnil(L);
    lua_rawseti(L, -3, n);
    lua_remove(L, -2);
    return lua_tothread(L, -1);
}

/* Keeps co, whose task_main returned, for the next task. */
static void keep_coroutine(lua_State *L, lua_State *co) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, SPARE);
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    if (n < SPARE_MAX) {
        lua_settop(co, 0);
        lua_sethook(co, NULL, 0, 0);
        lua_pushthread(co);
        lua_xmove(co, L, 1);
        lua_rawseti(L, -2, n + 1);
    }
    lua_pop(L, 1);
}

/* Closes a coroutine that cannot be used again; what it left open is user code. */
static void end_coroutine(ph_vm *vm, lua_State *co) {
    lua_State *previous = ph_user_enter(vm, co);
    lua_resetthread(co);
    ph_user_leave(vm, previous);
}

/* Runs co, with nargs values on its stack, as the current task. Pushes state, a, b. */
static int run_task(lua_State *L, lua_State *co, int nargs, ph_cut cut) {
    ph_vm *vm = ph_vm_of(L);
    ph_watch *w = ph_vm_watch(vm);
    int n;
    w->task = co;
    w->cut = cut;
    ph_user_enter(vm, co);
    ph_start_tick(vm);
    int status = lua_resume(co, L, nargs, &n);
    ph_user_leave(vm, NULL);
    w->task = NULL;
    w->cut = PH_CUT_NONE;
    if (status == LUA_OK && lua_toboolean(co, -n)) {
        lua_pushliteral(L, "ended");
        lua_settop(co, lua_gettop(co) - n + 3); /* true and two results, nil when there are fewer */
        lua_xmove(co, L, 2);
        keep_coroutine(L, co);
    } else if (status == LUA_YIELD && ph_is_waiting(co)) {
        lua_pushliteral(L, "waits");
        lua_pushvalue(co, -2);
        lua_xmove(co, L, 1);
        lua_pushnil(L);
    } else {
        if (status == LUA_YIELD) /* a C function yielded on its own */
            lua_pushliteral(co, "the task yielded; to wait, use ctx:sleep");
        push_failed(L, co);
        if (status == LUA_OK)
            keep_coroutine(L, co);
        else
            end_coroutine(vm, co);
    }
    return 3;
}

static void check_free(lua_State *L) {
    if (ph_vm_watch(ph_vm_of(L))->running)
        luaL_error(L, "a task cannot run another task");
    ph_tick(ph_vm_of(L), L); /* tasks too short to meet a tick must not starve the loop */
}

static int l_task_start(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    check_free(L);
    int values = lua_gettop(L); /* the function and its arguments */
    luaL_checkstack(L, 8, NULL);
    lua_State *co = push_coroutine(L);
    lua_insert(L, 1);
    luaL_checkstack(co, values + 1, "too many arguments");
    lua_pushcfunction(co, task_main);
    lua_xmove(L, co, values);
    return 1 + run_task(L, co, values, PH_CUT_NONE);
}

static lua_State *check_waiting(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTHREAD);
    lua_State *co = lua_tothread(L, 1);
    luaL_argcheck(L, ph_is_waiting(co), 1, "the task does not wait");
    check_free(L);
    return co;
}

static int l_task_answer(lua_State *L) {
    lua_State *co = check_waiting(L);
    int nargs = lua_gettop(L) - 1;
    lua_pop(co, 2);
    luaL_checkstack(co, nargs + 1, "too many values");
    lua_pushboolean(co, 1);
    lua_xmove(L, co, nargs);
    return run_task(L, co, nargs + 1, PH_CUT_NONE);
}

static const char *const reasons[] = {"cancel", "timeout", NULL};

static ph_cut check_reason(lua_State *L, int arg) {
    return luaL_checkoption(L, arg, NULL, reasons) == 0 ? PH_CUT_CANCEL : PH_CUT_TIMEOUT;
}

static int l_task_stop(lua_State *L) {
    ph_cut cut = check_reason(L, 2);
    lua_State *co = check_waiting(L);
    lua_pop(co, 2);
    lua_pushboolean(co, 0); /* the wait itself raises the cut's text */
    return run_task(L, co, 1, cut);
}

/* --- inside a task --- */

static int wait_k(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    int base = (int)ctx;
    if (lua_toboolean(L, base + 1))
        return lua_gettop(L) - base - 1;
    if (lua_gettop(L) < base + 2) {
        const char *cut = ph_cut_text(ph_vm_watch(ph_vm_of(L)));
        lua_pushstring(L, cut ? cut : "the wait was ended");
    }
    lua_settop(L, base + 2);
    return lua_error(L);
}

static int l_task_wait(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    ph_watch *w = ph_vm_watch(ph_vm_of(L));
    lua_settop(L, 1);
    if (w->running != L)
        return luaL_error(L, "can only wait inside a task");
    const char *cut = ph_cut_text(w);
    if (cut) {
        lua_pushstring(L, cut);
        return lua_error(L);
    }
    if (!lua_isyieldable(L))
        return luaL_error(L, "cannot wait here: inside a callback of a C function (sort, gsub, ...), a metamethod "
                             "that C called, or a __close handler after an error");
    ph_push_wait_marker(L);
    return lua_yieldk(L, 2, 0, wait_k);
}

static int l_task_cut(lua_State *L) {
    ph_cut cut = check_reason(L, 1);
    ph_watch *w = ph_vm_watch(ph_vm_of(L));
    w->cut = cut; /* read when the tick that we are in returns to the task */
    return 0;
}

static int l_task_cancel(lua_State *L) {
    ph_vm_interrupt(ph_vm_of(L), PH_INTERRUPT_CANCEL);
    return 0;
}

static int l_task_cancelled(lua_State *L) {
    lua_pushboolean(L, ph_vm_watch(ph_vm_of(L))->cancelled);
    return 1;
}

static int l_task_reset(lua_State *L) {
    ph_watch *w = ph_vm_watch(ph_vm_of(L));
    w->cancelled = 0;
    w->cut = PH_CUT_NONE;
    return 0;
}

/* --- the VM --- */

static int l_task_attach(lua_State *L) {
    ph_error err = {0};
    if (!ph_vm_attach(ph_vm_of(L), &err))
        return ph_fail(L, PH_UNAVAILABLE, "%s", err.text);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_task_detach(lua_State *L) {
    ph_vm_detach(ph_vm_of(L));
    return 0;
}

static int l_task_memory_limit(lua_State *L) {
    ph_vm *vm = ph_vm_of(L);
    if (!lua_isnoneornil(L, 1)) {
        lua_Integer bytes = luaL_checkinteger(L, 1);
        luaL_argcheck(L, bytes >= 0, 1, "bytes, 0 or more");
        ph_vm_set_memory_limit(vm, (size_t)bytes);
    }
    lua_pushinteger(L, (lua_Integer)ph_vm_memory_limit(vm));
    return 1;
}

static void optional_function(lua_State *L) {
    if (!lua_isnoneornil(L, 1))
        luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
}

static int l_task_on_output(lua_State *L) {
    optional_function(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &output_key);
    return 0;
}

static int l_task_on_callback_error(lua_State *L) {
    optional_function(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "host.callback_error");
    return 0;
}

/* --- print, io.write, os.exit --- */

/* Pushes the output function when user code runs and there is one. */
static bool push_output(lua_State *L) {
    if (!ph_vm_watch(ph_vm_of(L))->running)
        return false;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &output_key) == LUA_TFUNCTION)
        return true;
    lua_pop(L, 1);
    return false;
}

/* Calls the output function with the text above it, as library code. */
static void say(lua_State *L) {
    ph_vm *vm = ph_vm_of(L);
    ph_watch *w = ph_vm_watch(vm);
    lua_State *running = w->running;
    w->running = NULL;
    int rc = lua_pcall(L, 1, 0, 0);
    ph_user_leave(vm, running);
    if (rc != LUA_OK)
        lua_error(L);
}

static int l_task_write(lua_State *L) {
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    if (!push_output(L))
        return 0;
    lua_insert(L, 1);
    say(L);
    return 0;
}

/* Calls the original function (upvalue 1) with all arguments. */
static int call_original(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int l_print(lua_State *L) {
    int n = lua_gettop(L);
    if (!push_output(L))
        return call_original(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        if (i > 1)
            luaL_addchar(&b, '\t');
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
    }
    luaL_addchar(&b, '\n');
    luaL_pushresult(&b);
    say(L);
    return 0;
}

/* Upvalues: io.write, io.output, io.stdout. What was redirected by io.output(file) still goes to the file. */
static int l_io_write(lua_State *L) {
    int n = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_call(L, 0, 1);
    bool is_stdout = lua_rawequal(L, -1, lua_upvalueindex(3));
    lua_settop(L, n);
    if (!is_stdout || !push_output(L))
        return call_original(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        size_t len;
        const char *text = luaL_checklstring(L, i, &len);
        luaL_addlstring(&b, text, len);
    }
    luaL_pushresult(&b);
    say(L);
    lua_pushvalue(L, lua_upvalueindex(3));
    return 1;
}

/* A slot outlives its runs: no user code ends it. */
static int l_os_exit(lua_State *L) {
    bool in_task = ph_vm_watch(ph_vm_of(L))->running != NULL;
    lua_getfield(L, LUA_REGISTRYINDEX, "host.role");
    const char *role = lua_tostring(L, -1);
    bool in_slot = role && strcmp(role, "slot") == 0;
    lua_pop(L, 1);
    if (in_task || in_slot)
        return luaL_error(L, "os.exit cannot be used in a flow: return from the task, or raise an error");
    if (lua_toboolean(L, 2)) /* it closes the state itself */
        ph_vm_settle(ph_vm_of(L));
    return call_original(L);
}

void ph_open_task(lua_State *L) {
    lua_getglobal(L, "print");
    lua_pushcclosure(L, l_print, 1);
    lua_setglobal(L, "print");
    lua_getglobal(L, "io");
    lua_getfield(L, -1, "write");
    lua_getfield(L, -2, "output");
    lua_getfield(L, -3, "stdout");
    lua_pushcclosure(L, l_io_write, 3);
    lua_setfield(L, -2, "write");
    lua_getglobal(L, "os");
    lua_getfield(L, -1, "exit");
    lua_pushcclosure(L, l_os_exit, 1);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 2);
}

static const luaL_Reg functions[] = {
    {"start", l_task_start},
    {"answer", l_task_answer},
    {"stop", l_task_stop},
    {"wait", l_task_wait},
    {"cut", l_task_cut},
    {"cancel", l_task_cancel},
    {"cancelled", l_task_cancelled},
    {"reset", l_task_reset},
    {"attach", l_task_attach},
    {"detach", l_task_detach},
    {"memory_limit", l_task_memory_limit},
    {"write", l_task_write},
    {"on_output", l_task_on_output},
    {"on_callback_error", l_task_on_callback_error},
    {NULL, NULL},
};

int luaopen_host_task(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
