/* The Lua side of one request: what app:handle(req) gets, and the bytes made of what it returns.
 *
 * req = { method, path (unescaped), raw_path, query_string ("" when absent), headers {lower-case name = value},
 *         body (string), remote_addr, scheme, derived (asked for by the call before) }; of an upload body is "" and
 *         parts = { { head = its header lines, data } or, the file, { head, path, size, sha256 } }
 * A result is { status = 200, headers = { name = text | {text...} }, body = string }, or asks for more: asked.c,
 * derive.c.
 * All output is built in memory that the exchange owns, so a Lua error leaks nothing. */
#include "httpd.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void append(lua_State *L, ph_exchange *x, const char *data, size_t n) {
    if (x->out_len + n > x->out_room) {
        size_t room = (x->out_len + n) * 2;
        char *grown = realloc(x->out, room);
        if (!grown)
            luaL_error(L, "not enough memory for the answer");
        x->out = grown;
        x->out_room = room;
    }
    if (n)
        memcpy(x->out + x->out_len, data, n);
    x->out_len += n;
}

static void append_text(lua_State *L, ph_exchange *x, const char *text) {
    append(L, x, text, strlen(text));
}

static int hex(int c) {
    return isdigit(c) ? c - '0' : isxdigit(c) ? tolower(c) - 'a' + 10 : -1;
}

/* Pushes path with %XX replaced; an invalid escape stays as it is. */
static void push_unescaped(lua_State *L, const char *path) {
    if (!strchr(path, '%')) {
        lua_pushstring(L, path);
        return;
    }
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (; *path; path++) {
        int hi = *path == '%' ? hex((unsigned char)path[1]) : -1;
        int lo = hi >= 0 ? hex((unsigned char)path[2]) : -1;
        if (lo >= 0) {
            luaL_addchar(&b, (char)(hi * 16 + lo));
            path += 2;
        } else {
            luaL_addchar(&b, *path);
        }
    }
    luaL_pushresult(&b);
}

/* A field's value without the blanks behind it, which CivetWeb leaves. */
static void push_value(lua_State *L, const char *value) {
    size_t n = strlen(value);
    while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
        n--;
    lua_pushlstring(L, value, n);
}

static void push_headers(lua_State *L, const struct mg_request_info *info) {
    lua_createtable(L, 0, info->num_headers);
    for (int i = 0; i < info->num_headers; i++) {
        char name[128];
        size_t n = 0;
        for (const char *c = info->http_headers[i].name; *c && n + 1 < sizeof name; c++)
            name[n++] = (char)tolower((unsigned char)*c);
        lua_pushlstring(L, name, n);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TSTRING) { /* a repeated field: one list, as RFC 9110 5.3 allows */
            lua_pushliteral(L, ", ");
            push_value(L, info->http_headers[i].value);
            lua_concat(L, 3);
        } else {
            lua_pop(L, 1);
            push_value(L, info->http_headers[i].value);
        }
        lua_rawset(L, -3);
    }
}

static void set_text(lua_State *L, const char *key, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_bytes(lua_State *L, const char *key, const char *bytes, size_t n) {
    lua_pushlstring(L, bytes, n);
    lua_setfield(L, -2, key);
}

static void push_parts(lua_State *L, const ph_upload *u) {
    lua_createtable(L, u->count, 0);
    for (int i = 0; i < u->count; i++) {
        const ph_upload_part *part = &u->parts[i];
        lua_createtable(L, 0, 4);
        set_bytes(L, "head", part->head, part->head_len);
        if (part->is_file) {
            lua_pushfstring(L, "/proc/self/fd/%d", u->fd); /* its only name, good while the request lasts */
            lua_setfield(L, -2, "path");
            lua_pushinteger(L, (lua_Integer)part->len);
            lua_setfield(L, -2, "size");
            set_text(L, "sha256", u->sha256);
        } else {
            set_bytes(L, "data", part->data ? part->data : "", part->len);
        }
        lua_seti(L, -2, i + 1);
    }
}

static void push_request(lua_State *L, const ph_exchange *x) {
    lua_createtable(L, 0, 12); /* room for what the pipeline adds */
    set_text(L, "method", x->info->request_method);
    push_unescaped(L, x->path);
    lua_setfield(L, -2, "path");
    set_text(L, "raw_path", x->path);
    set_text(L, "query_string", x->info->query_string ? x->info->query_string : "");
    set_text(L, "remote_addr", x->info->remote_addr);
    set_text(L, "scheme", x->info->is_ssl ? "https" : "http");
    lua_pushlstring(L, x->body ? x->body : "", x->body_len);
    lua_setfield(L, -2, "body");
    push_headers(L, x->info);
    lua_setfield(L, -2, "headers");
    if (x->wants_runs) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "has_waited");
    }
    if (x->upload) {
        push_parts(L, x->upload);
        lua_setfield(L, -2, "parts");
    }
    if (x->derive.is_done) {
        lua_pushlstring(L, (const char *)x->derive.key, sizeof x->derive.key);
        lua_setfield(L, -2, "derived");
    }
}

static void append_header(lua_State *L, ph_exchange *x, const char *name, int index) {
    size_t n;
    const char *value = lua_tolstring(L, index, &n);
    if (!value)
        luaL_error(L, "response header %s must be text, got %s", name, luaL_typename(L, index));
    if (memchr(value, '\r', n) || memchr(value, '\n', n) || memchr(value, '\0', n))
        luaL_error(L, "response header %s holds a line break or NUL", name);
    append_text(L, x, name);
    append(L, x, ": ", 2);
    append(L, x, value, n);
    append(L, x, "\r\n", 2);
}

