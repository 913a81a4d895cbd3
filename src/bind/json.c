/* host.json: JSON text and Lua values, on cJSON (1.7.15 or newer).
 *   encode(value [, options]) -> string | nil, message, "invalid"|"too_large"
 *       options: sort (keys in byte order), ascii (\uXXXX), pretty (indented), order (names first at the
 * top), max_bytes (a longer text is refused, mostly before it is made; 0 = no limit) decode(text [, options])
 * -> value | nil, message, "invalid"|"too_large", {line, column, offset} options: max_depth (default 128, at
 * most 900), max_bytes null          JSON's null, a light userdata: true in a condition, compare with ==
 *   array(t) -> t marks t (default: a new table) as an array, so that [] stays [] when empty
 *   is_array(t) -> boolean       marked, or a table with an element at 1
 *   clean(text) -> text          as JSON can carry it: bytes that are not UTF-8 become U+FFFD
 * An integer of the text is a Lua integer (a float beyond 64 bits), a number with . or e a float; both come
 * back as they went. NUL inside strings is kept. Decoded arrays are marked; a table without mark and elements
 * is {}. Not JSON: functions, userdata, threads, NaN, infinity, cycles, holes, mixed keys, text that is not
 * UTF-8. Ownership: a decoded value owns nothing outside Lua. Threads: owner thread. Nothing blocks. */
#include "json_parts.h"
#include <stdlib.h>
#include <string.h>

int luaopen_host_json(lua_State *L);

static const char array_key, scratch_key; /* their addresses are the registry keys */

/* --- shared helpers --- */
size_t ph_utf8_length(const unsigned char *p, const unsigned char *end) {
    size_t n = *p < 0x80 ? 1 : *p < 0xC2 ? 0 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0;
    if (n == 0 || (size_t)(end - p) < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    /* overlong forms, surrogates, and what lies beyond U+10FFFF */
    if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) || (*p == 0xF0 && p[1] < 0x90) ||
        (*p == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

void ph_utf8_clean(char *text) {
    unsigned char *p = (unsigned char *)text, *end = p + strlen(text);
    while (p < end) {
        size_t n = ph_utf8_length(p, end);
        if (n == 0)
            *p = '?';
        p += n ? n : 1;
    }
}

void ph_text_place(const char *text, size_t offset, size_t *line, size_t *column) {
    *line = *column = 1;
    for (size_t i = 0; i < offset; i++) {
        if (text[i] == '\n') {
            (*line)++;
            *column = 1;
        } else if (((unsigned char)text[i] & 0xC0) != 0x80) {
            (*column)++;
        }
    }
}

void ph_json_push_null(lua_State *L) {
    lua_pushlightuserdata(L, NULL);
}

void ph_json_mark_array(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "json.array");
        lua_setfield(L, -2, "__name");
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
    }
    lua_setmetatable(L, -2);
}

static bool is_marked(lua_State *L, int idx) {
    if (!lua_getmetatable(L, idx))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
    bool is_same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is_same;
}

bool ph_json_is_array(lua_State *L, int idx) {
    return lua_rawlen(L, idx) > 0 || is_marked(L, idx);
}

/* --- scratch --- */
/* Nothing of malloc's outlives a call: the memory of a slot's VM is frozen and restored for each run, and with it this
 * struct, but what it pointed to was freed at the end of the run before. */
void json_scratch_clear(json_scratch *scratch) {
    cJSON_Delete(scratch->tree);
    free(scratch->text);
    free(scratch->numbers);
    *scratch = (json_scratch){0};
}

static int scratch_gc(lua_State *L) {
    json_scratch *scratch = lua_touserdata(L, 1);
    json_scratch_clear(scratch);
    return 0;
}

void json_scratch_hold(lua_State *L, json_scratch *scratch) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &scratch_key);
    scratch->is_held = true;
}

json_scratch *json_scratch_get(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &scratch_key);
    json_scratch *scratch = lua_touserdata(L, -1);
    if (!scratch || scratch->is_held) {
        scratch = lua_newuserdatauv(L, sizeof *scratch, 0);
        memset(scratch, 0, sizeof *scratch);
        lua_createtable(L, 0, 1);
        lua_pushcfunction(L, scratch_gc);
        lua_setfield(L, -2, "__gc");
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &scratch_key);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    json_scratch_clear(scratch);
    return scratch;
}

