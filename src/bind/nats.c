/* host.nats: core NATS, libnats >= 3.4.1. src/nats.h describes the two modes; this file is the blocking one.
 *
 *   nats.connect(opts) -> conn | nil, message, code       opts: url name connect_timeout_ms
 *              ping_interval_ms user password token creds tls_ca tls_cert tls_key loop
 *              retry (blocking mode: no server yet is no failure, the connection is made when there is one)
 *   nats.share(conn|nil), nats.shared() -> conn | nil, message, "unavailable"      one connection of the process
 *   nats.borrow(lightuserdata) -> loop-mode conn                                   a ph_nats_loop owned by C
 *   nats.inbox() -> string                                                         a unique reply subject
 *   host.nats.conn (blocking): request request_many publish subscribe status info flush clock_offset close
 *        clock_offset() -> seconds to add to our wall clock for the server's; nil while no tail has measured it
 *   host.nats.sub:             next close      next(0) takes what has come already
 *   host.nats.loop, host.nats.loop.sub: nats_loop.c
 * A message is a table { subject, data, reply|nil, headers|nil (name -> first value) }.
 * Ownership: a conn owns a reference of the natsConnection, a sub another one; a sub keeps its conn object (user value 1),
 *     which its collection would close.
 * Threads: the VM's. request, request_many, next and flush block up to their timeout; nothing else does.
 * Codes: unavailable (not connected, nobody answers), timeout, too_large, invalid, unauthorized, forbidden.
 * Not bound: nats.c's JetStream and KV calls; pyoco.nats.jetstream and kv are request/reply and serve both modes.
 */
#include "nats_bind.h"
#include "nats_msg.h"
#include "natsask.h"
#include "tail.h"
#include <stdlib.h>
#include <string.h>

#define CONN "host.nats.conn"
#define SUB "host.nats.sub"
#define DEFAULT_TIMEOUT_MS 5000

typedef struct conn {
    ph_nats_conn *conn; /* NULL once closed */
    bool is_borrowed;   /* nats.shared(): close() leaves it open for the others */
    bool is_sharing;    /* this object made it the process's: its end takes it back */
    natsMsg *held;      /* the message being turned into a table; kept here so that an error cannot leak it */
    ph_nats_asker asker;
} conn;

typedef struct sub {
    natsSubscription *sub; /* NULL once closed */
    ph_nats_conn *conn;    /* counted reference, while sub is there */
    natsMsg *held;
} sub;

int luaopen_host_nats(lua_State *L);

static conn *check_conn(lua_State *L) {
    conn *c = luaL_checkudata(L, 1, CONN);
    luaL_argcheck(L, c->conn, 1, "the NATS connection is closed");
    return c;
}

static conn *new_conn(lua_State *L) {
    conn *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (conn){0};
    luaL_setmetatable(L, CONN);
    return c;
}

static sub *new_sub(lua_State *L) {
    sub *s = lua_newuserdatauv(L, sizeof *s, 1);
    *s = (sub){0};
    luaL_setmetatable(L, SUB);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return s;
}

/* Subscribes; queue may be NULL. */
static natsStatus open_sub(sub *s, conn *c, const char *subject, const char *queue) {
    natsConnection *nc = ph_nats_raw(c->conn);
    natsStatus st = queue ? natsConnection_QueueSubscribeSync(&s->sub, nc, subject, queue)
                          : natsConnection_SubscribeSync(&s->sub, nc, subject);
    if (st == NATS_OK)
        s->conn = ph_nats_retain(c->conn);
    return st;
}

static void close_sub(sub *s) {
    if (!s->sub)
        return;
    ph_nats_unsubscribe(ph_nats_raw(s->conn), s->sub);
    ph_nats_release(s->conn);
    s->sub = NULL;
    s->conn = NULL;
}

static int l_conn_close(lua_State *L) {
    conn *c = luaL_checkudata(L, 1, CONN);
    ph_nats_free(c->held);
    c->held = NULL;
    if (!c->conn)
        return 0;
    if (c->is_sharing)
        ph_nats_share(NULL);
    if (!c->is_borrowed)
        ph_nats_close(c->conn);
    ph_nats_asker_close(&c->asker); /* after it: with TLS, nats.c's reader may be ending the session already */
    ph_nats_release(c->conn);
    c->conn = NULL;
    return 0;
}

