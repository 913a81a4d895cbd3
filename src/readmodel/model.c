/* Life of the model: its files, the queue, the thread that writes. */
#include "readmodel.h"
#include "log.h"
#include "nats.h"
#include "shared.h"
#include "tail.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH_SEC 0.005
#define BATCH_ROWS 500
#define QUEUE_BYTES (8u << 20) /* the tail waits when more is queued */
#define LIVE_MS 5000           /* a tail without a sign of life for longer may miss changes */
#define PROGRESS_SEC 1.0
#define PREFIX "pyoco-readmodel-"

struct rm_model {
    atomic_int refs;
    char dir[512], path[560];
    int lock_fd; /* held: the folder is in use */
    ph_tail *tail;
    rm_writer *writer; /* the thread's */
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t filled, drained, written;
    rm_row *head, **end;
    size_t queued_rows, queued_bytes;
    uint64_t pushed, done;       /* rows queued and rows committed since the start */
    uint64_t ours;               /* `pushed` behind the last write of this gateway */
    uint64_t wanted;             /* somebody waits for this many: commit at once */
    bool stopping, is_warming, failed;
    uint64_t generation;         /* grows when the model starts over */
    rm_stats stats;
    double loading_since;
};

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;
static rm_model *current;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Waits on a condition until a monotonic time; false when it has passed. */
static bool wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, double until) {
    struct timespec ts = {.tv_sec = (time_t)until, .tv_nsec = (long)((until - (double)(time_t)until) * 1e9)};
    return pthread_cond_timedwait(cond, lock, &ts) == 0;
}

/* --- files --- */

static void remove_folder(const char *dir) {
    static const char *const names[] = {"runs.db", "runs.db-wal", "runs.db-shm", "lock"};
    char path[900];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

/* Removes the folders of processes that were killed: those whose lock nobody holds. */
static void sweep(const char *parent) {
    DIR *dir = opendir(parent);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0)
            continue;
        char path[800], lock[820];
        struct stat is;
        if (snprintf(path, sizeof path, "%s/%s", parent, e->d_name) >= (int)sizeof path || lstat(path, &is) != 0 ||
            !S_ISDIR(is.st_mode) || is.st_uid != geteuid())
            continue;
        snprintf(lock, sizeof lock, "%s/lock", path);
        int fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove_folder(path);
        if (fd >= 0)
            close(fd);
    }
    if (dir)
        closedir(dir);
}

static bool make_folder(rm_model *m, const char *parent, ph_error *err) {
    char lock[560], fresh[560];
    if (!parent)
        parent = getenv("TMPDIR");
    if (!parent || !*parent)
        parent = "/tmp";
    sweep(parent);
    if (strlen(parent) > 400) {
        snprintf(err->text, sizeof err->text, "the folder for temporary files has too long a name: %s", parent);
        return false;
    }
    snprintf(m->dir, sizeof m->dir, "%s/" PREFIX "XXXXXX", parent);
    if (!mkdtemp(m->dir)) {
        snprintf(err->text, sizeof err->text,
                 "cannot make a folder for the read model in %s: %s; set TMPDIR to a folder that can be written",
                 parent, strerror(errno));
        *m->dir = '\0';
        return false;
    }
    /* the lock is taken before it has its name, so that no other process sweeps this folder */
    snprintf(fresh, sizeof fresh, "%s/runs.db", m->dir);
    snprintf(lock, sizeof lock, "%s/lock", m->dir);
    m->lock_fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (m->lock_fd < 0 || flock(m->lock_fd, LOCK_EX | LOCK_NB) != 0 || rename(fresh, lock) != 0) {
        snprintf(err->text, sizeof err->text, "cannot write in %s: %s", m->dir, strerror(errno));
        return false;
    }
    snprintf(m->path, sizeof m->path, "%s/runs.db", m->dir);
    return true;
}

/* --- the queue --- */

/* Takes row. May wait for room, unless the row is this gateway's own. */
static void push(rm_model *m, rm_row *row) {
    if (!row)
        abort(); /* a lost change would be a silent lie */
    pthread_mutex_lock(&m->lock);
    while (!row->is_ours && m->queued_bytes > QUEUE_BYTES && !m->stopping && !m->failed)
        pthread_cond_wait(&m->drained, &m->lock);
    if (m->stopping || m->failed) {
        pthread_mutex_unlock(&m->lock);
        free(row);
        return;
    }
    if (row->kind == RM_RESET) {
        m->is_warming = true;
        m->generation++;
        m->loading_since = now();
        ph_shared_set("health.warming", "true");
    }
    *m->end = row;
    m->end = &row->next;
    m->queued_rows++;
    m->queued_bytes += row->size;
    m->pushed++;
    if (row->is_ours)
        m->ours = m->pushed;
    if (m->queued_rows == 1 || m->queued_rows == BATCH_ROWS)
        pthread_cond_signal(&m->filled);
    pthread_mutex_unlock(&m->lock);
}

static void on_entry(void *ctx, const ph_entry *e) {
    push(ctx, rm_row_make(e->deleted ? RM_DELETE : RM_PUT, e->key, e->value, e->len, e->revision));
}

static void on_reset(void *ctx) {
    ph_log("INFO", "pyoco.readmodel", "the bucket of runs was made anew: reading it again");
    push(ctx, rm_row_make(RM_RESET, NULL, NULL, 0, 0));
}

static void on_live(void *ctx) {
    push(ctx, rm_row_make(RM_LIVE, NULL, NULL, 0, 0));
}

void rm_apply(rm_model *m, const char *key, const char *value, size_t len, uint64_t revision) {
    rm_row *row = rm_row_make(value ? RM_PUT : RM_DELETE, key, value, len, revision);
    if (row)
        row->is_ours = true;
    push(m, row);
}

