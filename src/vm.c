/* One Lua VM. The ph_vm hangs off the state's extra space, so that any C function finds it from its
 * lua_State at no cost; coroutines copy the pointer from the main thread. */
#include "vm.h"
#include "arena.h"
#include "foreign.h"
#include "freezer.h"
#include "interrupt.h"
#include "modcache.h"
#include "preload.h"
#include <luv/luv.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REQUESTS_MAX_SEC = 1 };
enum { RESERVE = 64 << 20 }; /* bytes beyond the memory limit, and half of it, for library code */

struct ph_vm {
    lua_State *L;
    ph_arena *arena; /* NULL: malloc */
    size_t used;     /* bytes now allocated */
    size_t limit;    /* 0 = none */
    size_t soft;     /* up to here nothing is asked */
    bool has_asked;  /* for a collection: the next object comes after it */
    bool is_closing;
    bool goes_on; /* its process has other runs after it */
    ph_watch watch;
    ph_freezer *freezer; /* NULL: not to be frozen */
    size_t frozen_used, frozen_limit; /* used and limit, when it was frozen */
    void *newest;        /* block that was allocated last */
    void *stop_at;       /* freeing this block leaves lua_close by escape; NULL: no */
    jmp_buf escape;
};

static void *resize(ph_vm *vm, void *ptr, size_t osize, size_t nsize);

/* What was built inside of the freezer stays there: freed or shrunk it is left alone, for it will be
 * restored. */
static void *resize_inside(ph_vm *vm, void *ptr, size_t osize, size_t nsize) {
    if (!ph_freezer_is_frozen(vm->freezer))
        return ph_freezer_resize(vm->freezer, ptr, osize, nsize);
    if (nsize <= osize)
        return nsize > 0 ? ptr : NULL;
    void *p = resize(vm, NULL, 0, nsize);
    if (p)
        memcpy(p, ptr, osize);
    return p;
}

static void *resize(ph_vm *vm, void *ptr, size_t osize, size_t nsize) {
    if (vm->freezer && (ptr ? ph_freezer_holds(vm->freezer, ptr) : !ph_freezer_is_frozen(vm->freezer)))
        return resize_inside(vm, ptr, osize, nsize);
    if (vm->arena)
        return ph_arena_resize(vm->arena, ptr, osize, nsize);
    if (nsize > 0)
        return realloc(ptr, nsize);
    free(ptr);
    return NULL;
}

/* Where a collection is due, as seen from what is used: Lua's own pace knows nothing of the limit. */
static size_t soft_limit(size_t used, size_t limit) {
    if (limit == 0)
        return SIZE_MAX;
    size_t near = limit - limit / 4, room = used < limit ? limit - used : 0;
    if (room < limit / 32) /* a collection for every few objects would help nobody */
        return limit;
    return used + room / 2 > near ? used + room / 2 : near;
}

/* Whether the VM may grow to so many bytes. User code has the limit. The engine must be able to record what went
 * wrong; but what it copies for tasks, and finalisers, which may run at any time, have an end too.
 * Lua answers a refused object with a full collection and asks again; lauxlib's buffers do not. So when it is time, one
 * object is refused for the sake of the collection, and what is no object may go a little beyond. */
static bool may_grow(ph_vm *vm, size_t bytes, bool is_object) {
    if (!vm->watch.running)
        return bytes <= vm->limit + vm->limit / 2 + RESERVE;
    if (!is_object)
        return bytes <= vm->limit + vm->limit / 8;
    if (!vm->has_asked) {
        vm->has_asked = true;
        return false;
    }
    vm->has_asked = false;
    vm->soft = soft_limit(vm->used, vm->limit);
    return bytes <= vm->limit;
}

static void *vm_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
    ph_vm *vm = ud;
    size_t old = ptr ? osize : 0; /* with ptr NULL, osize is a type tag, not a size */
    if (nsize == 0) {
        if (ptr && ptr == vm->stop_at)
            longjmp(vm->escape, 1);
        resize(vm, ptr, old, 0);
        vm->used -= old;
        return NULL;
    }
    if (nsize > old && (vm->used + (nsize - old) > vm->soft || vm->has_asked) &&
        !may_grow(vm, vm->used + (nsize - old), !ptr && osize))
        return NULL;
    void *p = resize(vm, ptr, old, nsize);
    if (p)
        vm->used += nsize - old;
    vm->newest = p;
    return p;
}

static int vm_panic(lua_State *L) {
    const char *msg = lua_tostring(L, -1);
    fprintf(stderr, "pyoco-host: unprotected Lua error: %s\n", msg ? msg : "(no text)");
    return 0; /* Lua aborts */
}

static int traceback(lua_State *L) {
    const char *msg = lua_tostring(L, 1);
    if (!msg) {
        if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
            return 1;
        msg = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    }
    luaL_traceback(L, L, msg, 1);
    return 1;
}

