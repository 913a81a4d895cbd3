/* host.tail: following a KV bucket from Lua; src/tail.h does it.
 *
 *   tail.start(conn, bucket [, from]) -> t | nil, message, code    conn: a blocking-mode host.nats connection;
 *                                                                  from: first revision wanted, default 1, 0 = new
 *   t:next(timeout_ms) -> kind [, entry] | nil, message, "timeout" | "unavailable"     0: only what has come already
 *        kind: "entry", "live" (what the bucket held is delivered) or "reset" (start over: all entries follow again);
 *        entry { key, value, revision, created (unix s, the server's), deleted }
 *   t:age() -> seconds|nil     since the server's last sign of life; nil while not live
 *   t:stop()
 *   tail.get(conn, bucket, key [, timeout_ms]) -> value, revision, entry | nil, message, code    ph_kv_get
 * Ownership: t owns the tail and keeps conn (user value 1). When that is closed all the same, nothing comes any more and
 * next() answers "unavailable" at once. Threads: the tail's thread fills a queue of at most QUEUE_MAX events, then waits
 * for next(), which blocks up to its timeout.
 */
#include "nats_bind.h"
#include "nats_msg.h"
#include "tail.h"
#include "wake.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TAIL "host.tail"
#define QUEUE_MAX 1024

typedef struct event {
    struct event *next;
    const char *kind;
    ph_entry entry; /* key and value stand behind this struct */
} event;

typedef struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    event *head, **end;
    int count;
    bool is_stopping;
} queue;

typedef struct tail_object {
    ph_tail *tail; /* NULL once stopped */
    queue *q;
    event *held; /* the event being turned into values */
} tail_object;

int luaopen_host_tail(lua_State *L);

/* --- the tail's thread --- */

static void push(queue *q, const char *kind, const ph_entry *entry) {
    size_t key_len = entry ? strlen(entry->key) + 1 : 0;
    event *e = malloc(sizeof *e + key_len + (entry ? entry->len : 0));
    if (!e)
        abort(); /* a lost event would be a silent lie */
    *e = (event){.kind = kind};
    if (entry) {
        char *key = (char *)(e + 1), *value = key + key_len;
        memcpy(key, entry->key, key_len);
        memcpy(value, entry->value, entry->len);
        e->entry = *entry;
        e->entry.key = key;
        e->entry.value = value;
    }
    pthread_mutex_lock(&q->lock);
    while (q->count >= QUEUE_MAX && !q->is_stopping)
        pthread_cond_wait(&q->changed, &q->lock);
    *q->end = e;
    q->end = &e->next;
    q->count++;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    ph_wake(); /* a duty may be the one that follows */
}

static void on_entry(void *ctx, const ph_entry *entry) {
    push(ctx, "entry", entry);
}

static void on_reset(void *ctx) {
    push(ctx, "reset", NULL);
}

static void on_live(void *ctx, int64_t life) {
    (void)life;
    push(ctx, "live", NULL);
}

/* --- the VM's thread --- */

static queue *new_queue(void) {
    queue *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->end = &q->head;
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->changed, &attr);
    pthread_condattr_destroy(&attr);
    return q;
}

static void free_queue(queue *q) {
    for (event *e = q->head, *next; e; e = next) {
        next = e->next;
        free(e);
    }
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

/* The oldest event, or NULL after timeout_ms. */
static event *pop(queue *q, int64_t timeout_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout_ms % 1000 * 1000000;
    until.tv_sec += timeout_ms / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&q->lock);
    while (!q->head && pthread_cond_timedwait(&q->changed, &q->lock, &until) != ETIMEDOUT)
        ;
    event *e = q->head;
    if (e) {
        q->head = e->next;
        q->end = q->head ? q->end : &q->head;
        q->count--;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return e;
}

static int l_tail_stop(lua_State *L) {
    tail_object *t = luaL_checkudata(L, 1, TAIL);
    free(t->held);
    t->held = NULL;
    if (t->q) {
        pthread_mutex_lock(&t->q->lock);
        t->q->is_stopping = true;
        pthread_cond_broadcast(&t->q->changed);
        pthread_mutex_unlock(&t->q->lock);
    }
    ph_tail_stop(t->tail);
    t->tail = NULL;
    if (t->q)
        free_queue(t->q);
    t->q = NULL;
    return 0;
}

static int l_tail_start(lua_State *L) {
    ph_nats_conn *conn = lb_nats_check_conn(L, 1);
    const char *bucket = luaL_checkstring(L, 2);
    lua_Integer from = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, from >= 0, 3, "a revision is not negative");
    tail_object *t = lua_newuserdatauv(L, sizeof *t, 1);
    *t = (tail_object){0};
    luaL_setmetatable(L, TAIL);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    t->q = new_queue();
    if (!t->q)
        return ph_fail(L, PH_INTERNAL, "out of memory");
    ph_error err = {0};
    ph_tail_handlers handlers = {on_entry, on_reset, on_live};
    t->tail = ph_tail_start(conn, bucket, (uint64_t)from, handlers, t->q, &err);
    return t->tail ? 1 : ph_fail(L, PH_INVALID, "%s", err.text);
}

