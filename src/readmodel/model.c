/* Life of the model: the queue, the thread that writes. */
#include "readmodel.h"
#include "feed.h"
#include "guard.h"
#include "log.h"
#include "nats.h"
#include "shared.h"
#include "tail.h"
#include "clocks.h"
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH_SEC 0.005     /* between commits while somebody asks */
#define LAZY_SEC 0.5        /* and while nobody has for ASKED_SEC: a short run is written once */
#define ASKED_SEC 2.0
#define BATCH_ROWS 500
#define QUEUE_BYTES (8u << 20) /* the tail waits when more is queued */
#define LIVE_MS 5000           /* a tail without a sign of life for longer may miss changes */
#define PROGRESS_SEC 1.0
#define OURS_SEC 2.0           /* so long after a write of ours a list waits for it */
#define INDEX_ROWS 1024        /* the search index lags behind by more only for moments */
#define IDLE_SEC 0.5           /* after so long it catches up whole */
#define FOREVER_SEC 3600.0

struct rm_model {
    atomic_int refs;
    rm_folder folder;
    char path[560];
    ph_tail *tail;
    rm_writer *writer; /* the thread's */
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t filled, drained, written;
    ph_row *head, **end;
    size_t queued_rows, queued_bytes;
    bool has_turn;               /* one of them begins or ends the warming */
    double queued_at;            /* when the first of them came */
    uint64_t pushed, done;       /* revisions queued and committed */
    uint64_t wanted;             /* somebody waits for this one: commit at once */
    uint64_t ours;               /* of the last write of this process */
    double ours_until;           /* lists wait for it so long */
    double asked_at;             /* when somebody asked last */
    double committed_at;
    bool stopping, is_warming, failed;
    uint64_t generation;         /* grows when the model starts over */
    rm_stats stats;
    double loading_since;
};

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;
static rm_model *current;

/* Waits on a condition until a monotonic time; false when it has passed. */
static bool wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, double until) {
    struct timespec ts = ph_timespec(until);
    return pthread_cond_timedwait(cond, lock, &ts) == 0;
}

/* --- the queue --- */

/* Takes row. May wait for room. */
static void push(rm_model *m, ph_row *row) {
    if (!row)
        abort(); /* a lost change would be a silent lie */
    pthread_mutex_lock(&m->lock);
    while (m->queued_bytes > QUEUE_BYTES && !m->stopping && !m->failed)
        pthread_cond_wait(&m->drained, &m->lock);
    if (m->stopping || m->failed) {
        pthread_mutex_unlock(&m->lock);
        ph_row_free(row);
        return;
    }
    if (row->kind == PH_ROW_RESET) {
        m->is_warming = true;
        m->generation++;
        m->loading_since = ph_monotonic();
        m->pushed = m->done = m->wanted = m->ours = 0;
        ph_shared_set("health.warming", "true");
        ph_feed_stop();
    }
    if (!m->head)
        m->queued_at = ph_monotonic();
    *m->end = row;
    m->end = &row->next;
    m->queued_rows++;
    m->queued_bytes += row->size;
    m->stats.writes++;
    if (row->kind == PH_ROW_PUT || row->kind == PH_ROW_DELETE)
        m->pushed = row->revision;
    else
        m->has_turn = true;
    if (m->queued_rows == 1 || m->queued_rows == BATCH_ROWS || m->has_turn)
        pthread_cond_signal(&m->filled);
    pthread_mutex_unlock(&m->lock);
}

static void on_entry(void *ctx, const ph_entry *e) {
    ph_guard_see(e);
    push(ctx, ph_row_make(e->deleted ? PH_ROW_DELETE : PH_ROW_PUT, e->key, e->value, e->len, e->revision));
}

static void on_reset(void *ctx) {
    ph_guard_clear();
    ph_log("INFO", "pyoco.readmodel", "the bucket of runs was made anew: reading it again");
    push(ctx, ph_row_make(PH_ROW_RESET, NULL, NULL, 0, 0));
}

