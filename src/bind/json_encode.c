/* host.json encode. A cJSON tree that borrows the strings of the Lua values is built without calling into
 * Lua's allocator (so nothing can raise while it is held), printed by cJSON, and rewritten once more only
 * when there is something to rewrite: a NUL, characters to escape, indentation. */
#include "json_parts.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define LONG_STRING 40  /* bytes; Lua 5.4 may keep several copies of a longer string */
#define SHORTEST_TRY 15 /* digits: any decimal of so many comes back from a double */

/* Where we are, from the value up to the root; lives on the C stack. */
typedef struct place {
    const struct place *up;
    const void *table;
    const char *key; /* name in the table above, or NULL: index */
    lua_Integer index;
    int depth;
} place;

typedef struct encoder {
    lua_State *L;
    ph_error *err;
    bool has_nul, has_wide;  /* what the strings seen so far need of the rewrite */
    size_t bytes, max_bytes; /* at least so many will be printed; 0 = no limit */
    bool is_too_long;
} encoder;

static cJSON *build(encoder *e, const place *at);

/* --- errors --- */
static size_t write_path(const place *at, char *out, size_t size) {
    if (!at || !at->up)
        return 0;
    size_t n = write_path(at->up, out, size);
    if (n >= size)
        return n;
    int more = at->key ? snprintf(out + n, size - n, "%s%s", n ? "." : "", at->key)
                       : snprintf(out + n, size - n, "[%lld]", (long long)at->index);
    return n + (size_t)more;
}

static cJSON *refuse(encoder *e, const place *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static cJSON *refuse(encoder *e, const place *at, const char *fmt, ...) {
    char path[512] = "";
    write_path(at, path, sizeof path);
    int n = snprintf(e->err->text, sizeof e->err->text, "%s: ", path[0] ? path : "value");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->err->text + n, sizeof e->err->text - (size_t)n, fmt, ap);
    va_end(ap);
    ph_utf8_clean(e->err->text);
    return NULL;
}

/* Counts bytes that will be printed for sure; false when it is too many. */
static bool count(encoder *e, size_t bytes) {
    e->bytes += bytes;
    e->is_too_long = e->max_bytes > 0 && e->bytes > e->max_bytes;
    if (e->is_too_long)
        snprintf(e->err->text, sizeof e->err->text, "more than %zu bytes", e->max_bytes);
    return !e->is_too_long;
}

static cJSON *or_no_memory(encoder *e, const place *at, cJSON *item) {
    return item ? item : refuse(e, at, "out of memory");
}

/* --- scalars --- */

/* Checks a string and notes what it needs. A string with NUL comes back as a copy with stand-ins, to be
 * freed. */
static bool check_text(encoder *e, const place *at, const char *text, size_t len, char **copy) {
    const unsigned char *p = (const unsigned char *)text, *end = p + len;
    bool has_nul = false;
    while (p < end) {
        if (*p < 0x80) {
            has_nul |= *p++ == 0;
            continue;
        }
        size_t n = ph_utf8_length(p, end);
        if (n == 0) {
            refuse(e, at,
                   "text that is not UTF-8 cannot be JSON (byte %zu; encode bytes with crypto.base64_encode)",
                   (size_t)(p - (const unsigned char *)text) + 1);
            return false;
        }
        e->has_wide = true;
        p += n;
    }
    *copy = NULL;
    if (!has_nul)
        return true;
    e->has_nul = true;
    *copy = malloc(len + 1);
    if (!*copy) {
        refuse(e, at, "out of memory");
        return false;
    }
    for (size_t i = 0; i < len; i++)
        (*copy)[i] = text[i] ? text[i] : (char)STAND_IN;
    (*copy)[len] = 0;
    return true;
}

static cJSON *build_text(encoder *e, const place *at) {
    size_t len;
    const char *text = lua_tolstring(e->L, -1, &len);
    char *copy;
    if (!count(e, len + 1) || !check_text(e, at, text, len, &copy))
        return NULL;
    cJSON *item = copy ? cJSON_CreateString(copy) : cJSON_CreateStringReference(text);
    free(copy);
    return or_no_memory(e, at, item);
}

static char *write_integer(char *end, unsigned long long value) {
    do
        *--end = (char)('0' + value % 10);
    while (value /= 10);
    return end;
}

/* A float with at most six decimals (most times and amounts) by integer arithmetic: ten times as fast as
 * printf. count / 1e6 is the double nearest to that decimal as long as count is exact, so equality proves the
 * text. */