int ph_vm_call(lua_State *L, int nargs, int nresults) {
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, traceback);
    lua_insert(L, base);
    int rc = lua_pcall(L, nargs, nresults, base);
    lua_remove(L, base);
    return rc;
}

/* How luv calls our callbacks: an error must not end the process, as its default does. It goes to the
 * function registered as "host.callback_error" (host.task.on_callback_error), or to stderr. */
static int vm_callback(lua_State *L, int nargs, int nresults, int flags) {
    (void)flags;
    int base = lua_gettop(L) - nargs;
    if (ph_vm_of(L)->is_closing) {
        lua_settop(L, base - 1);
        return -LUA_ERRRUN;
    }
    int rc = ph_vm_call(L, nargs, nresults);
    if (rc == LUA_OK)
        return lua_gettop(L) - base + 1;
    if (lua_getfield(L, LUA_REGISTRYINDEX, "host.callback_error") == LUA_TFUNCTION) {
        lua_pushvalue(L, -2);
        if (lua_pcall(L, 1, 0, 0) == LUA_OK) {
            lua_settop(L, base - 1);
            return -rc;
        }
    }
    lua_pop(L, 1);
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "pyoco-host: error in a callback: %s\n", text ? text : "(no text)");
    lua_settop(L, base - 1);
    return -rc;
}

/* package.path: the library first, then Debian's folders. package.cpath: loadable host modules first. */
static void set_paths(lua_State *L) {
    const char *home = ph_home();
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;%s", home, home, lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 1);
    lua_getfield(L, -1, "cpath");
    const char *exe = ph_exe();
    const char *slash = strrchr(exe, '/');
    lua_pushlstring(L, exe, slash ? (size_t)(slash - exe) : 0);
    lua_pushfstring(L, "%s/lib/?.so;%s/../lib/pyoco-host/?.so;%s", lua_tostring(L, -1), lua_tostring(L, -1),
                    lua_tostring(L, -2));
    lua_setfield(L, -4, "cpath");
    lua_pop(L, 3);
}

static int vm_open(lua_State *L) {
    const ph_vm_options *o = lua_touserdata(L, 1);
    luaL_openlibs(L);
    if (o->loop)
        luv_set_loop(L, o->loop);
    luv_set_callback(L, vm_callback);
    ph_preload(L);
    set_paths(L);
    ph_modcache_install(L);
    ph_open_coroutine(L);
    ph_open_task(L);
    lua_pushstring(L, o->role ? o->role : "script");
    lua_setfield(L, LUA_REGISTRYINDEX, "host.role");
    lua_pushstring(L, o->script);
    lua_setfield(L, LUA_REGISTRYINDEX, "host.script");
    if (o->boot) {
        lua_pushlstring(L, o->boot, o->boot_len);
        lua_setfield(L, LUA_REGISTRYINDEX, "host.boot");
    }
    return 0;
}

ph_vm *ph_vm_new(const ph_vm_options *options, ph_error *err) {
    ph_vm *vm = calloc(1, sizeof *vm);
    if (!vm) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    if (options->is_short_lived)
        vm->arena = ph_arena_new();
    vm->soft = SIZE_MAX;
    vm->goes_on = options->can_freeze;
    if (options->can_freeze)
        vm->freezer = ph_freezer_new();
    if (!options->is_short_lived || vm->arena)
        vm->L = lua_newstate(vm_alloc, vm);
    if (!vm->L) {
        snprintf(err->text, sizeof err->text, "out of memory");
        ph_arena_free(vm->arena);
        ph_freezer_free(vm->freezer);
        free(vm);
        return NULL;
    }
    lua_atpanic(vm->L, vm_panic);
    *(ph_vm **)lua_getextraspace(vm->L) = vm;
    lua_pushcfunction(vm->L, vm_open);
    lua_pushlightuserdata(vm->L, (void *)(uintptr_t)options);
    if (ph_vm_call(vm->L, 1, 0) != LUA_OK) {
        snprintf(err->text, sizeof err->text, "%s", lua_tostring(vm->L, -1));
        ph_vm_close(vm);
        return NULL;
    }
    ph_vm_set_memory_limit(vm, options->memory_limit);
    return vm;
}

static void count_own(uv_handle_t *handle, void *count) {
    *(int *)count += !ph_foreign_is(handle);
}

/* Handles of the loop that are luv's, closing ones too. */
static int own_handles(uv_loop_t *loop) {
    int count = 0;
    uv_walk(loop, count_own, &count);
    return count;
}

/* Closes every handle that the VM's code has left open, and turns the loop until they are gone: one that
 * lua_close closed would call back into the dead VM (luv 1.44). */
