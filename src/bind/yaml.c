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
 * Values as PyYAML's safe_load has them (yaml_scalar.c); dates become ISO text; null is json.null; sequences
 * carry host.json's array mark. Keys become text as written (on: is "on", 1: is "1"); collections as keys are
 * refused. An alias is the same Lua table as its anchor. Refused: .nan, .inf, !!binary, !!set and every tag
 * beyond JSON's types, a second document, an alias inside its own anchor, text that is not UTF-8. Ownership:
 * the box userdata owns the parser, the event and the marks; marks keeps it and the tables alive. Threads:
 * owner thread. Nothing blocks. */
#include "json.h"
#include "yaml_parts.h"
#include <string.h>
#include <yaml.h>

int luaopen_host_yaml(lua_State *L);

#define BOX "host.yaml.box"
#define TAG_PREFIX "tag:yaml.org,2002:"
#define ERRORS_MAX 50
#define DIRECTIVES_MAX 32 /* libyaml compares each %TAG with all before it */
#define DEPTH_MAX 400     /* what max_depth may be at most: each level costs C stack */

/* Stack slots of a decode. */
enum { AT_TEXT = 1, AT_OPTIONS, AT_BOX, AT_STORE, AT_ERRORS, AT_VALUES, AT_MARKS, AT_LAST = AT_MARKS };

static const char *const styles[] = {"",       "plain", "single", "double", "literal",
                                     "folded", "block", "flow",   "alias"};
enum { STYLE_BLOCK = 6, STYLE_FLOW, STYLE_ALIAS };

typedef struct mark {
    unsigned line, column, value_line, value_column, indent, style; /* from 1; indent from 0 */
} mark;

typedef struct box {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_parser, has_event;
} box;

/* Where we are, from the value up to the root; lives on the C stack. */
typedef struct place {
    const struct place *up;
    const char *key; /* NULL: index */
    size_t index;
} place;

/* How big a value is when every alias in it is written out. */
typedef struct extent {
    size_t nodes, height;
} extent;

typedef struct reader {
    lua_State *L;
    box *box;
    yaml_event_t *event; /* the current one, in the box */
    const char *text, *end;
    const char *cursor;  /* a character of the text, mostly moved forward only */
    size_t line, column; /* of the cursor, from 0 */
    size_t nodes, max_nodes, max_depth;
    size_t errors;
    mark *marks; /* in the userdata at AT_STORE, so that they count as the VM's memory */
    size_t count, room;
    bool keeps_last;
} reader;

static bool build(reader *r, const place *at, size_t depth, size_t indent, mark *where, extent *size);

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

static void set_text(lua_State *L, const char *name, const char *text) {
    if (!text)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, size_t value) {
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

/* Notes an error at line and column (from 1). Returns whether there is room for more. */
static bool note(reader *r, size_t line, size_t column, const place *at, const char *code, const char *hint,
                 const char *message) {
    lua_State *L = r->L;
    char path[512] = "";
    write_path(at, path, sizeof path);
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, 0, 6);
    set_number(L, "line", line);
    set_number(L, "column", column);
    set_text(L, "path", path);
    set_text(L, "code", code);
    set_text(L, "message", message);
    set_text(L, "hint", hint);
    lua_rawseti(L, AT_ERRORS, (lua_Integer)++r->errors);
    return r->errors < ERRORS_MAX;
}

