/* host.http.start: transfers on the VM's event loop, by libcurl's socket interface.
 *
 * libcurl says which sockets it waits for and until when; a uv_poll for each socket and one uv_timer wake it.
 * All of it is on the loop's thread, so answers come in ticks of computing tasks too (interrupt.h).
 *
 * Ownership: one loop_client for each VM, in the registry, made by the first start; its uv handles are C's
 * (foreign.h) and are closed by its finaliser, when the VM ends. A transfer is a userdata, anchored in the
 * registry (registry[pointer] = userdata) while it is active. Finalisers run newest first: transfers go
 * before the client. Name lookups run on threads of libcurl's; a lookup that hangs is abandoned with its
 * transfer (QUICK_EXIT), and ends on its own. */
#include "foreign.h"
#include "http.h"
#include "vm.h"
#include <luv/luv.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENT "host.http.loop"
#define TRANSFER "host.http.transfer"

typedef struct loop_client { /* malloc's: its handles outlive the VM until the loop has closed them */
    uv_loop_t *loop;
    uv_timer_t timer;
    uv_async_t wake; /* ends the loop's turn, see on_timer */
    int open;        /* of the two handles */
    CURLM *multi;
    lua_State *L; /* the VM's main thread: callbacks run on it */
    int active;   /* transfers */
    size_t held;  /* bytes of their bodies */
} loop_client;

typedef struct socket_watch {
    uv_poll_t poll;
    loop_client *client;
    curl_socket_t fd;
} socket_watch;

typedef struct transfer { /* user value 1: done */
    loop_client *client;
    CURL *easy;
    struct curl_slist *headers;
    ph_answer answer;
    bool is_active;
    bool no_room; /* it was ended for the sake of the VM's memory limit */
    char text[CURL_ERROR_SIZE];
} transfer;

typedef struct ending { /* what done is called with */
    transfer *t;
    CURLcode rc;
} ending;

/* --- the end of a transfer --- */

/* Takes it out of libcurl's hands. Its answer stays. The client is not looked at again: it may be closed
 * before. */
static void detach(transfer *t) {
    if (t->is_active) {
        curl_multi_remove_handle(t->client->multi, t->easy);
        t->client->active--;
        t->client->held -= t->answer.body_len;
    }
    t->is_active = false;
}

static void release(transfer *t) {
    detach(t);
    curl_easy_cleanup(t->easy);
    t->easy = NULL;
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    ph_answer_free(&t->answer);
}

static int push_outcome(lua_State *L, transfer *t, CURLcode rc) {
    if (t->no_room)
        return ph_fail(L, PH_TOO_LARGE, "not enough memory for the answer (the limit is %d MB)",
                       (int)(ph_vm_memory_limit(ph_vm_of(L)) >> 20));
    if (t->answer.too_large)
        return ph_fail(L, PH_TOO_LARGE, "the answer has more than %zu bytes", t->answer.max_bytes);
    long status = 0, os_error = 0;
    curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_error);
    if (rc == CURLE_COULDNT_CONNECT && os_error) /* libcurl's own text does not say why */
        return ph_fail(L, PH_UNAVAILABLE, "cannot connect: %s", strerror((int)os_error));
    if (rc != CURLE_OK)
        return ph_fail(L, ph_http_code(rc), "%s", t->text[0] ? t->text : curl_easy_strerror(rc));
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    ph_answer_push(L, &t->answer, status);
    return 1;
}

/* Lua function: calls done with what became of the transfer. */
static int dispatch(lua_State *L) {
    ending *e = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, e->t); /* 2: anchored here from now on */
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, e->t);
    lua_getiuservalue(L, 2, 1);
    int n = push_outcome(L, e->t, e->rc);
    if (n > 1) { /* a failure: what had come before it */
        lua_pushlstring(L, e->t->answer.body_len ? e->t->answer.body : "", e->t->answer.body_len);
        n++;
    }
    release(e->t);
    lua_call(L, n, 0);
    return 0;
}