static void on_live(void *ctx, int64_t life) {
    push(ctx, ph_row_make(PH_ROW_LIVE, NULL, NULL, 0, (uint64_t)life));
}

void rm_wrote(rm_model *m, uint64_t revision) {
    pthread_mutex_lock(&m->lock);
    if (revision > m->ours)
        m->ours = revision;
    m->ours_until = ph_monotonic() + OURS_SEC;
    pthread_mutex_unlock(&m->lock);
}

/* --- the thread --- */

/* Until when changes are collected; with the lock. The first after a pause is written at once. */
static double batch_until(const rm_model *m) {
    if (m->is_warming)
        return m->queued_at + BATCH_SEC; /* a wake-up for each row would cost as much as the row */
    bool is_asked = ph_monotonic() - m->asked_at < ASKED_SEC || ph_feed_is_read();
    return is_asked ? m->committed_at + BATCH_SEC : m->queued_at + LAZY_SEC;
}

/* Waits for rows: for some time, for 500 rows, or for somebody who waits for them. NULL when stopping, or when
 * none came within idle_sec. */
static ph_row *take_batch(rm_model *m, double idle_sec, uint64_t *through) {
    pthread_mutex_lock(&m->lock);
    double idle = ph_monotonic() + idle_sec;
    while (!m->stopping && !m->head && wait_until(&m->filled, &m->lock, idle))
        ;
    double until = batch_until(m);
    while (m->head && !m->stopping && !m->has_turn && m->queued_rows < BATCH_ROWS && m->wanted <= m->done &&
           wait_until(&m->filled, &m->lock, until))
        ;
    ph_row *rows = m->stopping ? NULL : m->head;
    if (rows) {
        m->head = NULL;
        m->end = &m->head;
        m->queued_rows = m->queued_bytes = 0;
        m->has_turn = false;
        *through = m->pushed;
        pthread_cond_broadcast(&m->drained);
    }
    pthread_mutex_unlock(&m->lock);
    return rows;
}

/* Notes what a batch has done; says it in the log and on /health when the model has become complete. */
static void finish(rm_model *m, const ph_row *live, uint64_t through) {
    pthread_mutex_lock(&m->lock);
    bool was_warming = m->is_warming;
    /* a reset that came meanwhile keeps it warming */
    bool has_reset = false;
    for (const ph_row *r = m->head; r; r = r->next)
        has_reset = has_reset || r->kind == PH_ROW_RESET;
    if (live && !has_reset) {
        m->is_warming = false;
        ph_feed_start(live->revision, rm_writer_revision(m->writer));
        ph_error err;
        rm_writer_each_count(m->writer, ph_feed_count, &err);
    }
    if (!has_reset)
        m->done = through;
    m->committed_at = ph_monotonic();
    m->stats.batches++;
    bool became_live = was_warming && !m->is_warming;
    if (became_live)
        m->stats.loaded_sec = ph_monotonic() - m->loading_since;
    double took = m->stats.loaded_sec;
    if (became_live)
        ph_shared_set("health.warming", "false"); /* before anybody sees a list */
    pthread_cond_broadcast(&m->written);
    pthread_mutex_unlock(&m->lock);
    if (became_live)
        ph_log("INFO", "pyoco.readmodel", "read model is complete: %llu entries in %.2f s",
               (unsigned long long)rm_writer_count(m->writer), took);
}

static void give_up(rm_model *m, const ph_error *err) {
    ph_log_error("pyoco.readmodel", err->text, "lists are unavailable until the gateway is started again");
    ph_shared_set("health.warming", "true");
    pthread_mutex_lock(&m->lock);
    m->failed = m->is_warming = true;
    m->generation++;
    pthread_cond_broadcast(&m->drained);
    ph_feed_stop();
    pthread_mutex_unlock(&m->lock);
}

