/* Compiled library modules, keyed by name, valid for one path, mtime and size. Entries live as long as the
 * process; a changed file replaces its entry's code, under the lock that readers hold while they load it. */
#include "modcache.h"
#include "vm.h"
#include "hash.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define BUCKETS 64
#define TRUST_NS                                                                                             \
    100000000 /* a short-lived VM takes a module that was looked at this recently without a look */

typedef struct entry {
    struct entry *next;
    char *name, *path;
    struct timespec mtime;
    off_t size;
    int64_t looked_ns; /* when mtime and size were last read; monotonic */
    char *code;
    size_t len;
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry *entries[BUCKETS];

typedef struct buffer {
    char *data;
    size_t len, cap;
} buffer;

static int append(lua_State *L, const void *data, size_t n, void *ud) {
    (void)L;
    buffer *b = ud;
    if (b->len + n > b->cap) {
        size_t cap = (b->len + n) * 2;
        char *p = realloc(b->data, cap);
        if (!p)
            return 1;
        b->data = p;
        b->cap = cap;
    }
    memcpy(b->data + b->len, data, n);
    b->len += n;
    return 0;
}

static bool is_current(const entry *e, const struct stat *st) {
    return e->code && e->size == st->st_size && e->mtime.tv_sec == st->st_mtim.tv_sec &&
           e->mtime.tv_nsec == st->st_mtim.tv_nsec;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static entry **bucket(const char *name) {
    return &entries[ph_hash(name) % BUCKETS];
}

static entry *find(const char *name) {
    for (entry *e = *bucket(name); e; e = e->next)
        if (strcmp(e->name, name) == 0)
            return e;
    return NULL;
}

/* Pushes the cached code and its path. luaL_loadbufferx returns its errors, so the caller's lock is never
 * left held. */
static int push(lua_State *L, const entry *e, const char *chunk) {
    int rc = luaL_loadbufferx(L, e->code, e->len, chunk, "b");
    if (rc == LUA_OK)
        lua_pushstring(L, e->path);
    return rc;
}

/* Loads a module that was looked at a moment ago; false (nothing pushed) when there is none. */
static bool load_trusted(lua_State *L, const char *name) {
    int rc = LUA_OK;
    pthread_mutex_lock(&lock);
    entry *e = find(name);
    bool found = e && e->code && now_ns() - e->looked_ns < TRUST_NS;
    if (found)
        rc = push(L, e, name); /* the chunk's own name is in the code */
    pthread_mutex_unlock(&lock);
    if (rc != LUA_OK)
        lua_error(L);
    return found;
}

/* Loads the cached code of a file; false (nothing pushed) when there is none or it is stale. */
static bool load_cached(lua_State *L, const char *name, const char *path, const struct stat *st) {
    int rc = LUA_OK;
    pthread_mutex_lock(&lock);
    entry *e = find(name);
    bool found = e && strcmp(e->path, path) == 0 && is_current(e, st);
    if (found) {
        e->looked_ns = now_ns();
        rc = push(L, e, name);
    }
    pthread_mutex_unlock(&lock);
    if (rc != LUA_OK)
        lua_error(L);
    return found;
}

/* A new entry in its bucket, or NULL without memory. */
static entry *add(const char *name) {
    entry *e = calloc(1, sizeof *e);
    if (e && !(e->name = strdup(name))) {
        free(e);
        return NULL;
    }
    if (e) {
        e->next = *bucket(name);
        *bucket(name) = e;
    }
    return e;
}

/* Stores the code of the function on top of the stack. Failing to is harmless: the next VM parses again. */
static void store(lua_State *L, const char *name, const char *path, const struct stat *st) {
    buffer b = {0};
    char *copy = strdup(path);
    if (!copy || lua_dump(L, append, &b, 0) != 0 || !b.data) {
        free(copy);
        free(b.data);
        return;
    }
    pthread_mutex_lock(&lock);
    entry *e = find(name);
    if (!e)
        e = add(name);
    if (e) {
        free(e->code);
        free(e->path);
        *e = (entry){.next = e->next,
                     .name = e->name,
                     .path = copy,
                     .mtime = st->st_mtim,
                     .size = st->st_size,
                     .looked_ns = now_ns(),
                     .code = b.data,
                     .len = b.len};
    }
    pthread_mutex_unlock(&lock);
    if (!e) {
        free(copy);
        free(b.data);
    }
}

static bool find_file(const char *name, char *path, size_t n, struct stat *st) {
    char relative[512];
    size_t len = strlen(name);
    if (len >= sizeof relative)
        return false;
    for (size_t i = 0; i <= len; i++)
        relative[i] = name[i] == '.' ? '/' : name[i];
    snprintf(path, n, "%s/lua/%s.lua", ph_home(), relative);
    if (stat(path, st) == 0)
        return true;
    snprintf(path, n, "%s/lua/%s/init.lua", ph_home(), relative);
    return stat(path, st) == 0;
}

static int searcher(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    char path[4096 + 600];
    struct stat st;
    if (strncmp(name, "pyoco", 5) != 0 || (name[5] != '\0' && name[5] != '.'))
        return 0;
    if (ph_vm_is_short_lived(ph_vm_of(L)) && load_trusted(L, name))
        return 2;
    if (!find_file(name, path, sizeof path, &st))
        return 0;
    if (load_cached(L, name, path, &st))
        return 2;
    if (luaL_loadfilex(L, path, "t") != LUA_OK)
        return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path,
                          lua_tostring(L, -1));
    store(L, name, path, &st);
    lua_pushstring(L, path);
    return 2;
}

void ph_modcache_install(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i >= 2; i--) { /* after preload, before the files */
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, searcher);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
}