static void push_entry(lua_State *L, const ph_entry *entry) {
    lua_createtable(L, 0, 5);
    lua_pushstring(L, entry->key);
    lua_setfield(L, -2, "key");
    lua_pushlstring(L, entry->value, entry->len);
    lua_setfield(L, -2, "value");
    lua_pushinteger(L, (lua_Integer)entry->revision);
    lua_setfield(L, -2, "revision");
    lua_pushnumber(L, (lua_Number)entry->created_ns / 1e9);
    lua_setfield(L, -2, "created");
    lua_pushboolean(L, entry->deleted);
    lua_setfield(L, -2, "deleted");
}

static tail_object *check_tail(lua_State *L) {
    tail_object *t = luaL_checkudata(L, 1, TAIL);
    luaL_argcheck(L, t->tail, 1, "the tail is stopped");
    return t;
}

static int l_tail_next(lua_State *L) {
    tail_object *t = check_tail(L);
    int64_t timeout_ms = lua_tonumber(L, 2) == 0 && lua_isnumber(L, 2) ? 0 : lb_nats_timeout(L, 2, 5000);
    bool is_cut = ph_tail_is_cut(t->tail);
    t->held = pop(t->q, is_cut ? 0 : timeout_ms);
    if (!t->held && is_cut)
        return ph_fail(L, PH_UNAVAILABLE, "the NATS connection of this tail is closed");
    if (!t->held)
        return ph_fail(L, PH_TIMEOUT, "nothing new in %lld ms", (long long)timeout_ms);
    lua_pushstring(L, t->held->kind);
    bool has_entry = t->held->entry.key != NULL;
    if (has_entry)
        push_entry(L, &t->held->entry);
    free(t->held);
    t->held = NULL;
    return has_entry ? 2 : 1;
}

static int l_tail_age(lua_State *L) {
    int64_t ms = ph_tail_age_ms(check_tail(L)->tail);
    if (ms == INT64_MAX)
        return 0;
    lua_pushnumber(L, (lua_Number)ms / 1000);
    return 1;
}

static int l_tail_get(lua_State *L) {
    natsConnection *nc = ph_nats_raw(lb_nats_check_conn(L, 1));
    const char *bucket = luaL_checkstring(L, 2), *key = luaL_checkstring(L, 3);
    int64_t timeout_ms = lb_nats_timeout(L, 4, 5000);
    ph_entry_buf buf;
    ph_error err = {0};
    const char *code = ph_kv_get(nc, bucket, key, timeout_ms, &buf, &err);
    if (code)
        return ph_fail(L, code, "%s", err.text);
    lua_pushlstring(L, buf.entry.value, buf.entry.len);
    lua_pushinteger(L, (lua_Integer)buf.entry.revision);
    push_entry(L, &buf.entry);
    ph_entry_buf_free(&buf);
    return 3;
}

static const luaL_Reg methods[] = {{"next", l_tail_next}, {"age", l_tail_age}, {"stop", l_tail_stop}, {NULL, NULL}};

static const luaL_Reg meta[] = {{"__gc", l_tail_stop}, {"__close", l_tail_stop}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"start", l_tail_start}, {"get", l_tail_get}, {NULL, NULL}};

int luaopen_host_tail(lua_State *L) {
    ph_class(L, TAIL, methods, meta);
    luaL_newlib(L, functions);
    return 1;
}
