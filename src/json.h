/* JSON for other C files: text to Lua values and back, by the same rules as host.json.
 * Any thread, on a lua_State that it owns. */
#ifndef PH_JSON_H
#define PH_JSON_H

#include "host.h"

#define PH_JSON_DEPTH 128 /* nesting that encode and decode accept unless told otherwise */

typedef struct ph_json_options {
    bool is_sorted;   /* keys of every object in byte order */
    bool is_ascii;    /* other characters as \uXXXX */
    bool is_pretty;   /* two spaces of indentation, a line per item */
    int order;        /* stack index of a list of names that come first at the top level; 0 = none */
    size_t max_bytes; /* a longer text is refused, mostly before it is made; 0 = no limit */
} ph_json_options;

/* Decodes text (len bytes, need not be terminated) and pushes the value: returns 1.
 * On failure pushes nil, message, code ("invalid"), {line, column, offset}: returns 4.
 * May raise a Lua error (memory); leaks nothing then. */
int ph_json_push(lua_State *L, const char *text, size_t len);

/* The value at idx as compact ASCII JSON, the form of everything stored in NATS. The result is the caller's
 * to free(), terminated, *len without the terminator (len may be NULL). NULL and err when the value cannot be
 * JSON; err names the path. Never raises. */
char *ph_json_encode(lua_State *L, int idx, size_t *len, ph_error *err);

/* The same with options; NULL = compact, unsorted, UTF-8. On failure *len is PH_JSON_TOO_LONG if max_bytes is
 * why, else 0. */
#define PH_JSON_TOO_LONG SIZE_MAX
char *ph_json_encode_with(lua_State *L, int idx, const ph_json_options *options, size_t *len, ph_error *err);

/* json.null, and the mark of an array on the table at the top of the stack. */
void ph_json_push_null(lua_State *L);
void ph_json_mark_array(lua_State *L);

/* Whether the table at idx is written as an array: it has the mark, or an element at 1. Needs 2 stack slots.
 */
bool ph_json_is_array(lua_State *L, int idx);

/* Bytes of the UTF-8 sequence at p (1 to 4), 0 when it is not one. p < end. */
size_t ph_utf8_length(const unsigned char *p, const unsigned char *end);

/* Puts ? in place of every byte that is not UTF-8: a message that was cut, or that quotes wrong text, stays
 * text. */
void ph_utf8_clean(char *text);

/* Line and column (from 1; columns count characters) of an offset of a text. */
void ph_text_place(const char *text, size_t offset, size_t *line, size_t *column);

#endif