static bool note_here(reader *r, const place *at, const char *code, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static bool note_here(reader *r, const place *at, const char *code, const char *hint, const char *fmt, ...) {
    char message[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return note(r, r->event->start_mark.line + 1, r->event->start_mark.column + 1, at, code, hint, message);
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

/* The place of a character: line and column from 0. */
static const char *find_place(reader *r, size_t line, size_t column);

/* libyaml gave up. */
static bool note_syntax(reader *r) {
    const yaml_parser_t *p = &r->box->parser;
    const char *problem = p->problem ? p->problem : "out of memory";
    char message[256];
    if (p->error == YAML_READER_ERROR) {
        size_t line, column;
        ph_text_place(r->text, p->problem_offset, &line, &column);
        bool is_control = strstr(problem, "control") != NULL;
        note(r, line, column, NULL, "syntax", is_control ? "remove it" : "save the file as UTF-8",
             is_control ? "a control character is not allowed" : "the text is not UTF-8");
        return false;
    }
    const char *at = find_place(r, p->problem_mark.line, p->problem_mark.column);
    /* what never ends is better shown where it begins */
    bool is_open = p->context && (at >= r->end || strstr(problem, "could not find expected ':'"));
    yaml_mark_t spot = is_open ? p->context_mark : p->problem_mark;
    if (p->context && p->context_mark.line != spot.line)
        snprintf(message, sizeof message, "%s %s that starts on line %zu", problem, p->context,
                 p->context_mark.line + 1);
    else
        snprintf(message, sizeof message, "%s%s%s", problem, p->context ? " " : "",
                 p->context ? p->context : "");
    note(r, spot.line + 1, spot.column + 1, NULL, "syntax",
         hint_for(problem, p->context, at < r->end ? *at : 0), message);
    return false;
}

/* --- events --- */
static bool next_event(reader *r) {
    if (r->box->has_event)
        yaml_event_delete(r->event);
    r->box->has_event = yaml_parser_parse(&r->box->parser, r->event) != 0;
    return r->box->has_event || note_syntax(r);
}

/* --- source positions --- */

/* Bytes of the line break at p, by libyaml's idea of one; 0 = none. */
static size_t break_length(const char *p, const char *end) {
    const unsigned char *c = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    if (left == 0)
        return 0;
    if (*c == '\n')
        return 1;
    if (*c == '\r')
        return left > 1 && c[1] == '\n' ? 2 : 1;
    if (*c == 0xC2 && left > 1 && c[1] == 0x85)
        return 2;
    return *c == 0xE2 && left > 2 && c[1] == 0x80 && (c[2] & 0xFE) == 0xA8 ? 3 : 0;
}

/* The start of the line after the one that p stands in, or end. */
static const char *next_line(const char *p, const char *end) {
    size_t n = 0;
    while (p < end && (n = break_length(p, end)) == 0)
        p++;
    return p + n;
}

/* Moves the cursor to the next character, which may be on the next line. */
static void step(reader *r) {
    size_t n = break_length(r->cursor, r->end);
    if (n > 0) {
        r->cursor += n;
        r->line++;
        r->column = 0;
        return;
    }
    do
        r->cursor++;
    while (r->cursor < r->end && ((unsigned char)*r->cursor & 0xC0) == 0x80);
    r->column++;
}

static const char *find_place(reader *r, size_t line, size_t column) {
    if (line < r->line || (line == r->line && column < r->column)) { /* rare: an error that points back */
        r->cursor = r->text;
        r->line = r->column = 0;
    }
    while (r->cursor < r->end && (r->line < line || (r->line == line && r->column < column)))
        step(r);
    return r->cursor;
}

/* Moves the value's place behind anchor and tag, which libyaml counts to the node. */
static void skip_properties(reader *r, mark *where) {
    find_place(r, where->value_line - 1, where->value_column - 1);
    bool is_skipping = false; /* inside a property or comment */
    char kind = 0;
    for (; r->cursor < r->end; step(r)) {
        bool is_break = break_length(r->cursor, r->end) > 0,
             is_blank = *r->cursor == ' ' || *r->cursor == '\t';
        if (is_break || (is_blank && kind != '#'))
            is_skipping = false;
        else if (!is_skipping && strchr("&!#", *r->cursor))
            is_skipping = true;
        else if (!is_skipping && !is_blank)
            break;
        kind = !is_skipping ? 0 : kind ? kind : *r->cursor;
    }
    where->value_line = (unsigned)r->line + 1;
    where->value_column = (unsigned)r->column + 1;
}

/* Columns before the content of the literal or folded scalar at where. */
static unsigned content_indent(reader *r, const mark *where, size_t indent) {
    const char *p = find_place(r, where->value_line - 1, where->value_column - 1);
    for (int i = 0; i < 3 && p < r->end && strchr("|>+-0123456789", *p); i++, p++)
        if (*p >= '1' && *p <= '9')
            return (unsigned)indent + (unsigned)(*p - '0');
    for (p = next_line(p, r->end); p < r->end; p = next_line(p, r->end)) {
        size_t spaces = strspn(p, " ");
        if (p + spaces < r->end && break_length(p + spaces, r->end) == 0)
            return (unsigned)spaces;
    }
    return (unsigned)indent;
}

/* --- marks --- */

/* marks[table at -2][key at -1] = where. Both stay. */
static void keep_mark(reader *r, const mark *where) {
    lua_State *L = r->L;
    if (r->count == r->room) {
        size_t room = r->room ? r->room * 2 : 64;
        mark *grown = lua_newuserdatauv(L, room * sizeof *grown, 0);
        if (r->count > 0)
            memcpy(grown, r->marks, r->count * sizeof *grown);
        lua_replace(L, AT_STORE);
        r->marks = grown;
        r->room = room;
    }
    r->marks[r->count++] = *where;
    lua_pushvalue(L, -2);
    if (lua_rawget(L, AT_MARKS) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -3);
        lua_pushvalue(L, -2);
        lua_rawset(L, AT_MARKS);
    }
    lua_pushvalue(L, -2);
    lua_pushinteger(L, (lua_Integer)r->count);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* marks(table, key): upvalues are the store, the table of indexes and the index of the root's mark. */
static int l_yaml_marks(lua_State *L) {
    const mark *store = lua_touserdata(L, lua_upvalueindex(1));
    lua_settop(L, 2);
    if (lua_isnil(L, 1)) {
        lua_pushvalue(L, lua_upvalueindex(3));
    } else {
        lua_pushvalue(L, 1);
        if (lua_isnil(L, 2) || lua_rawget(L, lua_upvalueindex(2)) != LUA_TTABLE)
            return 0;
        lua_pushvalue(L, 2);
        lua_rawget(L, -2);
    }
    size_t index = (size_t)lua_tointeger(L, -1);
    if (index == 0)
        return 0; /* not of this document */
    const mark *m = &store[index - 1];
    lua_createtable(L, 0, 6);
    set_number(L, "line", m->line);
    set_number(L, "column", m->column);
    set_number(L, "value_line", m->value_line);
    set_number(L, "value_column", m->value_column);
    set_text(L, "style", styles[m->style]);
    if (m->style == YAML_LITERAL_SCALAR_STYLE || m->style == YAML_FOLDED_SCALAR_STYLE)
        set_number(L, "indent", m->indent);
    return 1;
}

/* --- scalars --- */

/* The name behind "tag:yaml.org,2002:", "" for no tag or "!", NULL for a foreign tag. */
static const char *core_tag(const yaml_char_t *tag) {
    const char *name = (const char *)tag;
    if (!name || strcmp(name, "!") == 0)
        return "";
    return strncmp(name, TAG_PREFIX, strlen(TAG_PREFIX)) == 0 ? name + strlen(TAG_PREFIX) : NULL;
}

static bool refuse_tag(reader *r, const place *at, const yaml_char_t *tag) {
    const char *name = core_tag(tag);
    lua_pushnil(r->L);
    return note_here(r, at, "unsupported_tag",
                     "remove the tag; only str, int, float, bool, null, seq and map are known",
                     "the tag %s%.60s is not supported", name ? "!!" : "", name ? name : (const char *)tag);
}

static void push_value(lua_State *L, const yaml_value *value, const char *text, size_t len) {
    switch (value->kind) {
    case YAML_NULL:
        ph_json_push_null(L);
        break;
    case YAML_BOOL:
        lua_pushboolean(L, value->truth);
        break;
    case YAML_INT:
        lua_pushinteger(L, value->integer);
        break;
    case YAML_FLOAT:
        lua_pushnumber(L, value->number);
        break;
    case YAML_DATE:
        lua_pushstring(L, value->date);
        break;
    default:
        lua_pushlstring(L, text, len);
    }
}

/* The kind that a tag asks for; YAML_BAD for a tag that is no scalar's. */
static yaml_kind tagged_kind(const char *name) {
    static const struct {
        const char *name;
        yaml_kind kind;
    } rows[] = {{"null", YAML_NULL},
                {"bool", YAML_BOOL},
                {"int", YAML_INT},
                {"float", YAML_FLOAT},
                {"timestamp", YAML_DATE}};
    for (size_t i = 0; name && i < sizeof rows / sizeof *rows; i++)
        if (strcmp(name, rows[i].name) == 0)
            return rows[i].kind;
    return YAML_BAD;
}

/* Pushes the value of the current scalar event, nil after an error. */
static bool build_scalar(reader *r, const place *at) {
    const char *text = (const char *)r->event->data.scalar.value;
    size_t len = r->event->data.scalar.length;
    const yaml_char_t *tag = r->event->data.scalar.tag;
    bool is_plain = r->event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    const char *name = core_tag(tag);
    yaml_value value = {.kind = YAML_TEXT};
    if (tag ? name && (!*name || strcmp(name, "str") == 0) : !is_plain) {
        lua_pushlstring(r->L, text, len);
        return true;
    }
    yaml_resolve(text, len, &value);
    if (tag) {
        yaml_kind asked = tagged_kind(name);
        if (asked == YAML_BAD)
            return refuse_tag(r, at, tag);
        if (asked == YAML_FLOAT && value.kind == YAML_INT) {
            value.kind = YAML_FLOAT;
            value.number = (double)value.integer;
        }
        if (value.kind != YAML_BAD && value.kind != asked) {
            lua_pushnil(r->L);
            return note_here(r, at, "unsupported_value", "remove the tag or correct the value",
                             "'%.60s' is no %s", text, name);
        }
    }
    if (value.kind == YAML_BAD) {
        lua_pushnil(r->L);
        return note_here(r, at, "unsupported_value", value.hint, "%.60s: %s", text, value.fault);
    }
    push_value(r->L, &value, text, len);
    return true;
}

/* --- anchors --- */

/* Remembers that an anchor's value has begun: until it is complete, an alias to it would be endless. */
static bool open_anchor(reader *r, const yaml_char_t *name) {
    if (!name)
        return false;
    lua_pushstring(r->L, (const char *)name);
    lua_pushboolean(r->L, 0);
    lua_rawset(r->L, AT_VALUES);
    return true;
}

/* The value at -1 is complete; its anchor's name is at -2 and goes. */
static void close_anchor(reader *r, const extent *size) {
    lua_State *L = r->L;
    lua_pushvalue(L, -2);
    lua_createtable(L, 3, 0); /* a table, so that false and nil can be values */
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, 1);
    lua_pushinteger(L, (lua_Integer)size->nodes);
    lua_rawseti(L, -2, 2);
    lua_pushinteger(L, (lua_Integer)size->height);
    lua_rawseti(L, -2, 3);
    lua_rawset(L, AT_VALUES);
    lua_remove(L, -2);
}

static bool refuse_size(reader *r, const place *at) {
    note_here(r, at, "limit", "make the document smaller",
              "more than %zu values (aliases count as often as they are used)", r->max_nodes);
    return false;
}

static bool refuse_depth(reader *r, const place *at) {
    note_here(r, at, "limit", "nest less deeply", "nested more than %zu levels deep", r->max_depth);
    return false;
}

/* Pushes what the current alias stands for, nil after an error. */
static bool build_alias(reader *r, const place *at, size_t depth, extent *size) {
    lua_State *L = r->L;
    const char *name = (const char *)r->event->data.alias.anchor;
    lua_pushstring(L, name);
    int type = lua_rawget(L, AT_VALUES);
    if (type != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_pushnil(L);
        return type == LUA_TNIL ? note_here(r, at, "alias", "define it before its use with &name",
                                            "no anchor &%.60s before this", name)
                                : note_here(r, at, "alias", "write the value out",
                                            "*%.60s stands inside its own anchor", name);
    }
    lua_rawgeti(L, -1, 2);
    lua_rawgeti(L, -2, 3);
    *size = (extent){(size_t)lua_tointeger(L, -2), (size_t)lua_tointeger(L, -1)};
    lua_pop(L, 2);
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
    r->nodes += size->nodes;
    if (r->nodes > r->max_nodes)
        return refuse_size(r, at);
    return depth + size->height <= r->max_depth || refuse_depth(r, at);
}

/* --- collections --- */
static void grow(extent *size, const extent *part) {
    size->nodes += part->nodes;
    if (part->height + 1 > size->height)
        size->height = part->height + 1;
}

static bool build_sequence(reader *r, const place *at, size_t depth, size_t indent, extent *size) {
    lua_State *L = r->L;
    lua_newtable(L);
    ph_json_mark_array(L);
    for (size_t i = 1;; i++) {
        if (!next_event(r))
            return false;
        if (r->event->type == YAML_SEQUENCE_END_EVENT)
            return true;
        place item = {.up = at, .index = i};
        mark where;
        extent part;
        if (!build(r, &item, depth, indent, &where, &part))
            return false;
        grow(size, &part);
        if (lua_isnil(L, -1)) { /* an error stands here; keep the places of what follows */
            lua_pop(L, 1);
            ph_json_push_null(L);
        }
        lua_rawseti(L, -2, (lua_Integer)i);
        lua_pushinteger(L, (lua_Integer)i);
        keep_mark(r, &where);
        lua_pop(L, 1);
    }
}

/* Is the current event the merge key << ? */
static bool is_merge_key(const reader *r) {
    return r->event->type == YAML_SCALAR_EVENT && r->event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           !r->event->data.scalar.tag && strcmp((char *)r->event->data.scalar.value, "<<") == 0;
}

/* Pushes the text of the key at the current event; nil after an error, with the key read over. */
static bool build_key(reader *r, const place *at, size_t depth) {
    lua_State *L = r->L;
    mark where;
    extent size;
    if (r->event->type == YAML_ALIAS_EVENT) {
        if (!build(r, at, depth, 0, &where, &size))
            return false;
        if (lua_type(L, -1) == LUA_TSTRING || lua_isnil(L, -1))
            return true;
        lua_pop(L, 1);
        lua_pushnil(L);
        return note_here(r, at, "invalid_key", "write the key out",
                         "the alias *%.60s stands for no text, so it cannot be a key",
                         (char *)r->event->data.alias.anchor);
    }
    if (r->event->type != YAML_SCALAR_EVENT) {
        bool goes_on =
            note_here(r, at, "invalid_key", "use text as the key", "a list or map cannot be a key");
        if (!goes_on || !build(r, at, depth, 0, &where, &size))
            return false;
        lua_pop(L, 1);
        lua_pushnil(L);
        return true;
    }
    if (r->event->data.scalar.length == 0 && r->event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        lua_pushnil(L);
        return note_here(r, at, "invalid_key", "write a key before the colon", "a key is missing");
    }
    if (r->event->data.scalar.tag) { /* checks the tag; the key is the text all the same */
        if (!build_scalar(r, at))
            return false;
        bool is_refused = lua_isnil(L, -1);
        lua_pop(L, 1);
        if (is_refused) {
            lua_pushnil(L);
            return true;
        }
    }
    bool has_anchor = open_anchor(r, r->event->data.scalar.anchor);
    if (has_anchor)
        lua_pushstring(L, (char *)r->event->data.scalar.anchor);
    lua_pushlstring(L, (char *)r->event->data.scalar.value, r->event->data.scalar.length);
    if (has_anchor)
        close_anchor(r, &(extent){1, 0});
    return true;
}

/* Puts into the map at index `to` what it does not have of the map at the top, with the marks. Pops that map.
 */
static void merge_one(reader *r, int to) {
    lua_State *L = r->L;
    int from = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        if (lua_rawget(L, to) == LUA_TNIL) {
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -3);
            lua_rawset(L, to);
            lua_pushvalue(L, from);
            if (lua_rawget(L, AT_MARKS) == LUA_TTABLE) {
                lua_pushvalue(L, -4);
                lua_rawget(L, -2);
                mark copy = r->marks[lua_tointeger(L, -1) - 1];
                lua_pop(L, 1);
                lua_pushvalue(L, to);
                lua_pushvalue(L, -5);
                keep_mark(r, &copy);
                lua_pop(L, 2);
            }
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Whether the value at the top is a table without the array mark. */
static bool is_map(lua_State *L) {
    if (!lua_istable(L, -1))
        return false;
    if (!lua_getmetatable(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

/* Whether the value at the top can be merged: a map, or a list of maps. */
static bool is_mergeable(lua_State *L) {
    if (!lua_istable(L, -1) || is_map(L))
        return lua_istable(L, -1);
    size_t n = lua_rawlen(L, -1);
    bool has_maps_only = true;
    for (size_t i = 1; i <= n && has_maps_only; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i);
        has_maps_only = is_map(L);
        lua_pop(L, 1);
    }
    return has_maps_only;
}

/* The << values collected at index `merges` into the map at `to`: the map's own keys win, then the later <<,
 * in a list the earlier map. */
static void merge_all(reader *r, int to, int merges) {
    lua_State *L = r->L;
    for (lua_Integer i = (lua_Integer)lua_rawlen(L, merges); i >= 1; i--) {
        lua_rawgeti(L, merges, i);
        if (is_map(L)) {
            merge_one(r, to);
            continue;
        }
        int list = lua_gettop(L);
        for (lua_Integer k = 1; lua_rawgeti(L, list, k) != LUA_TNIL; k++)
            merge_one(r, to);
        lua_settop(L, list - 1);
    }
}

/* One key and value of the map at index `map`; the current event is the key. */
static bool build_member(reader *r, const place *at, size_t depth, size_t indent, int map, int merges,
                         extent *size) {
    lua_State *L = r->L;
    yaml_mark_t start = r->event->start_mark;
    bool is_merge = is_merge_key(r);
    place member = {.up = at, .key = "?"};
    if (!build_key(r, at, depth))
        return false;
    int key = lua_gettop(L);
    if (lua_isstring(L, key)) {
        member.key = lua_tostring(L, key);
        lua_pushvalue(L, key);
        if (!is_merge && lua_rawget(L, map) != LUA_TNIL && !r->keeps_last) {
            lua_pushvalue(L, map);
            lua_rawget(L, AT_MARKS);
            lua_pushvalue(L, key);
            lua_rawget(L, -2);
            unsigned first = r->marks[lua_tointeger(L, -1) - 1].line;
            if (!note_here(r, &member, "duplicate_key", "remove one of the two, or rename it",
                           "the key '%.60s' stands here a second time (first on line %u)", member.key, first))
                return false;
        }
        lua_settop(L, key);
    }
    mark where;
    extent part;
    if (!next_event(r) || !build(r, &member, depth, indent, &where, &part))
        return false;
    grow(size, &part);
    where.line = (unsigned)start.line + 1;
    where.column = (unsigned)start.column + 1;
    if (is_merge && !lua_isnil(L, -1)) {
        if (is_mergeable(L))
            lua_rawseti(L, merges, (lua_Integer)lua_rawlen(L, merges) + 1);
        else if (!note(r, where.value_line, where.value_column, &member, "merge",
                       "give << a map or a list of maps", "<< merges maps only"))
            return false;
    } else if (!lua_isnil(L, key)) {
        if (lua_isnil(L, -1)) { /* an error stands here; a second such key is to be noticed all the same */
            lua_pop(L, 1);
            ph_json_push_null(L);
        }
        lua_pushvalue(L, key);
        lua_pushvalue(L, -2);
        lua_rawset(L, map);
        lua_pushvalue(L, map);
        lua_pushvalue(L, key);
        keep_mark(r, &where);
    }
    lua_settop(L, key - 1);
    return true;
}

static bool build_mapping(reader *r, const place *at, size_t depth, size_t indent, extent *size) {
    lua_State *L = r->L;
    lua_newtable(L);
    int map = lua_gettop(L), merges = 0;
    for (;;) {
        if (!next_event(r))
            return false;
        if (r->event->type == YAML_MAPPING_END_EVENT)
            break;
        if (merges == 0 && is_merge_key(r)) {
            lua_newtable(L);
            merges = map + 1;
        }
        if (!build_member(r, at, depth, indent, map, merges, size))
            return false;
    }
    if (merges)
        merge_all(r, map, merges);
    lua_settop(L, map);
    return true;
}

/* --- nodes --- */
typedef struct node_facts {
    const yaml_char_t *anchor, *tag;
    unsigned style;
    bool is_empty; /* no character stands for the value */
} node_facts;

static node_facts facts_of(const yaml_event_t *e) {
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return (node_facts){e->data.scalar.anchor, e->data.scalar.tag, e->data.scalar.style,
                            e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && e->data.scalar.length == 0};
    case YAML_SEQUENCE_START_EVENT:
        return (node_facts){
            e->data.sequence_start.anchor, e->data.sequence_start.tag,
            e->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE ? STYLE_FLOW : STYLE_BLOCK, false};
    case YAML_MAPPING_START_EVENT:
        return (node_facts){e->data.mapping_start.anchor, e->data.mapping_start.tag,
                            e->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE ? STYLE_FLOW : STYLE_BLOCK,
                            false};
    default:
        return (node_facts){NULL, NULL, STYLE_ALIAS, false};
    }
}

static void set_mark(reader *r, const node_facts *facts, size_t indent, mark *where) {
    *where = (mark){.value_line = (unsigned)r->event->start_mark.line + 1,
                    .value_column = (unsigned)r->event->start_mark.column + 1,
                    .style = facts->style};
    if ((facts->anchor || facts->tag) && !facts->is_empty)
        skip_properties(r, where);
    where->line = where->value_line;
    where->column = where->value_column;
    if (facts->style == YAML_LITERAL_SCALAR_STYLE || facts->style == YAML_FOLDED_SCALAR_STYLE)
        where->indent = content_indent(r, where, indent);
}

static bool build_collection(reader *r, const place *at, size_t depth, const node_facts *facts,
                             const mark *where, extent *size) {
    bool is_map = r->event->type == YAML_MAPPING_START_EVENT;
    const char *name = core_tag(facts->tag);
    if (depth + 1 > r->max_depth)
        return refuse_depth(r, at);
    if (!name || (*name && strcmp(name, is_map ? "map" : "seq") != 0)) {
        bool goes_on = refuse_tag(r, at, facts->tag);
        lua_pop(r->L, 1);
        if (!goes_on)
            return false;
    }
    size_t indent = facts->style == STYLE_BLOCK ? where->value_column - 1 : 0;
    return is_map ? build_mapping(r, at, depth + 1, indent, size)
                  : build_sequence(r, at, depth + 1, indent, size);
}

/* Pushes the value that starts at the current event (nil when an error was noted and reading can go on).
 * depth: collections around it; indent: columns of the one around it. False: stop. */
static bool build(reader *r, const place *at, size_t depth, size_t indent, mark *where, extent *size) {
    lua_State *L = r->L;
    luaL_checkstack(L, 16, "YAML nested too deeply");
    node_facts facts = facts_of(r->event);
    set_mark(r, &facts, indent, where);
    *size = (extent){1, 0};
    if (r->event->type == YAML_ALIAS_EVENT)
        return build_alias(r, at, depth, size);
    if (++r->nodes > r->max_nodes)
        return refuse_size(r, at);
    if (facts.anchor)
        lua_pushstring(L, (const char *)facts.anchor);
    open_anchor(r, facts.anchor);
    bool is_built = r->event->type == YAML_SCALAR_EVENT ? build_scalar(r, at)
                                                        : build_collection(r, at, depth, &facts, where, size);
    if (is_built && facts.anchor)
        close_anchor(r, size);
    return is_built;
}

/* Whether the lines before the document hold too many directives; notes it. */
static bool has_many_directives(reader *r) {
    size_t count = 0, line = 1;
    for (const char *p = r->text; p < r->end; p = next_line(p, r->end), line++) {
        count += *p == '%';
        if (count > DIRECTIVES_MAX) {
            note(r, line, 1, NULL, "limit", "remove the %TAG lines", "more than 32 directives");
            return true;
        }
        if (*p != '%' && *p != '#' && break_length(p, r->end) == 0)
            break;
    }
    return false;
}

/* Pushes the document's value and leaves the index of its mark in *root. */
static bool read_document(reader *r, size_t *root) {
    lua_State *L = r->L;
    place top = {0};
    mark where = {
        .line = 1, .column = 1, .value_line = 1, .value_column = 1, .style = YAML_PLAIN_SCALAR_STYLE};
    extent size;
    if (has_many_directives(r) || !next_event(r) || !next_event(r)) /* stream start, document start */
        return false;
    if (r->event->type == YAML_STREAM_END_EVENT) {
        ph_json_push_null(L);
    } else {
        if (!next_event(r) || !build(r, &top, 0, 0, &where, &size) || !next_event(r) || !next_event(r))
            return false;
        if (r->event->type != YAML_STREAM_END_EVENT)
            return note_here(r, NULL, "documents", "send one document at a time",
                             "a second document starts here"),
                   false;
    }
    lua_createtable(L, 0, 0); /* the root's mark under a key of a table that nobody sees */
    lua_pushboolean(L, 1);
    keep_mark(r, &where);
    lua_pop(L, 2);
    *root = r->count;
    return r->errors == 0;
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
    if (len > max_bytes) {
        char message[96];
        snprintf(message, sizeof message, "the document has %zu bytes, allowed are %zu", len, max_bytes);
        note(&r, 1, 1, NULL, "limit", "make the document smaller", message);
        return fail(&r, PH_TOO_LARGE);
    }
    yaml_parser_set_encoding(&r.box->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.box->parser, (const unsigned char *)text, len);
    bool is_read = read_document(&r, &root);
    box_free_parser(r.box);
    if (!is_read)
        return fail(&r, PH_INVALID);
    lua_pushvalue(L, AT_STORE);
    lua_pushvalue(L, AT_MARKS);
    lua_pushinteger(L, (lua_Integer)root);
    lua_pushcclosure(L, l_yaml_marks, 3);
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
