/* Shape: one lock for everything; queued calls, a stack of idle workers, and one keeper thread that watches the
 * script's files, builds new versions and joins threads that have ended. A worker is a thread with its VM. */
#include "vmpool.h"
#include "appvm.h"
#include "log.h"
#include "wake.h"
#include "clocks.h"
#include <errno.h>
#include <nats/nats.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define QUIET_MS 5 /* a save is complete when nothing more is written for this long */

typedef struct call {
    struct call *next;
    lua_CFunction fn;
    void *ctx;
    char *error; /* when it raised; owned until the caller takes it */
    enum { QUEUED, TAKEN, DONE, REFUSED } state;
    pthread_cond_t done;
    struct worker *worker; /* since TAKEN */
    double taken_at;
    double limit;  /* seconds it may run; 0 = as long as it needs */
    bool is_long;  /* while it runs the pool may have one VM more */
} call;

typedef struct worker {
    struct worker *next;      /* in pool->workers, or in pool->ended */
    struct worker *next_idle; /* in pool->idle */
    ph_pool *pool;
    pthread_t thread;
    pthread_cond_t wake;
    ph_image *image; /* holds a reference */
    unsigned version;
    bool is_service;
    bool is_candidate; /* the first VM of its version: waits until the keeper adopts it */
    bool quit;
    enum { BUILDING, READY, FAILED } state;
    call *call;    /* in progress; borrowed */
    bool in_duty;  /* the service VM runs Lua */
    bool is_woken; /* ph_wake: duties that asked for it are due */
    ph_appvm app;
    char *error;   /* why it did not load; owned */
} worker;

struct ph_pool {
    char *script, *boot;
    ph_app_source source; /* borrows these and the files */
    int max;
    bool has_service;
    double call_limit; /* seconds; 0 = none */

    pthread_mutex_t lock;
    pthread_condattr_t monotonic;
    pthread_cond_t changed; /* a worker was built, or ended; the service VM's place is free */
    worker *workers, *idle, *ended, *service;
    call *head, *tail;
    int n, busy, queued; /* of the current version: VMs, VMs in a call; calls that wait */
    int lent;            /* VMs in a long call, of any version */
    uint64_t calls;
    bool growing;      /* one more VM is being made */
    bool may_grow;     /* false after a VM of this version failed to load */
    bool unsettled;    /* a file event is being looked at, or a version built: calls wait */
    double settled_at; /* when that ended */
    bool stopping;
    char *error; /* of the last reload, or NULL */

    unsigned version;
    ph_image *image;
    ph_files *files;
    pthread_t keeper;
    int wake_fd; /* eventfd: something for the keeper */
};

static int wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, double t) {
    struct timespec ts = ph_timespec(t);
    return pthread_cond_timedwait(cond, lock, &ts);
}

