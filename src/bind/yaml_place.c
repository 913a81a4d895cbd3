/* host.yaml: where things stand in the text, and what marks() tells about it. */
#include "yaml_parts.h"
#include <string.h>

static const char *const styles[] = {"",       "plain", "single", "double", "literal",
                                     "folded", "block", "flow",   "alias"};

/* --- source positions --- */

/* Bytes of the line break at p, by libyaml's idea of one; 0 = none. */
size_t yaml_break_length(const char *p, const char *end) {
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
const char *yaml_next_line(const char *p, const char *end) {
    size_t n = 0;
    while (p < end && (n = yaml_break_length(p, end)) == 0)
        p++;
    return p + n;
}

/* Moves the cursor to the next character, which may be on the next line. */
static void step(reader *r) {
    size_t n = yaml_break_length(r->cursor, r->end);
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

const char *yaml_find_place(reader *r, size_t line, size_t column) {
    if (line < r->line || (line == r->line && column < r->column)) { /* rare: an error that points back */
        r->cursor = r->text;
        r->line = r->column = 0;
    }
    while (r->cursor < r->end && (r->line < line || (r->line == line && r->column < column)))
        step(r);
    return r->cursor;
}

/* Moves the value's place behind anchor and tag, which libyaml counts to the node. */
void yaml_skip_properties(reader *r, mark *where) {
    yaml_find_place(r, where->value_line - 1, where->value_column - 1);
    bool is_skipping = false; /* inside a property or comment */
    char kind = 0;
    for (; r->cursor < r->end; step(r)) {
        bool is_break = yaml_break_length(r->cursor, r->end) > 0,
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
unsigned yaml_content_indent(reader *r, const mark *where, size_t indent) {
    const char *p = yaml_find_place(r, where->value_line - 1, where->value_column - 1);
    for (int i = 0; i < 3 && p < r->end && strchr("|>+-0123456789", *p); i++, p++)
        if (*p >= '1' && *p <= '9')
            return (unsigned)indent + (unsigned)(*p - '0');
    for (p = yaml_next_line(p, r->end); p < r->end; p = yaml_next_line(p, r->end)) {
        size_t spaces = strspn(p, " ");
        if (p + spaces < r->end && yaml_break_length(p + spaces, r->end) == 0)
            return (unsigned)spaces;
    }
    return (unsigned)indent;
}

/* --- marks --- */

/* marks[table at -2][key at -1] = where. Both stay. */
void yaml_keep_mark(reader *r, const mark *where) {
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
int yaml_marks(lua_State *L) {
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
    yaml_set_number(L, "line", m->line);
    yaml_set_number(L, "column", m->column);
    yaml_set_number(L, "value_line", m->value_line);
    yaml_set_number(L, "value_column", m->value_column);
    yaml_set_text(L, "style", styles[m->style]);
    if (m->style == YAML_LITERAL_SCALAR_STYLE || m->style == YAML_FOLDED_SCALAR_STYLE)
        yaml_set_number(L, "indent", m->indent);
    return 1;
}
