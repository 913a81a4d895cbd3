/* The hub: changes of one bucket's keys, handed to whoever watches a key. One tail feeds it, whatever the number of
 * watchers; a change is read once and shared. A watcher gets the newest change, not each of them. */
#ifndef PH_HUB_H
#define PH_HUB_H

#include "host.h"
#include "tail.h"

typedef struct ph_hub ph_hub;
typedef struct ph_watcher ph_watcher;

/* One revision of a run's snapshot, ready to be sent. Counted references; never changed. */
typedef struct ph_change {
    uint64_t revision;
    bool deleted;        /* the key is gone, or holds no JSON object, which is no run; no texts then */
    bool terminal;       /* status COMPLETED, FAILED or CANCELLED */
    double updated_at;   /* unix seconds; 0 when the snapshot has none */
    const char *full;    /* JSON on one line, terminated */
    const char *brief;   /* the same without task_records and task_records_truncated */
    size_t full_len, brief_len;
    const char *tenant;  /* its tenant_id, the JSON value within full; NULL when it has none */
    size_t tenant_len;
} ph_change;

/* Whether a tenant may know of this change; NULL = a caller without tenant, who may know of all. The rule is
 * pyoco.service.access's. */
bool ph_change_is_of(const ph_change *change, const char *tenant);

/* A hub that follows bucket on conn (its tail takes a reference), new entries only, while somebody watches. NULL and err on failure. */
ph_hub *ph_hub_start(ph_nats_conn *conn, const char *bucket, ph_error *err);
/* Wakes all watchers for good: their next calls say PH_HUB_CLOSED. */
void ph_hub_close(ph_hub *hub);
/* Stops the tail and frees; all watchers have been closed by then. NULL is fine. */
void ph_hub_free(ph_hub *hub);
/* Whether the tail is live: what is written is seen within milliseconds. Nobody watching, it rests, and counts as live
 * while NATS is connected. */
bool ph_hub_is_live(ph_hub *hub);

/* Starts watching a key. NULL when out of memory. Any thread. */
ph_watcher *ph_hub_watch(ph_hub *hub, const char *key);
void ph_watcher_close(ph_watcher *w); /* NULL is fine */

/* Reads the key's value as it is now and takes it as seen. NULL and *out (release it), or a code and err:
 * PH_NOT_FOUND, PH_TIMEOUT, PH_UNAVAILABLE. Watch first, then read: so no change is missed between the two. */
const char *ph_watcher_read(ph_watcher *w, int64_t timeout_ms, ph_change **out, ph_error *err);

typedef enum ph_hub_result { PH_HUB_CHANGE, PH_HUB_TIMEOUT, PH_HUB_CLOSED } ph_hub_result;
/* Waits until monotonic time `until` (seconds) for a change newer than what was seen; *out is to be released. TIMEOUT
 * also when a push has left something to do. */
ph_hub_result ph_watcher_next(ph_watcher *w, double until, ph_change **out);

typedef enum ph_hub_push {
    PH_HUB_LEFT,     /* not taken: ph_watcher_next returns with the change */
    PH_HUB_TAKEN,    /* taken as seen: the watcher's thread sleeps on */
    PH_HUB_UNFINISHED /* taken as seen, and ph_watcher_next returns */
} ph_hub_push;
/* Has a change shown to fn first, by the hub's thread, while the watcher's sleeps in ph_watcher_next. fn must not wait. */
void ph_watcher_on_change(ph_watcher *w, ph_hub_push (*fn)(void *ctx, const ph_change *change), void *ctx);

void ph_change_release(ph_change *change); /* NULL is fine */

#endif
