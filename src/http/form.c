/* A request's body as a form whose files are read from disk while they are sent: option `form` of host.http.request. */
#include "http.h"

static const char *text_of(lua_State *L, int part, const char *key, size_t *n) {
    lua_getfield(L, part, key);
    const char *text = lua_tolstring(L, -1, n);
    if (!text)
        luaL_error(L, "http.request: %s of a form's file must be text, got %s", key, luaL_typename(L, -1));
    return text; /* stays on the stack */
}

static void check(lua_State *L, CURLcode rc, const char *what) {
    if (rc != CURLE_OK)
        luaL_error(L, "http.request: form: %s: %s", what, curl_easy_strerror(rc));
}

static void add_file(lua_State *L, int entry, curl_mimepart *part) {
    const char *path = text_of(L, entry, "path", NULL);
    check(L, curl_mime_name(part, text_of(L, entry, "name", NULL)), "name");
    check(L, curl_mime_filedata(part, path), path);
    check(L, curl_mime_filename(part, text_of(L, entry, "filename", NULL)), "filename");
    check(L, curl_mime_type(part, text_of(L, entry, "content_type", NULL)), "content_type");
}

static void add_field(lua_State *L, int entry, curl_mimepart *part) {
    size_t n;
    lua_geti(L, entry, 1);
    lua_geti(L, entry, 2);
    const char *name = lua_tostring(L, -2), *value = lua_tolstring(L, -1, &n);
    if (!name || !value)
        luaL_error(L, "http.request: a form's field is { name, text }");
    check(L, curl_mime_name(part, name), name);
    check(L, curl_mime_data(part, value, n), name);
}

void ph_http_form(lua_State *L, CURL *easy, curl_mime **form) {
    curl_mime_free(*form);
    *form = NULL;
    int top = lua_gettop(L);
    if (lua_getfield(L, 1, "form") == LUA_TTABLE) {
        *form = curl_mime_init(easy); /* the caller's from now on, should something raise */
        for (lua_Integer i = 1; lua_geti(L, top + 1, i) == LUA_TTABLE; i++) {
            curl_mimepart *part = *form ? curl_mime_addpart(*form) : NULL;
            int entry = lua_gettop(L);
            if (!part)
                luaL_error(L, "not enough memory");
            if (lua_getfield(L, entry, "path") != LUA_TNIL)
                add_file(L, entry, part);
            else
                add_field(L, entry, part);
            lua_settop(L, top + 1);
        }
        curl_easy_setopt(easy, CURLOPT_MIMEPOST, *form);
    }
    lua_settop(L, top);
}
