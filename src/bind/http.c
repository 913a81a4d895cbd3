/* host.http: HTTP client on libcurl (>= 7.68; a loadable module).
 *   request{ url, method = "GET" ("POST" with a body), headers = { name = value }, body = string,
 *            timeout_sec = 30 (0 = none), connect_timeout_sec = 5, max_bytes = 64 MiB of body kept,
 *            follow = false (redirects), ca_file, on_headers = fn(status, headers), on_data = fn(chunk),
 *            on_idle = fn(sent, received), idle_ms = 100 (called about that often during the request, with the bytes
 *            of bodies so far),
 *            form = { { name, value }, { name =, path =, filename =, content_type = }, ... } (the body, instead of
 *            `body`; files are read while they are sent), stall_sec (a transfer that does not move for so long is
 *            "timeout") }
 *       -> { status, headers = { lower-case name = value }, body } | nil, message, code
 *     With on_data the body is handed over in chunks and not kept; returning false ends the request with what there
 *     is (stopped = true in the result); so does false from on_idle. A Lua error in a callback is raised again from request.
 *     codes: "invalid" (URL), "unavailable" (no connection, or it broke), "timeout", "too_large", "cancelled" (Ctrl-C).
 *   close()   closes the connections that this VM has kept
 *   start(options, done) -> transfer   the same on the VM's event loop (luv's): returns at once; done(answer), or
 *         done(nil, message, code, what had come), is called once, from the loop. Options as above but for on_*. transfer:stop()
 *         ends it without a call. transfer:take() -> body bytes that have come so far (each is given once), status
 *         (0: none yet), headers; nil once the transfer has ended: done's answer has the rest of the body.
 *         The message does not name the URL, since that may hold a password.
 *   multipart(fields, files) -> body, content_type
 *     fields: list of { name, value }; files: list of { name, filename = , content_type = , data = }, in that order.
 * Connections are kept per VM and used again. Only http and https. In a script VM Ctrl-C (SIGINT), SIGTERM or SIGHUP
 * during a request ends it with "cancelled"; a handler that was installed before runs afterwards. request blocks its thread:
 * for scripts and handlers; in a flow's task use ctx:http.
 * Not bound: cookies, proxies beyond the environment's, other upload streams (nobody needs them yet). */
#include "http/http.h"
#include <pthread.h>
#include <signal.h>
#include <string.h>

#define CLIENT "host.http.client"

int luaopen_host_http(lua_State *L);

typedef struct client { /* one per VM, in the registry */
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers; /* of the request in progress */
    curl_mime *form;            /* its body, when it is a form */
    ph_answer answer;           /* its memory is kept for the next request */
    lua_State *L;               /* whose callbacks to call; set during a request */
    int on_data, on_headers, on_idle; /* stack indexes, 0 = none */
    int idle_ms;
    bool announced;             /* on_headers was called */
    bool stopped, raised;
    char text[CURL_ERROR_SIZE];
} client;

/* ---- Ctrl-C and its like: the handler may only set a flag and wake the poll ---- */

static const int endings[] = {SIGINT, SIGTERM, SIGHUP};
#define ENDINGS (sizeof endings / sizeof *endings)

static volatile sig_atomic_t interrupted; /* 0, or the signal */
static CURLM *volatile to_wake;

static void on_interrupt(int sig) {
    interrupted = sig;
    if (to_wake)
        curl_multi_wakeup(to_wake); /* a write to a socket */
}

/* Takes the signals, but for those that are ignored (nohup). False outside of a script VM. */
static bool catch_interrupt(lua_State *L, CURLM *multi, struct sigaction old[ENDINGS]) {
    lua_getfield(L, LUA_REGISTRYINDEX, "host.role");
    bool ours = strcmp(lua_tostring(L, -1), "script") == 0;
    lua_pop(L, 1);
    if (!ours)
        return false;
    interrupted = 0;
    to_wake = multi;
    struct sigaction sa = {.sa_handler = on_interrupt};
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < ENDINGS; i++) {
        sigaction(endings[i], NULL, &old[i]);
        if (old[i].sa_handler != SIG_IGN)
            sigaction(endings[i], &sa, NULL);
    }
    return true;
}

