/* An answer as it arrives, and how Lua sees it. */
#include "http.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_HEAD_BYTES = 1 << 20 };

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

size_t ph_answer_on_header(char *data, size_t size, size_t n, void *ud) {
    ph_answer *a = ud;
    if (n >= 5 && strncmp(data, "HTTP/", 5) == 0)
        a->head_len = 0; /* a new response: after 100 Continue or a redirect */
    a->too_large = a->head_len + size * n > MAX_HEAD_BYTES;
    return !a->too_large && keep(&a->head, &a->head_len, &a->head_room, data, size * n) ? size * n : 0;
}

bool ph_answer_add(ph_answer *a, const char *data, size_t n) {
    a->too_large = a->body_len + n > a->max_bytes;
    return !a->too_large && keep(&a->body, &a->body_len, &a->body_room, data, n);
}

/* Adds one header to the table on top; one that stands there already is joined, as RFC 9110 has it. */
static void add_header(lua_State *L, const char *name, size_t name_len, const char *value, size_t value_len) {
    luaL_Buffer b;
    char *lower = luaL_buffinitsize(L, &b, name_len);
    for (size_t i = 0; i < name_len; i++)
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    luaL_pushresultsize(&b, name_len);
    lua_pushvalue(L, -1);
    lua_pushlstring(L, value, value_len);
    if (lua_pushvalue(L, -2), lua_rawget(L, -5) == LUA_TSTRING) {
        lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), lua_tostring(L, -2));
        lua_replace(L, -3);
    }
    lua_pop(L, 1);
    lua_rawset(L, -4);
    lua_pop(L, 1);
}

int ph_answer_headers(lua_State *L) {
    const ph_answer *a = lua_touserdata(L, 1);
    lua_newtable(L);
    const char *at = a->head, *end = a->head + a->head_len;
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
            add_header(L, at, (size_t)(colon - at), v, (size_t)(stop - v));
        }
        at = eol + 1;
    }
    return 1;
}

void ph_answer_push(lua_State *L, const ph_answer *a, long status) {
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, status);
    lua_setfield(L, -2, "status");
    lua_pushcfunction(L, ph_answer_headers);
    lua_pushlightuserdata(L, (void *)(uintptr_t)a);
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, a->body_len ? a->body : "", a->body_len);
    lua_setfield(L, -2, "body");
}

void ph_answer_free(ph_answer *a) {
    free(a->head);
    free(a->body);
    *a = (ph_answer){0};
}
