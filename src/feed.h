/* The feed: what has changed in the runs, in the order of the bucket's revisions, for the event streams of the process
 * (GET /events). The read model hands over each batch when it is committed: what a stream has been told, a list shows.
 *
 * It keeps the newest change of each run, so a reader that is slow misses states in between and never costs more
 * memory; and of all runs only the last few thousand changes. Who has seen less than that starts over.
 *
 * One thread goes round the readers that wait, 20 ms after its last round at the earliest: many changes at once cost a
 * reader one write.
 */
#ifndef PH_FEED_H
#define PH_FEED_H

#include "runrow.h"
#include <pthread.h>
#include <stdatomic.h>

/* --- who writes: the read model's thread --- */

/* All runs are known up to revision, in the stream that was made at `life`: readers may start. The counts begin at 0. */
void ph_feed_start(uint64_t life, uint64_t revision);
/* Nothing is known any more; open readers start over after the next ph_feed_start. */
void ph_feed_stop(void);
/* Takes rows (a list, in the order of revisions, those that are no news included) and wakes the readers. */
void ph_feed_publish(ph_row *rows, uint64_t revision);
/* Counts runs of a tenant ("" = nobody's) and status. */
void ph_feed_count(const char *tenant, const char *status, int64_t more);
/* Whether anybody reads. */
bool ph_feed_is_read(void);

/* --- who reads: any thread --- */

/* What a reader wants; NULL = any. */
typedef struct ph_feed_filter {
    const char *equal[PH_ROW_COLUMNS]; /* texts of PH_ROW_STATUS to PH_ROW_SHA256 */
    const char *q; /* a part of run_id, flow, worker or error, of either case (ASCII) */
} ph_feed_filter;

typedef enum ph_feed_kind {
    PH_FEED_RUN,     /* a run that fits the filter is new or has changed */
    PH_FEED_LEFT,    /* a run that may have fitted does no more */
    PH_FEED_DELETED, /* a run that may have fitted is gone */
    PH_FEED_NOTHING
} ph_feed_kind;

typedef struct ph_feed_reader {
    ph_feed_filter filter;
    uint64_t life, revision; /* all up to here is seen */
    uint64_t epoch;          /* the feed's when it began */
    /* Called when there is something to take, on the feed's thread, while the reader's sleeps in ph_feed_wait: true = it
     * was dealt with, and the reader's thread sleeps on; false = that has to wake. Must not wait. NULL = false. */
    bool (*push)(struct ph_feed_reader *reader);
    /* the feed's own */
    struct ph_feed_reader *next, **link; /* of those that wait; link NULL = it does not */
    pthread_cond_t woken;
    bool is_lost;
} ph_feed_reader;

/* Waits until the feed has started, up to the monotonic time `until`. False when it has not, or when *cancel is set
 * (ph_feed_wake shows it). */
bool ph_feed_wait_started(double until, const atomic_bool *cancel);
/* When the stream that is followed was made, as ph_feed_start was told. */
uint64_t ph_feed_life(void);
/* Begins (filter and push are the caller's, the rest 0): at `revision` of `life` when what follows it is known, true then; otherwise at the present. A revision that
 * has not come here yet (another gateway has shown it) is waited for, up to the monotonic time `until`. */
bool ph_feed_open(ph_feed_reader *reader, uint64_t life, uint64_t revision, double until, const atomic_bool *cancel);
void ph_feed_close(ph_feed_reader *reader);

typedef enum ph_feed_result {
    PH_FEED_CHANGED, /* there may be something to take */
    PH_FEED_TIMEOUT,
    PH_FEED_LOST     /* what the reader has seen does not connect any more: open it anew */
} ph_feed_result;

/* Waits for something that the reader has not seen. Returns TIMEOUT also when *cancel is set. */
ph_feed_result ph_feed_wait(ph_feed_reader *reader, double until, const atomic_bool *cancel);
/* Calls take for what the filter lets through, oldest first, until it returns false (that one counts as seen); under
 * the feed's lock, so it only copies. */
void ph_feed_take(ph_feed_reader *reader, bool (*take)(void *ctx, ph_feed_kind kind, const ph_row *row), void *ctx);
/* Calls fn for each status's number of runs of a tenant (NULL = all; a status may come more than once then). Gives the
 * version of the counts: it is another when they have changed. */
uint64_t ph_feed_counts(const char *tenant, void (*fn)(void *ctx, const char *status, int64_t n), void *ctx);
uint64_t ph_feed_counts_version(void);
/* Wakes all who wait, so that they look at their cancel flag. */
void ph_feed_wake(void);

#endif