static int l_sub_close(lua_State *L) {
    sub *s = luaL_checkudata(L, 1, SUB);
    ph_nats_free(s->held);
    s->held = NULL;
    close_sub(s);
    return 0;
}

/* Pushes *held as a table and frees it. */
static int push_held(lua_State *L, natsMsg **held) {
    lb_nats_push(L, *held);
    ph_nats_free(*held);
    *held = NULL;
    return 1;
}

static bool is_connected(const conn *c) {
    return natsConnection_Status(ph_nats_raw(c->conn)) == NATS_CONN_STATUS_CONNECTED;
}

static const char *status_text(const conn *c) {
    switch (natsConnection_Status(ph_nats_raw(c->conn))) {
    case NATS_CONN_STATUS_CONNECTED:
        return "connected";
    case NATS_CONN_STATUS_CLOSED:
        return "closed";
    default:
        return "reconnecting";
    }
}

static int fail_disconnected(lua_State *L, const conn *c) {
    return ph_fail(L, PH_UNAVAILABLE, "not connected to NATS (%s): %s", ph_nats_url(c->conn), status_text(c));
}

static int fail_status(lua_State *L, natsStatus s, const char *verb, const char *subject, int64_t timeout_ms) {
    if (s == NATS_TIMEOUT)
        return ph_fail(L, PH_TIMEOUT, "no reply on %s within %lld ms", subject, (long long)timeout_ms);
    if (s == NATS_NO_RESPONDERS)
        return ph_fail(L, PH_UNAVAILABLE, "nobody answers on %s", subject);
    char what[320];
    snprintf(what, sizeof what, "cannot %s %.200s", verb, subject);
    ph_error err = {0};
    const char *code = ph_nats_fail(s, &err, what);
    return ph_fail(L, code, "%s", err.text);
}

static int l_conn_request(lua_State *L) {
    conn *c = check_conn(L);
    lb_nats_out o;
    int64_t timeout_ms = lb_nats_timeout(L, 4, DEFAULT_TIMEOUT_MS);
    int failed = lb_nats_read(L, &o, 2, 3, 0, 5);
    if (failed)
        return failed;
    if (!is_connected(c))
        return fail_disconnected(L, c);
    natsStatus s = ph_nats_ask(&c->asker, ph_nats_raw(c->conn), &o.out, timeout_ms, &c->held);
    if (s != NATS_OK)
        return fail_status(L, s, "send a request to", o.out.subject, timeout_ms);
    return push_held(L, &c->held);
}

static int l_conn_publish(lua_State *L) {
    conn *c = check_conn(L);
    lb_nats_out o;
    int failed = lb_nats_read(L, &o, 2, 3, 4, 5);
    if (failed)
        return failed;
    if (!is_connected(c))
        return fail_disconnected(L, c);
    natsStatus s = ph_nats_send(ph_nats_raw(c->conn), &o.out);
    if (s != NATS_OK)
        return fail_status(L, s, "publish to", o.out.subject, 0);
    lua_pushboolean(L, 1);
    return 1;
}

/* --- many requests at once --- */

/* Sends entry i (on top of the stack) with reply inbox.i. Returns 0, or 3 after pushing nil, message, code. */
static int send_entry(lua_State *L, const conn *c, int i, const char *inbox) {
    luaL_argexpected(L, lua_istable(L, -1), 2, "list of { subject, data, headers }");
    int entry = lua_gettop(L);
    for (int k = 1; k <= 3; k++)
        lua_geti(L, entry, k);
    lb_nats_out o;
    int failed = lb_nats_read(L, &o, entry + 1, entry + 2, 0, entry + 3);
    if (failed)
        return failed;
    char reply[96];
    snprintf(reply, sizeof reply, "%s.%d", inbox, i);
    o.out.reply = reply;
    natsStatus s = ph_nats_send(ph_nats_raw(c->conn), &o.out);
    return s == NATS_OK ? 0 : fail_status(L, s, "send a request to", o.out.subject, 0);
}

