/* host.http: HTTP client on libcurl (>= 7.68; a loadable module).
 *   request{ url, method = "GET" ("POST" with a body), headers = { name = value }, body = string,
 *            timeout_sec = 30 (0 = none), connect_timeout_sec = 5, max_bytes = 64 MiB of body kept,
 *            follow = false (redirects), ca_file, on_headers = fn(status, headers), on_data = fn(chunk),
 *            on_idle = fn(), idle_ms = 100 (called about that often during the request) }
 *       -> { status, headers = { lower-case name = value }, body } | nil, message, code
 *     With on_data the body is handed over in chunks and not kept; returning false ends the request with what there
 *     is (stopped = true in the result); so does false from on_idle. A Lua error in a callback is raised again from request.
 *     codes: "invalid" (URL), "unavailable" (no connection, or it broke), "timeout", "too_large", "cancelled" (Ctrl-C).
 *   close()   closes the connections that this VM has kept
 *   multipart(fields, files) -> body, content_type
 *     fields: list of { name, value }; files: list of { name, filename = , content_type = , data = }, in that order.
 * Connections are kept per VM and used again. Only http and https. In a script VM Ctrl-C (SIGINT) during a request
 * ends it with "cancelled"; a handler that was installed before runs afterwards. Blocks its thread: for scripts and
 * handlers; in a flow's task use ctx:http.
 * Not bound: cookies, proxies beyond the environment's, upload streams (nobody needs them yet). */
#include "host.h"
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define CLIENT "host.http.client"

int luaopen_host_http(lua_State *L);

typedef struct client { /* one per VM, in the registry */
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers; /* of the request in progress */
    char *head, *body;          /* received; owned, kept for the next request */
    size_t head_len, head_room, body_len, body_room;
    size_t max_bytes;
    lua_State *L;               /* whose callbacks to call; set during a request */
    int on_data, on_headers, on_idle; /* stack indexes, 0 = none */
    int idle_ms;
    bool announced;             /* on_headers was called */
    bool stopped, too_large, raised;
    char text[CURL_ERROR_SIZE];
} client;

/* ---- Ctrl-C: the handler may only set a flag and wake the poll ---- */

static volatile sig_atomic_t interrupted;
static CURLM *volatile to_wake;

static void on_interrupt(int sig) {
    (void)sig;
    interrupted = 1;
    if (to_wake)
        curl_multi_wakeup(to_wake); /* a write to a socket */
}

static bool catch_interrupt(lua_State *L, CURLM *multi, struct sigaction *old) {
    lua_getfield(L, LUA_REGISTRYINDEX, "host.role");
    bool ours = strcmp(lua_tostring(L, -1), "script") == 0;
    lua_pop(L, 1);
    if (!ours || sigaction(SIGINT, NULL, old) != 0 || old->sa_handler == SIG_IGN)
        return false;
    interrupted = 0;
    to_wake = multi;
    struct sigaction sa = {.sa_handler = on_interrupt};
    sigemptyset(&sa.sa_mask);
    return sigaction(SIGINT, &sa, NULL) == 0;
}

static void restore_interrupt(const struct sigaction *old) {
    sigaction(SIGINT, old, NULL);
    to_wake = NULL;
    if (interrupted && old->sa_handler != SIG_DFL)
        raise(SIGINT);
}

/* ---- what arrives ---- */

static bool keep(char **buf, size_t *len, size_t *room, const char *data, size_t n) {
    if (*len + n > *room) {
        size_t bigger = (*len + n) * 2;
        char *grown = realloc(*buf, bigger);
        if (!grown)
            return false;
        *buf = grown;
        *room = bigger;
    }
    memcpy(*buf + *len, data, n);
    *len += n;
    return true;
}

static size_t on_header(char *data, size_t size, size_t n, void *ud) {
    client *c = ud;
    if (n >= 5 && strncmp(data, "HTTP/", 5) == 0)
        c->head_len = 0; /* a new response: after 100 Continue or a redirect */
    return keep(&c->head, &c->head_len, &c->head_room, data, size * n) ? size * n : 0;
}

