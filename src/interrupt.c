/* Interrupts: the signal sets flags and a hook on the running coroutine; the hook acts. */
#include "interrupt.h"
#include <errno.h>
#include <luv/luv.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TICK_MS = 10 };

/* The VM that this thread's SIGUSR2 reaches. */
static _Thread_local ph_vm *volatile watched;

static char library[4096];
static size_t library_len;
static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void find_library(void) {
    int n = snprintf(library, sizeof library, "@%s/lua/pyoco/", ph_home());
    library_len = n > 0 && (size_t)n < sizeof library ? (size_t)n : 0;
}

bool ph_in_library(const lua_Debug *ar) {
    pthread_once(&library_once, find_library);
    return library_len && strncmp(ar->source, library, library_len) == 0;
}

const char *ph_cut_text(const ph_watch *w) {
    if (w->cancelled || w->cut == PH_CUT_CANCEL)
        return "run cancelled";
    return w->cut == PH_CUT_TIMEOUT ? "task timed out" : NULL;
}

static bool is_due(const ph_watch *w) {
    return w->tick || w->cut || w->cancelled;
}

/* One shot: the next one is set when this one was served. A periodic timer would starve code with a very deep
 * stack, for which setting a hook takes longer than the period. */
void ph_start_tick(ph_vm *vm) {
    ph_watch *w = ph_vm_watch(vm);
    if (!w->attached || w->ticking)
        return;
    w->ticking = 1;
    struct itimerspec once = {.it_value.tv_nsec = TICK_MS * 1000000L};
    timer_settime(w->timer, 0, &once, NULL);
}

void ph_tick(ph_vm *vm, lua_State *L) {
    ph_watch *w = ph_vm_watch(vm);
    if (!w->tick)
        return;
    w->tick = 0;
    luv_ctx_t *ctx = luv_context(L);
    if (!ctx->loop || ctx->mode != -1)
        return;
    lua_State *running = w->running, *task = w->task;
    w->running = NULL;
    w->task = NULL;
    ctx->mode = UV_RUN_NOWAIT; /* luv refuses a nested uv.run from a callback */
    uv_run(ctx->loop, UV_RUN_NOWAIT);
    ctx->mode = -1;
    w->task = task;
    w->running = running;
    if (running)
        ph_start_tick(vm);
}

static void arm(ph_watch *w);
static void on_hook(lua_State *L, lua_Debug *ar);

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer holds signals back until the program calls into it, which a Lua loop need not do. */
static void rest(lua_State *L) {
    lua_sethook(L, on_hook, LUA_MASKCOUNT, 1000);
}
static void keep_watch(lua_State *co) {
    if (!lua_gethook(co))
        rest(co);
}
static void let_signals_in(void) {
    usleep(1);
}
#else
static void rest(lua_State *L) {
    lua_sethook(L, NULL, 0, 0);
}
static void keep_watch(lua_State *co) {
    (void)co;
}
static void let_signals_in(void) {
}
#endif

static void unhook(ph_watch *w, lua_State *L) {
    if (w->hooked == L)
        w->hooked = NULL; /* first: a signal from here on sets the hook again */
    rest(L);
}

/* Fires at each instruction of the coroutine that it is set on; takes itself off when nothing is due. */
static void on_hook(lua_State *L, lua_Debug *ar) {
    ph_vm *vm = ph_vm_of(L);
    ph_watch *w = ph_vm_watch(vm);
    let_signals_in();
    if (L != w->running) { /* set on a coroutine that was suspended, or inherited from one that was hooked */
        unhook(w, L);
        return;
    }
    lua_getinfo(L, "S", ar);
    if (ph_in_library(ar))
        return;
    ph_tick(vm, L);
    const char *cut = ph_cut_text(w);
    if (cut) {
        lua_pushstring(L, cut);
        lua_error(L);
    }
    unhook(w, L);
    arm(w); /* a signal may have come in between */
}

static void arm(ph_watch *w) {
    lua_State *co = w->running;
    if (!co || (w->hooked == co && lua_gethook(co) == on_hook))
        return;
    if (!is_due(w)) {
        keep_watch(co);
        return;
    }
    w->hooked = co;
    lua_sethook(co, on_hook, LUA_MASKCOUNT, 1);
}

void ph_vm_interrupt(ph_vm *vm, ph_interrupt what) {
    ph_watch *w = ph_vm_watch(vm);
    if (what == PH_INTERRUPT_CANCEL)
        w->cancelled = 1;
    else
        w->tick = 1;
    arm(w);
}

/* running is stored before the flags are read: a signal before that store leaves flags that are seen here,
 * one after it finds the coroutine itself. */
lua_State *ph_user_enter(ph_vm *vm, lua_State *co) {
    ph_watch *w = ph_vm_watch(vm);
    lua_State *previous = w->running;
    w->running = co;
    arm(w);
    return previous;
}

void ph_user_leave(ph_vm *vm, lua_State *previous) {
    ph_watch *w = ph_vm_watch(vm);
    w->running = previous;
    arm(w);
}

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    ph_vm *vm = watched;
    if (!vm)
        return;
    int saved = errno;
    if (info->si_code == SI_TIMER)
        ph_vm_watch(vm)->ticking = 0;
    ph_vm_interrupt(vm, PH_INTERRUPT_TICK);
    errno = saved;
}

/* Each time: what ran before may have watched this signal through luv, which leaves it at its default. */
static void install(void) {
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGUSR2, &sa, NULL);
}

bool ph_vm_attach(ph_vm *vm, ph_error *err) {
    ph_watch *w = ph_vm_watch(vm);
    if (watched == vm)
        return true;
    if (watched)
        ph_vm_detach(watched);
    install();
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
    event._sigev_un._tid = gettid();
    if (timer_create(CLOCK_MONOTONIC, &event, &w->timer) != 0) {
        snprintf(err->text, sizeof err->text, "cannot create a timer: %s", strerror(errno));
        return false;
    }
    w->ticking = 0;
    w->attached = true;
    watched = vm;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return true;
}

void ph_vm_detach(ph_vm *vm) {
    ph_watch *w = ph_vm_watch(vm);
    if (!w->attached)
        return;
    watched = NULL; /* first: a signal from here on finds nothing */
    timer_delete(w->timer);
    w->attached = false;
}
