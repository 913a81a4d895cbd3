/* Texts inside JSON that is not parsed into a tree: values as they stand in a snapshot (snapshot.h). */
#ifndef PH_JSONTEXT_H
#define PH_JSONTEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Copies a JSON value compactly, with raw UTF-8 in place of escapes above ASCII; gives the end of what was written,
 * which is never longer than what was there. */
char *ph_json_put_value(char *out, const char *at, size_t len);
/* Decodes a JSON string into out; anything else is the empty text. Never longer than what was there. */
char *ph_json_put_text(char *out, const char *at, size_t len);
/* Whether a value is the JSON string of text. */
bool ph_json_is_text(const char *at, size_t len, const char *text);

#endif
