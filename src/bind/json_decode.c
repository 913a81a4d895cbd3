/* host.json decode. One scan of the text checks what cJSON is lax about (UTF-8, control characters, number
 * forms, depth) and notes what its tree cannot say (1.0 or 1, digits beyond a double, NUL in strings); cJSON
 * checks the structure and builds the tree; one walk turns it into Lua values. */
#include "json_parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 62    /* characters; cJSON cuts a number at 63 */
#define DOUBLE_DIGITS 15 /* any integer of so many digits is exact in a double */

typedef struct scan {
    const unsigned char *text, *p, *end;
    size_t depth, max_depth, numbers;
    bool has_nul;
    json_scratch *scratch;
    const char *fault; /* set: the text is not JSON, at p */
} scan;

static bool fail_at(scan *s, const unsigned char *place, const char *fault) {
    s->p = place;
    s->fault = fault;
    return false;
}

static int hex4(const unsigned char *p, const unsigned char *end) {
    int value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int c = p[i], digit = c >= '0' && c <= '9'                 ? c - '0'
                              : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                   : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* p at the backslash. */
static bool scan_escape(scan *s) {
    const unsigned char *at = s->p;
    if (s->end - at < 2 || !strchr("\"\\/bfnrtu", at[1]) || !at[1])
        return fail_at(s, at, "unknown escape (write \\\\ for a backslash)");
    s->p += 2;
    if (at[1] != 'u')
        return true;
    int code = hex4(s->p, s->end);
    if (code < 0)
        return fail_at(s, at, "\\u needs four hex digits");
    s->p += 4;
    s->has_nul |= code == 0;
    if (code < 0xD800 || code > 0xDFFF)
        return true;
    int low = s->end - s->p > 2 && s->p[0] == '\\' && s->p[1] == 'u' ? hex4(s->p + 2, s->end) : -1;
    if (code > 0xDBFF || low < 0xDC00 || low > 0xDFFF)
        return fail_at(s, at, "half of a surrogate pair");
    s->p += 6;
    return true;
}

/* Over what needs no look, eight bytes at a time: printable ASCII other than quote and backslash. */
static void skip_plain(scan *s) {
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    const unsigned char *p = s->p;
    for (uint64_t w; s->end - p >= 8; p += 8) {
        memcpy(&w, p, 8);
        uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
        /* a top bit: the byte, or one below it, is beyond ASCII, below space, a quote or a backslash */
        uint64_t stop = (w | (w - ones * 0x20) | (quote - ones) | (slash - ones)) & tops;
        if (stop) {
            if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
                p += __builtin_ctzll(stop) / 8; /* the lowest one is exact */
            break;
        }
    }
    s->p = p;
}

/* p behind the opening quote; leaves it behind the closing one. */
static bool scan_string(scan *s) {
    const unsigned char *start = s->p - 1;
    while (s->p < s->end) {
        skip_plain(s);
        if (s->p == s->end)
            break;
        unsigned char c = *s->p;
        if (c == '"') {
            s->p++;
            return true;
        } else if (c == '\\') {
            if (!scan_escape(s))
                return false;
        } else if (c < 0x20) {
            return fail_at(s, s->p,
                           "control character in a string (write \\n for a line break, \\t for a tab)");
        } else if (c < 0x80) {
            s->p++;
        } else {
            size_t n = ph_utf8_length(s->p, s->end);
            if (n == 0)
                return fail_at(s, s->p, "not UTF-8");
            s->p += n;
        }
    }
    return fail_at(s, start, "string without closing quote");
}

static bool note_number(scan *s, size_t offset, size_t len, bool is_float) {
    json_scratch *scratch = s->scratch;
    if (scratch->count == scratch->room) {
        size_t room = scratch->room ? scratch->room * 2 : 16;
        json_number *grown = realloc(scratch->numbers, room * sizeof *grown);
        if (!grown)
            return fail_at(s, s->p, "out of memory");
        scratch->numbers = grown;
        scratch->room = room;
    }
    scratch->numbers[scratch->count++] = (json_number){s->numbers, offset, (unsigned)len, is_float};
    return true;
}

static bool is_digit(const scan *s) {
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static size_t skip_digits(scan *s) {
    const unsigned char *start = s->p;
    while (is_digit(s))
        s->p++;
    return (size_t)(s->p - start);
}

static bool scan_number(scan *s) {
    const unsigned char *start = s->p;
    bool is_float = false;
    if (*s->p == '-')
        s->p++;
    const unsigned char *first = s->p;
    size_t digits = skip_digits(s);
    if (digits == 0)
        return fail_at(s, start, "a number needs a digit after -");
    if (digits > 1 && *first == '0')
        return fail_at(s, start, "a number may not start with 0 (write it as text if the zero matters)");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        is_float = true;
        if (skip_digits(s) == 0)
            return fail_at(s, start, "a number needs a digit after the point");
    }
    if (s->p < s->end && (*s->p | 32) == 'e') {
        s->p++;
        is_float = true;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (skip_digits(s) == 0)
            return fail_at(s, start, "a number needs a digit in its exponent");
    }
    size_t len = (size_t)(s->p - start);
    if (len > NUMBER_MAX)
        return fail_at(s, start, "number too long (more than 62 characters)");
    if ((is_float || digits > DOUBLE_DIGITS) && !note_number(s, (size_t)(start - s->text), len, is_float))
        return false;
    s->numbers++;
    return true;
}

static bool scan_word(scan *s) {
    size_t left = (size_t)(s->end - s->p), n = 0;
    if (left >= 4 && (memcmp(s->p, "null", 4) == 0 || memcmp(s->p, "true", 4) == 0))
        n = 4;
    else if (left >= 5 && memcmp(s->p, "false", 5) == 0)
        n = 5;
    s->p += n;
    return n > 0 || fail_at(s, s->p, NULL);
}

/* The whole text, token by token. False with fault (or, for a wrong character, fault NULL) and p at the
 * place. */
static bool scan_text(scan *s) {
    while (s->p < s->end) {
        switch (*s->p) {
        case ' ':
        case '\t':
        case '\n':
        case '\r':
        case ',':
        case ':':
            s->p++;
            break;
        case '{':
        case '[':
            if (++s->depth > s->max_depth)
                return fail_at(s, s->p, "nested too deeply");
            s->p++;
            break;
        case '}':
        case ']':
            if (s->depth > 0)
                s->depth--;
            s->p++;
            break;
        case '"':
            s->p++;
            if (!scan_string(s))
                return false;
            break;
        case '-':
        case '0':
        case '1':
        case '2':
        case '3':
        case '4':
        case '5':
        case '6':
        case '7':
        case '8':
        case '9':
            if (!scan_number(s))
                return false;
            break;
        default:
            if (!scan_word(s))
                return false;
        }
    }
    return true;
}

/* --- errors --- */
static char char_before(const char *text, size_t offset) {
    while (offset > 0 && strchr(" \t\r\n", text[offset - 1]))
        offset--;
    return offset > 0 ? text[offset - 1] : 0;
}

/* What is wrong at a place where cJSON, or the scan, found no token that fits. */
static void describe(const char *text, size_t len, size_t offset, char *out, size_t size) {
    unsigned char c = offset < len ? (unsigned char)text[offset] : 0;
    char before = char_before(text, offset);
    if (offset >= len)
        snprintf(out, size, len ? "the text ends too early" : "the text is empty");
    else if ((c == '}' || c == ']') && before == ',')
        snprintf(out, size, "a comma before %c is not allowed", c);
    else if (c == '\'')
        snprintf(out, size, "unexpected ' (JSON text stands in double quotes)");
    else if (c == '/' || c == '#')
        snprintf(out, size, "unexpected %c (JSON has no comments)", c);
    else if (c > 0x20 && c < 0x7F && strchr("\"{[-0123456789tfn", c) && before && !strchr(",:[{", before))
        snprintf(out, size, "unexpected %c (is a comma or colon missing before it?)", c);
    else if (c > 0x20 && c < 0x7F)
        snprintf(out, size, "unexpected %c", c);
    else
        snprintf(out, size, "unexpected byte 0x%02X", c);
}

static int fail(lua_State *L, const char *code, const char *text, size_t offset, const char *what) {
    size_t line, column;
    ph_text_place(text, offset, &line, &column);
    ph_fail(L, code, "line %zu column %zu: %s", line, column, what);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)line);
    lua_setfield(L, -2, "line");
    lua_pushinteger(L, (lua_Integer)column);
    lua_setfield(L, -2, "column");
    lua_pushinteger(L, (lua_Integer)offset);
    lua_setfield(L, -2, "offset");
    return 4;
}

