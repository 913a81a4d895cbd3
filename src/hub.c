/* Only watched keys have a topic; entries of other keys cost the tail one lookup. One lock; a watcher sleeps on its
 * topic's condition. */
#include "hub.h"
#include "jsontext.h"
#include "snapshot.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUCKETS 1024 /* of the hash table; streams are hundreds at most */

typedef struct counted { /* a change with its references and texts behind it */
    ph_change change; /* first: a ph_change * is a counted * */
    atomic_int refs;
    char text[];
} counted;

typedef struct topic {
    struct topic *next;
    int watchers;
    unsigned epoch;     /* grows when the bucket was recreated: revisions begin anew */
    bool unsure;        /* recreated, and this key not seen since */
    ph_change *latest;  /* since the topic exists; holds a reference; NULL at first */
    pthread_cond_t changed;
    char key[];
} topic;

struct ph_hub {
    natsConnection *nc;
    char bucket[128];
    ph_tail *tail;
    pthread_mutex_t lock;
    pthread_condattr_t monotonic;
    bool closed;
    topic *topics[BUCKETS];
};

struct ph_watcher {
    ph_hub *hub;
    topic *topic;
    uint64_t seen; /* revision */
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
    if (!s.ok) {
        strcpy(c->text, "null"); /* there is room for 16 bytes more */
        full = brief = c->text;
    }
    c->change = (ph_change){.revision = e->revision, .deleted = e->deleted, .terminal = s.terminal,
                            .updated_at = s.updated_at, .full = full, .brief = brief,
                            .full_len = s.ok ? e->len : 4, .brief_len = s.ok ? s.brief_len : 4,
                            .tenant = s.ok ? s.tenant : NULL, .tenant_len = s.tenant_len};
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
    uint32_t h = 2166136261u;
    for (const char *c = key; *c; c++)
        h = (h ^ (unsigned char)*c) * 16777619u;
    topic **at = &hub->topics[h % BUCKETS];
    while (*at && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    return at;
}

static void publish(topic *t, ph_change *change) {
    ph_change_release(t->latest);
    t->latest = change;
    t->unsure = false;
    pthread_cond_broadcast(&t->changed);
}

/* ---- what the tail tells ---- */

static void on_entry(void *ctx, const ph_entry *e) {
    ph_hub *hub = ctx;
    pthread_mutex_lock(&hub->lock);
    bool wanted = *place_of(hub, e->key) != NULL;
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
            ph_change_release(t->latest);
            t->latest = NULL;
            t->unsure = true;
            t->epoch++;
        }
    pthread_mutex_unlock(&hub->lock);
}

/* All entries of the new stream have come: a key that did not come with them is gone. */
static void on_live(void *ctx, int64_t life) {
    ph_hub *hub = ctx;
    (void)life;
    pthread_mutex_lock(&hub->lock);
    for (int i = 0; i < BUCKETS; i++)
        for (topic *t = hub->topics[i]; t; t = t->next) {
            ph_change *gone = t->unsure ? make_change(&(ph_entry){.key = t->key, .value = "", .deleted = true}) : NULL;
            if (gone)
                publish(t, gone);
        }
    pthread_mutex_unlock(&hub->lock);
}

/* ---- life ---- */

ph_hub *ph_hub_start(natsConnection *nc, const char *bucket, ph_error *err) {
    ph_hub *hub = calloc(1, sizeof *hub);
    if (!hub) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    hub->nc = nc;
    snprintf(hub->bucket, sizeof hub->bucket, "%s", bucket);
    pthread_mutex_init(&hub->lock, NULL);
    pthread_condattr_init(&hub->monotonic);
    pthread_condattr_setclock(&hub->monotonic, CLOCK_MONOTONIC);
    ph_tail_handlers handlers = {.on_entry = on_entry, .on_reset = on_reset, .on_live = on_live};
    hub->tail = ph_tail_start(nc, bucket, 0, handlers, hub, err);
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
            pthread_cond_broadcast(&t->changed);
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
    return ph_tail_age_ms(hub->tail) < 5000;
}

/* ---- watchers ---- */

static topic *make_topic(ph_hub *hub, const char *key) {
    topic *t = calloc(1, sizeof *t + strlen(key) + 1);
    if (!t)
        return NULL;
    strcpy(t->key, key);
    pthread_cond_init(&t->changed, &hub->monotonic);
    return t;
}

ph_watcher *ph_hub_watch(ph_hub *hub, const char *key) {
    ph_watcher *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->hub = hub;
    pthread_mutex_lock(&hub->lock);
    topic **at = place_of(hub, key);
    if (!*at)
        *at = make_topic(hub, key);
    w->topic = *at;
    if (w->topic) {
        w->topic->watchers++;
        w->epoch = w->topic->epoch;
    }
    pthread_mutex_unlock(&hub->lock);
    if (w->topic)
        return w;
    free(w);
    return NULL;
}

void ph_watcher_close(ph_watcher *w) {
    if (!w)
        return;
    pthread_mutex_lock(&w->hub->lock);
    topic *t = w->topic;
    if (--t->watchers == 0) {
        *place_of(w->hub, t->key) = t->next;
        ph_change_release(t->latest);
        pthread_cond_destroy(&t->changed);
        free(t);
    }
    pthread_mutex_unlock(&w->hub->lock);
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

static bool is_new(const ph_watcher *w) {
    const topic *t = w->topic;
    return t->latest && (t->latest->revision > w->seen || t->epoch != w->epoch);
}

ph_hub_result ph_watcher_next(ph_watcher *w, double until, ph_change **out) {
    ph_hub *hub = w->hub;
    struct timespec ts = {.tv_sec = (time_t)until, .tv_nsec = (long)((until - (double)(time_t)until) * 1e9)};
    ph_hub_result result = PH_HUB_CHANGE;
    pthread_mutex_lock(&hub->lock);
    while (!hub->closed && !is_new(w))
        if (pthread_cond_timedwait(&w->topic->changed, &hub->lock, &ts) != 0) {
            result = PH_HUB_TIMEOUT;
            break;
        }
    if (hub->closed) {
        result = PH_HUB_CLOSED;
    } else if (is_new(w)) {
        result = PH_HUB_CHANGE;
        *out = retain(w->topic->latest);
        w->seen = (*out)->revision;
        w->epoch = w->topic->epoch;
    }
    pthread_mutex_unlock(&hub->lock);
    return result;
}
