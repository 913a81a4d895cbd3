/* A request's options: from a Lua table to a curl handle. */
#include "http.h"
#include <string.h>

const char *ph_http_text(lua_State *L, const char *key, size_t *n) {
    int t = lua_getfield(L, 1, key);
    if (t == LUA_TNIL)
        return NULL;
    if (t != LUA_TSTRING && t != LUA_TNUMBER)
        luaL_error(L, "http.request: %s must be text, got %s", key, luaL_typename(L, -1));
    return lua_tolstring(L, -1, n);
}

double ph_http_number(lua_State *L, const char *key, double fallback) {
    lua_getfield(L, 1, key);
    if (!lua_isnil(L, -1) && !lua_isnumber(L, -1))
        luaL_error(L, "http.request: %s must be a number, got %s", key, luaL_typename(L, -1));
    double v = luaL_optnumber(L, -1, fallback);
    lua_pop(L, 1);
    return v;
}

static void add_header(lua_State *L, struct curl_slist **headers, const char *line) {
    struct curl_slist *list = curl_slist_append(*headers, line);
    if (!list)
        luaL_error(L, "not enough memory");
    *headers = list;
}

/* Whether text, of n bytes, is a token of RFC 9110: a header's name, a method. */
static bool is_token(const char *text, size_t n) {
    static const char chars[] =
        "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return n > 0 && strspn(text, chars) == n;
}

static void set_headers(lua_State *L, CURL *easy, struct curl_slist **headers) {
    curl_slist_free_all(*headers);
    *headers = NULL;
    add_header(L, headers, "Expect:"); /* no 100-continue: it costs a round trip */
    if (lua_getfield(L, 1, "headers") == LUA_TTABLE) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
                luaL_error(L, "http.request: headers must be { name = text }");
            size_t name_len, value_len;
            const char *name = lua_tolstring(L, -2, &name_len), *value = lua_tolstring(L, -1, &value_len);
            if (!is_token(name, name_len))
                luaL_error(L, "http.request: header '%s': a name has letters, digits and -, no others", name);
            if (strcspn(value, "\r\n") != value_len)
                luaL_error(L, "http.request: header %s holds a line break", name);
            /* libcurl's forms: "name;" sends an empty value, "name:" takes a header of its own out */
            const char *line =
                *value ? lua_pushfstring(L, "%s: %s", name, value) : lua_pushfstring(L, "%s;", name);
            add_header(L, headers, line);
            lua_pop(L, 2);
        }
    }
    lua_pop(L, 1);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *headers);
}

static void set_body(lua_State *L, CURL *easy, bool copies_body) {
    size_t n = 0, method_len = 0;
    const char *method = ph_http_text(L, "method", &method_len), *body = ph_http_text(L, "body", &n);
    if (method && !is_token(method, method_len))
        luaL_error(L, "http.request: method '%s': expected a word like GET", method);
    if (body) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
        curl_easy_setopt(easy, copies_body ? CURLOPT_COPYPOSTFIELDS : CURLOPT_POSTFIELDS, body);
    } else if (method && strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (method && strcmp(method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, 0L);
    }
    if (method && !(body && strcmp(method, "POST") == 0))
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

void ph_http_set_options(lua_State *L, CURL *easy, ph_answer *a, struct curl_slist **headers,
                         bool copies_body) {
    a->head_len = a->body_len = 0;
    a->too_large = false;
    a->max_bytes = (size_t)ph_http_number(L, "max_bytes", 64 << 20);
    const char *url = ph_http_text(L, "url", NULL), *ca = ph_http_text(L, "ca_file", NULL);
    if (!url)
        luaL_error(L, "http.request: url is missing");
    curl_easy_setopt(easy, CURLOPT_URL, url);
    if (ca)
        curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
    lua_getfield(L, 1, "follow");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, (long)lua_toboolean(L, -1));
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "pyoco-host/" PH_VERSION);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(ph_http_number(L, "timeout_sec", 30) * 1000));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(ph_http_number(L, "connect_timeout_sec", 5) * 1000));
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, ph_answer_on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, a);
    set_headers(L, easy, headers);
    set_body(L, easy, copies_body);
}

const char *ph_http_code(CURLcode rc) {
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
