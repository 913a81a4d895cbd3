/* Only watched keys have a topic; entries of other keys cost the tail one lookup. One lock over topics; a watcher has a
 * lock and a condition of its own: a thousand who sleep on one would all be woken to wait for one lock. */
#include "hub.h"
#include "jsontext.h"
#include "snapshot.h"
#include "clocks.h"
#include "hash.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READ_TIMEOUT_MS 1500
#define BUCKETS 1024 /* of the hash table; streams are hundreds at most */
#define LINGER_SEC 2.0 /* the tail rests when nobody has watched for so long */

typedef struct counted { /* a change with its references and texts behind it */
    ph_change change; /* first: a ph_change * is a counted * */
    atomic_int refs;
    char text[];
} counted;

typedef struct topic {
    struct topic *next;
    ph_watcher *watchers;
    unsigned epoch; /* grows when the bucket was recreated: revisions begin anew */
    bool unsure;    /* recreated, and this key not seen since */
    char key[];
} topic;

struct ph_hub {
    natsConnection *nc;
    char bucket[128];
    ph_tail *tail;
    pthread_mutex_t lock;
    pthread_condattr_t monotonic;
    bool closed, was_live;
    bool resting;      /* the tail does */
    int watchers;
    double idle_since; /* monotonic; when the last of them went */
    topic *topics[BUCKETS];
};

struct ph_watcher {
    ph_hub *hub;
    topic *topic;
    ph_watcher *next;     /* of the topic; hub's lock */
    pthread_mutex_t lock; /* over what follows; taken within the hub's */
    pthread_cond_t changed;
    ph_change *latest;    /* not taken yet; holds a reference; NULL = nothing */
    unsigned latest_epoch;
    ph_hub_push (*push)(void *ctx, const ph_change *change);
    void *push_ctx;
    bool closed;
    bool is_waiting;      /* its thread sleeps: what belongs to that may be used */
    bool is_unfinished;   /* a push has left something to do */
    bool must_read;       /* the tail began after this watcher: what came between is in the bucket only */
    uint64_t seen;        /* revision */
    unsigned epoch;
};

/* ---- changes ---- */

static ph_change *make_change(const ph_entry *e) {
    counted *c = calloc(1, sizeof *c + 2 * e->len + 16);
    if (!c)
        return NULL;
    atomic_init(&c->refs, 1);
    char *full = c->text, *brief = c->text + e->len + 1;
    if (e->len)
        memcpy(full, e->value, e->len);
    ph_snapshot s = {0};
    if (!e->deleted)
        s = ph_snapshot_scan(full, e->len, brief);
    c->change = (ph_change){.revision = e->revision, .deleted = !s.ok};
    if (s.ok)
        c->change = (ph_change){.revision = e->revision, .terminal = s.terminal, .updated_at = s.updated_at,
                                .full = full, .brief = brief, .full_len = e->len, .brief_len = s.brief_len,
                                .tenant = s.tenant, .tenant_len = s.tenant_len};
    return &c->change;
}

bool ph_change_is_of(const ph_change *change, const char *tenant) {
    return !tenant || (change->tenant && ph_json_is_text(change->tenant, change->tenant_len, tenant));
}

static ph_change *retain(ph_change *change) {
    atomic_fetch_add(&((counted *)change)->refs, 1);
    return change;
}

void ph_change_release(ph_change *change) {
    if (change && atomic_fetch_sub(&((counted *)change)->refs, 1) == 1)
        free(change);
}

/* ---- topics; all of these hold the lock ---- */