/* push_headers(lightuserdata client) -> { lower-case name = value } */
static int push_headers(lua_State *L) {
    client *c = lua_touserdata(L, 1);
    lua_newtable(L);
    const char *at = c->head, *end = c->head + c->head_len;
    while (at && at < end) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        eol = eol ? eol : end;
        const char *colon = memchr(at, ':', (size_t)(eol - at));
        if (colon) {
            const char *v = colon + 1, *stop = eol;
            while (v < stop && (*v == ' ' || *v == '\t'))
                v++;
            while (stop > v && (stop[-1] == '\r' || stop[-1] == ' '))
                stop--;
            luaL_Buffer b;
            char *name = luaL_buffinitsize(L, &b, (size_t)(colon - at));
            for (const char *p = at; p < colon; p++)
                *name++ = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
            luaL_pushresultsize(&b, (size_t)(colon - at));
            lua_pushvalue(L, -1);
            lua_pushlstring(L, v, (size_t)(stop - v));
            if (lua_pushvalue(L, -2), lua_rawget(L, -5) == LUA_TSTRING) {
                lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), lua_tostring(L, -2));
                lua_replace(L, -3);
            }
            lua_pop(L, 1);
            lua_rawset(L, -4);
            lua_pop(L, 1);
        }
        at = eol + 1;
    }
    return 1;
}

static int announce(lua_State *L) { /* announce(on_headers, lightuserdata client) */
    client *c = lua_touserdata(L, 2);
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, status);
    lua_pushcfunction(L, push_headers);
    lua_pushlightuserdata(L, c);
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
    if (!c->on_data) {
        c->too_large = c->body_len + len > c->max_bytes;
        return !c->too_large && keep(&c->body, &c->body_len, &c->body_room, data, len) ? len : 0;
    }
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
    if (c->easy)
        curl_easy_cleanup(c->easy);
    if (c->multi)
        curl_multi_cleanup(c->multi);
    free(c->head);
    free(c->body);
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
static const char *opt_text(lua_State *L, const char *key, size_t *n) {
    int t = lua_getfield(L, 1, key);
    if (t == LUA_TNIL)
        return NULL;
    if (t != LUA_TSTRING && t != LUA_TNUMBER)
        luaL_error(L, "http.request: %s must be text, got %s", key, luaL_typename(L, -1));
    return lua_tolstring(L, -1, n);
}

static double opt_number(lua_State *L, const char *key, double fallback) {
    lua_getfield(L, 1, key);
    if (!lua_isnil(L, -1) && !lua_isnumber(L, -1))
        luaL_error(L, "http.request: %s must be a number, got %s", key, luaL_typename(L, -1));
    double v = luaL_optnumber(L, -1, fallback);
    lua_pop(L, 1);
    return v;
}

static int opt_function(lua_State *L, const char *key) {
    int t = lua_getfield(L, 1, key);
    if (t == LUA_TNIL)
        return 0;
    if (t != LUA_TFUNCTION)
        luaL_error(L, "http.request: %s must be a function, got %s", key, luaL_typename(L, -1));
    return lua_gettop(L);
}

static void add_header(lua_State *L, client *c, const char *line) {
    struct curl_slist *list = curl_slist_append(c->headers, line);
    if (!list)
        luaL_error(L, "not enough memory");
    c->headers = list;
}

static void set_headers(lua_State *L, client *c) {
    curl_slist_free_all(c->headers);
    c->headers = NULL;
    add_header(L, c, "Expect:"); /* no 100-continue: it costs a round trip */
    if (lua_getfield(L, 1, "headers") == LUA_TTABLE) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
                luaL_error(L, "http.request: headers must be { name = text }");
            const char *line = lua_pushfstring(L, "%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
            if (strpbrk(line, "\r\n"))
                luaL_error(L, "http.request: header %s holds a line break", lua_tostring(L, -3));
            add_header(L, c, line);
            lua_pop(L, 2);
        }
    }
    lua_pop(L, 1);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
}

