/* host.yaml: one YAML document to Lua values, on libyaml's events (0.2.5 or newer).
 *   decode(text [, options]) -> value, marks | nil, message, "invalid"|"too_large", errors
 *       options: max_bytes, max_depth (100), max_nodes (100000, aliases counted as often as they are used),
 *       duplicate = "error" (default) | "last"
 *   marks(table, key) -> {line, column, value_line, value_column, style, indent} | nil; marks() = the root's
 *       line, column: of the key or list item; value_*: of the value behind anchor and tag. From 1, in
 * characters. style: plain single double literal folded block flow alias. indent (literal, folded): columns
 * before the content, which starts on the line after value_line. Entries that came by << tell where they were
 * written. errors: list of {line, column, path, code, message, hint}; all that one pass finds (at most 50).
 *       code: syntax duplicate_key invalid_key unsupported_tag unsupported_value alias merge documents limit
 * A byte order mark at the start is skipped. Values as PyYAML's safe_load has them (yaml_scalar.c); dates become ISO text; null is json.null; sequences
 * carry host.json's array mark. Keys become text as written (on: is "on", 1: is "1"); collections as keys are
 * refused. An alias is the same Lua table as its anchor. Refused: .nan, .inf, !!binary, !!set and every tag
 * beyond JSON's types, a second document, an alias inside its own anchor, text that is not UTF-8. Ownership:
 * the box userdata owns the parser, the event and the marks; marks keeps it and the tables alive. Threads:
 * owner thread. Nothing blocks. */
#include "yaml_parts.h"
#include <string.h>
int luaopen_host_yaml(lua_State *L);

#define BOX "host.yaml.box"
#define ERRORS_MAX 50
#define DEPTH_MAX 400 /* what max_depth may be at most: each level costs C stack */

/* --- errors --- */
static size_t write_path(const place *at, char *out, size_t size) {
    if (!at || !at->up)
        return 0;
    size_t n = write_path(at->up, out, size);
    if (n >= size)
        return n;
    int more = at->key ? snprintf(out + n, size - n, "%s%s", n ? "." : "", at->key)
                       : snprintf(out + n, size - n, "[%zu]", at->index);
    return n + (size_t)more;
}

