/* Following one KV bucket from a revision, on a thread of its own (D8).
 *
 * An ephemeral pull consumer without acknowledgements, with heartbeats. After silence, a reconnect or an error it is
 * made anew from the revision after the last one delivered. When the stream was recreated, has lost its newest messages
 * (a server that was killed), or what follows the last revision is gone, the follower is told to start over. One tail
 * serves all followers of a process.
 */
#ifndef PH_TAIL_H
#define PH_TAIL_H

#include "host.h"
#include "nats.h"

typedef struct ph_entry {
    const char *key;
    const char *value; /* len bytes, not terminated; empty when deleted */
    size_t len;
    uint64_t revision;
    int64_t created_ns; /* the server's unix time */
    bool deleted;       /* a delete or purge marker */
} ph_entry;

/* All on the tail's thread, one at a time; they must not stop the tail. Pointers are borrowed for the call. */
typedef struct ph_tail_handlers {
    void (*on_entry)(void *ctx, const ph_entry *entry);
    void (*on_reset)(void *ctx); /* forget everything: all entries follow again, then on_live */
    /* what the bucket held is delivered; once after the start and after each reset. life: when the stream was made, in
     * the server's unix nanoseconds: another stream has another one */
    void (*on_live)(void *ctx, int64_t life);
} ph_tail_handlers;

/* Who is about to purge subjects of a bucket deletes this key first, and again at least every 10 s: see tail.c. */
#define PH_TAIL_PURGE_KEY "_purge"

typedef struct ph_tail ph_tail;

/* Starts following bucket on conn, of which the tail takes a reference: when it is closed under it, nothing comes any more.
 * from: the first revision wanted, 1 = everything, 0 = new entries only. A bucket that does not exist is waited for.
 * Any of the handlers may be NULL. NULL and err on failure (no thread, a bad bucket name). */
ph_tail *ph_tail_start(ph_nats_conn *conn, const char *bucket, uint64_t from, ph_tail_handlers handlers, void *ctx,
                       ph_error *err);
/* Stops and joins; no handler runs afterwards. Waits for a handler or a request (2 s at most) under way. NULL is fine. */
void ph_tail_stop(ph_tail *tail);
/* Has a tail that was started with from = 0 follow nothing for a while: it has no consumer then, and costs nothing.
 * Afterwards it follows what comes new, and on_live is called again. Any thread, from handlers too; does not wait. */
void ph_tail_rest(ph_tail *tail, bool is_resting);
/* Whether its connection was closed: nothing comes any more. Any thread. */
bool ph_tail_is_cut(const ph_tail *tail);
/* Milliseconds since the server last gave a sign of life to a tail that is live; INT64_MAX while it is not.
 * Up to 2 s is normal (heartbeats). Any thread. */
int64_t ph_tail_age_ms(ph_tail *tail);

typedef struct ph_entry_buf {
    ph_entry entry; /* points into storage */
    char *storage;
} ph_entry_buf;

/* The current value of a key. Returns a code or NULL; PH_NOT_FOUND for a missing or deleted key or bucket.
 * Free the result with ph_entry_buf_free. Any thread; waits up to timeout_ms. */
const char *ph_kv_get(natsConnection *nc, const char *bucket, const char *key, int64_t timeout_ms, ph_entry_buf *out,
                      ph_error *err);
void ph_entry_buf_free(ph_entry_buf *buf);

/* Seconds to add to our wall clock, now, to get the NATS server's unix time. Measured against the monotonic clock, so
 * that a step of the wall clock shows in the next call instead of falsifying it. Tails measure it at each start of
 * a consumer and every five minutes. False while none has. Any thread. */
bool ph_clock_offset(double *seconds);

#endif