/* Applies a batch, then shows it. */
static bool apply(rm_model *m, ph_row *rows, uint64_t through, ph_error *err) {
    const ph_row *live = NULL;
    bool was_warming = rm_writer_is_warming(m->writer);
    for (const ph_row *r = rows; r; r = r->next)
        if (r->kind == PH_ROW_LIVE || r->kind == PH_ROW_RESET)
            live = r->kind == PH_ROW_LIVE ? r : NULL;
    if (!was_warming)
        rows = rm_batch_keep_newest(rows);
    if (!rm_writer_apply(m->writer, rows, err)) {
        rm_batch_free(rows);
        return false;
    }
    finish(m, rm_writer_is_warming(m->writer) ? NULL : live, through);
    bool is_loaded = live && !rm_writer_is_warming(m->writer);
    ph_feed_publish(rows, through);
    if (is_loaded)
        malloc_trim(0); /* what waited while the model was loading was a lot */
    return true;
}

static bool is_stopping(rm_model *m) {
    pthread_mutex_lock(&m->lock);
    bool stopping = m->stopping;
    pthread_mutex_unlock(&m->lock);
    return stopping;
}

static void *run(void *arg) {
    rm_model *m = arg;
    ph_error err = {0};
    uint64_t through = 0;
    double shown_at = ph_monotonic();
    bool ok = true;
    while (ok) {
        int64_t lag = rm_writer_lag(m->writer);
        ph_row *rows = take_batch(m, lag > INDEX_ROWS ? 0 : lag > 0 ? IDLE_SEC : FOREVER_SEC, &through);
        if (rows)
            ok = apply(m, rows, through, &err);
        else if (is_stopping(m))
            return NULL;
        if (ok && (rows ? lag > INDEX_ROWS : lag > 0))
            ok = rm_writer_index(m->writer, &err);
        if (rm_writer_is_warming(m->writer) && ph_monotonic() - shown_at > PROGRESS_SEC) {
            shown_at = ph_monotonic();
            ph_log("INFO", "pyoco.readmodel", "read model is warming: %llu entries so far",
                   (unsigned long long)rm_writer_count(m->writer));
        }
    }
    give_up(m, &err);
    return NULL;
}

/* --- life --- */

static void init_sync(rm_model *m) {
    pthread_condattr_t attr;
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->filled, &attr);
    pthread_cond_init(&m->drained, &attr);
    pthread_cond_init(&m->written, &attr);
    pthread_condattr_destroy(&attr);
}

