/* A row of a snapshot: one pass over its top level, nothing decoded but the few texts that lists filter by. */
#include "readmodel.h"
#include "snapshot.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The list's item, in the order it is written (CONTRACT 7.9), and the column that a member fills (-1 = none). */
static const struct {
    const char *key;
    int column;
} members[] = {
    {"\"run_id\"", -1},           {"\"schedule_id\"", RM_SCHEDULE}, {"\"flow_name\"", RM_FLOW},
    {"\"tag\"", RM_TAG},          {"\"tags\"", -1},                 {"\"tenant_id\"", RM_TENANT},
    {"\"api_key_id\"", -1},       {"\"status\"", RM_STATUS},        {"\"updated_at\"", -1},
    {"\"heartbeat_at\"", -1},     {"\"worker_id\"", RM_WORKER},     {"\"error\"", RM_ERROR},
    {"\"workflow_yaml_sha256\"", RM_SHA256}, /* a column only: the item ends before it */
};

#define MEMBERS (sizeof members / sizeof *members)
#define ITEM_MEMBERS (MEMBERS - 1)
#define UPDATED_AT 8

static void take_member(void *ctx, const ph_member *m) {
    ph_member *found = ctx;
    for (size_t i = 0; i < MEMBERS; i++)
        if (strlen(members[i].key) == m->key_len && memcmp(members[i].key, m->key, m->key_len) == 0)
            found[i] = *m; /* of two of one name the last counts, as for a decoder */
}

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

/* Copies a JSON value compactly, with raw UTF-8 in place of escapes above ASCII. Never longer than what was there. */
static char *put_value(char *out, const char *at, size_t len) {
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

/* Decodes a JSON string into out; anything else is the empty text. */
static char *put_text(char *out, const char *at, size_t len) {
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

static char *put_item(char *out, const ph_member *found) {
    char *start = out;
    *out++ = '{';
    for (size_t i = 0; i < ITEM_MEMBERS; i++) {
        if (!found[i].key)
            continue;
        if (out > start + 1)
            *out++ = ',';
        memcpy(out, found[i].key, found[i].key_len);
        out += found[i].key_len;
        *out++ = ':';
        out = put_value(out, found[i].value, found[i].value_len);
    }
    *out++ = '}';
    return out;
}

int rm_day(double unix_sec) {
    time_t at = (time_t)unix_sec;
    struct tm tm;
    if (!(unix_sec > -1e11 && unix_sec < 1e11) || !localtime_r(&at, &tm))
        return 0;
    return (tm.tm_year + 1900) * 10000 + (tm.tm_mon + 1) * 100 + tm.tm_mday;
}

rm_row *rm_row_make(rm_kind kind, const char *key, const char *value, size_t len, uint64_t revision) {
    /* the value itself, then each of its parts twice at most: as a column and in the item */
    size_t key_room = key ? strlen(key) + 1 : 0, room = kind == RM_PUT ? 3 * len + 64 : 0;
    rm_row *row = calloc(1, sizeof *row + key_room + room);
    if (!row)
        return NULL;
    *row = (rm_row){.kind = kind, .revision = revision, .key = key ? (char *)(row + 1) : NULL};
    row->size = sizeof *row + key_room + room;
    if (key)
        memcpy(row + 1, key, key_room);
    if (kind != RM_PUT)
        return row;
    char *text = malloc(len + 1), *out = (char *)(row + 1) + key_room;
    ph_member found[MEMBERS] = {{0}};
    if (!text) {
        free(row);
        return NULL;
    }
    memcpy(text, value, len);
    text[len] = '\0';
    if (!ph_snapshot_each(text, len, take_member, found)) {
        row->kind = RM_DELETE; /* nothing that a list could show */
        free(text);
        return row;
    }
    if (found[UPDATED_AT].value)
        row->updated_at = strtod(found[UPDATED_AT].value, NULL);
    if (!isfinite(row->updated_at))
        row->updated_at = 0;
    row->day = rm_day(row->updated_at);
    for (int i = 0; i < RM_COLUMNS; i++)
        row->text[i] = "";
    for (size_t i = 0; i < MEMBERS; i++) {
        int column = members[i].column;
        if (column < 0 || !found[i].value)
            continue;
        row->text[column] = out;
        out = put_text(out, found[i].value, found[i].value_len);
        row->len[column] = (int)(out - row->text[column]);
    }
    row->text[RM_SUMMARY] = out;
    out = put_item(out, found);
    row->len[RM_SUMMARY] = (int)(out - row->text[RM_SUMMARY]);
    free(text);
    size_t used = (size_t)(out - (char *)row);
    rm_row *small = used < row->size / 2 ? malloc(used) : NULL; /* thousands wait in the queue while warming */
    if (!small)
        return row;
    memcpy(small, row, used);
    small->size = used;
    small->key = (char *)(small + 1);
    for (int i = 0; i < RM_COLUMNS; i++)
        small->text[i] = row->len[i] ? (char *)small + (row->text[i] - (char *)row) : "";
    free(row);
    return small;
}
