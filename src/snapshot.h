/* Reading a run's snapshot just enough to send it on: no tree is built. */
#ifndef PH_SNAPSHOT_H
#define PH_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct ph_snapshot {
    bool ok;           /* the text is a JSON object; the rest is unset when not */
    bool terminal;     /* status COMPLETED, FAILED or CANCELLED */
    double updated_at; /* 0 when absent */
    const char *tenant; /* the value of tenant_id as it stands in text; NULL when absent */
    size_t tenant_len;
    size_t brief_len;  /* bytes written to brief */
} ph_snapshot;

/* One member of the object: the key with its quotes and the value, as they stand in the text. */
typedef struct ph_member {
    const char *key, *value;
    size_t key_len, value_len;
} ph_member;

/* Calls fn for each member of the object in text (terminated at len), in order. False when text is no JSON object:
 * fn may have been called by then. Line breaks between tokens become spaces, in text. */
bool ph_snapshot_each(char *text, size_t len, void (*fn)(void *ctx, const ph_member *member), void *ctx);

/* Scans text (terminated at len) and copies it to brief, which has room for len + 1 bytes, without the members
 * task_records and task_records_truncated. Line breaks between tokens become spaces, in text too: an event's data
 * is one line. */
ph_snapshot ph_snapshot_scan(char *text, size_t len, char *brief);

#endif