/* --- from tree to Lua --- */
typedef struct walk {
    const char *text;
    json_number *next, *last; /* the notes that are still to come */
    size_t numbers;
    bool has_nul, is_out_of_range;
    size_t bad_offset;
} walk;

/* A long integer, from its text: a Lua integer when it fits, else a float. */
static void push_long(lua_State *L, const walk *w, const json_number *number) {
    char copy[NUMBER_MAX + 2];
    memcpy(copy, w->text + number->offset, number->len);
    copy[number->len] = 0;
    lua_stringtonumber(L, copy);
}

static void push_number(lua_State *L, walk *w, double value) {
    bool is_noted = w->next < w->last && w->next->ordinal == w->numbers++;
    if (!is_noted) {
        lua_pushinteger(L, (lua_Integer)value);
        return;
    }
    if (w->next->is_float)
        lua_pushnumber(L, value);
    else
        push_long(L, w, w->next);
    if (isinf(value) && !w->is_out_of_range) {
        w->is_out_of_range = true;
        w->bad_offset = w->next->offset;
    }
    w->next++;
}

static void push_text(lua_State *L, const walk *w, char *text) {
    if (!w->has_nul) {
        lua_pushlstring(L, text, strlen(text));
        return;
    }
    char *out = text;
    for (const unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p != FILLER)
            *out++ = *p == STAND_IN ? 0 : (char)*p;
    lua_pushlstring(L, text, (size_t)(out - text));
}

