/* See appvm.h. Cutting: a signal to the VM's thread arms a hook that raises at every line and call. */
#include "appvm.h"
#include "clocks.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUT_SIGNAL (SIGRTMIN + 5)
#define APP "host.app"  /* registry keys: the script's result, and the ph_appvm */
#define SELF "host.appvm"

/* ---- loading ---- */

static void watch_file(void *ctx, const char *path) {
    ph_files_add(((ph_appvm *)ctx)->source->files, path);
}

static void check_load_time(lua_State *L, lua_Debug *ar) {
    (void)ar;
    lua_getfield(L, LUA_REGISTRYINDEX, SELF);
    const ph_appvm *a = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (a && ph_monotonic() > a->load_until)
        luaL_error(L, "loading took more than %d s; a gateway script must only build its app and return it",
                   (int)PH_APP_LOAD_SEC);
}

/* load(lightuserdata ph_appvm): runs the script and keeps its app in the registry. */
static int load(lua_State *L) {
    ph_appvm *a = lua_touserdata(L, 1);
    const char *script = a->source->script;
    lua_pushvalue(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, SELF);
    ph_image_install(L, a->image, watch_file, a);
    watch_file(a, script);
    a->load_until = ph_monotonic() + PH_APP_LOAD_SEC;
    lua_sethook(L, check_load_time, LUA_MASKCOUNT, 1000000);
    if (ph_image_load(L, a->image, script) != LUA_OK)
        return lua_error(L);
    lua_call(L, 0, 1);
    lua_sethook(L, NULL, 0, 0);
    if (!lua_istable(L, -1) || lua_getfield(L, -1, "handle") != LUA_TFUNCTION)
        return luaL_error(L, "%s: the script must return its app (a table with a function handle), got %s; end it with "
                             "`return require(\"pyoco.gateway\").main(app, ...)`",
                          script, luaL_typename(L, -1));
    lua_pop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, APP);
    return 0;
}

/* ---- cutting ---- */

static _Thread_local lua_State *running; /* what this thread's signal may hook */
static _Thread_local ph_appvm *self;

static void on_cut(lua_State *L, lua_Debug *ar) {
    (void)ar;
    if (atomic_load(&self->cut) == atomic_load(&self->turn))
        luaL_error(L, "cut: it ran longer than allowed, or the server is stopping");
    lua_sethook(L, NULL, 0, 0); /* the signal was meant for what ran before */
}

static void on_cut_signal(int sig) {
    (void)sig;
    if (running)
        lua_sethook(running, on_cut, LUA_MASKCALL | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static void install_cut(void) {
    struct sigaction sa = {.sa_handler = on_cut_signal, .sa_flags = SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(CUT_SIGNAL, &sa, NULL);
}

void ph_appvm_cut(ph_appvm *a) {
    atomic_store(&a->cut, atomic_load(&a->turn));
    pthread_kill(a->thread, CUT_SIGNAL);
}

/* ---- life ---- */

/* What was raised, which is on top of the stack. */
static char *copy_failure(lua_State *L, const char *fallback) {
    const char *text = lua_tostring(L, -1);
    return strdup(text ? text : fallback);
}

bool ph_appvm_build(ph_appvm *a, const ph_app_source *source, ph_image *image, bool is_service, char **error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_cut);
    ph_error err = {0};
    a->source = source;
    a->image = image;
    a->thread = pthread_self();
    self = a;
    a->vm = ph_vm_new(&(ph_vm_options){.role = is_service ? "service" : "http",
                                       .script = source->script,
                                       .boot = source->boot,
                                       .boot_len = source->boot_len,
                                       .memory_limit = source->memory_limit},
                      &err);
    if (!a->vm) {
        *error = strdup(err.text);
        return false;
    }
    lua_State *L = ph_vm_state(a->vm);
    lua_pushcfunction(L, load);
    lua_pushlightuserdata(L, a);
    if (ph_vm_call(L, 1, 0) == LUA_OK)
        return true;
    *error = copy_failure(L, "the script raised a value that is no text");
    char *trace = *error ? strstr(*error, "\nstack traceback:\n\t[C]: in ?") : NULL;
    if (trace) /* tells nothing */
        *trace = '\0';
    ph_appvm_close(a);
    return false;
}

char *ph_appvm_call(ph_appvm *a, lua_CFunction fn, void *ctx) {
    lua_State *L = ph_vm_state(a->vm);
    char *error = NULL;
    running = L;
    lua_pushcfunction(L, fn);
    lua_getfield(L, LUA_REGISTRYINDEX, APP);
    lua_pushlightuserdata(L, ctx);
    if (ph_vm_call(L, 2, 0) != LUA_OK)
        error = copy_failure(L, "(no text)");
    running = NULL;
    lua_sethook(L, NULL, 0, 0);
    lua_settop(L, 0);
    return error;
}

void ph_appvm_close(ph_appvm *a) {
    ph_vm_close(a->vm);
    a->vm = NULL;
}