/* replies[i] = { message, code } from the nil, message, code on the stack. */
static void set_failure(lua_State *L, int replies, int i) {
    int top = lua_gettop(L);
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, top - 1);
    lua_setfield(L, -2, "message");
    lua_pushvalue(L, top);
    lua_setfield(L, -2, "code");
    lua_seti(L, replies, i);
}

/* Takes replies until none is missing or the time is over. Returns how many were "no responders": nats.c does not
 * say whose, but they account for entries that stay without a reply. */
static int collect(lua_State *L, sub *s, int replies, int count, int waiting, int64_t deadline) {
    int unanswered = 0, base = lua_gettop(L);
    while (waiting > 0) {
        int64_t left = deadline - nats_Now();
        natsStatus st = natsSubscription_NextMsg(&s->held, s->sub, left > 0 ? left : 1);
        if (st == NATS_NO_RESPONDERS) {
            unanswered++;
            waiting--;
            continue;
        }
        if (st != NATS_OK)
            break;
        const char *dot = strrchr(natsMsg_GetSubject(s->held), '.');
        int i = dot ? atoi(dot + 1) : 0;
        bool is_expected = i >= 1 && i <= count && lua_geti(L, replies, i) == LUA_TNIL; /* not a second answer */
        lua_settop(L, base);
        if (!is_expected) {
            ph_nats_free(s->held);
            s->held = NULL;
            continue;
        }
        lb_nats_push(L, s->held);
        lua_seti(L, replies, i);
        ph_nats_free(s->held);
        s->held = NULL;
        waiting--;
    }
    return unanswered;
}

static int l_conn_request_many(lua_State *L) {
    conn *c = check_conn(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    int64_t timeout_ms = lb_nats_timeout(L, 3, DEFAULT_TIMEOUT_MS);
    int count = (int)luaL_len(L, 2);
    lua_createtable(L, count, 0);
    int replies = lua_gettop(L);
    sub *s = new_sub(L);
    if (!is_connected(c))
        return fail_disconnected(L, c);
    char inbox[80] = "", all[96];
    natsInbox *unique = NULL;
    natsStatus st = natsInbox_Create(&unique);
    if (st == NATS_OK) {
        snprintf(inbox, sizeof inbox, "%s", unique);
        natsInbox_Destroy(unique);
        snprintf(all, sizeof all, "%s.*", inbox);
        st = open_sub(s, c, all, NULL);
    }
    if (st != NATS_OK)
        return fail_status(L, st, "subscribe to", inbox, 0);
    natsSubscription_SetPendingLimits(s->sub, -1, -1);
    int waiting = 0;
    int base = lua_gettop(L);
    for (int i = 1; i <= count; i++) {
        lua_geti(L, 2, i);
        if (send_entry(L, c, i, inbox))
            set_failure(L, replies, i);
        else
            waiting++;
        lua_settop(L, base);
    }
    int unanswered = collect(L, s, replies, count, waiting, nats_Now() + timeout_ms);
    for (int i = 1; i <= count; i++) {
        if (lua_geti(L, replies, i) == LUA_TNIL) {
            if (unanswered > 0)
                ph_fail(L, PH_UNAVAILABLE, "nobody answers on the request's subject");
            else if (is_connected(c))
                ph_fail(L, PH_TIMEOUT, "no reply within %lld ms", (long long)timeout_ms);
            else
                fail_disconnected(L, c);
            set_failure(L, replies, i);
        }
        lua_settop(L, base);
    }
    close_sub(s);
    lua_settop(L, replies);
    return 1;
}

/* --- subscriptions --- */

static int l_conn_subscribe(lua_State *L) {
    conn *c = check_conn(L);
    const char *subject = luaL_checkstring(L, 2), *queue = luaL_optstring(L, 3, NULL);
    sub *s = new_sub(L);
    natsStatus st = open_sub(s, c, subject, queue);
    if (st != NATS_OK)
        return fail_status(L, st, "subscribe to", subject, 0);
    return 1;
}

static int l_sub_next(lua_State *L) {
    sub *s = luaL_checkudata(L, 1, SUB);
    luaL_argcheck(L, s->sub, 1, "the subscription is closed");
    int64_t timeout_ms = lua_tonumber(L, 2) == 0 && lua_isnumber(L, 2) ? 0 : lb_nats_timeout(L, 2, DEFAULT_TIMEOUT_MS);
    natsStatus st = natsSubscription_NextMsg(&s->held, s->sub, timeout_ms);
    if (st == NATS_TIMEOUT)
        return ph_fail(L, PH_TIMEOUT, "no message within %lld ms", (long long)timeout_ms);
    if (st != NATS_OK)
        return fail_status(L, st, "receive from", natsSubscription_GetSubject(s->sub), timeout_ms);
    return push_held(L, &s->held);
}

/* --- facts about a connection --- */

static int l_conn_status(lua_State *L) {
    conn *c = luaL_checkudata(L, 1, CONN);
    lua_pushstring(L, c->conn ? status_text(c) : "closed");
    return 1;
}

void lb_nats_push_info(lua_State *L, const ph_nats_info *info) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, info->url);
    lua_setfield(L, -2, "url");
    if (*info->server_id) {
        lua_pushstring(L, info->server_id);
        lua_setfield(L, -2, "server_id");
    }
    lua_pushinteger(L, info->max_payload);
    lua_setfield(L, -2, "max_payload");
    lua_pushinteger(L, (lua_Integer)info->reconnects);
    lua_setfield(L, -2, "reconnects");
}

