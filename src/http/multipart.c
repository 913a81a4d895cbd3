/* multipart/form-data bodies: host.http.multipart. */
#include "http.h"
#include <stdio.h>
#include <sys/random.h>

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

int ph_http_multipart(lua_State *L) {
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
            const char *name =
                is_file ? part_text(L, part, "name", 0, NULL) : part_text(L, part, "name", 1, NULL);
            size_t n;
            const char *filename = is_file ? part_text(L, part, "filename", 0, NULL) : NULL;
            const char *data =
                is_file ? part_text(L, part, "data", 0, &n) : part_text(L, part, "value", 2, &n);
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