static void conclude(loop_client *c, transfer *t, CURLcode rc) {
    lua_State *L = c->L;
    detach(t);
    if (ph_vm_is_closing(ph_vm_of(L)) || !lua_checkstack(L, LUA_MINSTACK))
        return;
    lua_pushcfunction(L, dispatch);
    lua_pushlightuserdata(L, &(ending){t, rc});
    if (ph_vm_call(L, 1, 0) == LUA_OK)
        return;
    fprintf(stderr, "pyoco-host: error at the end of an HTTP request: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
}

/* --- libcurl and the loop --- */

/* Lets libcurl work, then ends what it has ended; says whether that was anything. A thread that it starts
 * must not take the interrupt's signal. */
static bool act(loop_client *c, curl_socket_t fd, int events) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int running;
    curl_multi_socket_action(c->multi, fd, events, &running);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    int left;
    bool any = false;
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left));) {
        transfer *t = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        if (m->msg != CURLMSG_DONE || !t)
            continue;
        any = true;
        conclude(c, t, m->data.result);
    }
    return any;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    socket_watch *w = PH_CONTAINER(poll, socket_watch, poll);
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    act(w->client, w->fd, flags);
}

/* Timers run before the loop waits: whoever turns it by uv_run(UV_RUN_ONCE), to look what has come, would not
 * be asked before something else happens. */
static void on_timer(uv_timer_t *timer) {
    loop_client *c = PH_CONTAINER(timer, loop_client, timer);
    if (act(c, CURL_SOCKET_TIMEOUT, 0))
        uv_async_send(&c->wake);
}

static void on_wake(uv_async_t *wake) {
    (void)wake;
}

static void closed_watch(uv_handle_t *handle) {
    free(PH_CONTAINER(handle, socket_watch, poll));
}

static void closed(loop_client *c) {
    if (--c->open == 0)
        free(c);
}

static void closed_timer(uv_handle_t *handle) {
    closed(PH_CONTAINER(handle, loop_client, timer));
}

static void closed_wake(uv_handle_t *handle) {
    closed(PH_CONTAINER(handle, loop_client, wake));
}

static socket_watch *new_watch(loop_client *c, curl_socket_t fd) {
    socket_watch *w = calloc(1, sizeof *w);
    if (!w || uv_poll_init_socket(c->loop, &w->poll, fd) != 0) {
        free(w);
        return NULL;
    }
    ph_foreign_mark((uv_handle_t *)&w->poll);
    w->client = c;
    w->fd = fd;
    curl_multi_assign(c->multi, fd, w);
    return w;
}

/* CURLMOPT_SOCKETFUNCTION */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ud, void *watch) {
    (void)easy;
    socket_watch *w = watch;
    loop_client *c = ud;
    if (what == CURL_POLL_REMOVE) {
        if (w) {
            curl_multi_assign(c->multi, fd, NULL);
            uv_close((uv_handle_t *)&w->poll, closed_watch);
        }
        return 0;
    }
    if (!w && !(w = new_watch(c, fd)))
        return -1;
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&w->poll, events, on_poll) == 0 ? 0 : -1;
}

/* CURLMOPT_TIMERFUNCTION */
static int on_timeout(CURLM *multi, long ms, void *ud) {
    (void)multi;
    loop_client *c = ud;
    if (ms < 0) {
        uv_timer_stop(&c->timer);
        return 0;
    }
    uv_update_time(c->loop); /* it stood still while tasks computed */
    uv_timer_start(&c->timer, on_timer, (uint64_t)ms, 0);
    return 0;
}

/* --- Lua --- */

static int l_client_gc(lua_State *L) {
    loop_client **held = lua_touserdata(L, 1), *c = *held;
    *held = NULL;
    if (!c)
        return 0;
    curl_multi_cleanup(c->multi); /* takes its watches away, by on_socket */
    uv_close((uv_handle_t *)&c->timer, closed_timer);
    uv_close((uv_handle_t *)&c->wake, closed_wake);
    return 0;
}

/* luv makes or takes its loop when it is first required; its finaliser must run after ours. */
static uv_loop_t *vm_loop(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "luv");
    lua_call(L, 1, 0);
    return luv_loop(L);
}