void rm_release(rm_model *m) {
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    pthread_cond_destroy(&m->filled);
    pthread_cond_destroy(&m->drained);
    pthread_cond_destroy(&m->written);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* Undoes what rm_start has done so far. */
static rm_model *abandon(rm_model *m) {
    rm_writer_close(m->writer);
    rm_folder_remove(&m->folder);
    rm_release(m);
    return NULL;
}

/* Starts writer, thread and tail of a fresh model; frees it when one of them does not start. */
static rm_model *start_on(ph_nats_conn *conn, rm_model *m, const rm_options *options, ph_error *err) {
    atomic_init(&m->refs, 1);
    m->end = &m->head;
    m->generation = 1;
    m->is_warming = true;
    m->loading_since = ph_monotonic();
    init_sync(m);
    if (!rm_folder_make(&m->folder, options->dir, err))
        return abandon(m);
    snprintf(m->path, sizeof m->path, "%s/runs.db", m->folder.path);
    if (!(m->writer = rm_writer_open(m->path, err)))
        return abandon(m);
    ph_shared_set("health.warming", "true");
    int rc = pthread_create(&m->thread, NULL, run, m);
    if (rc != 0) {
        snprintf(err->text, sizeof err->text, "cannot start a thread: %s", strerror(rc));
        return abandon(m);
    }
    pthread_setname_np(m->thread, "read-model");
    pthread_mutex_lock(&current_lock);
    current = m;
    pthread_mutex_unlock(&current_lock);
    ph_tail *tail = ph_tail_start(conn, options->bucket, 1, (ph_tail_handlers){on_entry, on_reset, on_live}, m, err);
    pthread_mutex_lock(&m->lock);
    m->tail = tail;
    pthread_mutex_unlock(&m->lock);
    if (tail)
        return m;
    rm_stop(m);
    return NULL;
}

rm_model *rm_start(const rm_options *options, ph_error *err) {
    rm_model *m = calloc(1, sizeof *m), *other = rm_current();
    ph_nats_conn *conn = ph_nats_shared();
    rm_release(other);
    if (m && !other && conn) {
        m = start_on(conn, m, options, err);
    } else {
        snprintf(err->text, sizeof err->text, "%s", other ? "this process has a read model already"
                 : !m ? "out of memory" : "the read model needs the process's NATS connection: nats.share(conn) first");
        free(m);
        m = NULL;
    }
    ph_nats_release(conn);
    return m;
}

void rm_stop(rm_model *m) {
    pthread_mutex_lock(&current_lock);
    current = NULL;
    pthread_mutex_unlock(&current_lock);
    pthread_mutex_lock(&m->lock);
    m->stopping = true;
    m->generation++;
    pthread_cond_broadcast(&m->filled);
    pthread_cond_broadcast(&m->drained);
    pthread_cond_broadcast(&m->written);
    ph_tail *tail = m->tail;
    pthread_mutex_unlock(&m->lock);
    ph_tail_stop(tail);
    pthread_join(m->thread, NULL);
    pthread_mutex_lock(&m->lock);
    m->tail = NULL;
    rm_batch_free(m->head);
    m->head = NULL;
    m->end = &m->head;
    pthread_mutex_unlock(&m->lock);
    rm_writer_close(m->writer);
    ph_feed_stop();
    rm_folder_remove(&m->folder);
    ph_shared_set("health.warming", NULL);
    rm_release(m);
}

rm_model *rm_current(void) {
    pthread_mutex_lock(&current_lock);
    rm_model *m = current;
    if (m)
        atomic_fetch_add(&m->refs, 1);
    pthread_mutex_unlock(&current_lock);
    return m;
}

/* --- readers --- */

static bool is_usable(rm_model *m) {
    return !m->is_warming && !m->stopping && (!m->tail || ph_tail_age_ms(m->tail) < LIVE_MS);
}

uint64_t rm_wait(rm_model *m, int timeout_ms, bool is_for_somebody) {
    pthread_mutex_lock(&m->lock);
    double at = ph_monotonic(), until = at + timeout_ms / 1e3;
    if (is_for_somebody)
        m->asked_at = at;
    uint64_t ticket = at < m->ours_until ? m->ours : 0;
    if (m->head && at - m->queued_at > BATCH_SEC && m->pushed > ticket)
        ticket = m->pushed; /* nobody has asked for a while: what was left lying is written now */
    while (is_usable(m) && !m->failed && m->done < ticket && ph_monotonic() < until) {
        if (m->wanted < ticket) {
            m->wanted = ticket;
            pthread_cond_signal(&m->filled);
        }
        double slice = ph_monotonic() + 0.05; /* the age of the tail changes without a signal */
        wait_until(&m->written, &m->lock, slice < until ? slice : until);
    }
    uint64_t generation = is_usable(m) ? m->generation : 0;
    pthread_mutex_unlock(&m->lock);
    return generation;
}

uint64_t rm_generation(rm_model *m) {
    pthread_mutex_lock(&m->lock);
    uint64_t generation = m->generation;
    pthread_mutex_unlock(&m->lock);
    return generation;
}

const char *rm_path(const rm_model *m) {
    return m->path;
}

rm_stats rm_get_stats(rm_model *m) {
    pthread_mutex_lock(&m->lock);
    rm_stats stats = m->stats;
    stats.is_warming = m->is_warming;
    pthread_mutex_unlock(&m->lock);
    return stats;
}