static void close_handles(ph_vm *vm, uv_loop_t *loop) {
    static const char code[] =
        "require('luv').walk(function(h) if not h:is_closing() then h:close() end end)";
    int top = lua_gettop(vm->L); /* os.exit calls from Lua: its arguments stay */
    vm->is_closing = false; /* luv calls the walk's function as it calls callbacks; the loop stands still */
    if (luaL_loadbuffer(vm->L, code, sizeof code - 1, "=close") == LUA_OK)
        ph_vm_call(vm->L, 0, 0);
    vm->is_closing = true;
    lua_settop(vm->L, top);
    for (int turns = 0; turns < 100 && own_handles(loop) > 0; turns++)
        uv_run(loop, UV_RUN_NOWAIT);
}

/* Whether requests of luv (files, names, threads) are under way: they write into the VM's memory. */
static bool has_requests(const uv_loop_t *loop) {
    return loop->active_reqs.count > ph_foreign_requests();
}

/* Turns the loop until the requests that the VM's code has left are answered. A process that goes on must not go on
 * without; one that ends with its VM gives up after a while. */
static void await_requests(ph_vm *vm, uv_loop_t *loop) {
    uint64_t deadline = uv_hrtime() + (uint64_t)REQUESTS_MAX_SEC * 1000000000;
    while (has_requests(loop) && (vm->goes_on || uv_hrtime() < deadline)) {
        uv_run(loop, UV_RUN_NOWAIT);
        if (has_requests(loop))
            usleep(200);
    }
}

void ph_vm_settle(ph_vm *vm) {
    luv_ctx_t *ctx = luv_context(vm->L);
    vm->is_closing = true;
    if (!ctx->loop || ctx->mode != -1)
        return;
    uv_run(ctx->loop, UV_RUN_NOWAIT);
    if (own_handles(ctx->loop) > 0)
        close_handles(vm, ctx->loop);
    await_requests(vm, ctx->loop);
}

bool ph_vm_is_quiet(uv_loop_t *loop) {
    return !has_requests(loop) && own_handles(loop) == 0;
}

bool ph_vm_is_closing(const ph_vm *vm) {
    return vm->is_closing;
}

/* lua_close calls all finalisers, then frees every object, the newest first. The second half is for nothing when
 * the memory as a whole is about to be replaced: an object made now is the first to be freed, and freeing it ends
 * lua_close. Should another Lua free in another order, it only takes longer. */
static void close_without_freeing(ph_vm *vm) {
    lua_gc(vm->L, LUA_GCSTOP);
    lua_settop(vm->L, 0);
    lua_newuserdatauv(vm->L, 1, 0);
    vm->stop_at = vm->newest;
    if (setjmp(vm->escape) == 0)
        lua_close(vm->L);
    vm->stop_at = NULL;
}

/* Ends what runs in the VM: finalisers are called, handles closed. */
static void end(ph_vm *vm) {
    ph_vm_detach(vm);
    ph_vm_settle(vm);
    if (vm->arena && vm->freezer && ph_freezer_is_frozen(vm->freezer))
        close_without_freeing(vm);
    else
        lua_close(vm->L);
    ph_arena_free(vm->arena);
}

void ph_vm_close(ph_vm *vm) {
    if (!vm)
        return;
    end(vm);
    ph_freezer_free(vm->freezer);
    free(vm);
}

/* Whether Lua has mapped a C library: lua_close unmaps it, and no copy of memory brings that back. */
static bool has_library(lua_State *L) {
    bool has = lua_getfield(L, LUA_REGISTRYINDEX, "_CLIBS") == LUA_TTABLE && lua_rawlen(L, -1) > 0;
    lua_pop(L, 1);
    return has;
}

bool ph_vm_freeze(ph_vm *vm) {
    if (!vm->freezer || has_library(vm->L))
        return false;
    lua_gc(vm->L, LUA_GCCOLLECT);
    lua_gc(vm->L, LUA_GCSTOP);
    vm->frozen_used = vm->used;
    vm->frozen_limit = vm->limit;
    return ph_freezer_freeze(vm->freezer);
}

bool ph_vm_thaw(ph_vm *vm) {
    end(vm);
    ph_freezer_restore(vm->freezer);
    vm->arena = ph_arena_new();
    vm->used = vm->frozen_used;
    ph_vm_set_memory_limit(vm, vm->frozen_limit);
    vm->is_closing = false;
    vm->watch = (ph_watch){0};
    return vm->arena != NULL;
}

bool ph_vm_is_short_lived(const ph_vm *vm) {
    return vm->arena != NULL;
}

lua_State *ph_vm_state(ph_vm *vm) {
    return vm->L;
}

ph_vm *ph_vm_of(lua_State *L) {
    return *(ph_vm **)lua_getextraspace(L);
}

ph_watch *ph_vm_watch(ph_vm *vm) {
    return &vm->watch;
}

void ph_vm_set_memory_limit(ph_vm *vm, size_t bytes) {
    vm->limit = bytes;
    vm->soft = soft_limit(0, bytes);
    vm->has_asked = false;
}

size_t ph_vm_memory_limit(const ph_vm *vm) {
    return vm->limit;
}

size_t ph_vm_memory(const ph_vm *vm) {
    return vm->used;
}