static topic **place_of(ph_hub *hub, const char *key) {
    topic **at = &hub->topics[ph_hash(key) % BUCKETS];
    while (*at && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    return at;
}

static bool is_new(const ph_watcher *w, const ph_change *change, unsigned epoch) {
    return change->revision > w->seen || epoch != w->epoch; /* else it was read before it came here */
}

static void see(ph_watcher *w, const ph_change *change, unsigned epoch) {
    w->seen = change->revision;
    w->epoch = epoch;
}

/* Gives a change to a watcher; whether its thread is to be woken. With the watcher's lock. */
static bool give(ph_watcher *w, ph_change *change, unsigned epoch) {
    if (w->push && w->is_waiting && !w->latest && !w->must_read && !w->is_unfinished && !w->closed) {
        if (!is_new(w, change, epoch))
            return false;
        ph_hub_push result = w->push(w->push_ctx, change);
        w->is_unfinished = result == PH_HUB_UNFINISHED;
        if (result != PH_HUB_LEFT) {
            see(w, change, epoch);
            return w->is_unfinished;
        }
    }
    ph_change_release(w->latest);
    w->latest = retain(change);
    w->latest_epoch = epoch;
    return true;
}

/* Takes the change. */
static void publish(topic *t, ph_change *change) {
    t->unsure = false;
    for (ph_watcher *w = t->watchers; w; w = w->next) {
        pthread_mutex_lock(&w->lock);
        bool must_wake = give(w, change, t->epoch);
        pthread_mutex_unlock(&w->lock);
        if (must_wake)
            pthread_cond_signal(&w->changed); /* behind the lock: who wakes finds it free */
    }
    ph_change_release(change);
}

static void set_resting(ph_hub *hub, bool is_resting) {
    hub->resting = is_resting;
    hub->was_live = false;
    ph_tail_rest(hub->tail, is_resting);
}

/* ---- what the tail tells ---- */

static void on_entry(void *ctx, const ph_entry *e) {
    ph_hub *hub = ctx;
    pthread_mutex_lock(&hub->lock);
    bool wanted = *place_of(hub, e->key) != NULL;
    if (hub->watchers == 0 && !hub->resting && ph_monotonic() - hub->idle_since > LINGER_SEC)
        set_resting(hub, true);
    pthread_mutex_unlock(&hub->lock);
    ph_change *change = wanted ? make_change(e) : NULL; /* not under the lock: snapshots can be large */
    if (!change)
        return;
    pthread_mutex_lock(&hub->lock);
    topic *t = *place_of(hub, e->key);
    if (t)
        publish(t, change);
    pthread_mutex_unlock(&hub->lock);
    if (!t)
        ph_change_release(change);
}

static void on_reset(void *ctx) {
    ph_hub *hub = ctx;
    pthread_mutex_lock(&hub->lock);
    for (int i = 0; i < BUCKETS; i++)
        for (topic *t = hub->topics[i]; t; t = t->next) {
            t->unsure = true;
            t->epoch++;
        }
    pthread_mutex_unlock(&hub->lock);
}

static void ask_to_read(topic *t) {
    for (ph_watcher *w = t->watchers; w; w = w->next) {
        pthread_mutex_lock(&w->lock);
        w->must_read = true;
        pthread_mutex_unlock(&w->lock);
        pthread_cond_signal(&w->changed);
    }
}

/* All entries of the new stream have come: a key that did not come with them is gone. */
static void on_live(void *ctx, int64_t life) {
    ph_hub *hub = ctx;
    (void)life;
    pthread_mutex_lock(&hub->lock);
    for (int i = 0; i < BUCKETS && !hub->was_live; i++)
        for (topic *t = hub->topics[i]; t; t = t->next)
            ask_to_read(t);
    hub->was_live = true;
    for (int i = 0; i < BUCKETS; i++)
        for (topic *t = hub->topics[i]; t; t = t->next) {
            ph_change *gone = t->unsure ? make_change(&(ph_entry){.key = t->key, .value = "", .deleted = true}) : NULL;
            if (gone)
                publish(t, gone);
        }
    pthread_mutex_unlock(&hub->lock);
}

/* ---- life ---- */

ph_hub *ph_hub_start(ph_nats_conn *conn, const char *bucket, ph_error *err) {
    ph_hub *hub = calloc(1, sizeof *hub);
    if (!hub) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    hub->nc = ph_nats_raw(conn); /* the tail keeps it */
    snprintf(hub->bucket, sizeof hub->bucket, "%s", bucket);
    pthread_mutex_init(&hub->lock, NULL);
    pthread_condattr_init(&hub->monotonic);
    pthread_condattr_setclock(&hub->monotonic, CLOCK_MONOTONIC);
    ph_tail_handlers handlers = {.on_entry = on_entry, .on_reset = on_reset, .on_live = on_live};
    pthread_mutex_lock(&hub->lock); /* a handler waits until the tail is known */
    hub->tail = ph_tail_start(conn, bucket, 0, handlers, hub, err);
    if (hub->tail)
        set_resting(hub, true);
    pthread_mutex_unlock(&hub->lock);
    if (hub->tail)
        return hub;
    ph_hub_free(hub);
    return NULL;
}

void ph_hub_close(ph_hub *hub) {
    pthread_mutex_lock(&hub->lock);
    hub->closed = true;
    for (int i = 0; i < BUCKETS; i++)
        for (topic *t = hub->topics[i]; t; t = t->next)
            for (ph_watcher *w = t->watchers; w; w = w->next) {
                pthread_mutex_lock(&w->lock);
                w->closed = true;
                pthread_mutex_unlock(&w->lock);
                pthread_cond_signal(&w->changed);
            }
    pthread_mutex_unlock(&hub->lock);
}

void ph_hub_free(ph_hub *hub) {
    if (!hub)
        return;
    ph_tail_stop(hub->tail);
    pthread_condattr_destroy(&hub->monotonic);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

bool ph_hub_is_live(ph_hub *hub) {
    pthread_mutex_lock(&hub->lock);
    bool resting = hub->resting;
    pthread_mutex_unlock(&hub->lock);
    return resting ? natsConnection_Status(hub->nc) == NATS_CONN_STATUS_CONNECTED : ph_tail_age_ms(hub->tail) < 5000;
}

/* ---- watchers ---- */

static topic *make_topic(const char *key) {
    topic *t = calloc(1, sizeof *t + strlen(key) + 1);
    if (t)
        strcpy(t->key, key);
    return t;
}

ph_watcher *ph_hub_watch(ph_hub *hub, const char *key) {
    ph_watcher *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->hub = hub;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, &hub->monotonic);
    pthread_mutex_lock(&hub->lock);
    topic **at = place_of(hub, key);
    if (!*at)
        *at = make_topic(key);
    w->topic = *at;
    if (w->topic) {
        w->next = w->topic->watchers;
        w->topic->watchers = w;
        w->epoch = w->topic->epoch;
        w->closed = hub->closed;
        hub->watchers++;
        if (hub->resting)
            set_resting(hub, false);
    }
    pthread_mutex_unlock(&hub->lock);
    if (w->topic)
        return w;
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return NULL;
}

void ph_watcher_close(ph_watcher *w) {
    if (!w)
        return;
    pthread_mutex_lock(&w->hub->lock);
    topic *t = w->topic;
    ph_watcher **at = &t->watchers;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (!t->watchers) {
        *place_of(w->hub, t->key) = t->next;
        free(t);
    }
    w->hub->watchers--;
    w->hub->idle_since = ph_monotonic();
    pthread_mutex_unlock(&w->hub->lock);
    ph_change_release(w->latest);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

const char *ph_watcher_read(ph_watcher *w, int64_t timeout_ms, ph_change **out, ph_error *err) {
    ph_entry_buf buf = {0};
    const char *code = ph_kv_get(w->hub->nc, w->hub->bucket, w->topic->key, timeout_ms, &buf, err);
    if (code)
        return code;
    *out = make_change(&buf.entry);
    ph_entry_buf_free(&buf);
    if (!*out) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return PH_UNAVAILABLE;
    }
    w->seen = (*out)->revision;
    return NULL;
}

/* The newest change that has not been seen, or NULL; a reference. With the watcher's lock. */
static ph_change *take_new(ph_watcher *w) {
    ph_change *change = w->latest;
    w->latest = NULL;
    if (change && !is_new(w, change, w->latest_epoch)) {
        ph_change_release(change);
        change = NULL;
    }
    if (change)
        see(w, change, w->latest_epoch);
    return change;
}

/* The key's value as it is now, unless it is what was seen; a key that is gone counts as deleted. With the watcher's lock,
 * which it gives up meanwhile. */
static ph_change *read_again(ph_watcher *w) {
    uint64_t seen = w->seen;
    ph_change *change = NULL;
    ph_error err;
    w->must_read = false;
    pthread_mutex_unlock(&w->lock);
    const char *code = ph_watcher_read(w, READ_TIMEOUT_MS, &change, &err);
    bool is_gone = code && strcmp(code, PH_NOT_FOUND) == 0;
    if (is_gone && seen)
        change = make_change(&(ph_entry){.key = w->topic->key, .value = "", .deleted = true});
    pthread_mutex_lock(&w->lock);
    if (change && (is_gone || change->revision != seen))
        return change;
    w->must_read = code && !is_gone; /* the next call tries again */
    ph_change_release(change);
    return NULL;
}

void ph_watcher_on_change(ph_watcher *w, ph_hub_push (*fn)(void *ctx, const ph_change *change), void *ctx) {
    pthread_mutex_lock(&w->lock);
    w->push = fn;
    w->push_ctx = ctx;
    pthread_mutex_unlock(&w->lock);
}

/* Sleeps until something has come for the watcher; false when the time has passed. With the watcher's lock. */
static bool sleep_until(ph_watcher *w, const struct timespec *until) {
    w->is_waiting = true;
    int rc = pthread_cond_timedwait(&w->changed, &w->lock, until);
    w->is_waiting = false;
    return rc == 0 || w->latest || w->closed || w->must_read;
}

ph_hub_result ph_watcher_next(ph_watcher *w, double until, ph_change **out) {
    struct timespec ts = ph_timespec(until);
    ph_hub_result result = PH_HUB_TIMEOUT;
    pthread_mutex_lock(&w->lock);
    do {
        if (w->closed)
            result = PH_HUB_CLOSED;
        else if ((w->must_read && (*out = read_again(w))) || (*out = take_new(w)))
            result = PH_HUB_CHANGE;
    } while (result == PH_HUB_TIMEOUT && !w->is_unfinished && sleep_until(w, &ts));
    w->is_unfinished = false;
    pthread_mutex_unlock(&w->lock);
    return result;
}