static bool write_decimal(char *out, double value) {
    double count = nearbyint(fabs(value) * 1e6);
    if (!(count < 4503599627370496.0) || count / 1e6 != fabs(value))
        return false;
    unsigned long long micros = (unsigned long long)count, fraction = micros % 1000000;
    char buffer[40], *end = buffer + sizeof buffer, *p = end;
    int digits = 6;
    while (digits > 1 && fraction % 10 == 0) {
        fraction /= 10;
        digits--;
    }
    for (int i = 0; i < digits; i++, fraction /= 10)
        *--p = (char)('0' + fraction % 10);
    *--p = '.';
    p = write_integer(p, micros / 1000000);
    if (signbit(value))
        *--p = '-';
    memcpy(out, p, (size_t)(end - p));
    out[end - p] = 0;
    return true;
}

static void write_float(char *out, size_t size, double value) {
    if (write_decimal(out, value))
        return;
    for (int digits = SHORTEST_TRY; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, value);
        if (digits < 17 && strtod(out, NULL) == value) /* 17 digits always come back */
            break;
    }
    if (!strpbrk(out, ".e"))
        strcat(out, ".0");
}

static cJSON *build_number(encoder *e, const place *at) {
    char text[48], *p = text;
    if (lua_isinteger(e->L, -1)) {
        lua_Integer value = lua_tointeger(e->L, -1);
        unsigned long long magnitude =
            value < 0 ? 0ULL - (unsigned long long)value : (unsigned long long)value;
        text[sizeof text - 1] = 0;
        p = write_integer(text + sizeof text - 1, magnitude);
        if (value < 0)
            *--p = '-';
    } else {
        double value = lua_tonumber(e->L, -1);
        if (isnan(value))
            return refuse(e, at, "NaN cannot be JSON");
        if (isinf(value))
            return refuse(e, at, "infinity cannot be JSON");
        write_float(text, sizeof text, value);
    }
    return or_no_memory(e, at, cJSON_CreateRaw(p));
}

/* --- tables --- */
static cJSON *drop(cJSON *item) {
    cJSON_Delete(item);
    return NULL;
}

/* The table at the top has an element at 1 or the mark: its keys must be 1..n. */
static cJSON *build_array(encoder *e, const place *at) {
    lua_State *L = e->L;
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1), found = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1), found++) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            refuse(e, at, "mixed keys: an array with the key '%s' cannot be JSON", lua_tostring(L, -2));
            lua_pop(L, 2);
            return NULL;
        }
        lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        if (key < 1 || key > n) {
            lua_pop(L, 2);
            return refuse(
                e, at,
                "an array with a hole or a key outside 1..%lld cannot be JSON (put json.null in holes)",
                (long long)n);
        }
    }
    if (found != n)
        return refuse(e, at, "an array with a hole cannot be JSON (put json.null there)");
    cJSON *array = cJSON_CreateArray();
    for (lua_Integer i = 1; array && i <= n; i++) {
        lua_rawgeti(L, -1, i);
        place below = {.up = at, .index = i, .depth = at->depth + 1};
        cJSON *item = build(e, &below);
        lua_pop(L, 1);
        if (!item)
            return drop(array);
        cJSON_AddItemToArray(array, item);
    }
    return or_no_memory(e, at, array);
}

/* Adds the value at the top of the stack under the string key below it. */
static bool add_member(encoder *e, const place *at, cJSON *object) {
    lua_State *L = e->L;
    if (lua_type(L, -2) != LUA_TSTRING) {
        const char *type = lua_typename(L, lua_type(L, -2));
        refuse(e, at, "mixed keys: a key that is a %s cannot be JSON (keys are text, or 1..n)", type);
        return false;
    }
    size_t len;
    const char *key = lua_tolstring(L, -2, &len);
    place below = {.up = at, .key = key, .depth = at->depth + 1};
    char *copy;
    if (!count(e, len + 3) || !check_text(e, &below, key, len, &copy))
        return false;
    cJSON *item = build(e, &below);
    if (item &&
        !(copy ? cJSON_AddItemToObject(object, copy, item) : cJSON_AddItemToObjectCS(object, key, item))) {
        cJSON_Delete(item);
        item = or_no_memory(e, at, NULL);
    }
    free(copy);
    return item != NULL;
}

static cJSON *build_object(encoder *e, const place *at) {
    lua_State *L = e->L;
    cJSON *object = cJSON_CreateObject();
    if (!object)
        return or_no_memory(e, at, NULL);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (!add_member(e, at, object)) {
            lua_pop(L, 2);
            return drop(object);
        }
    }
    return object;
}