static void push_item(lua_State *L, walk *w, cJSON *item) {
    lua_Integer i = 0;
    switch (item->type & 0xFF) {
    case cJSON_False:
        lua_pushboolean(L, 0);
        return;
    case cJSON_True:
        lua_pushboolean(L, 1);
        return;
    case cJSON_Number:
        push_number(L, w, item->valuedouble);
        return;
    case cJSON_String:
        push_text(L, w, item->valuestring);
        return;
    case cJSON_Array:
        luaL_checkstack(L, 4, "JSON nested too deeply");
        lua_createtable(L, cJSON_GetArraySize(item), 0);
        for (cJSON *child = item->child; child; child = child->next) {
            push_item(L, w, child);
            lua_rawseti(L, -2, ++i);
        }
        ph_json_mark_array(L);
        return;
    case cJSON_Object:
        luaL_checkstack(L, 4, "JSON nested too deeply");
        lua_createtable(L, 0, cJSON_GetArraySize(item));
        for (cJSON *child = item->child; child; child = child->next) {
            push_text(L, w, child->string);
            push_item(L, w, child);
            lua_rawset(L, -3);
        }
        return;
    default:
        ph_json_push_null(L);
    }
}

/* The text with each \u0000 outside an escaped backslash replaced by a stand-in of the same length. */
static char *copy_without_nul(const char *text, size_t len) {
    char *copy = malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = 0;
    for (size_t i = 0; i + 1 < len; i++) {
        if (copy[i] != '\\')
            continue;
        if (len - i >= NUL_ESCAPE && memcmp(copy + i, "\\u0000", NUL_ESCAPE) == 0) {
            memset(copy + i, FILLER, NUL_ESCAPE);
            copy[i] = (char)STAND_IN;
        }
        i++; /* the escaped character is no start of an escape */
    }
    return copy;
}

int json_push(lua_State *L, const char *text, size_t len, size_t max_depth, size_t max_bytes) {
    char what[128];
    if (len > max_bytes) {
        snprintf(what, sizeof what, "the text has %zu bytes, allowed are %zu", len, max_bytes);
        return fail(L, PH_TOO_LARGE, text, 0, what);
    }
    json_scratch *scratch = json_scratch_get(L);
    const unsigned char *start = (const unsigned char *)text;
    size_t skip = len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0; /* a byte order mark */
    scan s = {
        .text = start, .p = start + skip, .end = start + len, .max_depth = max_depth, .scratch = scratch};
    if (!scan_text(&s)) {
        size_t offset = (size_t)(s.p - start);
        if (!s.fault)
            describe(text, len, offset, what, sizeof what);
        return fail(L, PH_INVALID, text, offset, s.fault ? s.fault : what);
    }
    if (s.has_nul && !(scratch->text = copy_without_nul(text, len)))
        return fail(L, PH_INTERNAL, text, 0, "out of memory");
    const char *source = s.has_nul ? scratch->text : text, *stop = source + skip;
    scratch->tree = len > skip ? cJSON_ParseWithLengthOpts(source + skip, len - skip, &stop, false) : NULL;
    size_t offset = (size_t)(stop - source);
    if (!scratch->tree && offset + 1 == len && s.depth > 0)
        offset = len; /* cJSON stays on the last byte of a text that is cut off */
    while (offset < len && strchr(" \t\r\n", text[offset]))
        offset++;
    if (!scratch->tree || offset < len) {
        describe(text, len, offset, what, sizeof what);
        return fail(L, PH_INVALID, text, offset, what);
    }
    walk w = {.text = text,
              .next = scratch->numbers,
              .last = scratch->numbers + scratch->count,
              .has_nul = s.has_nul};
    json_scratch_hold(L, scratch);
    push_item(L, &w, scratch->tree);
    lua_remove(L, -2);
    json_scratch_clear(scratch);
    if (w.is_out_of_range)
        return fail(L, PH_INVALID, text, w.bad_offset, "number out of range (at most 1.8e308)");
    return 1;
}

int ph_json_push(lua_State *L, const char *text, size_t len) {
    return json_push(L, text, len, PH_JSON_DEPTH, SIZE_MAX);
}