static loop_client *get_client(lua_State *L) {
    if (lua_getfield(L, LUA_REGISTRYINDEX, CLIENT) == LUA_TUSERDATA) {
        loop_client *c = *(loop_client **)lua_touserdata(L, -1);
        lua_pop(L, 1);
        return c;
    }
    lua_pop(L, 1);
    uv_loop_t *loop = vm_loop(L);
    loop_client **held = lua_newuserdatauv(L, sizeof *held, 0);
    *held = NULL;
    if (luaL_newmetatable(L, CLIENT)) {
        lua_pushcfunction(L, l_client_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    loop_client *c = calloc(1, sizeof *c);
    CURLM *multi = c ? curl_multi_init() : NULL;
    if (!multi) {
        free(c);
        luaL_error(L, "not enough memory for an HTTP client");
        return NULL; /* not reached */
    }
    *c = (loop_client){.loop = loop, .multi = multi, .L = lua_tothread(L, -1), .open = 2};
    uv_timer_init(loop, &c->timer);
    uv_async_init(loop, &c->wake, on_wake);
    uv_unref((uv_handle_t *)&c->wake);
    ph_foreign_mark((uv_handle_t *)&c->timer);
    ph_foreign_mark((uv_handle_t *)&c->wake);
    *held = c;
    lua_pop(L, 1);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, c);
    lua_setfield(L, LUA_REGISTRYINDEX, CLIENT);
    return c;
}

/* What arrives counts as the VM's memory, though it is not there yet. */
static size_t on_body(char *data, size_t size, size_t n, void *ud) {
    transfer *t = ud;
    loop_client *c = t->client;
    ph_vm *vm = ph_vm_of(c->L);
    size_t limit = ph_vm_memory_limit(vm), len = size * n;
    t->no_room = limit && ph_vm_memory(vm) + c->held + len > limit;
    if (t->no_room || !ph_answer_add(&t->answer, data, len))
        return 0;
    c->held += len;
    return len;
}

static int l_transfer_stop(lua_State *L) {
    transfer *t = luaL_checkudata(L, 1, TRANSFER);
    if (!t->is_active)
        return 0;
    release(t);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t);
    return 0;
}

/* transfer:take() -> bytes that have come and were not taken yet, status (0: none yet), headers; nil once it has
 * ended: done has the rest. */
static int l_transfer_take(lua_State *L) {
    transfer *t = luaL_checkudata(L, 1, TRANSFER);
    if (!t->is_active)
        return 0;
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    lua_pushlstring(L, t->answer.body_len ? t->answer.body : "", t->answer.body_len);
    t->client->held -= t->answer.body_len;
    t->answer.body_len = 0;
    lua_pushinteger(L, status);
    lua_pushcfunction(L, ph_answer_headers);
    lua_pushlightuserdata(L, &t->answer);
    lua_call(L, 1, 1);
    return 3;
}

static int l_transfer_gc(lua_State *L) {
    release(lua_touserdata(L, 1));
    return 0;
}

static transfer *new_transfer(lua_State *L, loop_client *c) {
    transfer *t = lua_newuserdatauv(L, sizeof *t, 1);
    memset(t, 0, sizeof *t);
    t->client = c;
    if (luaL_newmetatable(L, TRANSFER)) {
        lua_pushcfunction(L, l_transfer_gc);
        lua_setfield(L, -2, "__gc");
        lua_createtable(L, 0, 2);
        lua_pushcfunction(L, l_transfer_stop);
        lua_setfield(L, -2, "stop");
        lua_pushcfunction(L, l_transfer_take);
        lua_setfield(L, -2, "take");
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, -2);
    return t;
}

int ph_http_start(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    luaL_checkstack(L, 32, NULL);
    loop_client *c = get_client(L);
    transfer *t = new_transfer(L, c); /* 3 */
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, 3, 1);
    t->easy = curl_easy_init();
    if (!t->easy)
        return luaL_error(L, "not enough memory for an HTTP request");
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(t->easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->text);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    ph_http_set_options(L, t->easy, &t->answer, &t->headers, true);
    lua_pushvalue(L, 3);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t);
    t->is_active = curl_multi_add_handle(c->multi, t->easy) == CURLM_OK;
    if (!t->is_active) {
        lua_pushnil(L);
        lua_rawsetp(L, LUA_REGISTRYINDEX, t);
        return luaL_error(L, "not enough memory for an HTTP request");
    }
    c->active++;
    lua_settop(L, 3);
    return 1;
}

void ph_http_close_loop(lua_State *L) {
    if (lua_getfield(L, LUA_REGISTRYINDEX, CLIENT) == LUA_TUSERDATA) {
        if ((*(loop_client **)lua_touserdata(L, -1))->active > 0)
            luaL_error(L, "http.close called while requests run on the loop");
        lua_pushcfunction(L, l_client_gc);
        lua_pushvalue(L, -2);
        lua_call(L, 1, 0);
        lua_pushnil(L);
        lua_setfield(L, LUA_REGISTRYINDEX, CLIENT);
    }
    lua_pop(L, 1);
}
