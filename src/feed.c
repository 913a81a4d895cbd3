/* One lock, one list in the order of revisions, one table by key. Beside it the readers that wait, under a lock of their
 * own, which comes before the feed's: who writes to the feed never waits for a round. */
#include "feed.h"
#include "clocks.h"
#include "hash.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define BUCKETS 4096
#define KEEP_BYTES (4u << 20)
#define KEEP_RUNS 16384
#define COUNTS 256 /* buckets: tenants x statuses are few */
#define GAP_SEC 0.02 /* from round to round */

typedef struct node {
    struct node *older, *newer, *next; /* next: of the same bucket */
    ph_row *row;
    uint64_t past_status;
    bool has_other_texts;
} node;

typedef struct count {
    struct count *next;
    int64_t n;
    const char *status; /* behind the tenant, in text */
    char text[];
} count;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool has_started;
    uint64_t life, epoch;
    uint64_t floor, revision; /* changes above floor and up to revision are here */
    node *oldest, *newest;
    node *table[BUCKETS];
    size_t bytes, runs;
    count *counts[COUNTS];
    uint64_t counts_version;
    int readers;
} feed = {.lock = PTHREAD_MUTEX_INITIALIZER, .epoch = 1};

static struct {
    pthread_mutex_t lock;
    ph_feed_reader *first;
    sem_t news;
    atomic_bool is_told; /* of news that no round has begun for */
} waiting = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_condattr_t monotonic;

static void init(void) {
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&feed.changed, &monotonic);
    sem_init(&waiting.news, 0, 0);
}

static void lock(void) {
    pthread_once(&once, init);
    pthread_mutex_lock(&feed.lock);
}

static void unlock(void) {
    pthread_mutex_unlock(&feed.lock);
}

/* --- the list; with the lock --- */

static node **place_of(const char *key) {
    node **at = &feed.table[ph_hash(key) % BUCKETS];
    while (*at && strcmp((*at)->row->key, key) != 0)
        at = &(*at)->next;
    return at;
}

static size_t weight(const ph_row *row) {
    return sizeof(node) + row->size;
}

static void unlink_node(node *n) {
    *(n->older ? &n->older->newer : &feed.oldest) = n->newer;
    *(n->newer ? &n->newer->older : &feed.newest) = n->older;
    feed.bytes -= weight(n->row);
    feed.runs--;
}

static void append(node *n) {
    n->older = feed.newest;
    n->newer = NULL;
    *(feed.newest ? &feed.newest->newer : &feed.oldest) = n;
    feed.newest = n;
    feed.bytes += weight(n->row);
    feed.runs++;
}

static void drop_oldest(void) {
    node *n = feed.oldest;
    feed.floor = n->row->revision;
    *place_of(n->row->key) = n->next;
    unlink_node(n);
    ph_row_free(n->row);
    free(n);
}

/* Takes the row. */
static void put(ph_row *row) {
    node **at = place_of(row->key), *n = *at;
    if (n) {
        unlink_node(n);
        *at = n->next;
        ph_row_free(n->row);
    } else if (!(n = calloc(1, sizeof *n))) {
        while (feed.oldest) /* better to have all start over than to keep a change from them */
            drop_oldest();
        feed.floor = row->revision;
        ph_row_free(row);
        return;
    }
    n->row = row;
    n->past_status |= row->past_status;
    n->has_other_texts = n->has_other_texts || row->has_other_texts;
    at = place_of(row->key);
    n->next = *at;
    *at = n;
    append(n);
}

static void clear_counts(void) {
    for (int i = 0; i < COUNTS; i++) {
        for (count *c = feed.counts[i], *next; c; c = next) {
            next = c->next;
            free(c);
        }
        feed.counts[i] = NULL;
    }
    feed.counts_version++;
}

static void clear(void) {
    while (feed.oldest)
        drop_oldest();
    clear_counts();
}

/* Has the thread go round. */
static void tell(void) {
    if (!atomic_exchange(&waiting.is_told, true))
        sem_post(&waiting.news);
}

/* --- who writes --- */

void ph_feed_start(uint64_t life, uint64_t revision) {
    lock();
    clear_counts(); /* those of the last batch were counted on the way */
    feed.has_started = true;
    feed.life = life;
    feed.floor = feed.revision = revision;
    feed.epoch++;
    pthread_cond_broadcast(&feed.changed);
    unlock();
    tell();
}

void ph_feed_stop(void) {
    lock();
    feed.has_started = false;
    feed.epoch++;
    clear();
    pthread_cond_broadcast(&feed.changed);
    unlock();
    tell();
}