static int l_conn_info(lua_State *L) {
    conn *c = check_conn(L);
    natsConnection *nc = ph_nats_raw(c->conn);
    ph_nats_info info = {.max_payload = natsConnection_GetMaxPayload(nc)};
    char url[512] = "";
    bool is_known = natsConnection_GetConnectedUrl(nc, url, sizeof url) == NATS_OK && *url;
    ph_nats_redact(is_known ? url : ph_nats_url(c->conn), info.url, sizeof info.url);
    natsConnection_GetConnectedServerId(nc, info.server_id, sizeof info.server_id);
    natsStatistics *stats = NULL;
    if (natsStatistics_Create(&stats) == NATS_OK && natsConnection_GetStats(nc, stats) == NATS_OK)
        natsStatistics_GetCounts(stats, NULL, NULL, NULL, NULL, &info.reconnects);
    natsStatistics_Destroy(stats);
    lb_nats_push_info(L, &info);
    return 1;
}

static int l_conn_flush(lua_State *L) {
    conn *c = check_conn(L);
    int64_t timeout_ms = lb_nats_timeout(L, 2, DEFAULT_TIMEOUT_MS);
    if (!is_connected(c))
        return fail_disconnected(L, c);
    natsStatus s = natsConnection_FlushTimeout(ph_nats_raw(c->conn), timeout_ms);
    if (s != NATS_OK)
        return fail_status(L, s, "flush", "the connection", timeout_ms);
    lua_pushboolean(L, 1);
    return 1;
}

ph_nats_conn *lb_nats_check_conn(lua_State *L, int arg) {
    conn *c = luaL_checkudata(L, arg, CONN);
    luaL_argcheck(L, c->conn, arg, "the NATS connection is closed");
    return c->conn;
}

int lb_nats_clock_offset(lua_State *L) {
    double seconds;
    if (!ph_clock_offset(&seconds))
        return 0;
    lua_pushnumber(L, seconds);
    return 1;
}

static int l_conn_tostring(lua_State *L) {
    conn *c = luaL_checkudata(L, 1, CONN);
    lua_pushfstring(L, CONN " (%s)", c->conn ? status_text(c) : "closed");
    return 1;
}

/* --- the module --- */

static const char *const option_names[] = {
    "url",      "name",    "connect_timeout_ms", "ping_interval_ms", "user", "password", "token", "creds", "tls_ca",
    "tls_cert", "tls_key", "loop",    "retry",
};

static void check_option_names(lua_State *L, int index) {
    lua_pushnil(L);
    while (lua_next(L, index)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        bool is_known = false;
        for (size_t i = 0; i < sizeof option_names / sizeof *option_names; i++)
            is_known = is_known || strcmp(name, option_names[i]) == 0;
        if (!is_known)
            luaL_error(L,
                       "nats.connect: unknown option '%s' (known: url name connect_timeout_ms ping_interval_ms user "
                       "password token creds tls_ca tls_cert tls_key loop retry)",
                       name);
        lua_pop(L, 1);
    }
}

