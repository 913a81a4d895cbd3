/* What yaml.c and yaml_scalar.c share. */
#ifndef PH_YAML_PARTS_H
#define PH_YAML_PARTS_H

#include "host.h"

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

#endif
