/* A list of named bytecode chunks behind one lock, and the VM's own loaders replaced by ones that look there. */
#include "image.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct chunk {
    struct chunk *next;
    char *code; /* bytecode, owned */
    size_t len, room;
    char path[];
} chunk;

struct ph_image {
    atomic_int refs;
    pthread_mutex_t lock;
    chunk *chunks; /* a list: tens of entries, read once per VM. Entries are never changed nor removed */
};

typedef struct hook {
    ph_image *image;
    void (*on_file)(void *ctx, const char *path);
    void *ctx;
} hook;

ph_image *ph_image_new(void) {
    ph_image *image = calloc(1, sizeof *image);
    if (!image)
        return NULL;
    atomic_init(&image->refs, 1);
    pthread_mutex_init(&image->lock, NULL);
    return image;
}

ph_image *ph_image_retain(ph_image *image) {
    atomic_fetch_add(&image->refs, 1);
    return image;
}

void ph_image_release(ph_image *image) {
    if (!image || atomic_fetch_sub(&image->refs, 1) != 1)
        return;
    for (chunk *c = image->chunks, *next; c; c = next) {
        next = c->next;
        free(c->code);
        free(c);
    }
    pthread_mutex_destroy(&image->lock);
    free(image);
}

static chunk *find(ph_image *image, const char *path) {
    pthread_mutex_lock(&image->lock);
    chunk *c = image->chunks;
    while (c && strcmp(c->path, path) != 0)
        c = c->next;
    pthread_mutex_unlock(&image->lock);
    return c;
}

static int append(lua_State *L, const void *p, size_t n, void *ud) {
    (void)L;
    chunk *c = ud;
    if (c->len + n > c->room) {
        size_t room = (c->len + n) * 2;
        char *grown = realloc(c->code, room);
        if (!grown)
            return 1;
        c->code = grown;
        c->room = room;
    }
    memcpy(c->code + c->len, p, n);
    c->len += n;
    return 0;
}

/* Records the function on top of the stack. A chunk that cannot be kept is read from its file next time. */
static void record(lua_State *L, ph_image *image, const char *path) {
    chunk *c = calloc(1, sizeof *c + strlen(path) + 1);
    if (!c)
        return;
    strcpy(c->path, path);
    if (lua_dump(L, append, c, 0) != 0) {
        free(c->code);
        free(c);
        return;
    }
    char *fitted = realloc(c->code, c->len);
    c->code = fitted ? fitted : c->code;
    pthread_mutex_lock(&image->lock);
    c->next = image->chunks;
    image->chunks = c;
    pthread_mutex_unlock(&image->lock);
}

int ph_image_load(lua_State *L, ph_image *image, const char *path) {
    chunk *c = find(image, path);
    if (c) {
        char name[4096];
        snprintf(name, sizeof name, "@%s", path);
        return luaL_loadbufferx(L, c->code, c->len, name, "b");
    }
    int rc = luaL_loadfile(L, path);
    if (rc == LUA_OK)
        record(L, image, path);
    return rc;
}

static hook *hook_of(lua_State *L) {
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* Comes before Lua's own searcher of Lua files: searcher(name) -> loader, path | nothing. */
static int search(lua_State *L) {
    hook *h = hook_of(L);
    const char *name = luaL_checkstring(L, 1);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushvalue(L, 1);
    lua_getfield(L, -3, "path");
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2))
        return 0; /* Lua's own searcher says where it looked */
    lua_pop(L, 1);
    const char *path = lua_tostring(L, -1);
    h->on_file(h->ctx, path);
    if (ph_image_load(L, h->image, path) != LUA_OK)
        return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path, lua_tostring(L, -1));
    lua_pushvalue(L, -2);
    return 2;
}

/* loadfile(path [, mode [, env]]) for files that are Lua source; other uses go to Lua's own (upvalue 2). */
static int load_file(lua_State *L) {
    hook *h = hook_of(L);
    int n = lua_gettop(L);
    const char *path = luaL_optstring(L, 1, NULL);
    if (path)
        h->on_file(h->ctx, path);
    if (path && lua_isnoneornil(L, 2) && lua_isnone(L, 3)) {
        if (ph_image_load(L, h->image, path) == LUA_OK)
            return 1;
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
}

static int do_file_rest(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return lua_gettop(L) - 1;
}

static int do_file(lua_State *L) {
    hook *h = hook_of(L);
    const char *path = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    h->on_file(h->ctx, path);
    if (ph_image_load(L, h->image, path) != LUA_OK)
        return lua_error(L);
    lua_callk(L, 0, LUA_MULTRET, 0, do_file_rest);
    return do_file_rest(L, 0, 0);
}

void ph_image_install(lua_State *L, ph_image *image, void (*on_file)(void *ctx, const char *path), void *ctx) {
    int top = lua_gettop(L);
    hook *h = lua_newuserdatauv(L, sizeof *h, 0); /* kept alive by the closures */
    *h = (hook){image, on_file, ctx};
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) { /* behind package.preload, before all that look for files */
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushvalue(L, top + 1);
    lua_pushcclosure(L, search, 1);
    lua_rawseti(L, -2, 2);
    lua_pushvalue(L, top + 1);
    lua_getglobal(L, "loadfile");
    lua_pushcclosure(L, load_file, 2);
    lua_setglobal(L, "loadfile");
    lua_pushvalue(L, top + 1);
    lua_pushcclosure(L, do_file, 1);
    lua_setglobal(L, "dofile");
    lua_settop(L, top);
}