static void restore_interrupt(const struct sigaction old[ENDINGS]) {
    to_wake = NULL;
    for (size_t i = 0; i < ENDINGS; i++) {
        sigaction(endings[i], &old[i], NULL);
        if (interrupted == endings[i] && old[i].sa_handler != SIG_DFL)
            raise(endings[i]);
    }
}

/* ---- what arrives ---- */

static int announce(lua_State *L) { /* announce(on_headers, lightuserdata client) */
    client *c = lua_touserdata(L, 2);
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, status);
    lua_pushcfunction(L, ph_answer_headers);
    lua_pushlightuserdata(L, &c->answer);
    lua_call(L, 1, 1);
    lua_call(L, 2, 0);
    return 0;
}

static bool guard(client *c, int nargs, int nresults) {
    if (lua_pcall(c->L, nargs, nresults, 0) == LUA_OK)
        return true;
    c->raised = true; /* the error stays on the stack */
    return false;
}

static size_t on_body(char *data, size_t size, size_t n, void *ud) {
    client *c = ud;
    lua_State *L = c->L;
    size_t len = size * n;
    if (c->on_headers && !c->announced) {
        c->announced = true;
        lua_pushcfunction(L, announce);
        lua_pushvalue(L, c->on_headers);
        lua_pushlightuserdata(L, c);
        if (!guard(c, 2, 0))
            return 0;
    }
    if (!c->on_data)
        return ph_answer_add(&c->answer, data, len) ? len : 0;
    lua_pushvalue(L, c->on_data);
    lua_pushlstring(L, data, len); /* memory errors apart, nothing here raises outside the guard */
    if (!guard(c, 1, 1))
        return 0;
    c->stopped = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
    lua_pop(L, 1);
    return c->stopped ? 0 : len;
}

/* ---- the client ---- */

static int close_client(lua_State *L) {
    client *c = lua_touserdata(L, 1);
    curl_slist_free_all(c->headers);
    curl_mime_free(c->form);
    if (c->easy)
        curl_easy_cleanup(c->easy);
    if (c->multi)
        curl_multi_cleanup(c->multi);
    ph_answer_free(&c->answer);
    memset(c, 0, sizeof *c);
    return 0;
}

static client *get_client(lua_State *L) {
    if (lua_getfield(L, LUA_REGISTRYINDEX, CLIENT) == LUA_TUSERDATA)
        return lua_touserdata(L, -1); /* anchored by staying on the stack */
    lua_pop(L, 1);
    client *c = lua_newuserdatauv(L, sizeof *c, 0);
    memset(c, 0, sizeof *c);
    luaL_setmetatable(L, CLIENT);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, CLIENT);
    c->multi = curl_multi_init();
    c->easy = curl_easy_init();
    if (!c->multi || !c->easy)
        luaL_error(L, "not enough memory for an HTTP client");
    return c;
}

/* Options stay on the stack until request returns: curl keeps pointers to some. */
static int opt_function(lua_State *L, const char *key) {
    int t = lua_getfield(L, 1, key);
    if (t == LUA_TNIL)
        return 0;
    if (t != LUA_TFUNCTION)
        luaL_error(L, "http.request: %s must be a function, got %s", key, luaL_typename(L, -1));
    return lua_gettop(L);
}

static void set_options(lua_State *L, client *c) {
    luaL_checktype(L, 1, LUA_TTABLE);
    curl_easy_reset(c->easy); /* keeps connections */
    c->announced = c->stopped = c->raised = false;
    c->text[0] = '\0';
    c->on_data = opt_function(L, "on_data");
    c->on_headers = opt_function(L, "on_headers");
    c->on_idle = opt_function(L, "on_idle");
    c->idle_ms = c->on_idle ? (int)ph_http_number(L, "idle_ms", 100) : 1000;
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->text);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    ph_http_set_options(L, c->easy, &c->answer, &c->headers, false);
    long stall = (long)ph_http_number(L, "stall_sec", 0);
    curl_easy_setopt(c->easy, CURLOPT_LOW_SPEED_LIMIT, stall > 0 ? 1L : 0L);
    curl_easy_setopt(c->easy, CURLOPT_LOW_SPEED_TIME, stall);
    ph_http_form(L, c->easy, &c->form);
}

