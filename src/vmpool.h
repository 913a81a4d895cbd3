/* The VMs behind the HTTP server: each lives on a thread of its own with a full stack, and is lent out for the time
 * of one call. All run the same version of one script; a saved edit of any of its files builds a new version, which
 * replaces the old one only if it loads (DESIGN D1, D2). One more VM, the service VM, runs the app's duties.
 *
 * The script's result, its app, is a table with app:handle(request), and for the service VM
 * app:run_duties(is_woken) -> seconds until the next one (nil: there are none); is_woken: ph_wake was called.
 */
#ifndef PH_VMPOOL_H
#define PH_VMPOOL_H

#include "host.h"

typedef struct ph_pool ph_pool;

typedef struct ph_pool_options {
    const char *script;  /* path; copied */
    const char *boot;    /* what host.boot() says in each VM, or NULL; copied */
    size_t boot_len;     /* bytes of boot */
    int vms;             /* the most VMs for calls; they are made as they are needed, the first at the start */
    bool service;        /* whether there is a service VM */
    int call_limit_ms;   /* a call that runs longer is cut: it raises; 0 = none */
    size_t memory_limit; /* bytes per VM; 0 = none */
} ph_pool_options;

typedef enum ph_pool_result {
    PH_POOL_OK,
    PH_POOL_BUSY,    /* no VM became free within the wait */
    PH_POOL_STOPPED, /* the pool is stopping */
    PH_POOL_RAISED,  /* fn raised a Lua error: *error says what, with traceback; the caller frees it */
} ph_pool_result;

typedef struct ph_pool_stats {
    unsigned version; /* of the script: 1, then one more with each good reload */
    int vms;          /* VMs of this version */
    int busy;         /* of these, in a call */
    int queued;       /* calls that wait */
    uint64_t calls;   /* since the start */
} ph_pool_stats;

/* Starts the pool; returns when the first version is loaded. NULL and err (file:line) when it does not load. */
ph_pool *ph_pool_start(const ph_pool_options *options, ph_error *err);

/* Runs fn(app, lightuserdata ctx) on a VM's thread, protected, and returns when it has ended. The time to get a VM is
 * at most wait_ms; while a new version is being built the call waits for it, for at most 10 s more. Any thread. */
ph_pool_result ph_pool_call(ph_pool *pool, lua_CFunction fn, void *ctx, int wait_ms, char **error);

/* A call that may take long, as storing an upload. */
typedef struct ph_pool_long {
    int limit_ms; /* then it is cut; 0 = none */
    int tick_ms;
    void (*tick)(void *ctx); /* called on the caller's thread about every tick_ms while the call runs; or NULL */
    void *tick_ctx;
} ph_pool_long;

/* As ph_pool_call, but while it runs the pool may have one VM more, so that it takes none from other calls. How many
 * there are at once is the caller's to limit. */
ph_pool_result ph_pool_call_long(ph_pool *pool, lua_CFunction fn, void *ctx, int wait_ms, const ph_pool_long *o,
                                 char **error);

/* Copies the text of the last failed reload (file:line first) to out; false when the last one was good. */
bool ph_pool_reload_error(ph_pool *pool, char *out, size_t n);

ph_pool_stats ph_pool_get_stats(ph_pool *pool);

/* Refuses new calls, waits for those in progress and for a duty that runs, cuts what has not ended after grace_sec,
 * closes all VMs. Calls that come later are told PH_POOL_STOPPED. */
void ph_pool_stop(ph_pool *pool, double grace_sec);

/* Frees a stopped pool. NULL is fine. */
void ph_pool_free(ph_pool *pool);

#endif
