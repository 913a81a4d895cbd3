/* The stand-in that luv sees in handle->data of a C handle. Layout: luv_handle_t of luv 1.44.2 (Debian 12);
 * spec/bind/nats_spec.lua walks over such handles, so that a change of luv cannot go unnoticed. */
#include "foreign.h"
#include <lua.h>
#include <lauxlib.h>
#include <luv/luv.h>

/* uv.walk pushes its callback and the value of `ref`, then calls ctx->cb_pcall: ours drops both. */
static int pass_over(lua_State *L, int nargs, int nresults, int flags) {
    (void)nresults;
    (void)flags;
    lua_pop(L, nargs + 1);
    return 0;
}

static luv_ctx_t context = {.cb_pcall = pass_over};

static struct {
    int ref;
    int callbacks[2];
    luv_ctx_t *ctx;
    void *extra;
    void (*extra_gc)(void *);
} stand_in = {.ref = LUA_REFNIL, .callbacks = {LUA_NOREF, LUA_NOREF}, .ctx = &context};

void ph_foreign_mark(uv_handle_t *handle) {
    handle->data = &stand_in;
}

bool ph_foreign_is(const uv_handle_t *handle) {
    return handle->data == &stand_in;
}

static _Thread_local unsigned requests;

void ph_foreign_request(int change) {
    requests += (unsigned)change;
}

unsigned ph_foreign_requests(void) {
    return requests;
}
