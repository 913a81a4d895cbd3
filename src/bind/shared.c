/* host.shared: one small table that all VMs of this process see.
 *   get(key) -> string|number|boolean|nil
 *   set(key, value [, ttl_sec]) -> true         nil as value deletes
 *   add(key, value [, ttl_sec]) -> boolean      sets only if absent; false when it is there (a lock, a once)
 *   incr(key [, by [, ttl_sec]]) -> number | nil, message, "conflict"   absent counts as 0; ttl only on creation
 *   delete(key) -> boolean                      whether it was there
 *   keys([prefix]) -> {string}                  sorted
 * Each call is atomic. Values are copied; an expired key is as if absent. Threads: any. Not bound: iteration
 * under a lock, tables (encode them as JSON). */
#include "host.h"
#include "shared.h"
#include "preload.h"
#include "clocks.h"
#include "hash.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int luaopen_host_shared(lua_State *L);

typedef struct entry {
    struct entry *next;
    int type;          /* LUA_TSTRING, LUA_TBOOLEAN, LUA_TNUMBER */
    bool is_integer;   /* for numbers */
    double expires_at; /* monotonic seconds; 0 = never */
    lua_Integer i;     /* integer, or boolean */
    lua_Number n;
    char *text; /* string, owned */
    size_t len;
    char key[]; /* terminated; keys hold no NUL */
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry **buckets;
static size_t n_buckets, n_entries, writes;

static void free_entry(entry *e) {
    free(e->text);
    free(e);
    n_entries--;
}

/* Drops what has expired, and grows the table when it is crowded. Holds the lock. */
static void tidy(void) {
    double t = ph_monotonic();
    size_t want = n_entries < 64 ? 128 : n_entries * 2;
    entry **fresh = n_buckets < n_entries || !buckets ? calloc(want, sizeof *fresh) : NULL;
    size_t n = fresh ? want : n_buckets;
    for (size_t b = 0; b < n_buckets; b++) {
        entry **at = &buckets[b];
        for (entry *e = *at, *next; e; e = next) {
            next = e->next;
            if (e->expires_at && e->expires_at <= t) {
                *at = next;
                free_entry(e);
            } else if (fresh) {
                size_t h = ph_hash(e->key) % n;
                e->next = fresh[h];
                fresh[h] = e;
            } else {
                at = &e->next;
            }
        }
    }
    if (fresh) {
        free(buckets);
        buckets = fresh;
        n_buckets = n;
    }
}

/* The place of key's entry, or of the end of its chain; an expired one is dropped. Holds the lock. */
static entry **find(const char *key) {
    if (!buckets || ++writes % 1024 == 0)
        tidy();
    if (!buckets)
        return NULL;
    entry **at = &buckets[ph_hash(key) % n_buckets];
    while (*at && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    entry *e = *at;
    if (e && e->expires_at && e->expires_at <= ph_monotonic()) {
        *at = e->next;
        free_entry(e);
        while (*at) /* the caller may append here */
            at = &(*at)->next;
    }
    return at;
}

static const char *check_key(lua_State *L) {
    size_t n;
    const char *key = luaL_checklstring(L, 1, &n);
    luaL_argcheck(L, n > 0 && n <= 512 && strlen(key) == n, 1, "key must have 1 to 512 bytes and no NUL");
    return key;
}

/* A new entry from the arguments (value at 2, ttl at ttl_index); NULL when out of memory. May not raise. */
static entry *make_entry(lua_State *L, const char *key, int ttl_index) {
    entry *e = calloc(1, sizeof *e + strlen(key) + 1);
    if (!e)
        return NULL;
    strcpy(e->key, key);
    e->type = lua_type(L, 2);
    e->is_integer = lua_isinteger(L, 2);
    e->i = e->type == LUA_TBOOLEAN ? lua_toboolean(L, 2) : lua_tointeger(L, 2);
    e->n = e->type == LUA_TNUMBER ? lua_tonumber(L, 2) : 0;
    if (e->type == LUA_TSTRING) {
        const char *s = lua_tolstring(L, 2, &e->len);
        e->text = malloc(e->len + 1);
        if (!e->text) {
            free(e);
            return NULL;
        }
        memcpy(e->text, s, e->len + 1);
    }
    if (!lua_isnoneornil(L, ttl_index))
        e->expires_at = ph_monotonic() + lua_tonumber(L, ttl_index);
    return e;
}

static void check_value(lua_State *L, int ttl_index) {
    int t = lua_type(L, 2);
    luaL_argexpected(L, t == LUA_TSTRING || t == LUA_TNUMBER || t == LUA_TBOOLEAN, 2, "string, number or boolean");
    luaL_argcheck(L, luaL_optnumber(L, ttl_index, 1) > 0, ttl_index, "ttl_sec must be above 0");
}

/* Puts e in place (owned by the table then). Returns false, e freed, if only_absent and the key is there. */
static bool store(entry *e, bool only_absent) {
    pthread_mutex_lock(&lock);
    entry **at = find(e->key);
    bool ok = at && !(only_absent && *at);
    n_entries++;
    if (ok) {
        entry *old = *at;
        e->next = old ? old->next : NULL;
        *at = e;
        if (old)
            free_entry(old);
    } else {
        free_entry(e);
    }
    pthread_mutex_unlock(&lock);
    return ok;
}

/* Whether the key was there. */
static bool delete(const char *key) {
    pthread_mutex_lock(&lock);
    entry **at = find(key);
    entry *e = at ? *at : NULL;
    if (e) {
        *at = e->next;
        free_entry(e);
    }
    pthread_mutex_unlock(&lock);
    return e != NULL;
}

void ph_shared_put(const char *key, const char *value, size_t len) {
    if (!value) {
        delete(key);
        return;
    }
    entry *e = calloc(1, sizeof *e + strlen(key) + 1);
    char *text = malloc(len + 1);
    if (!e || !text)
        abort();
    memcpy(text, value, len);
    text[len] = '\0';
    strcpy(e->key, key);
    e->type = LUA_TSTRING;
    e->text = text;
    e->len = len;
    store(e, false);
}

void ph_shared_set(const char *key, const char *value) {
    ph_shared_put(key, value, value ? strlen(value) : 0);
}

static int l_shared_delete(lua_State *L) {
    lua_pushboolean(L, delete(check_key(L)));
    return 1;
}

static int put(lua_State *L, bool only_absent) {
    const char *key = check_key(L);
    check_value(L, 3);
    entry *e = make_entry(L, key, 3);
    if (!e)
        return luaL_error(L, "not enough memory");
    lua_pushboolean(L, store(e, only_absent));
    return 1;
}

static int l_shared_set(lua_State *L) {
    if (lua_isnil(L, 2)) {
        l_shared_delete(L);
        lua_pushboolean(L, 1);
        return 1;
    }
    return put(L, false);
}

static int l_shared_add(lua_State *L) {
    return put(L, true);
}

static int l_shared_get(lua_State *L) {
    const char *key = check_key(L);
    void *box = NULL; /* a string is copied into memory that Lua owns, allocated while the lock is not held */
    size_t room = 0;
    for (;;) {
        entry copy = {.type = LUA_TNIL};
        pthread_mutex_lock(&lock);
        entry **at = find(key);
        if (at && *at)
            copy = **at;
        bool fits = copy.type != LUA_TSTRING || copy.len <= room;
        if (fits && copy.len)
            memcpy(box, copy.text, copy.len);
        pthread_mutex_unlock(&lock);
        if (!fits) {
            room = copy.len;
            box = lua_newuserdatauv(L, room, 0);
            continue;
        }
        if (copy.type == LUA_TSTRING)
            lua_pushlstring(L, copy.len ? box : "", copy.len);
        else if (copy.type == LUA_TBOOLEAN)
            lua_pushboolean(L, (int)copy.i);
        else if (copy.type == LUA_TNUMBER && copy.is_integer)
            lua_pushinteger(L, copy.i);
        else if (copy.type == LUA_TNUMBER)
            lua_pushnumber(L, copy.n);
        else
            lua_pushnil(L);
        return 1;
    }
}

static int l_shared_incr(lua_State *L) {
    const char *key = check_key(L);
    luaL_optnumber(L, 2, 1);
    lua_settop(L, 3);
    if (lua_isnil(L, 2)) {
        lua_pushinteger(L, 1);
        lua_replace(L, 2);
    }
    check_value(L, 3);
    entry *fresh = make_entry(L, key, 3), result = {0};
    if (!fresh)
        return luaL_error(L, "not enough memory");
    pthread_mutex_lock(&lock);
    entry **at = find(key);
    entry *e = at ? *at : NULL;
    if (e && e->type == LUA_TNUMBER) {
        if (e->is_integer && fresh->is_integer) {
            e->i = (lua_Integer)((lua_Unsigned)e->i + (lua_Unsigned)fresh->i); /* wraps, as Lua's + does */
        } else {
            e->n = (e->is_integer ? (lua_Number)e->i : e->n) + (fresh->is_integer ? (lua_Number)fresh->i : fresh->n);
            e->is_integer = false;
        }
        result = *e;
    } else if (at && !e) {
        *at = fresh;
        n_entries++;
        result = *fresh;
        fresh = NULL;
    }
    pthread_mutex_unlock(&lock);
    free(fresh);
    if (result.type != LUA_TNUMBER)
        return ph_fail(L, PH_CONFLICT, "shared key %s holds no number", key);
    if (result.is_integer)
        lua_pushinteger(L, result.i);
    else
        lua_pushnumber(L, result.n);
    return 1;
}

static int by_key(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Copies of the live keys with that prefix, sorted; count in *n. The caller frees each and the list. */
static char **list_keys(const char *prefix, size_t *n) {
    size_t len = strlen(prefix);
    double t = ph_monotonic();
    *n = 0;
    pthread_mutex_lock(&lock);
    char **list = calloc(n_entries + 1, sizeof *list);
    for (size_t b = 0; list && b < n_buckets; b++)
        for (entry *e = buckets[b]; e; e = e->next)
            if (strncmp(e->key, prefix, len) == 0 && !(e->expires_at && e->expires_at <= t)) {
                char *copy = strdup(e->key);
                if (copy)
                    list[(*n)++] = copy;
            }
    pthread_mutex_unlock(&lock);
    if (list)
        qsort(list, *n, sizeof *list, by_key);
    return list;
}

static void free_keys(char **list, size_t n) {
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static int push_keys(lua_State *L) {
    char **list = lua_touserdata(L, 1);
    lua_Integer n = lua_tointeger(L, 2);
    lua_createtable(L, (int)n, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_pushstring(L, list[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_shared_keys(lua_State *L) {
    const char *prefix = luaL_optstring(L, 1, "");
    luaL_checkstack(L, 4, NULL);
    size_t n;
    char **list = list_keys(prefix, &n);
    lua_pushcfunction(L, push_keys); /* protected: the list must be freed whatever happens */
    lua_pushlightuserdata(L, list);
    lua_pushinteger(L, (lua_Integer)n);
    int rc = lua_pcall(L, 2, 1, 0);
    free_keys(list, n);
    return rc == LUA_OK ? 1 : lua_error(L);
}

void ph_shared_each(const char *prefix, void (*fn)(void *ctx, const char *key, const char *value, size_t len),
                    void *ctx) {
    size_t n;
    char **list = list_keys(prefix, &n);
    for (size_t i = 0; i < n; i++) {
        char *text = NULL;
        size_t len = 0;
        pthread_mutex_lock(&lock);
        entry **at = find(list[i]);
        if (at && *at && (*at)->type == LUA_TSTRING && (text = malloc((*at)->len + 1))) {
            len = (*at)->len;
            memcpy(text, (*at)->text, len + 1);
        }
        pthread_mutex_unlock(&lock);
        if (text)
            fn(ctx, list[i], text, len);
        free(text);
    }
    free_keys(list, n);
}

static const luaL_Reg functions[] = {
    {"get", l_shared_get},       {"set", l_shared_set},   {"add", l_shared_add}, {"incr", l_shared_incr},
    {"delete", l_shared_delete}, {"keys", l_shared_keys}, {NULL, NULL},
};

int luaopen_host_shared(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
