/* The gateway's read model (DESIGN D7): the runs, indexed, in a temporary SQLite file of this process. It is rebuilt
 * at each start from the bucket, and never the truth.
 *
 * Threads: the tail's thread turns snapshots into rows and queues them; the model's own thread writes them in batches
 * and hands them to the feed (feed.h); each VM reads over a connection of its own.
 */
#ifndef PH_READMODEL_H
#define PH_READMODEL_H

#include "host.h"
#include "runrow.h"
#include <sqlite3.h>

/* folder.c: the temporary folder, with a lock that tells other processes that it is in use. */
typedef struct rm_folder {
    char path[512]; /* "" = none */
    int lock_fd;    /* -1 = none */
} rm_folder;

/* Makes one in parent (NULL = TMPDIR or /tmp), and removes those of processes that were killed. On failure err is set,
 * and what was made is for rm_folder_remove. */
bool rm_folder_make(rm_folder *folder, const char *parent, ph_error *err);
void rm_folder_remove(rm_folder *folder);

/* batch.c: lists of rows. */
void rm_batch_free(ph_row *rows);
/* Takes out the changes of a run that a later one replaces: half of what a short run writes. The rest keeps its order. */
ph_row *rm_batch_keep_newest(ph_row *rows);

/* writer.c: what the model's thread does with the database. */
typedef struct rm_writer rm_writer;
rm_writer *rm_writer_open(const char *path, ph_error *err);
void rm_writer_close(rm_writer *w); /* NULL is fine */
/* Applies rows (a list) in one transaction, and adds to them what the feed needs of the state before; while the model
 * is warming the transaction stays open. False and err when the database fails: the model is of no use then. */
bool rm_writer_apply(rm_writer *w, ph_row *rows, ph_error *err);
bool rm_writer_is_warming(const rm_writer *w);
uint64_t rm_writer_count(const rm_writer *w);    /* rows read while warming */
uint64_t rm_writer_revision(const rm_writer *w); /* up to here everything is applied */
/* How many rows the index of texts lags behind, about; 0 while warming. */
int64_t rm_writer_lag(const rm_writer *w);
/* Lets it catch up by some, in a transaction of its own. */
bool rm_writer_index(rm_writer *w, ph_error *err);
/* Tells each tenant's and status's number of runs. */
bool rm_writer_each_count(rm_writer *w, void (*fn)(const char *tenant, const char *status, int64_t n), ph_error *err);

/* search.c: the index of the texts that `q` looks in (FTS5, trigrams). It lags behind on purpose: a run whose texts
 * change soon after its start is indexed once. Rows above meta.indexed are not in it; who searches looks at them
 * one by one. */
typedef struct rm_search rm_search;
rm_search *rm_search_open(sqlite3 *db, ph_error *err); /* makes the table */
void rm_search_close(rm_search *s);                    /* NULL is fine */
bool rm_search_forget(rm_search *s);
/* A row is changed or (now = NULL) removed: its texts were flow, worker, error. */
bool rm_search_change(rm_search *s, int64_t id, const char *run_id, const char *const was[3], const ph_row *now);
/* How many rows are not indexed, about, when `id` is the newest. */
int64_t rm_search_lag(const rm_search *s, int64_t id);
/* Indexes some more of the rows up to the newest. False when the database fails. */
bool rm_search_step(rm_search *s, int64_t newest);

/* model.c */
typedef struct rm_model rm_model; /* counted; one for the process */

typedef struct rm_options {
    const char *bucket; /* followed on the process's NATS connection */
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
/* Notes a write of this process: questions from now on wait until the tail has brought it (for two seconds after it
 * at most). */
void rm_wrote(rm_model *m, uint64_t revision);
/* Waits until the model holds what this process has written before, up to timeout_ms. For somebody (and not for a duty, who
 * is no reason to expect more questions), changes are then written more often for a while. Returns the generation, or 0 at
 * once when it is not complete or stopped. An answer counts only if the generation is the same after reading. */
uint64_t rm_wait(rm_model *m, int timeout_ms, bool is_for_somebody);
uint64_t rm_generation(rm_model *m);

#endif
