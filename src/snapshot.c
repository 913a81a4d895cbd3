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

bool ph_snapshot_each(char *text, size_t len, void (*fn)(void *ctx, const ph_member *member), void *ctx) {
    char *end = text + len, *at = skip_space(text);
    if (*at != '{')
        return false;
    at = skip_space(at + 1);
    while (*at == '"') {
        char *key = at, *key_end = skip_string(at, end);
        if (!key_end)
            return false;
        at = skip_space(key_end);
        if (*at != ':')
            return false;
        char *value = skip_space(at + 1);
        if (!(at = skip_value(value, end)) || at == value)
            return false;
        fn(ctx, &(ph_member){key, value, (size_t)(key_end - key), (size_t)(at - value)});
        at = skip_space(at);
        if (*at != ',')
            break;
        at = skip_space(at + 1);
    }
    return *at == '}' && !*skip_space(at + 1);
}

typedef struct scan {
    ph_snapshot found;
    char *out;
} scan;

static void scan_member(void *ctx, const ph_member *m) {
    scan *s = ctx;
    if (is(m->key, m->key_len, "\"status\""))
        s->found.terminal = is_terminal(m->value, m->value_len);
    else if (is(m->key, m->key_len, "\"updated_at\""))
        s->found.updated_at = strtod(m->value, NULL);
    else if (is(m->key, m->key_len, "\"tenant_id\""))
        s->found.tenant = m->value, s->found.tenant_len = m->value_len;
    if (is_of_records(m->key, m->key_len))
        return;
    if (s->out[-1] != '{')
        *s->out++ = ',';
    size_t n = (size_t)(m->value + m->value_len - m->key);
    memcpy(s->out, m->key, n);
    s->out += n;
}

ph_snapshot ph_snapshot_scan(char *text, size_t len, char *brief) {
    scan s = {.out = brief};
    *s.out++ = '{';
    if (!ph_snapshot_each(text, len, scan_member, &s))
        return (ph_snapshot){0};
    *s.out++ = '}';
    *s.out = '\0';
    s.found.ok = true;
    s.found.brief_len = (size_t)(s.out - brief);
    return s.found;
}
