/* The gateway's read model (DESIGN D7): the runs, indexed, in a temporary SQLite file of this process. It is rebuilt
 * at each start from the bucket, and never the truth.
 *
 * Threads: the tail's thread, and VMs that have written a run, turn snapshots into rows and queue them; the model's
 * own thread writes them in batches; each VM reads over a connection of its own.
 */
#ifndef PH_READMODEL_H
#define PH_READMODEL_H

#include "host.h"
#include <sqlite3.h>

/* The text columns of a row; a snapshot without one has the empty text. */
typedef enum rm_column {
    RM_STATUS,
    RM_FLOW,
    RM_TAG,
    RM_TENANT,
    RM_SCHEDULE,
    RM_SHA256,
    RM_WORKER,
    RM_ERROR,
    RM_SUMMARY, /* the list's item as JSON: the contract's keys */
    RM_COLUMNS
} rm_column;

typedef enum rm_kind { RM_PUT, RM_DELETE, RM_RESET, RM_LIVE } rm_kind;

/* One change for the model's thread. A single allocation: free() frees all. */
typedef struct rm_row {
    struct rm_row *next;
    rm_kind kind;
    bool is_ours; /* written by this gateway, and not come through the tail */
    uint64_t revision;
    double updated_at;
    int day; /* of updated_at in the local zone, as 20261125 */
    const char *key;
    const char *text[RM_COLUMNS];
    int len[RM_COLUMNS];
    size_t size; /* bytes of the allocation */
} rm_row;

/* row.c: the row of a snapshot (value need not be terminated); a RM_DELETE when it is no JSON object. NULL when out
 * of memory. */
rm_row *rm_row_make(rm_kind kind, const char *key, const char *value, size_t len, uint64_t revision);
/* The local day of a unix time, as 20261125. */
int rm_day(double unix_sec);

/* writer.c: what the model's thread does with the database. */
typedef struct rm_writer rm_writer;
rm_writer *rm_writer_open(const char *path, ph_error *err);
void rm_writer_close(rm_writer *w); /* NULL is fine */
/* Applies rows (a list) in one transaction; while the model is warming the transaction stays open. False and err
 * when the database fails: the model is of no use then. */
bool rm_writer_apply(rm_writer *w, const rm_row *rows, ph_error *err);
bool rm_writer_is_warming(const rm_writer *w);
uint64_t rm_writer_count(const rm_writer *w); /* rows read while warming */

/* model.c */
typedef struct rm_model rm_model; /* counted; one for the process */

typedef struct rm_options {
    const char *bucket; /* followed on the process's NATS connection; NULL = only what is applied */
    const char *dir;    /* for the temporary folder; NULL = TMPDIR or /tmp */
} rm_options;

typedef struct rm_stats {
    bool is_warming;
    uint64_t writes, batches;
    double loaded_sec; /* how long the last loading took; 0 before */
} rm_stats;

rm_model *rm_start(const rm_options *options, ph_error *err);
/* Ends the tail and the thread and removes the files; readers find the model stopped. */
void rm_stop(rm_model *m);
rm_model *rm_current(void); /* a new reference, or NULL when none is running */
void rm_release(rm_model *m);
rm_stats rm_get_stats(rm_model *m);
const char *rm_path(const rm_model *m);
/* Queues a write of this gateway; value NULL = deleted. */
void rm_apply(rm_model *m, const char *key, const char *value, size_t len, uint64_t revision);
/* Waits until the model is complete and holds what this process has written before. Returns the generation, or 0 after
 * timeout_ms or when it is stopped. An answer counts only if the generation is the same after reading. */
uint64_t rm_wait(rm_model *m, int timeout_ms);
uint64_t rm_generation(rm_model *m);

#endif
