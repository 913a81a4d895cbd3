/* Blocks are cut from one mapping; freed ones are kept by size class, so that little has to be copied back. A large
 * freed block is lost: the memory is built once. */
#include "freezer.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CAPACITY = 64 << 20, GRAIN = 16, CLASSES = 256 }; /* the mapping costs only what is touched */

typedef struct block {
    struct block *next;
} block;

struct ph_freezer {
    char *base;
    size_t used;
    char *frozen; /* copy of base[0 .. used); NULL while it is built */
    block *free[CLASSES];
};

#if defined(__SANITIZE_ADDRESS__)
static const bool is_available = false;
#else
static const bool is_available = true;
#endif

ph_freezer *ph_freezer_new(void) {
    ph_freezer *f = is_available ? calloc(1, sizeof *f) : NULL;
    if (!f)
        return NULL;
    f->base = mmap(NULL, CAPACITY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->base != MAP_FAILED)
        return f;
    free(f);
    return NULL;
}

void ph_freezer_free(ph_freezer *f) {
    if (!f)
        return;
    munmap(f->base, CAPACITY);
    free(f->frozen);
    free(f);
}

static size_t round_up(size_t n) {
    return (n + GRAIN - 1) & ~(size_t)(GRAIN - 1);
}

static void *take(ph_freezer *f, size_t size) {
    size_t n = round_up(size), class = n / GRAIN;
    if (class < CLASSES && f->free[class]) {
        block *b = f->free[class];
        f->free[class] = b->next;
        return b;
    }
    if (n > CAPACITY - f->used)
        return NULL;
    void *p = f->base + f->used;
    f->used += n;
    return p;
}

static void give(ph_freezer *f, void *ptr, size_t size) {
    size_t class = round_up(size) / GRAIN;
    if (!ptr || class == 0 || class >= CLASSES)
        return;
    block *b = ptr;
    b->next = f->free[class];
    f->free[class] = b;
}

void *ph_freezer_resize(ph_freezer *f, void *ptr, size_t osize, size_t nsize) {
    if (ptr && nsize > 0 && round_up(nsize) == round_up(osize))
        return ptr;
    void *p = nsize > 0 ? take(f, nsize) : NULL;
    if (nsize > 0 && !p)
        return ptr && nsize < osize ? ptr : NULL; /* shrinking never fails */
    if (p && ptr)
        memcpy(p, ptr, osize < nsize ? osize : nsize);
    give(f, ptr, osize);
    return p;
}

bool ph_freezer_holds(const ph_freezer *f, const void *ptr) {
    return (size_t)((const char *)ptr - f->base) < CAPACITY;
}

bool ph_freezer_is_frozen(const ph_freezer *f) {
    return f->frozen != NULL;
}

bool ph_freezer_freeze(ph_freezer *f) {
    f->frozen = malloc(f->used);
    if (f->frozen)
        memcpy(f->frozen, f->base, f->used);
    return f->frozen != NULL;
}

void ph_freezer_restore(ph_freezer *f) {
    memcpy(f->base, f->frozen, f->used);
}
