/* host.httpd: the HTTP server (CivetWeb 1.15, a loadable module).
 *   serve(options) -> server | nil, message, code
 *       script          path of the app's script, loaded by each VM of the pool (roles "http" and "service")
 *       boot            text for host.boot() of these VMs
 *       host            IPv4 address, default "127.0.0.1";   port  default 8000, 0 = any free one
 *       threads         connections at once, default 256 (8 to 4096)
 *       vms             VMs for requests, default 2 x cores, 4 to 16
 *       max_body_bytes  default 8 MiB, more is 413
 *       request_timeout_ms, heartbeat_ms   defaults 5000, 2000
 *       handler_timeout_ms   default 30000: a handler that runs longer is cut, 500
 *       max_uploads     large uploads at once, default 4; more are 503
 *       spool_dir       where they are kept while they arrive, default "/var/tmp"
 *       continue_ms     default 4000: an upload that is being handled gets an interim answer that often, 4 times at most
 *       service         false: no service VM in this process; default true
 *       static_dir      folder under /static/
 *       runs_bucket     KV bucket whose changes { stream = "watch" } follows
 *     codes: "conflict" port in use; "forbidden"; "invalid" the script does not load, or a bad option;
 *     "unavailable".
 *   server:port() -> integer
 *   server:stats() -> { requests, refused, in_flight, streams, uploads, script_version, vms, busy, queued, calls, reload_error }
 *   server:stop([drain_sec = 10])   refuses new requests, ends streams, waits, cuts what has not ended, closes; idempotent
 * Owns: threads, VMs. Closing or collecting the server stops it. Threads: serve and stop by the owner; the rest runs
 * on its own. */
#include "../httpd/httpd.h"
#include <string.h>

#define SERVER "host.httpd.server"

int luaopen_host_httpd(lua_State *L);

typedef struct handle {
    ph_httpd *server; /* NULL once stopped */
} handle;

static const char *const option_names[] = {"script", "boot", "host", "port", "threads", "vms", "max_body_bytes",
                                           "request_timeout_ms", "heartbeat_ms", "handler_timeout_ms", "max_uploads", "continue_ms",
                                           "spool_dir", "service", "static_dir",
                                           "runs_bucket", NULL};

/* An unknown option is a bug of the caller. */
static void check_names(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2);
        int i = 0;
        while (option_names[i] && strcmp(option_names[i], key) != 0)
            i++;
        if (!option_names[i])
            luaL_error(L, "httpd.serve: unknown option '%s'", key);
        lua_pop(L, 1);
    }
}

static lua_Integer integer(lua_State *L, const char *name, lua_Integer fallback, lua_Integer min, lua_Integer max) {
    lua_getfield(L, 1, name);
    int ok = 1;
    lua_Integer v = lua_isnil(L, -1) ? fallback : lua_tointegerx(L, -1, &ok);
    if (!ok || v < min || v > max)
        luaL_error(L, "httpd.serve: %s must be an integer from %I to %I", name, min, max);
    lua_pop(L, 1);
    return v;
}

/* The text stays on the stack, so that it lives through the call. */
static const char *text(lua_State *L, const char *name, const char *fallback, size_t *n) {
    lua_getfield(L, 1, name);
    if (lua_isnil(L, -1))
        return fallback;
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "httpd.serve: %s must be text, got %s", name, luaL_typename(L, -1));
    return lua_tolstring(L, -1, n);
}