/* Calls on_idle, if there is one. Returns whether the transfer goes on. */
static bool idle(client *c) {
    if (!c->on_idle)
        return true;
    lua_State *L = c->L;
    curl_off_t sent = 0, received = 0;
    curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    curl_easy_getinfo(c->easy, CURLINFO_SIZE_DOWNLOAD_T, &received);
    lua_pushvalue(L, c->on_idle);
    lua_pushinteger(L, sent);
    lua_pushinteger(L, received);
    if (!guard(c, 2, 1))
        return false;
    c->stopped = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
    lua_pop(L, 1);
    return !c->stopped;
}

/* Runs the transfer. Raises nothing: callbacks are guarded. */
static CURLcode perform(client *c, bool *cancelled) {
    CURLcode result = CURLE_FAILED_INIT;
    struct sigaction old[ENDINGS];
    bool caught = catch_interrupt(c->L, c->multi, old);
    if (curl_multi_add_handle(c->multi, c->easy) == CURLM_OK) {
        int running = 1;
        while (running && !(caught && interrupted)) {
            if (curl_multi_perform(c->multi, &running) != CURLM_OK)
                break;
            if (running)
                curl_multi_poll(c->multi, NULL, 0, c->idle_ms, NULL);
            if (running && !idle(c)) {
                result = CURLE_WRITE_ERROR; /* as when on_data ends it */
                break;
            }
        }
        int left;
        for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left));)
            if (m->msg == CURLMSG_DONE && m->easy_handle == c->easy)
                result = m->data.result;
        *cancelled = running && caught && interrupted;
        curl_multi_remove_handle(c->multi, c->easy);
    }
    if (caught)
        restore_interrupt(old);
    return result;
}

static int l_http_close(lua_State *L) {
    ph_http_close_loop(L);
    client *c = get_client(L);
    if (c->L)
        return luaL_error(L, "http.close called from a callback of http.request");
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, CLIENT);
    lua_pushcfunction(L, close_client);
    lua_pushlightuserdata(L, c);
    lua_call(L, 1, 0);
    return 0;
}

static int l_http_request(lua_State *L) {
    lua_settop(L, 1);
    luaL_checkstack(L, 32, NULL);
    client *c = get_client(L);
    if (c->L)
        return luaL_error(L, "http.request called from a callback of http.request");
    set_options(L, c);
    const char *url = ph_http_text(L, "url", NULL);
    c->L = L; /* only now: bad options raise, and the client must be usable after that */
    bool cancelled = false;
    CURLcode rc = perform(c, &cancelled);
    c->L = NULL;
    if (c->raised)
        return lua_error(L);
    if (cancelled)
        return ph_fail(L, PH_CANCELLED, "interrupted: %s", url);
    if (c->answer.too_large)
        return ph_fail(L, PH_TOO_LARGE, "%s: the answer has more than %zu bytes", url, c->answer.max_bytes);
    if (rc != CURLE_OK && !(c->stopped && rc == CURLE_WRITE_ERROR))
        return ph_fail(L, ph_http_code(rc), "%s: %s", url, c->text[0] ? c->text : curl_easy_strerror(rc));
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    ph_answer_push(L, &c->answer, status);
    if (c->stopped) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "stopped");
    }
    if (c->answer.body_room > (1 << 20)) /* do not hold on to a big answer */
        ph_answer_free(&c->answer);
    return 1;
}

static const luaL_Reg functions[] = {
    {"request", l_http_request},
    {"start", ph_http_start},
    {"multipart", ph_http_multipart},
    {"close", l_http_close},
    {NULL, NULL},
};

static void init_curl(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

int luaopen_host_http(lua_State *L) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    luaL_newmetatable(L, CLIENT);
    lua_pushcfunction(L, close_client);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, functions);
    return 1;
}