void ph_feed_publish(ph_row *rows, uint64_t revision) {
    lock();
    for (ph_row *row = rows, *next; row; row = next) {
        next = row->next;
        if (row->is_news && feed.has_started)
            put(row);
        else
            ph_row_free(row);
    }
    while (feed.oldest && (feed.bytes > KEEP_BYTES || feed.runs > KEEP_RUNS))
        drop_oldest();
    if (feed.has_started)
        feed.revision = revision;
    bool is_read = feed.readers > 0;
    if (is_read)
        pthread_cond_broadcast(&feed.changed);
    unlock();
    if (is_read)
        tell();
}

void ph_feed_count(const char *tenant, const char *status, int64_t more) {
    lock();
    count **at = &feed.counts[ph_hash_more(ph_hash(tenant), status) % COUNTS];
    while (*at && (strcmp((*at)->text, tenant) != 0 || strcmp((*at)->status, status) != 0))
        at = &(*at)->next;
    if (!*at && (*at = calloc(1, sizeof **at + strlen(tenant) + strlen(status) + 2)))
        (*at)->status = strcpy(stpcpy((*at)->text, tenant) + 1, status);
    count *c = *at;
    if (c) {
        c->n += more;
        feed.counts_version++;
    }
    if (c && c->n == 0) {
        *at = c->next;
        free(c);
    }
    unlock();
}

bool ph_feed_is_read(void) {
    lock();
    bool is_read = feed.readers > 0;
    unlock();
    return is_read;
}

/* --- who reads --- */

/* Waits on the feed's condition; false when the time has passed. */
static bool sleep_until(double until) {
    struct timespec ts = {.tv_sec = (time_t)until, .tv_nsec = (long)((until - (double)(time_t)until) * 1e9)};
    return pthread_cond_timedwait(&feed.changed, &feed.lock, &ts) == 0;
}

bool ph_feed_wait_started(double until, const atomic_bool *cancel) {
    lock();
    while (!feed.has_started && !atomic_load(cancel) && sleep_until(until))
        ;
    bool has_started = feed.has_started;
    unlock();
    return has_started;
}

uint64_t ph_feed_life(void) {
    lock();
    uint64_t life = feed.life;
    unlock();
    return life;
}

/* --- the round --- */

typedef enum state { AT_END, BEHIND, LOST } state;

static state state_of(const ph_feed_reader *reader) {
    lock();
    bool is_lost = reader->epoch != feed.epoch || reader->revision < feed.floor;
    state s = is_lost ? LOST : reader->revision < feed.revision ? BEHIND : AT_END;
    unlock();
    return s;
}

/* All of these hold the lock of those that wait. */

static void join(ph_feed_reader *reader) {
    reader->next = waiting.first;
    reader->link = &waiting.first;
    if (reader->next)
        reader->next->link = &reader->next;
    waiting.first = reader;
}

static void leave(ph_feed_reader *reader) {
    *reader->link = reader->next;
    if (reader->next)
        reader->next->link = reader->link;
    reader->link = NULL;
}

static void wake(ph_feed_reader *reader) {
    leave(reader);
    pthread_cond_signal(&reader->woken);
}

static void serve(ph_feed_reader *reader) {
    state s = state_of(reader);
    reader->is_lost = s == LOST;
    if (s == LOST || (s == BEHIND && !(reader->push && reader->push(reader))))
        wake(reader);
    else if (s == BEHIND && state_of(reader) == BEHIND)
        tell(); /* it was too much for one write */
}

static void *go_round(void *arg) {
    (void)arg;
    for (;;) {
        while (sem_wait(&waiting.news) != 0)
            ;
        atomic_store(&waiting.is_told, false);
        double next = ph_monotonic() + GAP_SEC;
        pthread_mutex_lock(&waiting.lock);
        for (ph_feed_reader *r = waiting.first, *following; r; r = following) {
            following = r->next;
            serve(r);
        }
        pthread_mutex_unlock(&waiting.lock);
        struct timespec until = ph_timespec(next);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    return NULL;
}

/* The thread lives as long as the process. Without it readers take what there is when their waiting ends. */
static void start_rounds(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, go_round, NULL) != 0)
        return;
    pthread_setname_np(thread, "feed");
    pthread_detach(thread);
}

bool ph_feed_open(ph_feed_reader *reader, uint64_t life, uint64_t revision, double until, const atomic_bool *cancel) {
    static pthread_once_t rounds = PTHREAD_ONCE_INIT;
    pthread_once(&rounds, start_rounds);
    lock();
    feed.readers++;
    while (feed.has_started && life == feed.life && feed.revision < revision && !atomic_load(cancel) &&
           sleep_until(until))
        ;
    bool connects = feed.has_started && life == feed.life && revision >= feed.floor &&
                    revision <= feed.revision;
    reader->life = feed.life;
    reader->revision = connects ? revision : feed.revision;
    reader->epoch = feed.epoch;
    unlock();
    pthread_cond_init(&reader->woken, &monotonic);
    return connects;
}

