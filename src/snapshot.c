/* A pass over the top level of one JSON object. Nested values are skipped by counting brackets: what we store is
 * JSON that we or a reference process wrote, and a client parses it anyway. */
#include "snapshot.h"
#include <stdlib.h>
#include <string.h>

static char *skip_space(char *at) {
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') {
        if (*at == '\n' || *at == '\r')
            *at = ' ';
        at++;
    }
    return at;
}

/* From an opening quote to behind the closing one; NULL when there is none. */
static char *skip_string(char *at, char *end) {
    for (at++; (at = memchr(at, '"', (size_t)(end - at))); at++) {
        char *back = at;
        while (back[-1] == '\\')
            back--;
        if ((at - back) % 2 == 0)
            return at + 1;
    }
    return NULL;
}

/* From the first byte of a value to behind its last; NULL when it does not end. */
static char *skip_value(char *at, char *end) {
    int depth = 0;
    while (at < end) {
        switch (*at) {
        case '"':
            if (!(at = skip_string(at, end)))
                return NULL;
            if (depth == 0)
                return at;
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (depth == 0) /* the end of what holds a bare number or word */
                return at;
            if (--depth == 0)
                return at + 1;
            break;
        case ',':
            if (depth == 0)
                return at;
            break;
        case '\n':
        case '\r':
            *at = ' ';
            break;
        default:
            break;
        }
        at++;
    }
    return NULL;
}

static bool is(const char *at, size_t n, const char *word) {
    return strlen(word) == n && memcmp(at, word, n) == 0;
}

static bool is_terminal(const char *value, size_t n) {
    return is(value, n, "\"COMPLETED\"") || is(value, n, "\"FAILED\"") || is(value, n, "\"CANCELLED\"");
}

/* What a brief snapshot leaves out: pyoco.run.snapshot's brief says the same. */
static bool is_of_records(const char *key, size_t n) {
    return is(key, n, "\"task_records\"") || is(key, n, "\"task_records_truncated\"") ||
           is(key, n, "\"frame_records\"");
}

ph_snapshot ph_snapshot_scan(char *text, size_t len, char *brief) {
    ph_snapshot s = {0}, bad = {0};
    char *end = text + len, *out = brief, *at = skip_space(text);
    if (*at != '{')
        return bad;
    *out++ = '{';
    at = skip_space(at + 1);
    while (*at == '"') {
        char *key = at, *key_end = skip_string(at, end);
        if (!key_end)
            return bad;
        at = skip_space(key_end);
        if (*at != ':')
            return bad;
        char *value = skip_space(at + 1);
        if (!(at = skip_value(value, end)) || at == value)
            return bad;
        size_t key_len = (size_t)(key_end - key), value_len = (size_t)(at - value);
        if (is(key, key_len, "\"status\""))
            s.terminal = is_terminal(value, value_len);
        else if (is(key, key_len, "\"updated_at\""))
            s.updated_at = strtod(value, NULL);
        if (!is_of_records(key, key_len)) {
            if (out[-1] != '{')
                *out++ = ',';
            size_t n = (size_t)(at - key);
            memcpy(out, key, n);
            out += n;
        }
        at = skip_space(at);
        if (*at != ',')
            break;
        at = skip_space(at + 1);
    }
    if (*at != '}' || *skip_space(at + 1))
        return bad;
    *out++ = '}';
    *out = '\0';
    s.ok = true;
    s.brief_len = (size_t)(out - brief);
    return s;
}
