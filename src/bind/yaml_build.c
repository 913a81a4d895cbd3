/* host.yaml: libyaml's events to Lua values. Recursion, bounded by max_depth; errors are noted and reading
 * goes on where it can, with nil in place of the value. */
#include "yaml_parts.h"
#include <string.h>

#define TAG_PREFIX "tag:yaml.org,2002:"
#define DIRECTIVES_MAX 32 /* libyaml compares each %TAG with all before it */

static bool build(reader *r, const place *at, size_t depth, size_t indent, mark *where, extent *size);

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
    return yaml_note_here(
        r, at, "unsupported_tag", "remove the tag; only str, int, float, bool, null, seq and map are known",
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
            return yaml_note_here(r, at, "unsupported_value", "remove the tag or correct the value",
                                  "'%.60s' is no %s", text, name);
        }
    }
    if (value.kind == YAML_BAD) {
        lua_pushnil(r->L);
        return yaml_note_here(r, at, "unsupported_value", value.hint, "%.60s: %s", text, value.fault);
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
    yaml_note_here(r, at, "limit", "make the document smaller",
                   "more than %zu values (aliases count as often as they are used)", r->max_nodes);
    return false;
}

static bool refuse_depth(reader *r, const place *at) {
    yaml_note_here(r, at, "limit", "nest less deeply", "nested more than %zu levels deep", r->max_depth);
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
        return type == LUA_TNIL ? yaml_note_here(r, at, "alias", "define it before its use with &name",
                                                 "no anchor &%.60s before this", name)
                                : yaml_note_here(r, at, "alias", "write the value out",
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
        if (!yaml_next_event(r))
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
        yaml_keep_mark(r, &where);
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
        return yaml_note_here(r, at, "invalid_key", "write the key out",
                              "the alias *%.60s stands for no text, so it cannot be a key",
                              (char *)r->event->data.alias.anchor);
    }
    if (r->event->type != YAML_SCALAR_EVENT) {
        bool goes_on =
            yaml_note_here(r, at, "invalid_key", "use text as the key", "a list or map cannot be a key");
        if (!goes_on || !build(r, at, depth, 0, &where, &size))
            return false;
        lua_pop(L, 1);
        lua_pushnil(L);
        return true;
    }
    if (r->event->data.scalar.length == 0 && r->event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        lua_pushnil(L);
        return yaml_note_here(r, at, "invalid_key", "write a key before the colon", "a key is missing");
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
                yaml_keep_mark(r, &copy);
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
            if (!yaml_note_here(r, &member, "duplicate_key", "remove one of the two, or rename it",
                                "the key '%.60s' stands here a second time (first on line %u)", member.key,
                                first))
                return false;
        }
        lua_settop(L, key);
    }
    mark where;
    extent part;
    if (!yaml_next_event(r) || !build(r, &member, depth, indent, &where, &part))
        return false;
    grow(size, &part);
    where.line = (unsigned)start.line + 1;
    where.column = (unsigned)start.column + 1;
    if (is_merge && !lua_isnil(L, -1)) {
        if (is_mergeable(L))
            lua_rawseti(L, merges, (lua_Integer)lua_rawlen(L, merges) + 1);
        else if (!yaml_note(r, where.value_line, where.value_column, &member, "merge",
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
        yaml_keep_mark(r, &where);
    }
    lua_settop(L, key - 1);
    return true;
}

static bool build_mapping(reader *r, const place *at, size_t depth, size_t indent, extent *size) {
    lua_State *L = r->L;
    lua_newtable(L);
    int map = lua_gettop(L), merges = 0;
    for (;;) {
        if (!yaml_next_event(r))
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
        yaml_skip_properties(r, where);
    where->line = where->value_line;
    where->column = where->value_column;
    if (facts->style == YAML_LITERAL_SCALAR_STYLE || facts->style == YAML_FOLDED_SCALAR_STYLE)
        where->indent = yaml_content_indent(r, where, indent);
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
    for (const char *p = r->text; p < r->end; p = yaml_next_line(p, r->end), line++) {
        count += *p == '%';
        if (count > DIRECTIVES_MAX) {
            yaml_note(r, line, 1, NULL, "limit", "remove the %TAG lines", "more than 32 directives");
            return true;
        }
        if (*p != '%' && *p != '#' && yaml_break_length(p, r->end) == 0)
            break;
    }
    return false;
}

/* Pushes the document's value and leaves the index of its mark in *root. */
bool yaml_read_document(reader *r, size_t *root) {
    lua_State *L = r->L;
    place top = {0};
    mark where = {
        .line = 1, .column = 1, .value_line = 1, .value_column = 1, .style = YAML_PLAIN_SCALAR_STYLE};
    extent size;
    if (has_many_directives(r) || !yaml_next_event(r) ||
        !yaml_next_event(r)) /* stream start, document start */
        return false;
    if (r->event->type == YAML_STREAM_END_EVENT) {
        ph_json_push_null(L);
    } else {
        if (!yaml_next_event(r) || !build(r, &top, 0, 0, &where, &size) || !yaml_next_event(r) ||
            !yaml_next_event(r))
            return false;
        if (r->event->type != YAML_STREAM_END_EVENT)
            return yaml_note_here(r, NULL, "documents", "send one document at a time",
                                  "a second document starts here"),
                   false;
    }
    lua_createtable(L, 0, 0); /* the root's mark under a key of a table that nobody sees */
    lua_pushboolean(L, 1);
    yaml_keep_mark(r, &where);
    lua_pop(L, 2);
    *root = r->count;
    return r->errors == 0;
}