/* --- Lua functions --- */
static bool option_bool(lua_State *L, int idx, const char *name) {
    lua_getfield(L, idx, name);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static size_t option_size(lua_State *L, int idx, const char *name, size_t fallback) {
    if (lua_getfield(L, idx, name) == LUA_TNIL) {
        lua_pop(L, 1);
        return fallback;
    }
    int is_integer;
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || value < 0)
        luaL_error(L, "option %s must be an integer >= 0", name);
    lua_pop(L, 1);
    return (size_t)value;
}

static int l_json_encode(lua_State *L) {
    luaL_checkany(L, 1);
    ph_json_options options = {0};
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_settop(L, 2);
        options.is_sorted = option_bool(L, 2, "sort");
        options.is_ascii = option_bool(L, 2, "ascii");
        options.is_pretty = option_bool(L, 2, "pretty");
        options.max_bytes = option_size(L, 2, "max_bytes", 0);
        if (lua_getfield(L, 2, "order") == LUA_TTABLE)
            options.order = 3;
        else if (!lua_isnil(L, 3))
            return luaL_error(L, "option order must be a list of names");
    }
    json_scratch *scratch = json_scratch_get(L);
    ph_error err = {0};
    size_t len;
    scratch->text = ph_json_encode_with(L, 1, &options, &len, &err);
    if (!scratch->text)
        return ph_fail(L, len == PH_JSON_TOO_LONG ? PH_TOO_LARGE : PH_INVALID, "%s", err.text);
    lua_pushlstring(L, scratch->text, len);
    json_scratch_clear(scratch);
    return 1;
}

static int l_json_decode(lua_State *L) {
    size_t len, max_depth = PH_JSON_DEPTH, max_bytes = SIZE_MAX;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        max_depth = option_size(L, 2, "max_depth", max_depth);
        max_bytes = option_size(L, 2, "max_bytes", max_bytes);
        luaL_argcheck(L, max_depth <= 900, 2, "option max_depth must be at most 900");
    }
    return json_push(L, text, len, max_depth, max_bytes);
}

static int l_json_array(lua_State *L) {
    if (lua_isnone(L, 1))
        lua_newtable(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1)) {
        lua_pop(L, 1);
        luaL_argcheck(L, is_marked(L, 1), 1, "has a metatable of its own");
    }
    ph_json_mark_array(L);
    return 1;
}

/* Where the first byte that is not UTF-8 stands; end when all is well. */
static const unsigned char *find_bad(const unsigned char *p, const unsigned char *end) {
    while (p < end) {
        uint64_t eight;
        if (end - p >= 8 && (memcpy(&eight, p, 8), (eight & 0x8080808080808080) == 0)) {
            p += 8;
            continue;
        }
        size_t n = ph_utf8_length(p, end);
        if (n == 0)
            break;
        p += n;
    }
    return p;
}

static int l_json_clean(lua_State *L) {
    size_t len;
    const unsigned char *from = (const unsigned char *)luaL_checklstring(L, 1, &len), *end = from + len;
    const unsigned char *bad = find_bad(from, end);
    lua_settop(L, 1);
    if (bad == end)
        return 1;
    luaL_Buffer b;
    luaL_buffinitsize(L, &b, len + 64);
    for (; bad < end; bad = find_bad(from, end)) {
        luaL_addlstring(&b, (const char *)from, (size_t)(bad - from));
        luaL_addlstring(&b, "\xEF\xBF\xBD", 3);
        from = bad + 1;
    }
    luaL_addlstring(&b, (const char *)from, (size_t)(end - from));
    luaL_pushresult(&b);
    return 1;
}

static int l_json_is_array(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, lua_istable(L, 1) && ph_json_is_array(L, 1));
    return 1;
}

static const luaL_Reg functions[] = {
    {"encode", l_json_encode},     {"decode", l_json_decode}, {"array", l_json_array},
    {"is_array", l_json_is_array}, {"clean", l_json_clean},   {NULL, NULL},
};

int luaopen_host_json(lua_State *L) {
    luaL_newlib(L, functions);
    ph_json_push_null(L);
    lua_setfield(L, -2, "null");
    return 1;
}
