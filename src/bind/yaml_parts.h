/* What yaml.c (errors, decode), yaml_build.c (events to values), yaml_place.c (positions) and yaml_scalar.c
 * share. */
#ifndef PH_YAML_PARTS_H
#define PH_YAML_PARTS_H

#include "json.h"
#include <yaml.h>

typedef enum yaml_kind {
    YAML_TEXT,
    YAML_NULL,
    YAML_BOOL,
    YAML_INT,
    YAML_FLOAT,
    YAML_DATE,
    YAML_BAD
} yaml_kind;

/* What a scalar says. */
typedef struct yaml_value {
    yaml_kind kind;
    bool truth;
    lua_Integer integer;
    double number;
    char date[48];            /* ISO 8601 */
    const char *fault, *hint; /* of YAML_BAD */
} yaml_value;

/* The value of a plain scalar by YAML 1.1's rules, as PyYAML's safe_load applies them. YAML_TEXT: the text
 * itself; YAML_BAD: looks like a number or a date but is none that JSON can hold. text is terminated. */
void yaml_resolve(const char *text, size_t len, yaml_value *out);

/* Stack slots of a decode. */
enum { AT_TEXT = 1, AT_OPTIONS, AT_BOX, AT_STORE, AT_ERRORS, AT_VALUES, AT_MARKS, AT_LAST = AT_MARKS };

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

/* --- errors (yaml.c) --- */

/* Notes an error at line and column (from 1). Returns whether there is room for more. */
bool yaml_note(reader *r, size_t line, size_t column, const place *at, const char *code, const char *hint,
               const char *message);

/* The same at the current event. */
bool yaml_note_here(reader *r, const place *at, const char *code, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* Reads the next event into r->event. False when the text is not YAML; the error is noted. */
bool yaml_next_event(reader *r);

/* Set a field of the table at the top; a NULL text sets nothing. */
void yaml_set_text(lua_State *L, const char *name, const char *text);
void yaml_set_number(lua_State *L, const char *name, size_t value);

/* --- values (yaml_build.c) --- */

/* Pushes the document's value and leaves the index of its mark in *root. False when errors were noted. */
bool yaml_read_document(reader *r, size_t *root);

/* --- positions (yaml_place.c) --- */

/* Bytes of the line break at p, by libyaml's idea of one; 0 = none. */
size_t yaml_break_length(const char *p, const char *end);

/* The start of the line after the one that p stands in, or end. */
const char *yaml_next_line(const char *p, const char *end);

/* The character at line and column (from 0); fast as long as places come in order. */
const char *yaml_find_place(reader *r, size_t line, size_t column);

/* Moves the value's place behind anchor and tag, which libyaml counts to the node. */
void yaml_skip_properties(reader *r, mark *where);

/* Columns before the content of the literal or folded scalar at where; indent: of the collection around it.
 */
unsigned yaml_content_indent(reader *r, const mark *where, size_t indent);

/* marks[table at -2][key at -1] = where. Both stay. */
void yaml_keep_mark(reader *r, const mark *where);

/* marks(table, key) of host.yaml; upvalues: the store, the table of indexes and the index of the root's mark.
 */
int yaml_marks(lua_State *L);

#endif