static int l_httpd_serve(lua_State *L) {
    check_names(L);
    lua_settop(L, 1);
    size_t host_len = 9;
    ph_httpd_options o = {0};
    o.script = text(L, "script", NULL, NULL);
    luaL_argcheck(L, o.script, 1, "script is missing");
    o.boot = text(L, "boot", NULL, &o.boot_len);
    const char *host = text(L, "host", "127.0.0.1", &host_len);
    luaL_argcheck(L, host_len < sizeof o.host, 1, "host is too long");
    strcpy(o.host, host);
    o.static_dir = text(L, "static_dir", NULL, NULL);
    o.runs_bucket = text(L, "runs_bucket", NULL, NULL);
    o.port = (int)integer(L, "port", 8000, 0, 65535);
    o.threads = (int)integer(L, "threads", 256, 8, 4096);
    o.vms = (int)integer(L, "vms", 0, 0, 256);
    o.max_body_bytes = (size_t)integer(L, "max_body_bytes", 8 << 20, 0, 1 << 30);
    o.request_timeout_ms = (int)integer(L, "request_timeout_ms", 5000, 100, 600000);
    o.heartbeat_ms = (int)integer(L, "heartbeat_ms", 2000, 10, 60000);
    o.handler_timeout_ms = (int)integer(L, "handler_timeout_ms", 30000, 100, 3600000);
    o.max_uploads = (int)integer(L, "max_uploads", 4, 1, 64);
    o.continue_ms = (int)integer(L, "continue_ms", 4000, 10, 60000);
    o.spool_dir = text(L, "spool_dir", "/var/tmp", NULL);
    lua_getfield(L, 1, "service");
    o.service = lua_isnil(L, -1) || lua_toboolean(L, -1);

    handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    h->server = NULL;
    luaL_setmetatable(L, SERVER);
    ph_error err = {0};
    const char *code;
    h->server = ph_httpd_start(&o, &err, &code);
    return h->server ? 1 : ph_fail(L, code, "%s", err.text);
}

static ph_httpd *check_server(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, SERVER);
    if (!h->server)
        luaL_error(L, "attempt to use a stopped HTTP server");
    return h->server;
}

static int l_server_stop(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, SERVER);
    double drain = luaL_optnumber(L, 2, 10);
    ph_httpd *server = h->server;
    h->server = NULL;
    ph_httpd_stop(server, drain);
    return 0;
}

/* __gc and __close: at once. */
static int l_server_close(lua_State *L) {
    lua_settop(L, 1);
    lua_pushnumber(L, 0);
    return l_server_stop(L);
}

static int l_server_port(lua_State *L) {
    lua_pushinteger(L, check_server(L)->port);
    return 1;
}

static void set_integer(lua_State *L, const char *key, lua_Integer v) {
    lua_pushinteger(L, v);
    lua_setfield(L, -2, key);
}

static int l_server_stats(lua_State *L) {
    ph_httpd *server = check_server(L);
    ph_pool_stats s = ph_pool_get_stats(server->pool);
    lua_createtable(L, 0, 10);
    set_integer(L, "requests", (lua_Integer)atomic_load(&server->requests));
    set_integer(L, "refused", (lua_Integer)atomic_load(&server->refused));
    set_integer(L, "in_flight", atomic_load(&server->in_flight));
    set_integer(L, "streams", atomic_load(&server->streams));
    set_integer(L, "uploads", atomic_load(&server->uploads));
    set_integer(L, "script_version", s.version);
    set_integer(L, "vms", s.vms);
    set_integer(L, "busy", s.busy);
    set_integer(L, "queued", s.queued);
    set_integer(L, "calls", (lua_Integer)s.calls);
    char error[2048];
    if (ph_pool_reload_error(server->pool, error, sizeof error)) {
        lua_pushstring(L, error);
        lua_setfield(L, -2, "reload_error");
    }
    return 1;
}

static int l_server_tostring(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, SERVER);
    if (h->server)
        lua_pushfstring(L, "%s (port %d)", SERVER, h->server->port);
    else
        lua_pushstring(L, SERVER " (stopped)");
    return 1;
}

static const luaL_Reg functions[] = {{"serve", l_httpd_serve}, {NULL, NULL}};

static const luaL_Reg methods[] = {
    {"port", l_server_port}, {"stats", l_server_stats}, {"stop", l_server_stop}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__gc", l_server_close}, {"__close", l_server_close}, {"__tostring", l_server_tostring}, {NULL, NULL}};

int luaopen_host_httpd(lua_State *L) {
    ph_class(L, SERVER, methods, metamethods);
    luaL_newlib(L, functions);
    return 1;
}
