/* A row of a snapshot: one pass over its top level, nothing decoded but the few texts that lists filter by. */
#include "runrow.h"
#include "jsontext.h"
#include "snapshot.h"
#include "hash.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The list's item, in the order it is written (CONTRACT 7.9), and the column that a member fills (-1 = none). */
#define KEY(name) "\"" name "\"", sizeof name + 1
static const struct {
    const char *key;
    size_t len;
    int column;
} members[] = {
    {KEY("run_id"), -1},           {KEY("schedule_id"), PH_ROW_SCHEDULE}, {KEY("flow_name"), PH_ROW_FLOW},
    {KEY("tag"), PH_ROW_TAG},      {KEY("tags"), -1},                     {KEY("tenant_id"), PH_ROW_TENANT},
    {KEY("api_key_id"), -1},       {KEY("status"), PH_ROW_STATUS},        {KEY("updated_at"), -1},
    {KEY("heartbeat_at"), -1},     {KEY("worker_id"), PH_ROW_WORKER},     {KEY("error"), PH_ROW_ERROR},
    {KEY("workflow_yaml_sha256"), PH_ROW_SHA256}, /* the item ends before this one */
    {KEY("start_time"), -1},       {KEY("end_time"), -1},
};

#define MEMBERS (sizeof members / sizeof *members)
enum { UPDATED_AT = 8, ITEM_MEMBERS = 12, START_TIME, END_TIME };

static void take_member(void *ctx, const ph_member *m) {
    ph_member *found = ctx;
    for (size_t i = 0; i < MEMBERS; i++)
        if (members[i].len == m->key_len && memcmp(members[i].key, m->key, m->key_len) == 0)
            found[i] = *m; /* of two of one name the last counts, as for a decoder */
}

/* A time of the snapshot; 0 for null, for what is no number, and when it is not there. */
static double seconds_of(const ph_member *m) {
    double value = m->value ? strtod(m->value, NULL) : 0;
    return isfinite(value) ? value : 0;
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
        out = ph_json_put_value(out, found[i].value, found[i].value_len);
    }
    *out++ = '}';
    return out;
}

int ph_row_day(double unix_sec) {
    time_t at = (time_t)unix_sec;
    struct tm tm;
    if (!(unix_sec > -1e11 && unix_sec < 1e11) || !localtime_r(&at, &tm))
        return 0;
    return (tm.tm_year + 1900) * 10000 + (tm.tm_mon + 1) * 100 + tm.tm_mday;
}

uint64_t ph_row_status_bit(const char *status) {
    return (uint64_t)1 << (ph_hash(status) >> 26);
}

void ph_row_free(ph_row *row) {
    if (row)
        free(row->gone);
    free(row);
}

ph_row *ph_row_make(ph_row_kind kind, const char *key, const char *value, size_t len, uint64_t revision) {
    /* the value itself, then each of its parts twice at most: as a column and in the item */
    size_t key_room = key ? strlen(key) + 1 : 0, room = kind == PH_ROW_PUT ? 3 * len + 64 : 0;
    ph_row *row = calloc(1, sizeof *row + key_room + room);
    if (!row)
        return NULL;
    *row = (ph_row){.kind = kind, .revision = revision, .key = key ? (char *)(row + 1) : NULL};
    row->size = sizeof *row + key_room + room;
    if (key)
        memcpy(row + 1, key, key_room);
    for (int i = 0; i < PH_ROW_COLUMNS; i++)
        row->text[i] = "";
    if (kind != PH_ROW_PUT)
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
        row->kind = PH_ROW_DELETE; /* nothing that a list could show */
        free(text);
        return row;
    }
    row->updated_at = seconds_of(&found[UPDATED_AT]);
    row->started_at = seconds_of(&found[START_TIME]);
    row->ended_at = seconds_of(&found[END_TIME]);
    row->day = ph_row_day(row->updated_at);
    for (size_t i = 0; i < MEMBERS; i++) {
        int column = members[i].column;
        if (column < 0 || !found[i].value)
            continue;
        row->text[column] = out;
        out = ph_json_put_text(out, found[i].value, found[i].value_len);
        row->len[column] = (int)(out - row->text[column]);
        *out++ = '\0';
    }
    row->text[PH_ROW_SUMMARY] = out;
    out = put_item(out, found);
    row->len[PH_ROW_SUMMARY] = (int)(out - row->text[PH_ROW_SUMMARY]);
    *out++ = '\0';
    free(text);
    size_t used = (size_t)(out - (char *)row);
    ph_row *small = used < row->size / 2 ? malloc(used) : NULL; /* thousands wait in the queue while warming */
    if (!small)
        return row;
    memcpy(small, row, used);
    small->size = used;
    small->key = (char *)(small + 1);
    for (int i = 0; i < PH_ROW_COLUMNS; i++)
        small->text[i] = row->len[i] ? (char *)small + (row->text[i] - (char *)row) : "";
    free(row);
    return small;
}