/* --- the thread --- */

/* Waits for rows: 5 ms from the first, 500 rows, or somebody who waits for them. NULL when stopping. */
static rm_row *take_batch(rm_model *m, uint64_t *through) {
    pthread_mutex_lock(&m->lock);
    while (!m->stopping && !m->head)
        pthread_cond_wait(&m->filled, &m->lock);
    double until = now() + BATCH_SEC;
    while (!m->stopping && !m->is_warming && m->queued_rows < BATCH_ROWS && m->wanted <= m->done &&
           wait_until(&m->filled, &m->lock, until))
        ;
    rm_row *rows = m->stopping ? NULL : m->head;
    if (rows) {
        m->head = NULL;
        m->end = &m->head;
        m->queued_rows = m->queued_bytes = 0;
        *through = m->pushed;
        pthread_cond_broadcast(&m->drained);
    }
    pthread_mutex_unlock(&m->lock);
    return rows;
}

static void free_rows(rm_row *rows) {
    for (rm_row *next; rows; rows = next) {
        next = rows->next;
        free(rows);
    }
}

/* Notes what a batch has done; says it in the log and on /health when the model has become complete. */
static void finish(rm_model *m, uint64_t through, bool has_turned) {
    pthread_mutex_lock(&m->lock);
    bool was_warming = m->is_warming, is_warming = rm_writer_is_warming(m->writer);
    /* a reset that came meanwhile keeps it warming */
    bool has_reset = false;
    for (const rm_row *r = m->head; r; r = r->next)
        has_reset = has_reset || r->kind == RM_RESET;
    if (has_turned && !has_reset)
        m->is_warming = is_warming;
    m->done = through;
    m->stats.batches++;
    m->stats.writes = through;
    bool became_live = was_warming && !m->is_warming;
    if (became_live)
        m->stats.loaded_sec = now() - m->loading_since;
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
    pthread_mutex_unlock(&m->lock);
}

static void *run(void *arg) {
    rm_model *m = arg;
    ph_error err = {0};
    uint64_t through = 0;
    double shown_at = now();
    for (rm_row *rows; (rows = take_batch(m, &through));) {
        const rm_row *turn = NULL;
        for (const rm_row *r = rows; r; r = r->next)
            if (r->kind == RM_RESET || r->kind == RM_LIVE)
                turn = r;
        bool ok = rm_writer_apply(m->writer, rows, &err);
        if (ok)
            finish(m, through, turn != NULL);
        free_rows(rows);
        if (!ok) {
            give_up(m, &err);
            break;
        }
        if (rm_writer_is_warming(m->writer) && now() - shown_at > PROGRESS_SEC) {
            shown_at = now();
            ph_log("INFO", "pyoco.readmodel", "read model is warming: %llu entries so far",
                   (unsigned long long)rm_writer_count(m->writer));
        }
    }
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
    if (*m->dir)
        remove_folder(m->dir);
    if (m->lock_fd >= 0)
        close(m->lock_fd);
    rm_release(m);
    return NULL;
}

rm_model *rm_start(const rm_options *options, ph_error *err) {
    rm_model *m = calloc(1, sizeof *m), *other = rm_current();
    natsConnection *nc = options->bucket ? ph_nats_shared() : NULL;
    rm_release(other);
    if (!m || other || (options->bucket && !nc)) {
        free(m);
        snprintf(err->text, sizeof err->text, "%s", other ? "this process has a read model already"
                 : !m ? "out of memory" : "the read model needs the process's NATS connection: nats.share(conn) first");
        return NULL;
    }
    atomic_init(&m->refs, 1);
    m->lock_fd = -1;
    m->end = &m->head;
    m->generation = 1;
    m->is_warming = true;
    m->loading_since = now();
    init_sync(m);
    if (!make_folder(m, options->dir, err) || !(m->writer = rm_writer_open(m->path, err)))
        return abandon(m);
    ph_shared_set("health.warming", "true");
    int rc = pthread_create(&m->thread, NULL, run, m);
    if (rc != 0) {
        snprintf(err->text, sizeof err->text, "cannot start a thread: %s", strerror(rc));
        return abandon(m);
    }
    pthread_mutex_lock(&current_lock);
    current = m;
    pthread_mutex_unlock(&current_lock);
    if (!options->bucket) {
        on_live(m);
        return m;
    }
    ph_tail *tail = ph_tail_start(nc, options->bucket, 1, (ph_tail_handlers){on_entry, on_reset, on_live}, m, err);
    pthread_mutex_lock(&m->lock);
    m->tail = tail;
    pthread_mutex_unlock(&m->lock);
    if (tail)
        return m;
    rm_stop(m);
    return NULL;
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
    free_rows(m->head);
    m->head = NULL;
    m->end = &m->head;
    pthread_mutex_unlock(&m->lock);
    rm_writer_close(m->writer);
    remove_folder(m->dir);
    close(m->lock_fd);
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

uint64_t rm_wait(rm_model *m, int timeout_ms) {
    double until = now() + timeout_ms / 1e3;
    pthread_mutex_lock(&m->lock);
    uint64_t ticket = m->ours;
    while (!m->stopping && !m->failed && (!is_usable(m) || m->done < ticket) && now() < until) {
        if (m->done < ticket && m->wanted < ticket) {
            m->wanted = ticket;
            pthread_cond_signal(&m->filled);
        }
        double slice = now() + 0.05; /* the age of the tail changes without a signal */
        wait_until(&m->written, &m->lock, slice < until ? slice : until);
    }
    bool ok = is_usable(m) && m->done >= ticket;
    uint64_t generation = ok ? m->generation : 0;
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