/* The headers of the result on top of the stack. */
static void append_headers(lua_State *L, ph_exchange *x) {
    if (lua_getfield(L, -1, "headers") != LUA_TTABLE) {
        lua_pop(L, 1);
        return;
    }
    int t = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, t)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "response headers must have names, got a %s key", luaL_typename(L, -2));
        const char *name = lua_tostring(L, -2);
        if (name[strcspn(name, "\r\n: ")])
            luaL_error(L, "response header name '%s' is not valid", name);
        if (lua_istable(L, -1)) {
            for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
                append_header(L, x, name, -1);
                lua_pop(L, 1);
            }
            lua_pop(L, 1);
        } else if (strcasecmp(name, "content-length") != 0 && strcasecmp(name, "connection") != 0) {
            append_header(L, x, name, -1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void read_response(lua_State *L, ph_exchange *x) {
    lua_getfield(L, -1, "status");
    lua_Integer status = luaL_optinteger(L, -1, 200);
    lua_pop(L, 1);
    if (status < 200 || status > 599)
        luaL_error(L, "response status must be 200 to 599, got %d", (int)status);
    lua_getfield(L, -1, "body");
    size_t n = 0;
    const char *body = "";
    if (!lua_isnil(L, -1) && !(body = lua_tolstring(L, -1, &n)))
        luaL_error(L, "response body must be a string, got %s", luaL_typename(L, -1));
    lua_insert(L, -2);
    char head[160];
    bool has_body = status != 204 && status != 304;
    snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nconnection: %s\r\n", (int)status, ph_httpd_reason((int)status),
             x->keep_alive ? "keep-alive" : "close");
    append_text(L, x, head);
    x->fields_at = x->out_len;
    append_headers(L, x);
    x->fields_len = x->out_len - x->fields_at;
    bool is_object = x->stream.kind == PH_STREAM_OBJECT; /* its bytes follow from elsewhere */
    if (has_body)
        snprintf(head, sizeof head, "content-length: %llu\r\n\r\n",
                 is_object ? (unsigned long long)x->stream.object.size : (unsigned long long)n);
    else
        snprintf(head, sizeof head, "\r\n");
    append_text(L, x, head);
    if (has_body && !is_object && strcmp(x->info->request_method, "HEAD") != 0)
        append(L, x, body, n);
}

/* Whether the table on top of the stack asks for a key (derive.c). */
static bool asks_for_key(lua_State *L, ph_exchange *x) {
    bool asks = lua_getfield(L, -1, "derive") == LUA_TTABLE;
    if (asks)
        ph_httpd_read_derive(L, x);
    lua_pop(L, 1);
    return asks;
}

int ph_httpd_handle(lua_State *L) {
    ph_exchange *x = lua_touserdata(L, 2);
    lua_getfield(L, 1, "handle");
    lua_pushvalue(L, 1);
    push_request(L, x);
    lua_call(L, 2, 1);
    if (!lua_istable(L, -1))
        return luaL_error(L, "app:handle must return a response table, got %s", luaL_typename(L, -1));
    if (asks_for_key(L, x))
        return 0;
    ph_httpd_read_stream(L, x);
    if (x->stream.kind == PH_STREAM_NONE || x->stream.kind == PH_STREAM_WAIT || x->stream.kind == PH_STREAM_OBJECT)
        read_response(L, x);
    return 0;
}

/* Copies a text of the table on top of the stack. */
static void copy_text(lua_State *L, const char *key, char *out, size_t room) {
    lua_getfield(L, -1, key);
    const char *text = lua_tostring(L, -1);
    if (!text || strlen(text) >= room)
        luaL_error(L, "app:admit: upload.%s is no text, or too long", key);
    strcpy(out, text);
    lua_pop(L, 1);
}

int ph_httpd_admit(lua_State *L) {
    ph_exchange *x = lua_touserdata(L, 2);
    if (lua_getfield(L, 1, "admit") != LUA_TFUNCTION)
        return 0; /* an app that takes none */
    lua_pushvalue(L, 1);
    push_request(L, x);
    lua_call(L, 2, 1);
    if (lua_isnil(L, -1))
        return 0;
    if (!lua_istable(L, -1))
        return luaL_error(L, "app:admit must return a table or nil, got %s", luaL_typename(L, -1));
    if (asks_for_key(L, x))
        return 0;
    if (lua_getfield(L, -1, "upload") != LUA_TTABLE) {
        lua_pop(L, 1);
        read_response(L, x);
        return 0;
    }
    ph_upload *u = calloc(1, sizeof *u);
    if (!u)
        return luaL_error(L, "not enough memory for an upload");
    x->upload = u; /* from here on the exchange frees it */
    u->fd = -1;
    copy_text(L, "part", u->part, sizeof u->part);
    copy_text(L, "boundary", u->boundary, sizeof u->boundary);
    copy_text(L, "too_large", u->too_large, sizeof u->too_large);
    lua_getfield(L, -1, "max_bytes");
    lua_Integer max = luaL_optinteger(L, -1, 0);
    u->max_bytes = max > 0 ? (uint64_t)max : 0;
    return 0;
}
