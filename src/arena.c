/* Size classes of 16 bytes up to SMALL_MAX; what is larger is malloc's, in a list. Freed chunks are kept for the
 * thread's next arena, at most KEPT of them. */
#include "arena.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define GRAIN 16
#define SMALL_MAX 512
#define CLASSES (SMALL_MAX / GRAIN)
#define CHUNK_BYTES ((size_t)65536)
#define KEPT 16 /* chunks: 1 MiB */

#if defined(__SANITIZE_ADDRESS__)
static const bool is_pooled = false;
#else
static const bool is_pooled = true;
#endif

typedef union block {
    union block *next; /* while it is free */
    char align[GRAIN];
} block;

typedef struct chunk {
    struct chunk *next;
    char pad[GRAIN - sizeof(struct chunk *)]; /* keeps blocks aligned to GRAIN */
    char bytes[];
} chunk;

typedef struct large {
    struct large *next, **link; /* link: what points here */
    char bytes[];
} large;

struct ph_arena {
    block *free[CLASSES];
    char *at, *end; /* what is left of the newest chunk */
    chunk *chunks;
    large *larges;
};

static _Thread_local chunk *kept;
static _Thread_local int kept_count;

static chunk *take_chunk(void) {
    chunk *c = kept;
    if (!c)
        return malloc(CHUNK_BYTES);
    kept = c->next;
    kept_count--;
    return c;
}

static void give_chunk(chunk *c) {
    if (kept_count >= KEPT) {
        free(c);
        return;
    }
    c->next = kept;
    kept = c;
    kept_count++;
}

ph_arena *ph_arena_new(void) {
    return calloc(1, sizeof(ph_arena));
}

void ph_arena_free(ph_arena *arena) {
    if (!arena)
        return;
    for (chunk *c = arena->chunks, *next; c; c = next) {
        next = c->next;
        give_chunk(c);
    }
    for (large *b = arena->larges, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(arena);
}

static void link_large(ph_arena *arena, large *b) {
    b->next = arena->larges;
    b->link = &arena->larges;
    if (b->next)
        b->next->link = &b->next;
    arena->larges = b;
}

static void unlink_large(large *b) {
    *b->link = b->next;
    if (b->next)
        b->next->link = b->link;
}

static large *large_of(void *ptr) {
    return (large *)((char *)ptr - offsetof(large, bytes));
}

static void *take_large(ph_arena *arena, size_t size) {
    large *b = malloc(sizeof *b + size);
    if (!b)
        return NULL;
    link_large(arena, b);
    return b->bytes;
}

static void give_large(void *ptr) {
    unlink_large(large_of(ptr));
    free(large_of(ptr));
}

static void *resize_large(ph_arena *arena, void *ptr, size_t size) {
    large *old = large_of(ptr);
    unlink_large(old);
    large *b = realloc(old, sizeof *b + size);
    link_large(arena, b ? b : old);
    return b ? b->bytes : NULL;
}

static bool is_small(size_t size) {
    return is_pooled && size <= SMALL_MAX;
}

static size_t class_of(size_t size) {
    return (size - 1) / GRAIN;
}

static void *take_small(ph_arena *arena, size_t size) {
    size_t class = class_of(size), bytes = (class + 1) * GRAIN;
    block *b = arena->free[class];
    if (b) {
        arena->free[class] = b->next;
        return b;
    }
    if ((size_t)(arena->end - arena->at) <
        bytes) { /* the rest of the old chunk is lost: under SMALL_MAX bytes */
        chunk *c = take_chunk();
        if (!c)
            return NULL;
        c->next = arena->chunks;
        arena->chunks = c;
        arena->at = c->bytes;
        arena->end = (char *)c + CHUNK_BYTES;
    }
    void *p = arena->at;
    arena->at += bytes;
    return p;
}

static void give_small(ph_arena *arena, void *ptr, size_t size) {
    block *b = ptr;
    b->next = arena->free[class_of(size)];
    arena->free[class_of(size)] = b;
}

/* Moves a block of which at least one side is small. */
static void *move(ph_arena *arena, void *ptr, size_t osize, size_t nsize) {
    void *p = is_small(nsize) ? take_small(arena, nsize) : take_large(arena, nsize);
    if (!p)
        return NULL;
    memcpy(p, ptr, osize < nsize ? osize : nsize);
    if (is_small(osize))
        give_small(arena, ptr, osize);
    else
        give_large(ptr);
    return p;
}

void *ph_arena_resize(ph_arena *arena, void *ptr, size_t osize, size_t nsize) {
    if (!ptr || osize == 0) {
        if (nsize == 0)
            return NULL;
        return is_small(nsize) ? take_small(arena, nsize) : take_large(arena, nsize);
    }
    if (nsize == 0) {
        if (is_small(osize))
            give_small(arena, ptr, osize);
        else
            give_large(ptr);
        return NULL;
    }
    if (!is_small(osize) && !is_small(nsize))
        return resize_large(arena, ptr, nsize);
    if (is_small(osize) && is_small(nsize) && class_of(osize) == class_of(nsize))
        return ptr;
    return move(arena, ptr, osize, nsize);
}
