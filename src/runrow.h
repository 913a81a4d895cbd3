/* A change of a run as lists see it: the few texts that they filter by, and the list's item. Made by the tail's
 * thread, written by the read model, shown to event streams by the feed (feed.h). */
#ifndef PH_RUNROW_H
#define PH_RUNROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The text columns of a row; a snapshot without one has the empty text. */
typedef enum ph_row_column {
    PH_ROW_STATUS,
    PH_ROW_FLOW,
    PH_ROW_TAG,
    PH_ROW_TENANT,
    PH_ROW_SCHEDULE,
    PH_ROW_SHA256,
    PH_ROW_WORKER,
    PH_ROW_ERROR,
    PH_ROW_SUMMARY, /* the list's item as JSON: the contract's keys */
    PH_ROW_COLUMNS
} ph_row_column;

typedef enum ph_row_kind {
    PH_ROW_PUT,
    PH_ROW_DELETE,
    PH_ROW_RESET, /* the bucket was made anew: all that was known is void */
    PH_ROW_LIVE   /* what the bucket held is delivered; revision: the stream's life */
} ph_row_kind;

typedef struct ph_row {
    struct ph_row *next;
    ph_row_kind kind;
    uint64_t revision;
    double updated_at, started_at, ended_at; /* unix seconds; 0 = none */
    int day; /* of updated_at in the local zone, as 20261125 */
    const char *key;
    const char *text[PH_ROW_COLUMNS]; /* of a deletion: what the run had, once the read model has filled it in */
    int len[PH_ROW_COLUMNS];
    size_t size; /* bytes of the allocation */
    /* of changes before this one, of the same batch and not written themselves */
    bool has_begun;    /* there were some */
    double pending_at; /* updated_at of the one that was PENDING; 0 = there was none */
    /* what the read model adds, about the run's state before */
    bool is_news;         /* the change is one: newer than what was known, or a deletion of what was known */
    bool has_other_texts; /* worker or error was another text */
    uint64_t past_status; /* bit of the status (ph_row_status_bit); 0 = a new run */
    char *gone;           /* the texts of a deletion; owned */
} ph_row;

/* The row of a snapshot (value need not be terminated); a PH_ROW_DELETE when it is no JSON object. NULL when out of
 * memory. */
ph_row *ph_row_make(ph_row_kind kind, const char *key, const char *value, size_t len, uint64_t revision);
void ph_row_free(ph_row *row); /* NULL is fine */
/* The local day of a unix time, as 20261125. */
int ph_row_day(double unix_sec);
/* One of 64 bits for a status; two statuses may share one. */
uint64_t ph_row_status_bit(const char *status);

#endif