static cJSON *build_table(encoder *e, place *at) {
    lua_State *L = e->L;
    at->table = lua_topointer(L, -1);
    if (at->depth > PH_JSON_DEPTH)
        return refuse(e, at, "nested more than %d levels deep", PH_JSON_DEPTH);
    for (const place *up = at->up; up; up = up->up)
        if (up->table == at->table)
            return refuse(e, at, "a table that contains itself cannot be JSON");
    if (!lua_checkstack(L, 6))
        return refuse(e, at, "out of memory");
    return ph_json_is_array(L, -1) ? build_array(e, at) : build_object(e, at);
}

/* The value at the top of the stack as a tree; NULL with the error set. The stack is left as it was. */
static cJSON *build(encoder *e, const place *at) {
    int type = lua_type(e->L, -1);
    if (!count(e, 1))
        return NULL;
    switch (type) {
    case LUA_TSTRING:
        return build_text(e, at);
    case LUA_TNUMBER:
        return build_number(e, at);
    case LUA_TBOOLEAN:
        return or_no_memory(e, at, cJSON_CreateBool(lua_toboolean(e->L, -1)));
    case LUA_TTABLE: {
        place here = *at;
        return build_table(e, &here);
    }
    case LUA_TNIL:
        return or_no_memory(e, at, cJSON_CreateNull());
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(e->L, -1))
            return or_no_memory(e, at, cJSON_CreateNull());
        /* fall through */
    default:
        return refuse(e, at, "a %s cannot be JSON", lua_typename(e->L, type));
    }
}

/* --- order of keys --- */
typedef struct ranked {
    size_t rank; /* place in options.order; SIZE_MAX = not named there */
    size_t index;
    cJSON *item;
} ranked;

static int by_rank_then_name(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return x->rank != y->rank ? (x->rank < y->rank ? -1 : 1) : strcmp(x->item->string, y->item->string);
}

static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    size_t left = x->rank != y->rank ? x->rank : x->index, right = x->rank != y->rank ? y->rank : y->index;
    return left < right ? -1 : left > right;
}

/* Lua keeps one copy of a short string, so that equal names are the same pointer. */
static size_t rank_of(const char *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (names[i] == name)
            return i;
    if (count > 0 && strlen(name) > LONG_STRING)
        for (size_t i = 0; i < count; i++)
            if (strcmp(names[i], name) == 0)
                return i;
    return SIZE_MAX;
}

static bool arrange(cJSON *object, const char *const *names, size_t count, bool is_sorted) {
    size_t n = (size_t)cJSON_GetArraySize(object), i = 0;
    if (n < 2)
        return true;
    ranked *list = malloc(n * sizeof *list);
    if (!list)
        return false;
    for (cJSON *item = object->child; item; item = item->next, i++)
        list[i] = (ranked){rank_of(item->string, names, count), i, item};
    qsort(list, n, sizeof *list, is_sorted ? by_rank_then_name : by_rank);
    object->child =
        list[0].item; /* cJSON's list: the first item's prev is the last, the last one's next is NULL */
    for (i = 0; i < n; i++) {
        list[i].item->next = i + 1 < n ? list[i + 1].item : NULL;
        list[i].item->prev = list[i > 0 ? i - 1 : n - 1].item;
    }
    free(list);
    return true;
}

static bool arrange_all(cJSON *item) {
    if (cJSON_IsObject(item) && !arrange(item, NULL, 0, true))
        return false;
    for (cJSON *child = item->child; child; child = child->next)
        if (!arrange_all(child))
            return false;
    return true;
}

/* The top object by options.order. The names live in the Lua table, which stays on the stack. */
static bool arrange_top(lua_State *L, cJSON *object, int order, bool is_sorted) {
    size_t count = lua_rawlen(L, order);
    const char **names = malloc((count + 1) * sizeof *names);
    if (!names)
        return false;
    for (size_t i = 0; i < count; i++) {
        names[i] = lua_rawgeti(L, order, (lua_Integer)i + 1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
        lua_pop(L, 1);
    }
    bool is_done = arrange(object, names, count, is_sorted);
    free(names);
    return is_done;
}

/* --- rewrite of cJSON's text --- */
typedef struct writer {
    char *text;
    size_t len, room;
} writer;

static bool reserve(writer *w, size_t more) {
    if (w->len + more < w->room)
        return true;
    size_t room = (w->len + more) * 2;
    char *grown = realloc(w->text, room);
    if (grown) {
        w->text = grown;
        w->room = room;
    }
    return grown != NULL;
}

static void write_line(writer *w, size_t depth) {
    w->text[w->len++] = '\n';
    memset(w->text + w->len, ' ', depth * 2);
    w->len += depth * 2;
}

static void write_unit(writer *w, unsigned unit) {
    static const char digits[] = "0123456789abcdef";
    char *p = w->text + w->len;
    *p++ = '\\';
    *p++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4)
        *p++ = digits[unit >> shift & 15];
    w->len += 6;
}