static void set_body(lua_State *L, client *c) {
    size_t n = 0;
    const char *method = opt_text(L, "method", NULL), *body = opt_text(L, "body", &n);
    if (body) {
        curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, body);
    } else if (method && strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(c->easy, CURLOPT_NOBODY, 1L);
    } else if (method && strcmp(method, "POST") == 0) {
        curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE, 0L);
    }
    if (method && !(body && strcmp(method, "POST") == 0))
        curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, method);
}

static const char *set_options(lua_State *L, client *c) {
    luaL_checktype(L, 1, LUA_TTABLE);
    curl_easy_reset(c->easy); /* keeps connections */
    c->head_len = c->body_len = 0;
    c->announced = c->stopped = c->too_large = c->raised = false;
    c->text[0] = '\0';
    c->on_data = opt_function(L, "on_data");
    c->on_headers = opt_function(L, "on_headers");
    c->on_idle = opt_function(L, "on_idle");
    c->idle_ms = c->on_idle ? (int)opt_number(L, "idle_ms", 100) : 1000;
    c->max_bytes = (size_t)opt_number(L, "max_bytes", 64 << 20);
    const char *url = opt_text(L, "url", NULL), *ca = opt_text(L, "ca_file", NULL);
    if (!url)
        luaL_error(L, "http.request: url is missing");
    curl_easy_setopt(c->easy, CURLOPT_URL, url);
    if (ca)
        curl_easy_setopt(c->easy, CURLOPT_CAINFO, ca);
    lua_getfield(L, 1, "follow");
    curl_easy_setopt(c->easy, CURLOPT_FOLLOWLOCATION, (long)lua_toboolean(L, -1));
    curl_easy_setopt(c->easy, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(c->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(c->easy, CURLOPT_USERAGENT, "pyoco-host/" PH_VERSION);
    curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)(opt_number(L, "timeout_sec", 30) * 1000));
    curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(opt_number(L, "connect_timeout_sec", 5) * 1000));
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->text);
    curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    set_headers(L, c);
    set_body(L, c);
    return url;
}

/* Calls on_idle, if there is one. Returns whether the transfer goes on. */
static bool idle(client *c) {
    if (!c->on_idle)
        return true;
    lua_State *L = c->L;
    lua_pushvalue(L, c->on_idle);
    if (!guard(c, 0, 1))
        return false;
    c->stopped = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
    lua_pop(L, 1);
    return !c->stopped;
}

/* Runs the transfer. Raises nothing: callbacks are guarded. */
static CURLcode perform(client *c, bool *cancelled) {
    CURLcode result = CURLE_FAILED_INIT;
    struct sigaction old;
    bool caught = catch_interrupt(c->L, c->multi, &old);
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
        restore_interrupt(&old);
    return result;
}

static int l_http_close(lua_State *L) {
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

static const char *code_of(CURLcode rc) {
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return PH_TIMEOUT;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CACERT_BADFILE:
        return PH_INVALID;
    default:
        return PH_UNAVAILABLE;
    }
}

static int l_http_request(lua_State *L) {
    lua_settop(L, 1);
    luaL_checkstack(L, 32, NULL);
    client *c = get_client(L);
    if (c->L)
        return luaL_error(L, "http.request called from a callback of http.request");
    const char *url = set_options(L, c);
    c->L = L; /* only now: bad options raise, and the client must be usable after that */
    bool cancelled = false;
    CURLcode rc = perform(c, &cancelled);
    c->L = NULL;
    if (c->raised)
        return lua_error(L);
    if (cancelled)
        return ph_fail(L, PH_CANCELLED, "interrupted: %s", url);
    if (c->too_large)
        return ph_fail(L, PH_TOO_LARGE, "%s: the answer has more than %zu bytes", url, c->max_bytes);
    if (rc != CURLE_OK && !(c->stopped && rc == CURLE_WRITE_ERROR))
        return ph_fail(L, code_of(rc), "%s: %s", url, c->text[0] ? c->text : curl_easy_strerror(rc));
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, status);
    lua_setfield(L, -2, "status");
    lua_pushcfunction(L, push_headers);
    lua_pushlightuserdata(L, c);
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, c->body_len ? c->body : "", c->body_len);
    lua_setfield(L, -2, "body");
    if (c->stopped) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "stopped");
    }
    if (c->body_room > (1 << 20)) { /* do not hold on to a big answer */
        free(c->body);
        c->body = NULL;
        c->body_room = 0;
    }
    return 1;
}

