/* What json.c, json_decode.c and json_encode.c share. */
#ifndef PH_JSON_PARTS_H
#define PH_JSON_PARTS_H

#include "json.h"
#include <cjson/cJSON.h>

/* Inside cJSON's C strings a NUL is STAND_IN: no UTF-8 text holds that byte. Where the escape of a NUL stood
 * in a JSON text, FILLER keeps the length, so that offsets stay true. */
#define STAND_IN 0xFF
#define FILLER 0xFE
#define NUL_ESCAPE 6 /* bytes of \u0000 */

/* A number whose text says more than cJSON's double: it is a float (1.0, 1e3), or a long integer. */
typedef struct json_number {
    size_t ordinal; /* counted from 0 in the order of the text */
    size_t offset;
    unsigned len;
    bool is_float;
} json_number;

/* What a call holds outside Lua; owned by one userdata of the VM, so that a raised error leaks nothing. */
typedef struct json_scratch {
    cJSON *tree;
    char *text;           /* copy of the input or the output */
    json_number *numbers; /* of the text that is decoded */
    size_t count, room;
    bool is_held; /* by a call under way, or one that an error has ended */
} json_scratch;

json_scratch *json_scratch_get(lua_State *L); /* emptied, not held; raises only when it makes one */
/* Holds what json_scratch_get has returned, and pushes its userdata: for a call that allocates in Lua, where a
 * finaliser may run that calls us again. json_scratch_clear ends it. */
void json_scratch_hold(lua_State *L, json_scratch *scratch);
void json_scratch_clear(json_scratch *scratch);

/* ph_json_push with limits; fails with "too_large" too. */
int json_push(lua_State *L, const char *text, size_t len, size_t max_depth, size_t max_bytes);

#endif
