/* Escapes of JSON strings, both ways, without a tree. */
#include "jsontext.h"
#include <stdlib.h>
#include <string.h>

static char *put_utf8(char *out, unsigned cp) {
    if (cp < 0x80) {
        *out++ = (char)cp;
    } else if (cp < 0x800) {
        *out++ = (char)(0xC0 | cp >> 6);
        *out++ = (char)(0x80 | (cp & 0x3F));
    } else if (cp < 0x10000) {
        *out++ = (char)(0xE0 | cp >> 12);
        *out++ = (char)(0x80 | (cp >> 6 & 0x3F));
        *out++ = (char)(0x80 | (cp & 0x3F));
    } else {
        *out++ = (char)(0xF0 | cp >> 18);
        *out++ = (char)(0x80 | (cp >> 12 & 0x3F));
        *out++ = (char)(0x80 | (cp >> 6 & 0x3F));
        *out++ = (char)(0x80 | (cp & 0x3F));
    }
    return out;
}

/* Four hex digits at `at`, which ends at `end`; -1 when they are none. */
static int hex4(const char *at, const char *end) {
    int value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* The code point of the escape \uXXXX at `at` (two of them for a pair), and behind it in *next; -1 for half a pair or
 * no hex. */
static int escaped(const char *at, const char *end, const char **next) {
    int high = hex4(at + 2, end);
    *next = at + 6;
    if (high < 0xD800 || high > 0xDFFF)
        return high;
    int low = end - at >= 12 && at[6] == '\\' && at[7] == 'u' ? hex4(at + 8, end) : -1;
    if (high > 0xDBFF || low < 0xDC00 || low > 0xDFFF)
        return -1;
    *next = at + 12;
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

char *ph_json_put_value(char *out, const char *at, size_t len) {
    bool in_string = false;
    for (const char *end = at + len, *next; at < end;) {
        if (!in_string && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) {
            at++;
            continue;
        }
        if (in_string && *at == '\\' && at + 1 < end) {
            int cp = at[1] == 'u' ? escaped(at, end, &next) : -1;
            if (cp >= 0x80) {
                out = put_utf8(out, (unsigned)cp);
                at = next;
                continue;
            }
            *out++ = *at++;
        } else if (*at == '"') {
            in_string = !in_string;
        }
        *out++ = *at++;
    }
    return out;
}

char *ph_json_put_text(char *out, const char *at, size_t len) {
    if (len < 2 || *at != '"')
        return out;
    const char *end = at + len - 1, *next;
    for (at++; at < end;) {
        if (*at != '\\' || at + 1 >= end) {
            *out++ = *at++;
            continue;
        }
        if (at[1] == 'u') {
            int cp = escaped(at, end, &next);
            out = put_utf8(out, cp < 0 ? 0xFFFD : (unsigned)cp);
            at = next < end ? next : end;
            continue;
        }
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        const char *known = strchr(from, at[1]);
        *out++ = known ? to[known - from] : at[1];
        at += 2;
    }
    return out;
}

bool ph_json_is_text(const char *at, size_t len, const char *text) {
    size_t n = strlen(text);
    if (len < n + 2 || *at != '"') /* an escape is never shorter than what it stands for */
        return false;
    char *decoded = malloc(len);
    bool is = decoded && (size_t)(ph_json_put_text(decoded, at, len) - decoded) == n && memcmp(decoded, text, n) == 0;
    free(decoded);
    return is;
}