void ph_feed_close(ph_feed_reader *reader) {
    pthread_cond_destroy(&reader->woken);
    lock();
    feed.readers--;
    unlock();
}

ph_feed_result ph_feed_wait(ph_feed_reader *reader, double until, const atomic_bool *cancel) {
    struct timespec ts = ph_timespec(until);
    pthread_mutex_lock(&waiting.lock);
    reader->is_lost = false;
    join(reader);
    if (state_of(reader) != AT_END)
        tell(); /* the round that would have told it may be over */
    int rc = 0;
    while (reader->link && rc == 0 && !atomic_load(cancel))
        rc = pthread_cond_timedwait(&reader->woken, &waiting.lock, &ts);
    bool is_woken = !reader->link;
    if (!is_woken)
        leave(reader);
    pthread_mutex_unlock(&waiting.lock);
    if (!is_woken || atomic_load(cancel))
        return PH_FEED_TIMEOUT;
    return reader->is_lost ? PH_FEED_LOST : PH_FEED_CHANGED;
}

static bool holds(const char *text, const char *q) {
    size_t n = strlen(q);
    for (; *text; text++)
        if (strncasecmp(text, q, n) == 0)
            return true;
    return n == 0;
}

static bool fits_q(const ph_row *row, const char *q) {
    return holds(row->key, q) || holds(row->text[PH_ROW_FLOW], q) || holds(row->text[PH_ROW_WORKER], q) ||
           holds(row->text[PH_ROW_ERROR], q);
}

/* What a change is to a reader. Status, worker and error of a run change, the rest never does: who has seen the run
 * with another status or texts is told that it has left. */
static ph_feed_kind kind_for(const ph_feed_filter *f, const node *n) {
    const ph_row *row = n->row;
    for (int i = PH_ROW_STATUS + 1; i <= PH_ROW_SHA256; i++)
        if (f->equal[i] && strcmp(f->equal[i], row->text[i]) != 0)
            return PH_FEED_NOTHING;
    const char *status = f->equal[PH_ROW_STATUS];
    bool was_status = !status || (n->past_status & ph_row_status_bit(status));
    if (row->kind == PH_ROW_DELETE)
        return was_status ? PH_FEED_DELETED : PH_FEED_NOTHING;
    bool is_status = !status || strcmp(status, row->text[PH_ROW_STATUS]) == 0;
    bool is_text = !f->q || fits_q(row, f->q);
    if (is_status && is_text)
        return PH_FEED_RUN;
    return (is_status || was_status) && (is_text || n->has_other_texts) ? PH_FEED_LEFT : PH_FEED_NOTHING;
}

void ph_feed_take(ph_feed_reader *reader, bool (*take)(void *ctx, ph_feed_kind kind, const ph_row *row), void *ctx) {
    lock();
    bool is_lost = reader->epoch != feed.epoch || reader->revision < feed.floor;
    node *n = is_lost ? NULL : feed.newest;
    while (n && n->older && n->older->row->revision > reader->revision)
        n = n->older;
    if (n && n->row->revision <= reader->revision)
        n = NULL;
    bool goes_on = true;
    for (; n && goes_on; n = n->newer) {
        ph_feed_kind kind = kind_for(&reader->filter, n);
        reader->revision = n->row->revision;
        goes_on = kind == PH_FEED_NOTHING || take(ctx, kind, n->row);
    }
    if (!is_lost && goes_on)
        reader->revision = feed.revision;
    unlock();
}

uint64_t ph_feed_counts(const char *tenant, void (*fn)(void *ctx, const char *status, int64_t n), void *ctx) {
    lock();
    for (int i = 0; i < COUNTS; i++)
        for (const count *c = feed.counts[i]; c; c = c->next)
            if (!tenant || strcmp(tenant, c->text) == 0)
                fn(ctx, c->status, c->n);
    uint64_t version = feed.counts_version;
    unlock();
    return version;
}

uint64_t ph_feed_counts_version(void) {
    lock();
    uint64_t version = feed.counts_version;
    unlock();
    return version;
}

void ph_feed_wake(void) {
    lock();
    pthread_cond_broadcast(&feed.changed);
    unlock();
    pthread_mutex_lock(&waiting.lock);
    while (waiting.first)
        wake(waiting.first);
    pthread_mutex_unlock(&waiting.lock);
}