/* Escapes the UTF-8 sequence at p (n bytes). */
static void write_escape(writer *w, const unsigned char *p, size_t n) {
    unsigned code = n == 2 ? p[0] & 0x1Fu : n == 3 ? p[0] & 0x0Fu : p[0] & 0x07u;
    for (size_t i = 1; i < n; i++)
        code = code << 6 | (p[i] & 0x3Fu);
    if (code >= 0x10000) {
        write_unit(w, 0xD800 + ((code - 0x10000) >> 10));
        code = 0xDC00 + ((code - 0x10000) & 0x3FF);
    }
    write_unit(w, code);
}

/* One character outside strings, with line breaks around it. */
static void write_pretty(writer *w, const char *p, size_t *depth) {
    bool is_empty = (*p == '{' && p[1] == '}') || (*p == '[' && p[1] == ']');
    bool closes_empty = (*p == '}' && p[-1] == '{') || (*p == ']' && p[-1] == '[');
    if ((*p == '}' || *p == ']') && !closes_empty)
        write_line(w, --*depth);
    w->text[w->len++] = *p;
    if ((*p == '{' || *p == '[') && !is_empty)
        write_line(w, ++*depth);
    else if (*p == ',')
        write_line(w, *depth);
    else if (*p == ':')
        w->text[w->len++] = ' ';
}

static char *rewrite(const char *text, const ph_json_options *options, size_t *len) {
    writer w = {0};
    bool is_string = false;
    size_t depth = 0;
    const unsigned char *end = (const unsigned char *)text + strlen(text);
    for (const unsigned char *p = (const unsigned char *)text; p < end; p++) {
        if (!reserve(&w, 16 + depth * 2)) {
            free(w.text);
            return NULL;
        }
        if (*p == STAND_IN) {
            memcpy(w.text + w.len, "\\u0000", NUL_ESCAPE);
            w.len += NUL_ESCAPE;
        } else if (*p >= 0x80 && options->is_ascii) {
            size_t n = ph_utf8_length(p, end);
            write_escape(&w, p, n);
            p += n - 1;
        } else if (is_string && *p == '\\') {
            w.text[w.len++] = (char)*p++;
            w.text[w.len++] = (char)*p;
        } else if (*p == '"' || is_string || !options->is_pretty) {
            is_string ^= *p == '"';
            w.text[w.len++] = (char)*p;
        } else {
            write_pretty(&w, (const char *)p, &depth);
        }
    }
    w.text[w.len] = 0;
    *len = w.len;
    return w.text;
}

char *ph_json_encode_with(lua_State *L, int idx, const ph_json_options *options, size_t *len, ph_error *err) {
    static const ph_json_options plain;
    options = options ? options : &plain;
    encoder e = {.L = L, .err = err, .max_bytes = options->max_bytes};
    place root = {0};
    size_t ignored;
    len = len ? len : &ignored;
    *len = 0;
    if (!lua_checkstack(L, 6)) {
        refuse(&e, &root, "out of memory");
        return NULL;
    }
    lua_pushvalue(L, idx);
    cJSON *tree = build(&e, &root);
    lua_pop(L, 1);
    if (!tree) {
        *len = e.is_too_long ? PH_JSON_TOO_LONG : 0;
        return NULL;
    }
    bool is_arranged = !options->is_sorted || arrange_all(tree);
    if (options->order && cJSON_IsObject(tree))
        is_arranged = is_arranged && arrange_top(L, tree, options->order, options->is_sorted);
    char *text = is_arranged ? cJSON_PrintBuffered(tree, 2048, false) : NULL;
    cJSON_Delete(tree);
    size_t n = 0;
    if (text && (e.has_nul || options->is_pretty || (e.has_wide && options->is_ascii))) {
        char *again = rewrite(text, options, &n);
        free(text);
        text = again;
    } else if (text) {
        n = strlen(text);
    }
    if (!text)
        refuse(&e, &root, "out of memory");
    *len = n;
    if (text && e.max_bytes > 0 && n > e.max_bytes) {
        count(&e, n);
        free(text);
        *len = PH_JSON_TOO_LONG;
        return NULL;
    }
    return text;
}

char *ph_json_encode(lua_State *L, int idx, size_t *len, ph_error *err) {
    static const ph_json_options stored = {.is_ascii = true};
    return ph_json_encode_with(L, idx, &stored, len, err);
}