static void wake_keeper(ph_pool *pool) {
    uint64_t one = 1;
    if (write(pool->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake */
}

/* ---- calls and workers; all of these hold the lock ---- */

static bool spawn(ph_pool *pool, ph_image *image, unsigned version, bool is_service, bool is_candidate, worker **out);

static void take(worker *w) {
    ph_pool *pool = w->pool;
    call *c = pool->head;
    pool->head = c->next;
    if (!pool->head)
        pool->tail = NULL;
    pool->queued--;
    pool->busy++;
    pool->lent += c->is_long;
    c->state = TAKEN;
    c->worker = w;
    c->taken_at = c->limit > 0 ? ph_monotonic() : 0;
    w->call = c;
    ph_appvm_turn(&w->app);
    if (c->is_long)
        pthread_cond_signal(&c->done); /* its ticks begin now; others wait on, for one wake-up less */
}

static void offer(worker *w) {
    ph_pool *pool = w->pool;
    if (pool->head && !pool->unsettled) {
        take(w);
    } else {
        w->next_idle = pool->idle;
        pool->idle = w;
    }
}

static void dispatch(ph_pool *pool) {
    if (pool->unsettled)
        return;
    while (pool->head && pool->idle) {
        worker *w = pool->idle;
        pool->idle = w->next_idle;
        take(w);
        pthread_cond_signal(&w->wake);
    }
    if (pool->head && pool->n < pool->max + pool->lent && !pool->growing && pool->may_grow && !pool->stopping &&
        spawn(pool, pool->image, pool->version, false, false, NULL)) {
        pool->n++;
        pool->growing = true;
    }
}

static bool remove_queued(ph_pool *pool, call *c) {
    call *before = NULL, *at = pool->head;
    for (; at && at != c; at = at->next)
        before = at;
    if (!at)
        return false;
    if (before)
        before->next = c->next;
    else
        pool->head = c->next;
    if (pool->tail == c)
        pool->tail = before;
    pool->queued--;
    return true;
}

/* Queues a call and waits until a VM has taken it; gives up after `wait` seconds. Holds the lock. */
static void submit(ph_pool *pool, call *c, double wait) {
    double start = ph_monotonic(), last = start + wait + PH_APP_LOAD_SEC;
    if (pool->stopping)
        c->state = REFUSED;
    /* Asking here, and not only in the keeper, makes a saved edit live for the very next request. */
    if (!pool->unsettled && ph_files_pending(pool->files))
        pool->unsettled = true;
    if (c->state == QUEUED) {
        if (pool->tail)
            pool->tail->next = c;
        else
            pool->head = c;
        pool->tail = c;
        pool->queued++;
        dispatch(pool);
    }
    while (c->state == QUEUED) {
        double from = pool->settled_at > start ? pool->settled_at : start, now = ph_monotonic();
        double until = pool->unsettled || from + wait > last ? last : from + wait;
        if (now >= until) {
            remove_queued(pool, c);
            break;
        }
        double cut_at = now + c->limit; /* at the earliest, if it is taken now */
        wait_until(&c->done, &pool->lock, c->limit > 0 && cut_at < until ? cut_at : until);
    }
}

/* Waits for the end of a call that was taken, and cuts it at its limit. Holds the lock; lets go of it for the ticks. */
static void await(ph_pool *pool, call *c, const ph_pool_long *o) {
    double limit = c->taken_at + c->limit, tick = o && o->tick ? ph_monotonic() + o->tick_ms / 1000.0 : 0;
    while (c->state == TAKEN) {
        double next = c->limit > 0 && (!tick || limit < tick) ? limit : tick;
        if (!next) {
            pthread_cond_wait(&c->done, &pool->lock);
            continue;
        }
        if (wait_until(&c->done, &pool->lock, next) != ETIMEDOUT || c->state != TAKEN)
            continue;
        if (next == tick) {
            pthread_mutex_unlock(&pool->lock);
            o->tick(o->tick_ctx);
            pthread_mutex_lock(&pool->lock);
            tick = ph_monotonic() + o->tick_ms / 1000.0;
        } else {
            ph_appvm_cut(&c->worker->app);
            limit = ph_monotonic() + 1; /* again, should a C call have been in the way */
        }
    }
}

static ph_pool_result make_call(ph_pool *pool, call *c, int wait_ms, const ph_pool_long *o, char **error) {
    *error = NULL;
    pthread_cond_init(&c->done, &pool->monotonic);
    pthread_mutex_lock(&pool->lock);
    submit(pool, c, wait_ms / 1000.0);
    await(pool, c, o);
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_destroy(&c->done);
    *error = c->error;
    if (c->state == DONE)
        return c->error ? PH_POOL_RAISED : PH_POOL_OK;
    return c->state == REFUSED ? PH_POOL_STOPPED : PH_POOL_BUSY;
}

ph_pool_result ph_pool_call(ph_pool *pool, lua_CFunction fn, void *ctx, int wait_ms, char **error) {
    call c = {.fn = fn, .ctx = ctx, .state = QUEUED, .limit = pool->call_limit};
    return make_call(pool, &c, wait_ms, NULL, error);
}

ph_pool_result ph_pool_call_long(ph_pool *pool, lua_CFunction fn, void *ctx, int wait_ms, const ph_pool_long *o,
                                 char **error) {
    call c = {.fn = fn, .ctx = ctx, .state = QUEUED, .limit = o->limit_ms / 1000.0, .is_long = true};
    return make_call(pool, &c, wait_ms, o, error);
}

/* ---- threads ---- */

static void serve_calls(worker *w) {
    ph_pool *pool = w->pool;
    if (!w->is_candidate && !w->quit)
        offer(w);
    while (!w->quit || w->call) {
        if (!w->call) {
            pthread_cond_wait(&w->wake, &pool->lock);
            continue;
        }
        call *c = w->call;
        pthread_mutex_unlock(&pool->lock);
        c->error = ph_appvm_call(&w->app, c->fn, c->ctx);
        pthread_mutex_lock(&pool->lock);
        w->call = NULL;
        ph_appvm_turn(&w->app);
        pool->calls++;
        pool->lent -= c->is_long;
        bool is_current = w->version == pool->version;
        if (is_current)
            pool->busy--;
        c->state = DONE;
        pthread_cond_signal(&c->done);
        if (is_current && !w->quit && pool->n > pool->max + pool->lent) { /* it stood in for one in a long call */
            pool->n--;
            w->quit = true;
        }
        if (!w->quit)
            offer(w);
    }
}

typedef struct duty_run {
    bool is_woken; /* not only because it is time */
    double delay;  /* until the next; below 0 = none */
} duty_run;

/* run_duties(app, lightuserdata duty_run): runs what is due. */
static int run_duties(lua_State *L) {
    duty_run *r = lua_touserdata(L, 2);
    r->delay = -1;
    if (lua_getfield(L, 1, "run_duties") != LUA_TFUNCTION)
        return 0;
    lua_pushvalue(L, 1);
    lua_pushboolean(L, r->is_woken);
    lua_call(L, 2, 1);
    if (lua_isnumber(L, -1))
        r->delay = lua_tonumber(L, -1);
    return 0;
}

/* On the waker's thread. */
static void wake_service(void *ctx) {
    worker *w = ctx;
    pthread_mutex_lock(&w->pool->lock);
    w->is_woken = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->pool->lock);
}

/* Runs the duties once, without the lock. */
static double run_once(worker *w) {
    ph_pool *pool = w->pool;
    duty_run r = {w->is_woken, 5};
    w->is_woken = false;
    w->in_duty = true;
    ph_appvm_turn(&w->app);
    pthread_mutex_unlock(&pool->lock);
    char *error = ph_appvm_call(&w->app, run_duties, &r);
    if (error)
        r.delay = 5;
    pthread_mutex_lock(&pool->lock);
    if (error && !w->quit) /* a stop cuts what runs: nothing to tell of */
        ph_log_error("pyoco.http.service", error, "duties failed, next try in 5 s");
    free(error);
    w->in_duty = false;
    ph_appvm_turn(&w->app);
    return r.delay;
}

static void serve_duties(worker *w) {
    ph_pool *pool = w->pool;
    while (!w->quit && (pool->service || w->version != pool->version)) /* the one before us ends first */
        pthread_cond_wait(&pool->changed, &pool->lock);
    if (w->quit)
        return;
    pool->service = w;
    pthread_mutex_unlock(&pool->lock); /* a waker has its own lock first, then ours */
    ph_wake_set(wake_service, w);
    pthread_mutex_lock(&pool->lock);
    while (!w->quit) {
        double delay = run_once(w);
        if (w->quit || w->is_woken)
            continue;
        if (delay < 0)
            pthread_cond_wait(&w->wake, &pool->lock);
        else if (delay > 0)
            wait_until(&w->wake, &pool->lock, ph_monotonic() + (delay < 3600 ? delay : 3600));
    }
    pthread_mutex_unlock(&pool->lock);
    ph_wake_clear(w);
    pthread_mutex_lock(&pool->lock);
    pool->service = NULL;
}

static void *worker_main(void *arg) {
    worker *w = arg;
    ph_pool *pool = w->pool;
    char *error = NULL;
    bool is_built = ph_appvm_build(&w->app, &pool->source, w->image, w->is_service, &error);
    pthread_mutex_lock(&pool->lock);
    w->error = error;
    w->state = is_built ? READY : FAILED;
    if (!w->is_candidate && w->version == pool->version) {
        pool->growing = false;
        if (!is_built) {
            pool->n--;
            pool->may_grow = false;
            ph_log_error("pyoco.http.pool", w->error, "cannot make one more VM");
        }
    }
    pthread_cond_broadcast(&pool->changed);
    if (is_built && w->is_service)
        serve_duties(w);
    else if (is_built)
        serve_calls(w);
    while (w->is_candidate && !w->quit) /* failed: the keeper reads the error first */
        pthread_cond_wait(&w->wake, &pool->lock);
    pthread_mutex_unlock(&pool->lock);

    ph_appvm_close(&w->app);
    ph_image_release(w->image);
    nats_ReleaseThreadMemory();
    pthread_mutex_lock(&pool->lock);
    worker **at = &pool->workers;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->next = pool->ended;
    pool->ended = w;
    pthread_cond_broadcast(&pool->changed);
    wake_keeper(pool);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static bool spawn(ph_pool *pool, ph_image *image, unsigned version, bool is_service, bool is_candidate, worker **out) {
    worker *w = calloc(1, sizeof *w);
    if (!w)
        return false;
    w->pool = pool;
    w->image = ph_image_retain(image);
    w->version = version;
    w->is_service = is_service;
    w->is_candidate = is_candidate;
    pthread_cond_init(&w->wake, &pool->monotonic);
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
        ph_image_release(image);
        pthread_cond_destroy(&w->wake);
        free(w);
        return false;
    }
    pthread_setname_np(w->thread, is_service ? "vm-service" : "vm-http");
    w->next = pool->workers;
    pool->workers = w;
    if (out)
        *out = w;
    return true;
}

static void dismiss(worker *w) {
    w->quit = true;
    pthread_cond_broadcast(&w->wake);
}

/* Joins what has ended. Holds the lock, and lets go of it meanwhile. */
static void reap(ph_pool *pool) {
    while (pool->ended) {
        worker *w = pool->ended;
        pool->ended = w->next;
        pthread_mutex_unlock(&pool->lock);
        pthread_join(w->thread, NULL);
        pthread_mutex_lock(&pool->lock);
        pthread_cond_destroy(&w->wake);
        free(w->error);
        free(w);
    }
}

/* ---- versions ---- */

/* Makes the first VM of a version and waits until it is loaded. NULL, with the text in *error, if it is not. */
static worker *try_build(ph_pool *pool, ph_image *image, bool is_service, char **error) {
    worker *w;
    if (!spawn(pool, image, pool->version + 1, is_service, true, &w)) {
        *error = strdup("cannot start a thread for a VM: out of memory or of threads");
        return NULL;
    }
    while (w->state == BUILDING)
        pthread_cond_wait(&pool->changed, &pool->lock);
    if (w->state == READY)
        return w;
    *error = w->error;
    w->error = NULL;
    dismiss(w);
    return NULL;
}

/* Builds the next version from the files as they are now and puts it in the place of the old one. On failure the
 * old one stays. Holds the lock, lets go of it while it waits. Returns whether it did; pool->error says why not. */
static bool next_version(ph_pool *pool) {
    ph_image *image = ph_image_new();
    if (!image)
        return false;
    char *error = NULL;
    worker *service = NULL, *first = try_build(pool, image, false, &error);
    if (first && pool->has_service && !(service = try_build(pool, image, true, &error))) {
        dismiss(first);
        first = NULL;
    }
    free(pool->error);
    pool->error = error;
    if (!first) {
        ph_image_release(image);
        return false;
    }
    pool->idle = NULL;
    for (worker *w = pool->workers; w; w = w->next)
        if (w != first && w != service)
            dismiss(w);
    ph_image_release(pool->image);
    pool->image = image;
    pool->version++;
    pool->n = 1;
    pool->busy = 0;
    pool->growing = false;
    pool->may_grow = true;
    if (service)
        service->is_candidate = false;
    first->is_candidate = false;
    offer(first);
    pthread_cond_broadcast(&pool->changed);
    return true;
}

/* Takes the file events that have come; true when the script must be loaded again. A save is one event or several:
 * waits until it is quiet, for at most 100 ms. */
static bool files_changed(ph_pool *pool, bool was_broken) {
    bool changed = ph_files_drain(pool->files, was_broken);
    struct pollfd p = {.fd = ph_files_fd(pool->files), .events = POLLIN};
    for (int i = 0; changed && i < 20 && poll(&p, 1, QUIET_MS) > 0; i++)
        ph_files_drain(pool->files, was_broken);
    return changed;
}

static void look_at_files(ph_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->unsettled = true;
    bool was_broken = pool->error != NULL;
    pthread_mutex_unlock(&pool->lock);
    bool changed = files_changed(pool, was_broken);
    pthread_mutex_lock(&pool->lock);
    if (changed && !pool->stopping) {
        if (next_version(pool))
            ph_log("INFO", "pyoco.http.reload", "%s reloaded (version %u)", pool->script, pool->version);
        else
            ph_log_error("pyoco.http.reload", pool->error ? pool->error : "out of memory",
                         "%s not reloaded, the last good version goes on", pool->script);
    }
    if (!ph_files_pending(pool->files)) { /* else the keeper comes here again at once */
        pool->unsettled = false;
        pool->settled_at = ph_monotonic();
        dispatch(pool);
    }
    pthread_mutex_unlock(&pool->lock);
}

static void *keeper_main(void *arg) {
    ph_pool *pool = arg;
    struct pollfd fds[] = {{.fd = pool->wake_fd, .events = POLLIN},
                           {.fd = ph_files_fd(pool->files), .events = POLLIN}};
    for (bool stop = false; !stop;) {
        if (poll(fds, 2, -1) < 0)
            continue;
        uint64_t count;
        if (fds[0].revents && read(pool->wake_fd, &count, sizeof count) < 0)
            continue;
        pthread_mutex_lock(&pool->lock);
        reap(pool);
        stop = pool->stopping;
        pthread_mutex_unlock(&pool->lock);
        if (!stop && fds[1].revents)
            look_at_files(pool);
    }
    return NULL;
}

/* ---- life ---- */

static void free_pool(ph_pool *pool) {
    free(pool->script);
    free(pool->boot);
    free(pool->error);
    ph_image_release(pool->image);
    ph_files_free(pool->files);
    if (pool->wake_fd >= 0)
        close(pool->wake_fd);
    pthread_cond_destroy(&pool->changed);
    pthread_condattr_destroy(&pool->monotonic);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static void dismiss_all(ph_pool *pool) {
    for (worker *w = pool->workers; w; w = w->next)
        dismiss(w);
    pthread_cond_broadcast(&pool->changed);
}

static void end_workers(ph_pool *pool, double grace_sec) {
    double limit = ph_monotonic() + grace_sec;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    for (call *c = pool->head; c; c = c->next) {
        c->state = REFUSED;
        pthread_cond_signal(&c->done);
    }
    pool->head = pool->tail = NULL;
    pool->idle = NULL;
    pool->queued = 0;
    dismiss_all(pool);
    wake_keeper(pool);
    pthread_mutex_unlock(&pool->lock);
    if (pool->keeper)
        pthread_join(pool->keeper, NULL);
    pthread_mutex_lock(&pool->lock);
    dismiss_all(pool); /* also those of a version that the keeper was just building */
    while (pool->workers) {
        if (wait_until(&pool->changed, &pool->lock, limit) != ETIMEDOUT)
            continue;
        for (worker *w = pool->workers; w; w = w->next)
            if (w->call || w->in_duty)
                ph_appvm_cut(&w->app);
        limit = ph_monotonic() + 0.2;
    }
    reap(pool);
    pthread_mutex_unlock(&pool->lock);
}

ph_pool *ph_pool_start(const ph_pool_options *o, ph_error *err) {
    ph_pool *pool = calloc(1, sizeof *pool);
    if (!pool) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&pool->monotonic);
    pthread_condattr_setclock(&pool->monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->changed, &pool->monotonic);
    pool->script = strdup(o->script);
    pool->boot = o->boot ? malloc(o->boot_len + 1) : NULL;
    if (pool->boot)
        memcpy(pool->boot, o->boot, o->boot_len);
    pool->max = o->vms;
    pool->call_limit = o->call_limit_ms / 1000.0;
    pool->has_service = o->service;
    pool->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pool->files = ph_files_new(err);
    pool->source = (ph_app_source){pool->script, pool->boot, o->boot_len, o->memory_limit, pool->files};
    if (!pool->files || !pool->script || (o->boot && !pool->boot) || pool->wake_fd < 0) {
        if (!*err->text)
            snprintf(err->text, sizeof err->text, "out of memory or of file descriptors");
        free_pool(pool);
        return NULL;
    }
    pthread_mutex_lock(&pool->lock);
    bool ok = next_version(pool);
    pthread_mutex_unlock(&pool->lock);
    if (ok && pthread_create(&pool->keeper, NULL, keeper_main, pool) != 0) {
        pool->keeper = 0;
        ok = false;
    }
    if (ok) {
        pthread_setname_np(pool->keeper, "vm-keeper");
        return pool;
    }
    snprintf(err->text, sizeof err->text, "%s", pool->error ? pool->error : "cannot start a thread");
    end_workers(pool, 0);
    free_pool(pool);
    return NULL;
}

bool ph_pool_reload_error(ph_pool *pool, char *out, size_t n) {
    pthread_mutex_lock(&pool->lock);
    bool failed = pool->error != NULL;
    if (failed)
        snprintf(out, n, "%s", pool->error);
    pthread_mutex_unlock(&pool->lock);
    return failed;
}

ph_pool_stats ph_pool_get_stats(ph_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    ph_pool_stats s = {pool->version, pool->n, pool->busy, pool->queued, pool->calls};
    pthread_mutex_unlock(&pool->lock);
    return s;
}

void ph_pool_stop(ph_pool *pool, double grace_sec) {
    end_workers(pool, grace_sec);
}

void ph_pool_free(ph_pool *pool) {
    if (pool)
        free_pool(pool);
}