/* A string option; it stays alive in the options table. */
static const char *string_option(lua_State *L, const char *name) {
    int type = lua_getfield(L, 1, name);
    if (type != LUA_TNIL && type != LUA_TSTRING)
        luaL_error(L, "nats.connect: %s must be a string, not a %s", name, luaL_typename(L, -1));
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1);
    return text && *text ? text : NULL;
}

static int l_nats_connect(lua_State *L) {
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    check_option_names(L, 1);
    ph_nats_options o = {.url = string_option(L, "url"),
                         .name = string_option(L, "name"),
                         .user = string_option(L, "user"),
                         .password = string_option(L, "password"),
                         .token = string_option(L, "token"),
                         .creds = string_option(L, "creds"),
                         .tls_ca = string_option(L, "tls_ca"),
                         .tls_cert = string_option(L, "tls_cert"),
                         .tls_key = string_option(L, "tls_key")};
    lua_getfield(L, 1, "connect_timeout_ms");
    o.connect_timeout_ms = lb_nats_timeout(L, -1, 2000);
    lua_getfield(L, 1, "retry");
    o.is_retrying = lua_toboolean(L, -1);
    lua_getfield(L, 1, "ping_interval_ms");
    o.ping_interval_ms = lb_nats_timeout(L, -1, 20000);
    lua_getfield(L, 1, "loop");
    if (lua_toboolean(L, -1))
        return lb_nats_connect_loop(L, &o);
    ph_error err = {0};
    conn *c = new_conn(L);
    const char *code = ph_nats_connect(&c->conn, &o, &err);
    return code ? ph_fail(L, code, "%s", err.text) : 1;
}

static int l_nats_share(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        ph_nats_share(NULL);
        return 0;
    }
    conn *c = check_conn(L);
    ph_nats_share(c->conn);
    c->is_sharing = true;
    return 0;
}

static int l_nats_shared(lua_State *L) {
    conn *c = new_conn(L);
    c->is_borrowed = true;
    c->conn = ph_nats_shared();
    return c->conn ? 1 : ph_fail(L, PH_UNAVAILABLE, "no NATS connection is shared in this process");
}

static int l_nats_inbox(lua_State *L) {
    natsInbox *inbox = NULL;
    char text[80];
    natsStatus s = natsInbox_Create(&inbox);
    if (s != NATS_OK)
        return fail_status(L, s, "make", "an inbox", 0);
    snprintf(text, sizeof text, "%s", inbox);
    natsInbox_Destroy(inbox);
    lua_pushstring(L, text);
    return 1;
}

static const luaL_Reg conn_methods[] = {
    {"request", l_conn_request}, {"request_many", l_conn_request_many},
    {"publish", l_conn_publish}, {"subscribe", l_conn_subscribe},
    {"status", l_conn_status},   {"info", l_conn_info},
    {"flush", l_conn_flush},     {"clock_offset", lb_nats_clock_offset},
    {"close", l_conn_close},
    {NULL, NULL},
};

static const luaL_Reg conn_meta[] = {
    {"__gc", l_conn_close},
    {"__close", l_conn_close},
    {"__tostring", l_conn_tostring},
    {NULL, NULL},
};

static const luaL_Reg sub_methods[] = {{"next", l_sub_next}, {"close", l_sub_close}, {NULL, NULL}};

static const luaL_Reg sub_meta[] = {{"__gc", l_sub_close}, {"__close", l_sub_close}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"connect", l_nats_connect}, {"share", l_nats_share}, {"shared", l_nats_shared},
    {"borrow", lb_nats_borrow},  {"inbox", l_nats_inbox}, {NULL, NULL},
};

int luaopen_host_nats(lua_State *L) {
    ph_class(L, CONN, conn_methods, conn_meta);
    ph_class(L, SUB, sub_methods, sub_meta);
    luaL_newlib(L, functions);
    return 1;
}