/* ---- multipart ---- */

static void add_quoted(luaL_Buffer *b, const char *s) { /* as browsers escape names */
    for (; *s; s++)
        if (*s == '"')
            luaL_addstring(b, "%22");
        else if (*s == '\r')
            luaL_addstring(b, "%0D");
        else if (*s == '\n')
            luaL_addstring(b, "%0A");
        else
            luaL_addchar(b, *s);
}

/* Gets field key of the table at index part; the string is anchored by the table. */
static const char *part_text(lua_State *L, int part, const char *key, lua_Integer i, size_t *n) {
    int t = i ? lua_geti(L, part, i) : lua_getfield(L, part, key);
    if (t != LUA_TSTRING)
        luaL_error(L, "http.multipart: %s must be a string, got %s", key, luaL_typename(L, -1));
    const char *s = lua_tolstring(L, -1, n);
    return s;
}

static int l_http_multipart(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    char boundary[48] = "pyoco-", *at = boundary + 6;
    unsigned char random[16];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return luaL_error(L, "no random numbers");
    for (size_t i = 0; i < sizeof random; i++)
        at += sprintf(at, "%02x", random[i]);
    lua_newtable(L); /* 3: pieces, joined at the end: a buffer would need the top of the stack */
    lua_Integer pieces = 0;
    for (int list = 1; list <= 2 && lua_istable(L, list); list++) {
        for (lua_Integer i = 1; lua_geti(L, list, i) == LUA_TTABLE; i++) {
            int part = lua_gettop(L);
            bool is_file = list == 2;
            const char *name = is_file ? part_text(L, part, "name", 0, NULL) : part_text(L, part, "name", 1, NULL);
            size_t n;
            const char *filename = is_file ? part_text(L, part, "filename", 0, NULL) : NULL;
            const char *data = is_file ? part_text(L, part, "data", 0, &n) : part_text(L, part, "value", 2, &n);
            const char *type = "application/octet-stream";
            if (is_file && lua_getfield(L, part, "content_type") == LUA_TSTRING)
                type = lua_tostring(L, -1);
            luaL_Buffer b;
            luaL_buffinit(L, &b);
            luaL_addstring(&b, "--");
            luaL_addstring(&b, boundary);
            luaL_addstring(&b, "\r\nContent-Disposition: form-data; name=\"");
            add_quoted(&b, name);
            if (is_file) {
                luaL_addstring(&b, "\"; filename=\"");
                add_quoted(&b, filename);
                luaL_addstring(&b, "\"\r\nContent-Type: ");
                add_quoted(&b, type);
                luaL_addstring(&b, "\r\n\r\n");
            } else {
                luaL_addstring(&b, "\"\r\n\r\n");
            }
            luaL_addlstring(&b, data, n);
            luaL_addstring(&b, "\r\n");
            luaL_pushresult(&b);
            lua_rawseti(L, 3, ++pieces);
            lua_settop(L, 3);
        }
        lua_settop(L, 3);
    }
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (lua_Integer i = 1; i <= pieces; i++) {
        lua_rawgeti(L, 3, i);
        luaL_addvalue(&b);
    }
    luaL_addstring(&b, "--");
    luaL_addstring(&b, boundary);
    luaL_addstring(&b, "--\r\n");
    luaL_pushresult(&b);
    lua_pushfstring(L, "multipart/form-data; boundary=%s", boundary);
    return 2;
}

static const luaL_Reg functions[] = {{"request", l_http_request}, {"multipart", l_http_multipart}, {"close", l_http_close}, {NULL, NULL}};

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
