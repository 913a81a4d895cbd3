/* Compiled library modules, keyed by path, valid for one mtime and size. Entries live as long as the process;
 * a changed file replaces its entry's code, under the lock that readers hold while they load it. */
#include "modcache.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct entry {
    struct entry *next;
    char *path;
    struct timespec mtime;
    off_t size;
    char *code;
    size_t len;
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry *entries;

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

static entry *find(const char *path) {
    for (entry *e = entries; e; e = e->next)
        if (strcmp(e->path, path) == 0)
            return e;
    return NULL;
}

/* Loads the cached code of path; false (nothing pushed) when there is none or it is stale. luaL_loadbuffer
 * returns its errors, so the lock is never left held. */
static bool load_cached(lua_State *L, const char *path, const char *chunk, const struct stat *st) {
    pthread_mutex_lock(&lock);
    entry *e = find(path);
    bool found = e && is_current(e, st);
    int rc = found ? luaL_loadbufferx(L, e->code, e->len, chunk, "b") : LUA_OK;
    pthread_mutex_unlock(&lock);
    if (found && rc != LUA_OK)
        lua_error(L);
    return found;
}

/* Stores the code of the function on top of the stack. Failing to is harmless: the next VM parses again. */
static void store(lua_State *L, const char *path, const struct stat *st) {
    buffer b = {0};
    if (lua_dump(L, append, &b, 0) != 0 || !b.data) {
        free(b.data);
        return;
    }
    pthread_mutex_lock(&lock);
    entry *e = find(path);
    if (!e && (e = calloc(1, sizeof *e)) != NULL) {
        e->path = strdup(path);
        if (e->path) {
            e->next = entries;
            entries = e;
        } else {
            free(e);
            e = NULL;
        }
    }
    if (e) {
        free(e->code);
        e->code = b.data;
        e->len = b.len;
        e->mtime = st->st_mtim;
        e->size = st->st_size;
        b.data = NULL;
    }
    pthread_mutex_unlock(&lock);
    free(b.data);
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
    if (strncmp(name, "pyoco", 5) != 0 || (name[5] != '\0' && name[5] != '.') ||
        !find_file(name, path, sizeof path, &st))
        return 0;
    const char *chunk = lua_pushfstring(L, "@%s", path);
    if (!load_cached(L, path, chunk, &st)) {
        if (luaL_loadfilex(L, path, "t") != LUA_OK)
            return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path,
                              lua_tostring(L, -1));
        store(L, path, &st);
    }
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