void yaml_set_text(lua_State *L, const char *name, const char *text) {
    if (!text)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

void yaml_set_number(lua_State *L, const char *name, size_t value) {
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

/* Notes an error at line and column (from 1). Returns whether there is room for more. */
bool yaml_note(reader *r, size_t line, size_t column, const place *at, const char *code, const char *hint,
               const char *message) {
    lua_State *L = r->L;
    char path[512] = "", clean[256];
    write_path(at, path, sizeof path);
    ph_utf8_clean(path);
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, 0, 6);
    yaml_set_number(L, "line", line);
    yaml_set_number(L, "column", column);
    yaml_set_text(L, "path", path);
    yaml_set_text(L, "code", code);
    snprintf(clean, sizeof clean, "%s", message);
    ph_utf8_clean(clean);
    yaml_set_text(L, "message", clean);
    yaml_set_text(L, "hint", hint);
    lua_rawseti(L, AT_ERRORS, (lua_Integer)++r->errors);
    return r->errors < ERRORS_MAX;
}

bool yaml_note_here(reader *r, const place *at, const char *code, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
bool yaml_note_here(reader *r, const place *at, const char *code, const char *hint, const char *fmt, ...) {
    char message[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return yaml_note(r, r->event->start_mark.line + 1, r->event->start_mark.column + 1, at, code, hint,
                     message);
}

/* What to do about libyaml's own words. */
static const char *hint_for(const char *problem, const char *context, char at) {
    if (at == '\t')
        return "indent with spaces, not tabs";
    if (strstr(problem, "cannot start any token"))
        return "put the text in quotes";
    if (strstr(problem, "mapping values are not allowed"))
        return "put a text that holds ': ' in quotes, or check the indentation of this line";
    if (strstr(problem, "unexpected end of stream") && context && strstr(context, "quoted scalar"))
        return "close the quote";
    if (strstr(problem, "could not find expected ':'"))
        return "write 'key: value', with a space after the colon";
    if (strstr(problem, "',' or"))
        return "close the bracket, or put a comma between the items";
    if (strstr(problem, "did not find expected") || strstr(problem, "block"))
        return "check the indentation of this line and the one before";
    return NULL;
}

/* libyaml gave up. */
static bool note_syntax(reader *r) {
    const yaml_parser_t *p = &r->box->parser;
    const char *problem = p->problem ? p->problem : "out of memory";
    char message[256];
    if (p->error == YAML_READER_ERROR) {
        size_t line, column;
        ph_text_place(r->text, p->problem_offset, &line, &column);
        bool is_control = strstr(problem, "control") != NULL;
        yaml_note(r, line, column, NULL, "syntax", is_control ? "remove it" : "save the file as UTF-8",
                  is_control ? "a control character is not allowed" : "the text is not UTF-8");
        return false;
    }
    const char *at = yaml_find_place(r, p->problem_mark.line, p->problem_mark.column);
    /* what never ends is better shown where it begins */
    bool is_open = p->context && (at >= r->end || strstr(problem, "could not find expected ':'"));
    yaml_mark_t spot = is_open ? p->context_mark : p->problem_mark;
    if (p->context && p->context_mark.line != spot.line)
        snprintf(message, sizeof message, "%s %s that starts on line %zu", problem, p->context,
                 p->context_mark.line + 1);
    else
        snprintf(message, sizeof message, "%s%s%s", problem, p->context ? " " : "",
                 p->context ? p->context : "");
    yaml_note(r, spot.line + 1, spot.column + 1, NULL, "syntax",
              hint_for(problem, p->context, at < r->end ? *at : 0), message);
    return false;
}

/* --- events --- */
bool yaml_next_event(reader *r) {
    if (r->box->has_event)
        yaml_event_delete(r->event);
    r->box->has_event = yaml_parser_parse(&r->box->parser, r->event) != 0;
    return r->box->has_event || note_syntax(r);
}

/* --- decode --- */
static void box_free_parser(box *b) {
    if (b->has_event)
        yaml_event_delete(&b->event);
    if (b->has_parser)
        yaml_parser_delete(&b->parser);
    b->has_event = b->has_parser = false;
}

static int box_gc(lua_State *L) {
    box *b = lua_touserdata(L, 1); /* no luaL_checkudata: it allocates, and a finalizer that raises leaks */
    box_free_parser(b);
    return 0;
}

static box *box_new(lua_State *L) {
    box *b = lua_newuserdatauv(L, sizeof *b, 0);
    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, BOX);
    b->has_parser = yaml_parser_initialize(&b->parser) != 0;
    if (!b->has_parser)
        luaL_error(L, "not enough memory");
    return b;
}

static size_t option_size(lua_State *L, const char *name, size_t fallback) {
    if (lua_isnil(L, AT_OPTIONS) || lua_getfield(L, AT_OPTIONS, name) == LUA_TNIL)
        return fallback;
    int is_integer;
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || value < 0)
        luaL_error(L, "option %s must be an integer >= 0", name);
    return (size_t)value;
}

static bool option_keeps_last(lua_State *L) {
    static const char *const names[] = {"error", "last", NULL};
    if (lua_isnil(L, AT_OPTIONS))
        return false;
    lua_getfield(L, AT_OPTIONS, "duplicate");
    return luaL_checkoption(L, -1, "error", names) == 1;
}

/* nil, message (of the first error), code, errors */
static int fail(reader *r, const char *code) {
    lua_State *L = r->L;
    char more[48] = "";
    if (r->errors > 1)
        snprintf(more, sizeof more, " (and %zu more)", r->errors - 1);
    lua_rawgeti(L, AT_ERRORS, 1);
    lua_getfield(L, -1, "line");
    lua_getfield(L, -2, "column");
    lua_getfield(L, -3, "message");
    ph_fail(L, code, "line %lld column %lld: %s%s", (long long)lua_tointeger(L, -3),
            (long long)lua_tointeger(L, -2), lua_tostring(L, -1), more);
    lua_pushvalue(L, AT_ERRORS);
    return 4;
}

static int l_yaml_decode(lua_State *L) {
    size_t len, root = 0;
    const char *text = luaL_checklstring(L, AT_TEXT, &len);
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) { /* a byte order mark, as Windows' editors write it */
        text += 3;
        len -= 3;
    }
    if (!lua_isnoneornil(L, AT_OPTIONS))
        luaL_checktype(L, AT_OPTIONS, LUA_TTABLE);
    lua_settop(L, AT_OPTIONS);
    size_t max_bytes = option_size(L, "max_bytes", SIZE_MAX);
    reader r = {.L = L, .text = text, .cursor = text, .end = text + len};
    r.max_depth = option_size(L, "max_depth", 100);
    r.max_nodes = option_size(L, "max_nodes", 100000);
    r.keeps_last = option_keeps_last(L);
    luaL_argcheck(L, r.max_depth <= DEPTH_MAX, AT_OPTIONS, "option max_depth must be at most 400");
    lua_settop(L, AT_OPTIONS);
    r.box = box_new(L);
    r.event = &r.box->event;
    for (int i = AT_STORE; i <= AT_LAST; i++)
        lua_newtable(L);
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* an editor's mark: libyaml would count it as a column */
        text += 3;
        len -= 3;
    }
    if (len > max_bytes) {
        char message[96];
        snprintf(message, sizeof message, "the document has %zu bytes, allowed are %zu", len, max_bytes);
        yaml_note(&r, 1, 1, NULL, "limit", "make the document smaller", message);
        return fail(&r, PH_TOO_LARGE);
    }
    yaml_parser_set_encoding(&r.box->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.box->parser, (const unsigned char *)text, len);
    bool is_read = yaml_read_document(&r, &root);
    box_free_parser(r.box);
    if (!is_read)
        return fail(&r, PH_INVALID);
    lua_pushvalue(L, AT_STORE);
    lua_pushvalue(L, AT_MARKS);
    lua_pushinteger(L, (lua_Integer)root);
    lua_pushcclosure(L, yaml_marks, 3);
    return 2;
}

static const luaL_Reg functions[] = {
    {"decode", l_yaml_decode},
    {NULL, NULL},
};

int luaopen_host_yaml(lua_State *L) {
    if (luaL_newmetatable(L, BOX)) {
        lua_pushcfunction(L, box_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    luaL_newlib(L, functions);
    return 1;
}
